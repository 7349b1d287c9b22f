"""Conversations with a node that has a fencing plug-in: it must confirm before anything is claimed from who lapsed.

Three outcomes: confirmed, refused, timed out. Only the first lets the claim go ahead, and then by the same guards.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core import fencing
from haagent.core.model import FenceConfirmed, Role, Rules, RulesChanged, StopRequested, VirtualAddress
from haagent.core.records import Kind
from haagent.core.states import Claiming, Fencing, Following
from haagent.core.units import MS, S
from tests.scripts.talk import Talk, backup
from tests.unit.core.values import VIP2, group, lease, member, owner, router, rules

FENCED = rules(fence=5 * S)
CLAIM = "claim epoch 5 (the lease of b lapsed)"


def lapsed(of: Rules = FENCED) -> Talk:
    """b, which owned by epoch 4, has been silent for so long that a may claim; a asks for its fencing first."""
    talk = backup(of, record=owner(epoch=4))
    assert talk.live(2040, peers="") == ["2030: fence b (b1) #1 for web of epoch 4 until 7030"]
    talk.peers = ""
    return talk


def news(lines: list[str]) -> list[str]:
    """Without renewals, which go on whatever happens; of a claim only what it claims."""
    return [line.partition(" if ")[0] for line in lines if not line.startswith(("renew ", "member "))]


def test_confirmed_then_claimed():
    """The claim waits as long as it takes, renewals go on meanwhile, and its guards are those of any claim."""
    talk = lapsed()
    talk.quiet(5000)
    assert talk.node.groups["web"] == Fencing(serial=1, node="b")
    assert talk.node.roles["web"] is Role.BACKUP
    claim = talk.fenced(5001)[0]
    assert claim == f"web: {CLAIM} if owners/web @4, leases/a made @5, leases/b @13"
    assert talk.etcd_does(5003, "claim")[0].startswith("install web")


def test_without_a_plug_in_nothing_waits():
    talk = backup(rules(), record=owner(epoch=4))
    assert news(talk.live(2040, peers="")) == [f"2030: web: {CLAIM}"]


def test_several_groups_of_one_owner_are_fenced_once():
    other = router("vr2", vrid=52, addresses=(VirtualAddress(VIP2, 24, "eth0"),))
    talk = lapsed(rules(group(), group("db", other), fence=5 * S))
    assert talk.node.groups["db"] == Fencing(serial=1, node="b")
    assert news(talk.fenced(2500)) == [f"web: {CLAIM}", f"db: {CLAIM}"]


def test_refused_and_timed_out_are_no_confirmation():
    """Each is an alarm of its own, and is tried again after a pause that grows."""
    talk = lapsed()
    assert news(talk.fenced(2500, refused="no such outlet")) == ["ALARM fencing b: refused: no such outlet"]
    assert isinstance(talk.node.groups["web"], Following)
    assert talk.live(4000) == ["3500: fence b (b1) #2 for web of epoch 4 until 8500"]
    assert news(talk.fenced(4100, refused="no such outlet")) == [], "it has been said"
    assert talk.live(6200) == ["6100: fence b (b1) #3 for web of epoch 4 until 11100"]
    talk.quiet(11000)
    assert news(talk.fenced(11001, late=True)) == [
        "calm fencing b: refused: no such outlet",
        "ALARM fencing b: timed out",
    ]
    assert talk.live(15100) == ["15001: fence b (b1) #4 for web of epoch 4 until 20001"]
    assert news(talk.fenced(15300)) == ["calm fencing b: timed out", f"web: {CLAIM}"]


def test_the_pauses_have_a_bound():
    talk = lapsed()
    for _ in range(12):
        at = talk.now // MS
        talk.fenced(at, refused="no")
        talk.live(at + fencing.LONGEST_PAUSE // MS + 1)
        assert "b" in talk.fences


def test_an_answer_that_never_comes_is_a_time_out():
    talk = lapsed()
    assert talk.live(9100) == ["9030: ALARM fencing b: timed out"]
    assert talk.live(10100) == ["10030: fence b (b1) #2 for web of epoch 4 until 15030"]


def test_a_late_answer_is_of_another_question():
    talk = lapsed()
    first = talk.fences["b"].ask
    talk.live(10100)
    assert news(talk.feed(10200, FenceConfirmed(first))) == []
    assert isinstance(talk.node.groups["web"], Fencing)


def test_the_owner_was_only_slow():
    """b renews while it is about to be fenced. That it is confirmed then does not shorten the wait for its lease."""
    talk = lapsed()
    talk.peer_renews(2500, "b")
    assert news(talk.fenced(2600)) == []
    assert isinstance(talk.node.groups["web"], Following)
    assert news(talk.live(3540)) == [f"3530: web: {CLAIM}"]


def test_life_after_it_was_confirmed_voids_the_confirmation():
    """Whatever was confirmed, b renewed afterwards: it is fenced again before anything is claimed from it."""
    talk = lapsed()
    talk.fenced(2600)
    talk.peer_renews(2610, "b")
    assert talk.etcd_does(2620, "claim") == [], "its guard did not hold"
    assert news(talk.live(3700)) == ["3640: fence b (b1) #2 for web of epoch 4 until 8640"]


def test_another_claims_meanwhile():
    """c was faster: a follows it, and what becomes of b is nobody's concern any more."""
    talk = lapsed()
    talk.fenced(2500, refused="no such outlet")
    talk.live(3600)
    talk.other_writes(3700, (Kind.LEASES, "c", lease("c")), (Kind.OWNERS, "web", owner("c", epoch=5)))
    assert isinstance(talk.node.groups["web"], Following)
    assert news(talk.fenced(3800)) == ["calm fencing b: refused: no such outlet"]
    talk.quiet(4000, peers="c")


