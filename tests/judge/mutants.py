"""Which mutants the judge finds by itself, and by which guarantee; and why it cannot find the others.

Each mutant's worlds are played as the simulator's own test plays them, but only the judge decides: what breaks off by
an assertion of the core is not found by it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.judge.guarantees import judged
from tests.judge.history import of
from tests.judge.simulator import written
from tests.sim.mutants import MUTANTS
from tests.sim.planting import FIRST, planted
from tests.sim.simulate import LASTS, _live
from tests.sim.stories import STORIES


@dataclass(frozen=True)
class Judged:
    """What came of looking for a mutant: what was found, by guarantee, and where; in how many worlds nothing was."""

    name: str
    where: str = ""
    found: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    worlds: int = 0
    seconds: float = 0.0


def hunted(name: str, seeds: int | None = None, within: float = 1e9) -> Judged:
    """Look for a mutant in its story, or in as many seeds as the simulator may take (or `seeds`), `within` seconds."""
    one, began = MUTANTS[name], time.monotonic()
    with planted(name):
        if one.story:
            found = judged(of(written(STORIES[one.story])))
            return Judged(name, one.story, found, 1, time.monotonic() - began)
        most = seeds or one.seeds or REDUNDANT_SEEDS
        for number, seed in enumerate(range(FIRST, FIRST + most), 1):
            found = judged(of(written(lambda world: _live(world, LASTS, one.gated, one.promises), seed)))
            if found or time.monotonic() - began > within:
                return Judged(name, f"seed {seed}", found, number, time.monotonic() - began)
    return Judged(name, "", {}, most, time.monotonic() - began)


REDUNDANT_SEEDS = 10
"""In how many worlds a second line of defence is looked for: nothing has to be found there."""

_MUTE = "nobody owns or answers, and two never do; a story does not say when all must be well"

UNSEEN: dict[str, str] = {
    "refusal-ignored-undead": _MUTE,
    "resumed-unheard": _MUTE,
    "list-renews": _MUTE,
    **dict.fromkeys(("alone-carries", "alone-never-carries", "wish-once"), _MUTE),
    **dict.fromkeys(("ahead-is-the-same", "loss-unseen", "last-owner-waits"), _MUTE),
    "ttl-beyond-record": "nothing goes wrong in its story: who starts waits a patience anyway",
    "speaks-on": "the core's own invariants break every world off before an advert leaves",
}
"""Mutants that are no second lines, and that the judge cannot find; and why."""
