"""Policies as tables: who may claim, who goes first, and when an owner hands over, by orders, intents and clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from haagent.core import claims, policy
from haagent.core.candidates import candidates
from haagent.core.claims import Situation
from haagent.core.planned import Plans
from haagent.core.policy import Move, Stay
from haagent.core.records import Intent, Kind, Orders, OwnerRecord, Seen
from haagent.core.units import MS, NEVER, S
from tests.unit.core.values import (
    TTL,
    C,
    group,
    held,
    intents,
    leases,
    member,
    members,
    owner,
    owners,
    rules,
    seen,
    situation,
    view,
)

NOON = 1_800_000_000 * S
CLOCK = Plans(wall_ahead=NOON)
B_LIVES = (leases(6), members(7))
C_LIVES = (leases(6, "c"), seen(Kind.MEMBERS, "c", member("c", 200, C), 7))
MINE = owner("a", epoch=4)


def orders(paused: str = "", *drained: str) -> Seen:
    return seen(Kind.ORDERS, "cluster", Orders(paused, drained), 9)


def intent(to: str = "b", epoch: int = 4, by: str = "anna", since: int = 0, until: int = 0) -> Seen:
    return seen(Kind.INTENTS, "web", Intent(to, epoch, by, since, until), 8)


def at(*news: Seen, plans: Plans = CLOCK, now: int = 100 * MS, priority: int = 100, **changes: Any) -> Situation:
    of = rules(group(**changes))
    known = situation(view(*news, of=of), lease=held(since=2), now=now, of=of, priority=priority)
    return replace(known, plans=plans)


BARRED = [
    ((), ""),
    ((orders("anna"),), ""),
    ((orders("anna"), owners(5, owner("b"))), "paused by anna"),
    ((orders("anna"), owners(5, owner("b", clean=True))), "paused by anna"),
    ((orders("anna"), owners(5, MINE)), ""),
    ((orders("anna"), owners(5, owner("a", clean=True))), ""),
    ((orders("", "a"),), "drained"),
    ((orders("", "b"),), ""),
    ((orders("", "a"), owners(5, owner("b"))), "drained"),
    ((orders("", "a"), owners(5, MINE)), ""),
    ((orders("", "a"), owners(5, MINE), *B_LIVES), "drained"),
    ((orders("", "a"), owners(5, MINE), leases(6), members(7, priority=0)), ""),
    ((orders("", "a", "b"), owners(5, MINE), *B_LIVES), ""),
    ((orders("anna", "a"), owners(5, MINE), *B_LIVES), ""),
    ((orders("anna", "a"), owners(5, owner("b"))), "paused by anna"),
    ((orders("anna", "a"),), "drained"),
]


@pytest.mark.parametrize("news, why", BARRED)
def test_who_may_claim(news: tuple[Seen, ...], why: str):
    assert policy.barred(at(*news)) == why


def test_only_a_last_owner_looks_again_by_itself():
    assert policy.look_again(at(orders("", "a"), owners(5, MINE))) == 100 * MS + TTL
    assert policy.look_again(at(orders("", "a"), owners(5, owner("b")))) == NEVER


DEAD_B = owner("b", epoch=4)
RANKS = [
    ((), {}, 0),
    (C_LIVES, {}, 1),
    ((*C_LIVES, intent("a")), {}, 0),
    ((*C_LIVES, intent("a", by="preempt")), {}, 1),
    ((*C_LIVES, intent("a", epoch=3)), {}, 1),
    ((*C_LIVES, intent("a", since=NOON + S)), {}, 1),
    ((*C_LIVES, intent("a", until=NOON)), {}, 1),
    ((*C_LIVES, intent("a"), orders("", "a")), {}, 1),
    ((*C_LIVES, intent("c")), {}, 1),
    ((*C_LIVES, intent("c")), {"priority": 250}, 1),
    ((*C_LIVES, intent("z")), {"priority": 250}, 0),
    ((*C_LIVES, orders("", "c")), {}, 0),
    ((*C_LIVES, orders("anna")), {}, 0),
]


def test_in_a_pause_the_best_goes_first_for_what_nobody_ever_had():
    assert policy.rank(at(*C_LIVES, orders("anna"))) == 1


@pytest.mark.parametrize("news, changes, rank", RANKS)
def test_who_goes_first(news: tuple[Seen, ...], changes: dict[str, Any], rank: int):
    assert policy.rank(at(owners(5, DEAD_B), *news, **changes)) == rank


DAMPED = CLOCK._replace(damped_until=60 * S)
DEFERENCES = [
    ((), 1, 0),
    (C_LIVES, 1, TTL),
    ((leases(6), members(7, priority=1)), 1, TTL),  # an equal, with the higher address
    ((leases(6), members(7, priority=0)), 1, 0),
    ((*C_LIVES, orders("", "c")), 1, 0),
    ((*C_LIVES, orders("anna")), 1, 0),
    ((*C_LIVES, intent("a")), 1, 0),
]


@pytest.mark.parametrize("news, priority, expected", DEFERENCES)
def test_who_is_damped_waits_for_who_is_better(news: tuple[Seen, ...], priority: int, expected: int):
    damped = at(owners(5, DEAD_B), *news, plans=DAMPED, priority=priority)
    assert policy.deference(damped) == expected
    assert policy.deference(replace(damped, plans=CLOCK)) == 0


OWNERS = [
    ((), {}, Stay(NEVER, 0)),
    ((intent(),), {}, Move("b", "handover to b (anna)")),
    ((intent("a"),), {}, Stay(NEVER, 0)),
    ((intent(epoch=3),), {}, Stay(NEVER, 0)),
    ((intent("z"),), {}, Stay(100 * MS + TTL, 0)),
    ((intent(since=NOON + 100 * MS),), {}, Move("b", "handover to b (anna)")),
    ((intent(since=NOON + 101 * MS),), {}, Stay(101 * MS, 0)),
    ((intent(since=NOON + 101 * MS),), {"plans": Plans()}, Stay(NEVER, 0)),
    ((intent(until=NOON + 101 * MS),), {}, Move("b", "handover to b (anna)")),
    ((intent(until=NOON + 101 * MS),), {"plans": Plans()}, Stay(NEVER, 0)),
    ((intent(until=NOON + 100 * MS),), {}, Stay(100 * MS + TTL, 8)),
    ((orders("anna"), intent()), {}, Stay(100 * MS + TTL, 0)),
    ((orders("anna"), intent(until=NOON)), {}, Stay(100 * MS + TTL, 8)),
    ((orders("", "b"), intent()), {}, Stay(100 * MS + TTL, 0)),
    ((orders("", "a"),), {}, Move("b", "drained: handed over to b")),
    ((orders("", "a"), *C_LIVES), {}, Move("c", "drained: handed over to c")),
    ((orders("", "a"), *C_LIVES, intent("b")), {}, Move("b", "handover to b (anna)")),
    ((orders("", "a", "b"),), {}, Stay(100 * MS + TTL, 0)),
    ((orders("anna", "a"),), {}, Stay(100 * MS + TTL, 0)),
    ((intent(by="preempt"),), {"priority": 99}, Move("b", "handover to b (preempt)")),
    ((intent(by="preempt"),), {"priority": 100}, Stay(100 * MS + TTL, 0)),
    ((intent(by="preempt"),), {"priority": 99, "min_hold": 100 * MS}, Move("b", "handover to b (preempt)")),
    ((intent(by="preempt"),), {"priority": 99, "min_hold": 101 * MS}, Stay(101 * MS, 0)),
    ((intent(),), {"min_hold": 101 * MS}, Move("b", "handover to b (anna)")),
    ((intent(by="preempt"),), {"priority": 99, "windowed": True}, Stay(100 * MS + TTL, 0)),
    (
        (intent(by="preempt"),),
        {"priority": 99, "windowed": True, "plans": Plans(window=True)},
        Move("b", "handover to b (preempt)"),
    ),
]


@pytest.mark.parametrize("news, changes, expected", OWNERS)
def test_what_an_owner_does(news: tuple[Seen, ...], changes: dict[str, Any], expected: Move | Stay):
    assert policy.owner(at(owners(5, MINE), *B_LIVES, *news, **changes), epoch=4, since=0) == expected


def test_an_owner_without_a_lease_of_its_own_lets_go_for_nobody():
    for order in (intent(), orders("", "a")):
        assert isinstance(policy.owner(at(owners(1, MINE), *B_LIVES, order), epoch=4, since=0), Stay)
    assert policy.drain_waits(at(owners(1, MINE), *B_LIVES, orders("", "a"))) == policy.LEASELESS


WISHES = [
    ((), {}, True),
    ((), {"preempt": False}, False),
    ((), {"windowed": True}, False),
    ((), {"windowed": True, "plans": Plans(window=True)}, True),
    ((), {"plans": DAMPED}, False),
    ((orders("anna"),), {}, False),
    ((orders("", "a"),), {}, False),
    ((intent("c"),), {}, False),
    ((intent("c", epoch=3),), {}, True),
    ((intent("c", until=NOON),), {}, True),
    ((intent("c", by="preempt"),), {}, True),
]


@pytest.mark.parametrize("news, changes, expected", WISHES)
def test_who_asks_the_owner_for_the_group(news: tuple[Seen, ...], changes: dict[str, Any], expected: bool):
    keys: dict[str, Any] = {"preempt": True, **changes}
    known = at(owners(5, owner("b", epoch=4)), leases(6), members(7, priority=50), *news, **keys)
    assert policy.may_wish(known) is expected


WAITS = [
    ((), ""),
    ((intent("z"),), "to z: z is no member"),
    ((intent("z", since=NOON + S),), ""),
    ((intent("z", until=NOON),), ""),
    ((intent("z", by="preempt"),), ""),
    ((intent("z", epoch=3),), ""),
    ((intent("c"), seen(Kind.MEMBERS, "c", member("c", groups=("db",)), 7)), "to c: c does not have the group"),
    ((intent("c"), seen(Kind.MEMBERS, "c", member("c"), 7)), "to c: the lease of c does not run"),
    ((intent(), orders("", "b")), "to b: b is drained"),
    ((intent(), orders("anna", "b")), "to b: paused by anna"),
]


@pytest.mark.parametrize("news, why", WAITS)
def test_why_a_switchover_waits(news: tuple[Seen, ...], why: str):
    assert policy.switchover_waits(at(owners(5, MINE), *B_LIVES, *news)) == why


@pytest.mark.parametrize(
    "record, revision, why",
    [(MINE, 5, ""), (MINE, 1, "to b: our own lease does not run")],
)
def test_a_switchover_waits_for_our_own_lease(record: OwnerRecord, revision: int, why: str):
    assert policy.switchover_waits(at(owners(revision, record), *B_LIVES, intent())) == why


def test_what_is_drained_is_no_candidate():
    known = at(orders("", "b"), *B_LIVES, *C_LIVES)
    assert [one.node for one in candidates(known.view, "web", known.rules)] == ["a", "c"]
    assert claims.able(known, "b") is None


def test_a_wish_says_what_intent_it_was_written_over():
    known = at(owners(5, owner("b", epoch=4)), intents(8, "c", 4, by="preempt"))
    ask = claims.forget_intent(known).ask
    assert known.view.intent_revision("web") == 8
    assert [guard.revision for guard in claims.wish(known, ask).guards] == [5, 8]
