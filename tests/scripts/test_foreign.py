"""Conversations about what others configured on the host: virtual addresses by hand, a source that is missing, a MAC.

An address by hand is an alarm as long as it is there and this node does not own its group; a source that is not there
keeps a node from owning; a MAC address that changes is announced at once.
"""

from __future__ import annotations

from dataclasses import replace

from haagent.core.model import GateClosed, HostAddresses, RulesChanged, VirtualAddress
from tests.scripts.talk import backup, master
from tests.unit.core.values import ADDRESS, ETH0, VIP, VIP2, A, group, owner, router, rules

NOTHING = HostAddresses((), frozenset())
BY_HAND = HostAddresses((VirtualAddress(VIP, 24, "eth1"),), frozenset())
ALARM = "ALARM address-foreign 10.0.0.100 on eth1: 10.0.0.100 is configured on eth1, not by haagent"
CALM = ALARM.replace("ALARM", "calm", 1)
OTHERS = owner("b")
MISSING = HostAddresses((), frozenset({A}))
WHY = "unicast_source 10.0.0.1 is not an address of this host"


def alarms(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("ALARM", "calm"))]


def test_an_address_by_hand_on_a_backup_is_an_alarm_until_it_is_gone():
    talk = backup(rules(), record=OTHERS)
    assert alarms(talk.feed(1010, BY_HAND)) == [ALARM]
    assert alarms(talk.feed(1020, BY_HAND)) == []
    assert alarms(talk.feed(1030, NOTHING)) == [CALM]


def test_each_place_has_an_alarm_of_its_own():
    talk = backup(rules(), record=OTHERS)
    there = (*BY_HAND.foreign, VirtualAddress(VIP, 32, "lo"), VirtualAddress(VIP, 24, "lo"))
    assert len(alarms(talk.feed(1010, HostAddresses(there, frozenset())))) == 2
    assert alarms(talk.feed(1020, BY_HAND)) == [
        "calm address-foreign 10.0.0.100 on lo: 10.0.0.100 is configured on lo, not by haagent"
    ]


def test_an_owner_raises_none_and_does_when_it_lets_go():
    """While it owns, it answers for the address rightly. It does so no longer, and the address is still there."""
    talk = master(rules())
    assert alarms(talk.feed(1110, BY_HAND)) == []
    assert ALARM in talk.feed(1120, GateClosed("by hand"))


def test_what_is_no_longer_configured_is_no_alarm():
    talk = backup(rules(), record=OTHERS)
    talk.feed(1010, BY_HAND)
    other = replace(ADDRESS, address=VIP2)
    assert CALM in talk.feed(1020, RulesChanged(rules(group("web", router(addresses=(other,))))))


def test_a_source_that_is_not_there_is_a_fault_by_name():
    """Its adverts could not be sent: a keepalived beside it would become a second master."""
    talk = master(rules(group("web", router(source=A))))
    lines = talk.feed(1110, MISSING)
    assert any(line.startswith("remove web") for line in lines)
    assert f"web: MASTER -> FAULT, epoch 1 ({WHY})" in lines
    talk.kernel_removed(1112)
    assert talk.node.faults["web"] == (WHY,)
    talk.etcd_does(1115, "release")
    assert "web: FAULT -> BACKUP, epoch 1 (fit again)" in talk.feed(1120, NOTHING)


def test_a_source_that_a_reload_names_is_no_fault_before_the_kernel_was_asked():
    talk = master(rules())
    (again,) = talk.feed(1110, RulesChanged(rules(group("web", router(source=A)))))
    assert again.startswith("install web")
    assert talk.node.roles["web"] == "MASTER"
    assert talk.feed(1111, NOTHING) == []


def test_a_mac_address_that_changes_is_announced_at_once():
    """As at a bond's failover, or by `ip link set address`: neighbours know the old one."""
    talk = master(rules())
    talk.feed(1110, replace(ETH0, mac=b"\2\0\0\0\0\1"))
    talk.quiet(1480)
    assert talk.feed(1480, replace(ETH0, mac=b"\2\0\0\0\0\2")) == ["announce vr"]
    assert talk.feed(1490, replace(ETH0, mac=b"\2\0\0\0\0\2")) == []


def test_a_backup_announces_no_mac_address():
    talk = backup(rules(), record=OTHERS)
    talk.feed(1010, replace(ETH0, mac=b"\2\0\0\0\0\1"))
    assert talk.feed(1020, replace(ETH0, mac=b"\2\0\0\0\0\2")) == []
