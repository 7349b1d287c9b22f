"""The judge reads the simulator's histories: nothing is wrong in them, until a mistake is planted; crashes are in time.

This is a small part of what `make judge` does.
"""

from __future__ import annotations

from multiprocessing import get_context

import pytest

from haagent.core.units import MS, S
from tests.judge.guarantees import judged
from tests.judge.history import of
from tests.judge.mutants import UNSEEN, hunted
from tests.judge.simulator import written
from tests.sim.mutants import MUTANTS
from tests.sim.simulate import LASTS, _live
from tests.sim.stories import STORIES
from tests.sim.telling import agent_of, owned_by_first
from tests.sim.world import World

pytestmark = pytest.mark.sim

SEEDS = range(1, 13)
QUICK = ("no-gate", "gate-a-ttl-longer", "unfenced", "drained-claims", "no-margin", "clean-unconfirmed")
"""Mutants without a story that are found in a few worlds."""


def of_seed(seed: int) -> str:
    found = judged(of(written(lambda world: _live(world, LASTS, None, None), seed)))
    return f"seed {seed}: {found}" if found else ""


@pytest.mark.timeout(300)
def test_nothing_is_wrong_in_the_simulators_worlds():
    with get_context("fork").Pool(2) as pool:
        assert [found for found in pool.map(of_seed, SEEDS, chunksize=1) if found] == []


@pytest.mark.parametrize("name", STORIES)
def test_nothing_is_wrong_in_a_story(name: str):
    assert judged(of(written(STORIES[name]))) == {}


@pytest.mark.parametrize("name", [name for name, one in MUTANTS.items() if one.story and name not in UNSEEN] + [*QUICK])
def test_a_mutant_is_found_by_the_judge_alone(name: str):
    assert hunted(name, seeds=20).found, MUTANTS[name].mistake


def crashes(world: World) -> None:
    """The owner is killed again and again, at other moments of its renewals, and comes back later."""
    cluster = owned_by_first(world, 1 * S, -4_950, 4_950, 0, gated=True)
    for number in range(8):
        world.run(world.now + 5 * S + number * 37 * MS)
        (owner,) = [host for _, host, _ in world.checker.holders()]
        name = agent_of(owner).name
        world.crash(agent_of(owner))
        world.at(world.now + 3 * S, cluster.boot, owner, name)
    world.run(world.now + 5 * S)


def test_an_owner_that_crashes_is_followed_in_time_as_the_judge_sees_it():
    lines = written(crashes, fair_from=3 * S, recovers_ms=4_000, wanted=["g0"])
    assert sum(line["line"] == "fault" and line["kind"] == "crash" for line in lines) == 8
    assert judged(of(lines)) == {}
    late = [line for line in lines if line["line"] != "answers" or line["host"] == "n1"]
    assert "an_owner_after_a_crash" in judged(of(late))
