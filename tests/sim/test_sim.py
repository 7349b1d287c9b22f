"""Whole clusters of the real core in virtual time: nobody owns twice, everybody recovers, and any seed replays."""

from __future__ import annotations

from multiprocessing import get_context

import pytest

from tests.sim.simulate import Outcome, play, simulate
from tests.sim.stories import STORIES

pytestmark = pytest.mark.sim

SEEDS = range(1, 151)


@pytest.mark.timeout(600)
def test_at_most_one_owner_and_one_soon_after_healing():
    with get_context("fork").Pool(2) as pool:
        outcomes = pool.map(simulate, SEEDS, chunksize=5)
    failed = [f"make sim SEED={one.seed}: {one.violation}" for one in outcomes if one.violation]
    assert not failed, "\n".join(failed)
    assert sum(one.totals["owner"] for one in outcomes) > 10 * len(SEEDS), "something must have happened"


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str):
    outcome = play(STORIES[name], tracing=True)
    assert not outcome.violation, "\n".join([*outcome.trace[-60:], outcome.violation])


def test_a_seed_replays_to_the_nanosecond():
    def told(outcome: Outcome) -> tuple[list[str], dict[str, int]]:
        return outcome.trace, dict(outcome.totals)

    first = simulate(7, tracing=True)
    assert told(simulate(7, tracing=True)) == told(first)
    assert first.trace != simulate(8, tracing=True).trace
