"""Conversations about flap damping: who keeps losing a group lets others go first, but leaves it to nobody."""

from __future__ import annotations

from dataclasses import replace

from haagent.core.model import StopRequested
from haagent.core.planned import Damping
from haagent.core.records import Intent, Kind
from haagent.core.units import MS, S
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import group, owner, rules

TWICE = replace(group(), damping=Damping(losses=2, within=60 * S))
GOES_LAST = "ALARM damped web: lost 2 times within 60 s: it goes last"


def flap(talk: Talk, at: float) -> list[str]:
    """The owner's interface is down for 100 ms; the release is done, and the kernel quick."""
    lines = talk.hears_link(at, up=False)
    lines += talk.kernel_removed(at + 1)
    lines += talk.etcd_does(at + 2, "release")
    return lines + talk.live(at + 100) + talk.hears_link(at + 100)


def take(talk: Talk, at: float) -> None:
    """The claim that is due by then is done."""
    talk.live(at)
    talk.etcd_does(at, "claim")
    talk.kernel_installed(at)


def damped(peers: str = "b") -> Talk:
    """`a` lost the group at 1.2 s and at 4 s; b, who is less, was there, and is if it is among the `peers`."""
    talk = master(rules(TWICE))
    assert GOES_LAST not in flap(talk, 1200)
    take(talk, 2500)
    talk.peers = peers
    talk.quiet(4000)
    assert GOES_LAST in flap(talk, 4000)
    return talk


def test_a_node_that_lost_twice_lets_the_other_go_first():
    """Two losses in a minute: its standing is the least, and it waits a ttl longer than its turn. b claims first."""
    talk = damped()
    talk.live(5000)
    assert talk.node.view.members["a"].standings["web"].priority == 1
    assert "claim" not in talk.asked
    talk.other_writes(5000, (Kind.OWNERS, "web", owner(epoch=3)))
    talk.quiet(20_000)


def test_with_nobody_else_it_claims_at_once():
    """b's lease has run out: whoever flaps is better than nobody."""
    talk = damped(peers="")
    assert talk.now == 4100 * MS
    assert "claim" in talk.asked


def test_the_other_does_not_claim_although_it_could():
    """b lives, and for some reason does not claim. a does, a ttl after its turn."""
    talk = damped()
    lines = talk.live(7000)
    assert [line.partition(" (")[0] for line in lines if "claim" in line][:1] == ["5022: web: claim epoch 3"]


def test_it_is_over_when_the_first_loss_is_a_minute_ago():
    talk = damped()
    talk.other_writes(4200, (Kind.OWNERS, "web", owner(epoch=3)))
    assert talk.live(61_300) == ["61200: calm damped web: lost 2 times within 60 s: it goes last"]
    assert talk.node.view.members["a"].standings["web"].priority == 100


def test_it_does_not_preempt_meanwhile():
    talk = master(rules(replace(TWICE, preempt=True)))
    flap(talk, 1200)
    take(talk, 3000)
    talk.live(4000)
    flap(talk, 4000)
    talk.other_writes(4200, (Kind.OWNERS, "web", owner(epoch=3)))
    talk.quiet(61_000)
    assert "wish to take over from epoch 3" in "\n".join(talk.live(61_300))


def test_an_operator_who_wants_it_overrides_it():
    """The group is free, b could have it, and anna wants a to: a claims at once."""
    talk = damped()
    lines = talk.other_writes(4200, (Kind.INTENTS, "web", Intent("a", 2, "anna")))
    assert "claim epoch 3" in "\n".join(lines + talk.live(5003, peers=""))


def test_a_lapse_is_a_loss_and_a_kernel_that_fails_is_one():
    talk = master(rules(replace(TWICE, damping=Damping(1, 60 * S))))
    lines = talk.live(2200, etcd=False)
    assert "ALARM damped web: lost 1 times within 60 s: it goes last" in "\n".join(lines)


def test_what_is_planned_is_no_loss():
    once = rules(replace(TWICE, damping=Damping(1, 60 * S)))
    stopped, handing = master(once), master(once)
    assert not any("damped" in line for line in stopped.feed(1200, StopRequested()))
    assert not any(
        "damped" in line for line in handing.other_writes(1200, (Kind.INTENTS, "web", Intent("b", 1, "anna")))
    )


def test_damping_is_off_unless_configured():
    talk = master(rules())
    for at in (1200, 4000, 7000):
        assert not any("damped" in line for line in flap(talk, at))
        take(talk, at + 2000)


def test_nobody_lost_anything_by_following():
    talk = backup(rules(replace(TWICE, damping=Damping(1, 60 * S))), record=owner(epoch=4))
    talk.quiet(1200)
    assert not any("damped" in line for line in talk.hears_link(1200, up=False))
