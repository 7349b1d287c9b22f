"""Who a record names as candidates: added at once, dropped after a while, and asked for promises in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core import offering
from haagent.core.claims import Situation
from haagent.core.heartbeat import NO_OFFER, Offer
from haagent.core.model import Ask, Asking, Commit
from haagent.core.records import Candidate, Guard, Kind, MemberValue, Orders, OwnerRecord
from haagent.core.units import NEVER, S
from tests.unit.core.values import OWNERS, member, owner, owners, rules, seen, show, situation, view

RULES = rules(failsafe=60 * S, machine="m-a")
A, B, C = Candidate("a", "m-a"), Candidate("b", "m-b"), Candidate("c", "m-c")


def of(node: str) -> MemberValue:
    return replace(member(node), machine=f"m-{node}")


def at(*nodes: str, now: int = 10 * S, **record: object) -> Situation:
    """`a` owns by a record that names a and b; these nodes are members."""
    ordinary = replace(owner("a", epoch=4), machines=("m-a", "m-b"), failsafe=60 * S)
    keys = [seen(Kind.MEMBERS, node, of(node), 6 + number) for number, node in enumerate(nodes)]
    known = view(owners(5, replace(ordinary, **record)), *keys, of=RULES)
    return situation(known, of=RULES, now=now)


def written(effects: tuple[object, ...]) -> OwnerRecord:
    (commit,) = effects
    assert isinstance(commit, Commit)
    assert commit.ask == Ask(Asking.OFFER, "web", 5)
    assert commit.guards == (Guard(OWNERS, 5),)
    record = commit.puts[0].value
    assert isinstance(record, OwnerRecord)
    return record


def test_nothing_is_written_while_the_record_is_right():
    assert offering.keep(NO_OFFER, at("b")) == (Offer(), ())


def test_who_comes_is_added_at_once_with_its_machine():
    offer, effects = offering.keep(NO_OFFER, at("b", "c"))
    record = written(effects)
    assert (record.candidates, record.machines) == (("a", "b", "c"), ("m-a", "m-b", "m-c"))
    assert record.epoch == 4
    assert offer == Offer(frozenset({A, B, C}), 5, again_at=11 * S)


def test_who_is_gone_is_dropped_after_a_while():
    offer, effects = offering.keep(NO_OFFER, at())
    assert effects == ()
    assert offer == Offer(again_at=14 * S, away_since=10 * S)
    offer, effects = offering.keep(offer, at(now=14 * S))
    assert written(effects).candidates == ("a",)
    assert offer.names == {A}


def test_who_is_drained_is_dropped_at_once():
    now = at("b", "c")
    show(now.view, seen(Kind.ORDERS, "cluster", Orders(drained=("b",)), 9), now=now.now, of=RULES)
    _, effects = offering.keep(NO_OFFER, now)
    assert written(effects).candidates == ("a", "c")


def test_who_comes_back_in_time_was_never_away():
    offer, _ = offering.keep(NO_OFFER, at())
    assert offering.keep(offer, at("b", now=12 * S)) == (Offer(again_at=NEVER), ())


def test_who_is_alone_carries_failsafe_after_a_while():
    """Whoever starts a moment later shall not wait for it, should this owner die at once."""
    offer, effects = offering.keep(NO_OFFER, at(failsafe=0, candidates=("a",), machines=("m-a",)))
    assert (offer, effects) == (Offer(again_at=14 * S, alone_since=10 * S), ())
    _, effects = offering.keep(offer, at(now=14 * S, failsafe=0, candidates=("a",), machines=("m-a",)))
    assert written(effects).failsafe == 60 * S


def test_who_is_alone_no_more_carries_failsafe_at_once():
    offer, _ = offering.keep(NO_OFFER, at(failsafe=0, candidates=("a",), machines=("m-a",)))
    _, effects = offering.keep(offer, at("b", now=11 * S, failsafe=0, candidates=("a",), machines=("m-a",)))
    assert (written(effects).failsafe, written(effects).candidates) == (60 * S, ("a", "b"))


def test_another_machine_by_the_same_name_is_another_candidate():
    _, effects = offering.keep(NO_OFFER, at("b", machines=("m-a", "m-old")))
    assert written(effects).machines == ("m-a", "m-b")


@pytest.mark.parametrize("now", [10 * S, 11 * S - 1])
def test_what_was_asked_is_waited_for(now: int):
    asked, _ = offering.keep(NO_OFFER, at("b", "c"))
    assert offering.keep(asked, at("b", "c", now=now)) == (asked, ())


def test_what_was_asked_in_vain_is_asked_again_and_all_that_may_be_written_counts():
    asked, _ = offering.keep(NO_OFFER, at("b", "c"))
    again, effects = offering.keep(asked, at("b", "d", now=12 * S))
    assert written(effects).candidates == ("a", "b", "d")
    assert again.names == {A, B, C, Candidate("d", "m-d")}


def test_a_record_of_another_revision_ends_what_was_asked_over_the_one_before():
    asked = Offer(frozenset({A, B, C}), revision=4, again_at=11 * S)
    assert offering.keep(asked, at("b")) == (Offer(), ())


def test_how_long_promises_may_carry_follows_the_configuration():
    _, effects = offering.keep(NO_OFFER, at("b", failsafe=30 * S))
    assert written(effects).failsafe == 60 * S


def test_without_failsafe_nobody_keeps_the_list():
    now = at("b", "c", failsafe=0)
    assert offering.keep(NO_OFFER, replace(now, rules=rules())) == (NO_OFFER, ())
