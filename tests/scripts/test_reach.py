"""Conversations about an owner whose addresses do not answer its peers: an alarm, and by configuration a release."""

from __future__ import annotations

from typing import Any

from haagent.core.model import Rules, Unreachable
from haagent.core.reach import ReachReported
from haagent.core.reachability import FAULTY_FOR
from haagent.core.units import MS
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import group, owner, router, rules

SILENT = ReachReported("web", 1, "10.0.0.100 answers no ARP on eth0, says b")
REACHED = ReachReported("web", 1, "")
ALARM = f"ALARM unreachable web: {SILENT.silent}"


def releasing(**changes: Any) -> Rules:
    return rules(group("web", router(), on_unreachable=Unreachable.RELEASE, **changes))


def settled(talk: Talk) -> Talk:
    talk.quiet(2110)
    return talk


def test_the_alarm_lasts_while_nobody_gets_an_answer():
    talk = settled(master(rules()))
    assert talk.feed(2110, SILENT) == [ALARM]
    assert talk.feed(2111, SILENT) == []
    assert talk.feed(2112, REACHED) == [ALARM.replace("ALARM", "calm")]
    assert talk.feed(2113, REACHED) == []


def test_other_words_take_the_place_of_the_alarm():
    talk = settled(master(rules()))
    talk.feed(2110, SILENT)
    worse = ReachReported("web", 1, "10.0.0.100 answers no ARP on eth0, say b and c")
    assert talk.feed(2111, worse) == [ALARM.replace("ALARM", "calm"), f"ALARM unreachable web: {worse.silent}"]


def test_who_does_not_own_by_that_epoch_raises_nothing():
    talk = settled(master(rules()))
    assert talk.feed(2110, ReachReported("web", 2, "silent")) == []
    assert talk.feed(2110, ReachReported("gone", 1, "silent")) == []
    assert backup(rules(), record=owner("b")).feed(1110, SILENT) == []


def test_by_default_an_unreachable_owner_stays():
    talk = settled(master(rules()))
    talk.feed(2110, SILENT)
    assert not any("remove" in line for line in talk.live(4000, peers="b"))


def test_an_owner_that_is_to_release_lets_another_node_own():
    talk = settled(master(releasing()))
    talk.peer_renews(2109, "b")
    lines = talk.feed(2110, SILENT)
    assert lines[0] == ALARM
    assert any(line.startswith("remove web") for line in lines), lines
    assert f"calm unreachable web: {SILENT.silent}" in lines
    assert "release" in talk.kernel_removed(2111)[-1]


def test_nobody_else_is_able_so_the_owner_stays():
    """Better an address that some clients may still reach than one that nobody owns."""
    talk = settled(master(releasing(), peers=""))
    assert talk.feed(2110, SILENT) == [ALARM]


def test_it_does_not_own_again_at_once_and_says_why():
    talk = settled(master(releasing()))
    talk.peer_renews(2109, "b")
    talk.feed(2110, SILENT)
    talk.kernel_removed(2111)
    talk.etcd_does(2112, "release")
    faults = talk.node.faults["web"]
    assert len(faults) == 1
    assert faults[0].startswith("it owned the group and did not answer: 10.0.0.100 answers no ARP")
    late = 2110 + FAULTY_FOR // MS
    lines = talk.live(late - 100, peers="b")
    assert not any("claim" in line for line in lines), lines
    assert talk.node.faults["web"] == faults
    assert any("claim" in line for line in talk.live(late + 1200, peers="b")), "the fault ended by itself"
    assert talk.node.faults["web"] == ()
