"""Mistakes to plant in the real rules: a simulator that does not find them proves nothing.

Each mutant replaces functions of the rules, or of the gate, while it is planted. It says what is forgotten or believed,
and within how many seeds (from `FIRST` on) the simulator must find it; `test_mutants.py` holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.sim.simulate import play, simulate
from tests.sim.stories import STORIES

FIRST = 1

Patch = tuple[Any, str, Callable[..., Any]]


@dataclass(frozen=True)
class Mutant:
    """What is done wrong, how, and how many seeds may pass before it is found; or which story finds it at once.

    `redundant`: why nothing goes wrong, for what is only a second line of defence. Nothing has to be found then.
    `gated`: it is looked for where the hosts have a gate; the others are where they have none that hides the mistake.
    `promises`: where these may carry an owner; the others are where an owner that is cut off lapses.
    """

    mistake: str
    patches: tuple[Patch, ...]
    seeds: int
    story: str
    redundant: str = ""
    gated: bool = False
    promises: bool = False


MUTANTS: dict[str, Mutant] = {}


@contextmanager
def planted(name: str) -> Generator[None]:
    """While in here, the core makes this mistake; none for an empty name."""
    patches = MUTANTS[name].patches if name else ()
    kept = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    try:
        for owner, attribute, wrong in patches:
            setattr(owner, attribute, wrong)
        yield
    finally:
        for owner, attribute, right in kept:
            setattr(owner, attribute, right)


def found(name: str) -> str:
    """The first violation that the mutant causes, and where; empty if there is none."""
    one = MUTANTS[name]
    with planted(name):
        if one.story:
            violation = play(STORIES[one.story]).violation
            return f"{one.story}: {violation}" if violation else ""
        for seed in range(FIRST, FIRST + one.seeds):
            violation = simulate(seed, gated=one.gated, promises=one.promises).violation
            if violation:
                return f"seed {seed}: {violation}"
    return ""


def mutant(
    name: str,
    mistake: str,
    *patches: Patch,
    seeds: int = 60,
    story: str = "",
    redundant: str = "",
    gated: bool = False,
    promises: bool = False,
) -> None:
    """Have a mutant of this name; see `Mutant`."""
    MUTANTS[name] = Mutant(mistake, patches, 0 if story or redundant else seeds, story, redundant, gated, promises)
