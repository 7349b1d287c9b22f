"""A trial's plan: the same for the same seed, within its bounds, and biased to faults that coincide."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haagent.core.units import MS, S
from haagent.lab.chaos.plan import MOST_ACTIONS, SAME_LAB, Action, Kind, Peers, etcd_members, peers, plan, secured, span

MANY = range(6000)
MOMENTARY = {Kind.DELETE, Kind.UNFENCE, Kind.FIREWALL, Kind.QDISC, Kind.CREDENTIALS, Kind.CTL_SWITCHOVER} | {
    Kind.ETCD_COMPACT,
    Kind.ETCD_GAP,
    Kind.ETCD_RESTORE,
}
ttls = st.sampled_from([300 * MS, 1 * S, 3 * S])


@given(st.integers(0), ttls)
def test_a_plan_is_its_seeds_alone_and_keeps_its_bounds(seed: int, ttl: int) -> None:
    actions = plan(seed, ttl)
    assert actions == plan(seed, ttl)
    assert 1 <= len(actions) <= MOST_ACTIONS
    assert all(before.at <= after.at for before, after in pairwise(actions))
    for action in actions:
        assert 0 < action.at <= action.end <= span(ttl)
        assert action.lasts or action.kind in MOMENTARY
        assert action.kind is not Kind.STARVE or action.lasts <= 2 * S, "others live on this machine"


@given(st.integers(0), ttls)
def test_no_end_undoes_another_of_its_kind(seed: int, ttl: int) -> None:
    lasting = [action for action in plan(seed, ttl) if action.lasts]
    for one, other in permutations(lasting, 2):
        assert one.kind is not other.kind or one.end < other.at or other.end < one.at


def test_every_kind_comes_up_where_there_is_what_it_needs() -> None:
    kinds: defaultdict[tuple[int, Peers, bool], set[Kind]] = defaultdict(set)
    for seed in MANY:
        kinds[etcd_members(seed), peers(seed), secured(seed)] |= {action.kind for action in plan(seed, 1 * S)}
    assert len(kinds) == 2 * 3 * 2
    for (members, heard, demands), found in kinds.items():
        missing = set[Kind]() if members == 3 else {Kind.MEMBER_KILL, Kind.MEMBER_CUT}
        missing |= {Kind.CUT_STREAMS} if heard is Peers.NONE else set()
        missing |= set() if demands else {Kind.CREDENTIALS}
        missing |= {Kind.ETCD_RESTORE} if demands or heard is Peers.LONG else set()
        assert set(Kind) - found == missing


def test_meddling_with_a_dead_owner_leaves_one_fence() -> None:
    for seed in MANY:
        kinds = {action.kind for action in plan(seed, 1 * S)}
        assert not (Kind.UNFENCE in kinds and kinds & {Kind.KILL, Kind.STOP, Kind.STARVE, Kind.GATE})
        assert not {Kind.BY_HAND, Kind.HOST_LOST} <= kinds
    after_death = [
        other.at - action.at
        for seed in MANY
        for action in plan(seed, 1 * S)
        if action.kind in {Kind.KILL, Kind.STOP}
        for other in plan(seed, 1 * S)
        if other.kind in {Kind.FIREWALL, Kind.QDISC} and 0 <= other.at - action.at < 1 * S
    ]
    assert len(after_death) > len(MANY) / 50


def test_half_of_all_seeds_have_failsafe_and_etcd_is_away_in_most_of_those() -> None:
    with_peers = [seed for seed in MANY if peers(seed) is not Peers.NONE]
    assert len(with_peers) == len(MANY) / 2
    assert {peers(seed) for seed in MANY} == set(Peers)
    away = [seed for seed in with_peers if any(_away(action) for action in plan(seed, 1 * S))]
    assert len(away) > len(with_peers) / 2


def _away(action: Action) -> bool:
    return action.kind in {Kind.ETCD_PAUSE, Kind.ETCD_KILL, Kind.CUT_ETCD} and action.lasts > 1.5 * S


def test_seeds_that_share_a_lab_have_the_same_etcd_and_failsafe() -> None:
    for seed in MANY:
        first = seed // SAME_LAB * SAME_LAB
        assert (etcd_members(seed), peers(seed)) == (etcd_members(first), peers(first))


def test_the_gate_of_a_dead_agent_is_left_alone() -> None:
    for seed in MANY:
        kinds = {action.kind for action in plan(seed, 1 * S)}
        assert Kind.UNFENCE not in kinds or not kinds & {Kind.KILL, Kind.STOP, Kind.STARVE}


@pytest.mark.parametrize("ttl", [300 * MS, 1 * S])
def test_most_plans_have_faults_that_coincide(ttl: int) -> None:
    """Together, at each other's end, or when a lease ends that the first may have stranded."""
    together = at_the_lease = 0
    for seed in MANY:
        pairs = list(permutations(plan(seed, ttl), 2))
        together += any(abs(b.at - a.at) <= 40 * MS or abs(b.at - a.end) <= 60 * MS for a, b in pairs)
        at_the_lease += any(0.7 * ttl <= b.at - a.at <= 1.1 * ttl for a, b in pairs)
    assert together > len(MANY) * 0.5
    assert at_the_lease > len(MANY) * 0.5


def test_actions_say_what_they_are() -> None:
    told = {str(action) for seed in MANY for action in plan(seed, 1 * S)}
    assert {"SIGSTOP", "packets lost (3 %, out)", "etcd member killed (e2)", "clock stepped (+7 h)"} <= told
    assert {"cut off from etcd (inward)", "config reloaded (second addresses)", "cable pulled (service)"} <= told
