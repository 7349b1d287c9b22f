"""Conversations with VRRP speakers that are no members: keepalived on the same VRID, in a migration or by mistake."""

from __future__ import annotations

import pytest

from haagent.core.model import Role, Rules, Strangers
from haagent.core.records import Key, Kind
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import STRANGER, A, B, group, member, owner, router, rules


def yielding(preempt: bool = False, priority: int = 100) -> Rules:
    return rules(group("web", router(strangers=Strangers.YIELD, priority=priority), preempt=preempt))


def yielding_master() -> Talk:
    """At 3700 ms `a` is MASTER by epoch 1, and has advertised at 3660: it listened before it claimed."""
    talk = backup(yielding(), priority=90)
    talk.live(3650)
    talk.etcd_does(3650, "claim")
    talk.kernel_installed(3660)
    talk.live(3700)
    assert talk.node.roles["web"] is Role.MASTER
    return talk


def test_a_stranger_is_told_and_counts_for_nothing():
    """`strangers: alarm`. keepalived with priority 255 advertises on our VRID. The owner goes on."""
    talk = master(rules())
    talk.quiet(1200)
    assert talk.hears_advert(1200, STRANGER, 255) == ["ALARM stranger vr: 10.0.0.9 advertises priority 255"]
    assert talk.hears_advert(1210, STRANGER, 255) == []
    assert talk.live(5000) == ["4819: calm stranger vr: 10.0.0.9 advertises priority 255"]
    assert talk.node.roles["web"] is Role.MASTER


def test_nobody_is_a_stranger_before_the_first_list():
    """The agent starts while b advertises. Who b is, the list shows; who is still unknown then is told."""
    talk = Talk(rules())
    talk.etcd.write((Key(Kind.MEMBERS, "b"), member("b")))
    talk.start()
    talk.kernel_removed(0)
    talk.hears_link(0)
    assert talk.hears_advert(1, B, 100) == []
    assert talk.hears_advert(2, STRANGER, 100) == []
    talk.lists(3)
    assert not [line for line in talk.hears_advert(4, B, 100) if "stranger" in line]
    assert talk.hears_advert(5, STRANGER, 100) == ["ALARM stranger vr: 10.0.0.9 advertises priority 100"]


def test_a_member_whose_keys_are_gone_is_no_stranger():
    """Its session in etcd ended; it writes its keys again within a ttl."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.other_writes(1100, (Kind.MEMBERS, "b", None))
    assert not [line for line in talk.hears_advert(1200, B, 100) if "stranger" in line]
    assert "ALARM stranger vr: 10.0.0.2 advertises priority 100" in talk.hears_advert(5100, B, 100)


def test_a_stranger_does_not_keep_a_backup_from_its_duty():
    """`strangers: alarm`. The owner is lost while keepalived advertises: a claims as ever."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.hears_advert(1100, STRANGER, 255)
    assert talk.live(2100, peers="") == [
        "2030: web: claim epoch 5 (the lease of b lapsed) if owners/web @4, leases/a made @5, leases/b @13"
    ]


def test_an_advert_from_our_own_address_is_a_strangers():
    """Somebody has our address, or the network brings our own packets back. It is no member's advert."""
    talk = master(rules())
    talk.quiet(1200)
    assert talk.hears_advert(1200, A, 100) == ["ALARM stranger vr: 10.0.0.1 advertises priority 100"]