def test_an_alarm_ends_with_the_record_that_it_was_about():
    talk = lapsed()
    talk.fenced(2500, refused="no such outlet")
    talk.other_writes(2600, (Kind.LEASES, "c", lease("c")), (Kind.OWNERS, "web", owner("c", epoch=5)))
    assert talk.live(3000, peers="c") == ["2750: calm fencing b: refused: no such outlet"]


def test_a_clean_release_needs_no_fencing():
    talk = lapsed()
    released = talk.other_writes(2500, (Kind.OWNERS, "web", owner(epoch=4, clean=True)))
    assert news(released) == ["web: claim epoch 5 (released by b)"]


def test_the_node_itself_is_not_fenced():
    """A record of a's name, by an incarnation on another host: this machine before it booted, as a rule."""
    talk = backup(FENCED, peers="", record=owner("a", turn=0, epoch=4, host="before"))
    assert news(talk.live(1100)) == ["1030: web: claim epoch 5 (claimed again)"]


def test_the_own_lease_lapses_meanwhile():
    """Without a lease nothing is waited for. The answer counts all the same, once there is one again."""
    talk = lapsed()
    talk.quiet(2100)
    assert talk.live(3500, etcd=False) == ["2970: lease lost (it ran out)"]
    assert isinstance(talk.node.groups["web"], Following)
    assert news(talk.fenced(3500)) == []
    assert news(talk.live(3510)) == ["3500: lease held (renewals are seen)", f"3500: web: {CLAIM}"]


def test_a_fault_meanwhile():
    talk = lapsed()
    assert "web: BACKUP -> FAULT, epoch 4 (interface eth0 is down or absent)" in talk.hears_link(2500, up=False)
    assert news(talk.fenced(2600)) == []
    assert f"web: {CLAIM}" in news(talk.hears_link(2700))


def test_a_stop_meanwhile():
    talk = lapsed()
    assert talk.feed(2500, StopRequested())[-1] == "resign"
    assert talk.fenced(2600) == []


@pytest.mark.parametrize("failed", [False, True])
def test_a_reload_that_takes_the_plug_in_away(failed: bool):
    talk = lapsed()
    before = ["calm fencing b: refused: no"] if failed else []
    if failed:
        talk.fenced(2500, refused="no")
    assert news(talk.feed(2600, RulesChanged(replace(FENCED, fence=0)))) == [f"web: {CLAIM}"]
    assert isinstance(talk.node.groups["web"], Claiming)
    assert [line.partition(": ")[2] for line in talk.live(3000)] == before


def test_the_better_candidate_has_time_to_fence():
    """Two that fence at once could power-cycle a node twice: who is second waits for as long as the first may take."""
    talk = backup(FENCED, peers="bc", record=owner(epoch=4))
    talk.other_writes(1010, (Kind.MEMBERS, "c", member("c", priority=200)))
    talk.quiet(7030, peers="c")
    assert talk.live(7060, peers="c") == ["7050: fence b (b1) #1 for web of epoch 4 until 12050"]
