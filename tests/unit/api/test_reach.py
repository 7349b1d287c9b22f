"""What several nodes say of an owner's addresses, as one answer; what is asked for; when the owner learns of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.api.reach import Reach, Reporter, asked, reach, targets
from haagent.core.model import Event
from haagent.core.reach import ReachReported
from haagent.core.records import Kind
from haagent.core.units import MS
from haagent.v1.status_pb2 import ANSWERS_UNSPECIFIED, NO, PENDING, YES, GroupRole, NodeStatus
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import ADDRESS, B, group, owner, router, rules

SILENCE = "10.0.0.100 answers no ARP on eth0"


def says(answers: int, *, epoch: int = 1, name: str = "web") -> NodeStatus:
    silent = [SILENCE] if answers == NO else []
    return NodeStatus(groups=[GroupRole(group=name, answers=answers, asked_epoch=epoch, silent=silent)])  # pyright: ignore[reportArgumentType]


def found(**said: NodeStatus) -> Reach:
    return reach(1, asked(said).get("web", {}))


@pytest.mark.parametrize(
    "said, expected",
    [
        ({}, ANSWERS_UNSPECIFIED),
        ({"b": says(ANSWERS_UNSPECIFIED)}, ANSWERS_UNSPECIFIED),
        ({"b": says(YES)}, YES),
        ({"b": says(NO)}, NO),
        ({"b": says(NO), "c": says(NO)}, NO),
        ({"b": says(NO), "c": says(YES)}, YES),
        ({"b": says(NO), "c": says(PENDING)}, PENDING),
        ({"b": says(PENDING), "c": says(YES)}, YES),
        ({"b": says(NO, epoch=2)}, ANSWERS_UNSPECIFIED),
        ({"b": says(NO, name="db")}, ANSWERS_UNSPECIFIED),
    ],
    ids=str,
)
def test_one_that_gets_an_answer_is_enough(said: dict[str, NodeStatus], expected: int):
    assert found(**said).answers == expected


def test_who_gets_none_is_named_once_with_how():
    both = found(c=says(NO), b=says(NO))
    assert both.detail == f"{SILENCE}, say b and c"
    assert found(b=says(NO)).detail == f"{SILENCE}, says b"
    assert found(b=says(YES)).detail == ""


def test_what_another_node_owns_is_asked_for():
    talk = backup(rules(), record=owner("b", epoch=7))
    [target] = targets(talk.node, talk.now)
    assert (target.group, target.epoch, target.address, target.control) == ("web", 7, ADDRESS, B)


def test_what_nobody_owns_is_not_asked_for():
    talk = backup(rules(), record=owner("b", epoch=7))
    talk.other_writes(1110, (Kind.OWNERS, "web", replace(owner("b", epoch=7), clean=True)))
    assert targets(talk.node, talk.now) == []


def test_an_owner_that_stopped_renewing_is_not_asked_for():
    talk = backup(rules(), record=owner("b", epoch=7))
    assert targets(talk.node, talk.now + 1040 * MS) == []


def test_what_this_node_owns_is_not_asked_for():
    assert targets(master(rules()).node, 3000 * MS) == []


def test_all_addresses_of_a_group_are_asked_for():
    other = replace(ADDRESS, address=bytes([10, 0, 0, 101]))
    two = group("web", router("one"), router("two", vrid=52, addresses=(other,)))
    talk = backup(rules(two), record=owner("b"))
    assert [each.address for each in targets(talk.node, talk.now)] == [ADDRESS, other]


class Told:
    """A reporter, and what it delivered since last asked."""

    def __init__(self, talk: Talk) -> None:
        self._events: list[Event] = []
        self._reporter = Reporter(talk.node, self._events.append)

    def report(self, **said: NodeStatus) -> list[Event]:
        self._reporter.report(said)
        events, self._events[:] = list(self._events), []
        return events


def test_an_owner_is_told_what_changes():
    told = Told(master(rules()))
    assert told.report(b=says(YES)) == []
    assert told.report(b=says(NO)) == [ReachReported("web", 1, f"{SILENCE}, says b")]
    assert told.report(b=says(NO)) == []
    assert told.report(b=says(YES)) == [ReachReported("web", 1, "")]
    assert told.report() == []


def test_a_peer_that_is_gone_says_nothing_any_more():
    told = Told(master(rules()))
    told.report(b=says(NO))
    assert told.report() == [ReachReported("web", 1, "")]


def test_who_does_not_own_is_told_nothing():
    assert Told(backup(rules(), record=owner("b"))).report(c=says(NO)) == []
