"""Small worlds of the real core: no order of events makes two owners, planted mistakes are found, and ways replay.

This is a small part of what `make explore` looks at.
"""

from __future__ import annotations

from multiprocessing import get_context

import pytest

from haagent.core.model import TimePassed
from tests.explore.fingerprint import copied, number_of
from tests.explore.mutants import BEYOND, QUICK
from tests.explore.search import Found, retold, search
from tests.explore.worlds import WORLDS
from tests.sim.mutants import MUTANTS
from tests.sim.planting import planted

pytestmark = pytest.mark.sim

STATES = 500
"""Of each world that `make test` looks at."""


def looked_at(name: str) -> Found:
    return search(WORLDS[name], deviations(name), STATES)


def deviations(name: str) -> int:
    return 1 if name in ("two", "three", "cold") else 2


@pytest.mark.timeout(300)
def test_no_order_of_events_makes_two_owners():
    with get_context("fork").Pool(2) as pool:
        founds = pool.map(looked_at, WORLDS, chunksize=1)
    assert [f"make explore ARGS='--world {one.world}': {one.violation}" for one in founds if one.violation] == []
    assert sum(one.moves for one in founds) > 20_000


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_found_without_luck(name: str):
    world, budget = QUICK[name]
    with planted(name):
        found = search(WORLDS[world], budget, 20_000)
    assert found.violation, f"{MUTANTS[name].mistake}: not found in {found.states} states"
    assert not found.violation.startswith("raises"), found.violation


def test_the_way_to_a_violation_replays():
    world, budget = QUICK["no-drift"]
    with planted("no-drift"):
        found = search(WORLDS[world], budget, 20_000)
        lines = retold(WORLDS[world], found.path)
    assert found.violation in lines[-1]
    assert found.deviations == 1
    assert search(WORLDS[world], 0, 20_000).complete


def test_what_cannot_be_found_is_known():
    assert BEYOND.keys() <= MUTANTS.keys()
    assert not BEYOND.keys() & QUICK.keys()


def test_a_copy_goes_its_own_way_and_equal_nodes_have_one_number():
    state, *_ = WORLDS["three"].begin()
    host = state.hosts[0]
    assert host.node is not None
    one, other, number = copied(host.node), copied(host.node), number_of(host.node)
    assert number_of(one) == number_of(other) == number
    one.feed(TimePassed(), host.clock(state.now) + 2_000_000_000)  # its lease lapses
    assert number_of(one) != number
    assert number_of(host.node) == number_of(other) == number
    other.feed(TimePassed(), host.clock(state.now) + 2_000_000_000)
    assert number_of(other) == number_of(one)