@pytest.mark.parametrize("source, priority", [(STRANGER, 101), (STRANGER, 100), (bytes([10, 0, 0, 0]), 101)])
def test_yield_the_owner_is_deposed_as_plain_vrrp_says(source: bytes, priority: int):
    """A rolling migration: keepalived with a higher priority (or an equal one and a higher address) comes up.

    The owner lets go, and only when the kernel confirmed releases the record; it says no farewell, for there is a
    master. While keepalived speaks, nobody claims; when it falls silent, its adverts count for three intervals and the
    skew, then the group is claimed again.
    """
    talk = yielding_master()
    talk.quiet(3800)
    assert talk.hears_advert(3800, source, priority)[1:] == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (a stranger is master of vr)",
    ]
    assert talk.kernel_removed(3810) == ["web: release epoch 1 (a stranger is master of vr) if owners/web @34"]
    assert talk.etcd_does(3820, "release") == []
    for at in range(4800, 12_000, 1000):
        talk.quiet(at)
        assert talk.hears_advert(at, source, priority) == []
    calm, claim = talk.live(16_000)
    assert calm.startswith("15409: calm stranger")
    assert claim.startswith("15409: web: claim epoch 2 (claimed again)")


def test_yield_the_owner_asserts_itself_against_a_lower_one():
    """keepalived with a lower priority advertises. The owner answers, at most doubling its own rate, and stays."""
    talk = yielding_master()
    talk.live(4200)
    assert talk.hears_advert(4200, STRANGER, 99) == [
        "advert vr 100",
        "ALARM stranger vr: 10.0.0.9 advertises priority 99",
    ]
    assert talk.hears_advert(4210, STRANGER, 99) == []
    assert talk.hears_advert(4220, STRANGER, 0) == [], "nor does it shout when the other stops"
    assert talk.node.roles["web"] is Role.MASTER


def test_yield_a_node_listens_before_it_claims():
    """The record is free, the lease runs, and nobody was heard yet: a master that there is may speak only seldom.

    RFC 9568 6.4.1: a node begins with its Active_Down_Timer running, three intervals and its skew.
    """
    talk = backup(yielding(), peers="")
    talk.quiet(3609)
    assert talk.live(3700) == ["3609: web: claim epoch 1 (there was no owner) if no owners/web, leases/a made @2"]


def test_yield_priority_255_does_not_listen():
    """RFC 9568 6.4.1: the owner of the addresses begins as Active. Here it waits for its lease, and no longer."""
    talk = backup(yielding(priority=255), peers="")
    assert len(talk.live(1100)) == 1
    assert "claim" in talk.asked


def test_yield_a_backup_waits_while_a_stranger_is_master():
    """The first haagent of a migration comes up beside a running keepalived of lower priority, without `preempt`.

    The record is free, the lease runs, and still it must not claim. keepalived stops: after the skew it may.
    """
    talk = backup(yielding(), peers="")
    talk.hears_advert(1010, STRANGER, 50)
    talk.quiet(4000)
    talk.hears_advert(4010, STRANGER, 50)
    talk.quiet(5020)
    assert talk.hears_advert(5020, STRANGER, 0) == []
    assert talk.live(6000) == [
        "5629: calm stranger vr: 10.0.0.9 advertises priority 50",
        "5629: web: claim epoch 1 (there was no owner) if no owners/web, leases/a made @2",
    ]


@pytest.mark.parametrize("preempt, priority", [(True, 100), (False, 255)])
def test_yield_who_preempts_does_not_wait_for_a_lower_stranger(preempt: bool, priority: int):
    """With `preempt`, and at priority 255 in any case (RFC 9568 6.1, Preempt_Mode), a lower keepalived is preempted."""
    talk = backup(yielding(preempt, priority), peers="")
    talk.hears_advert(1010, STRANGER, 50)
    assert len(talk.live(1100)) == 1
    assert "claim" in talk.asked


def test_a_stranger_on_an_interface_that_fails():
    """keepalived is heard, then the interface goes down, and while it is down keepalived is stopped.

    What was heard before the fault is forgotten with it, alarm and all.
    """
    talk = backup(rules(), record=owner(epoch=4))
    talk.hears_advert(1100, STRANGER, 255)
    assert talk.hears_link(1200, up=False)[0] == "calm stranger vr: 10.0.0.9 advertises priority 255"
    talk.hears_link(9000)
    assert talk.node.alarms == {}
