"""Conversations about addresses that others take away, or say that they have: the owner tells the neighbours again.

However often it happens, no more than ten times a second, and while somebody goes on disputing an address, once a
second. Who does not own says nothing.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core.model import AddressesRepaired, AddressSeenElsewhere, Event, InterfaceChanged, Role, RulesChanged
from haagent.core.records import Kind
from haagent.core.units import MS
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import ADDRESS, VIP2, group, owner, router, rules

REPAIRED = AddressesRepaired("web", (ADDRESS,))
ELSEWHERE = AddressSeenElsewhere("web", ADDRESS, bytes.fromhex("02aa00000009"))
ALARM = "address-elsewhere vr: 02:aa:00:00:00:09 says that it has 10.0.0.100 on eth0"
OTHER = replace(ADDRESS, address=VIP2)
OF_NOTHING = replace(REPAIRED, addresses=())


def hear(talk: Talk, event: Event, begin: int, end: int) -> list[str]:
    """The event each millisecond; what the node says of its addresses, with its time."""
    told: list[str] = []
    for at in range(begin, end):
        while talk.node.due() < at * MS:
            told += of_addresses(talk, talk.tick(talk.node.due() / MS))
        told += of_addresses(talk, talk.feed(at, event))
    return told


def of_addresses(talk: Talk, lines: list[str]) -> list[str]:
    if "renew" in talk.asked:
        talk.etcd_does(talk.now / MS, "renew")
    return [f"{talk.now // MS}: {one}" for one in lines if one.startswith(("announce", "ALARM", "calm"))]


def test_what_is_put_back_is_announced_again():
    """Somebody deleted the address, and the kernel has it again."""
    talk = master(rules())
    talk.quiet(3010)
    assert talk.feed(3010, REPAIRED) == ["announce vr"]


def test_a_fight_is_announced_ten_times_a_second_and_nothing_stays_untold():
    """It is deleted a thousand times a second: an announcement each 100 ms, and one after the last repair."""
    talk = master(rules())
    talk.quiet(2110)
    told = hear(talk, REPAIRED, 2110, 3110)
    assert told == [f"{at}: announce vr" for at in range(2110, 3110, 100)]
    assert talk.tick(3110) == ["announce vr"]
    assert hear(talk, OF_NOTHING, 3111, 5000) == []


def test_only_the_routers_concerned_announce():
    talk = master(rules(group("web", router("one"), router("two", vrid=52, addresses=(OTHER,)))))
    talk.quiet(3010)
    assert talk.feed(3010, AddressesRepaired("web", (OTHER,))) == ["announce two"]
    talk.quiet(3120)
    assert talk.feed(3120, AddressesRepaired("web", (ADDRESS, OTHER))) == ["announce one", "announce two"]
    talk.quiet(3260)
    assert talk.feed(3260, replace(ELSEWHERE, address=OTHER)) == [
        "announce two",
        "ALARM " + ALARM.replace("vr:", "two:").replace(".100 ", ".101 "),
    ]


def test_who_does_not_own_neither_announces_nor_alarms():
    """The owner rightly says that it has the address. News of groups that are no more change nothing either."""
    talk = backup(rules(), record=owner("b"))
    for event in (REPAIRED, ELSEWHERE, replace(REPAIRED, group="gone"), replace(ELSEWHERE, group="gone")):
        assert talk.feed(1110, event) == []


def test_the_address_seen_elsewhere_is_an_alarm_and_defended():
    """Another host says that it has it: told once, with its MAC address, and answered; over a minute after the last."""
    talk = master(rules())
    talk.quiet(2510)
    assert talk.feed(2510, ELSEWHERE) == ["announce vr", f"ALARM {ALARM}"]
    talk.quiet(3020)
    assert talk.feed(3020, ELSEWHERE) == []
    assert hear(talk, OF_NOTHING, 3021, 3600) == ["3510: announce vr"]
    talk.quiet(63_019)
    assert talk.live(63_021) == [f"63020: calm {ALARM}"]


def test_a_flood_is_one_alarm_and_an_announcement_a_second():
    talk = master(rules())
    talk.quiet(2100)
    told = hear(talk, ELSEWHERE, 2100, 5050)
    assert told == ["2100: announce vr", f"2100: ALARM {ALARM}", "3100: announce vr", "4100: announce vr"]
    assert talk.node.roles["web"] is Role.MASTER


def test_a_late_word_of_the_owner_before_is_no_alarm_but_corrected():
    """MASTER since 1050 ms. What the old owner still had in a queue comes at 1110: the neighbours are told better."""
    talk = master(rules())
    assert talk.feed(1110, ELSEWHERE) == []
    assert talk.node.due() == 1150 * MS
    assert talk.tick(1150) == ["announce vr"]
    talk.quiet(2060)
    assert talk.feed(2060, ELSEWHERE) == ["announce vr", f"ALARM {ALARM}"]


@pytest.mark.parametrize("how", ["fault", "reload"])
def test_the_alarm_ends_with_the_right_to_the_address(how: str):
    talk = master(rules())
    talk.quiet(3000)
    assert f"ALARM {ALARM}" in talk.feed(3000, ELSEWHERE)
    if how == "fault":
        assert f"calm {ALARM}" in talk.hears_link(3100, up=False)
    else:
        moved = rules(group("web", router("other", addresses=(ADDRESS,))))
        assert f"calm {ALARM}" in talk.feed(3100, RulesChanged(moved))
    assert talk.node.alarms == {}


def test_an_announcement_that_is_owed_ends_with_the_right_to_it():
    """Repaired within the pause after taking over; before it is made up for, the interface goes down."""
    talk = master(rules())
    assert talk.feed(1100, REPAIRED) == []
    assert talk.hears_link(1110, up=False) == [
        "remove web #4",
        "web: MASTER -> FAULT, epoch 1 (interface eth0 is down or absent)",
        "member web=0 if leases/a made @4",
    ]
    talk.kernel_removed(1112)
    assert "announce" not in " ".join(hear(talk, REPAIRED, 1113, 1300))


def test_a_primary_address_that_is_gone_for_a_moment():
    """networkd reloads: the interface's own address is removed, and added again 200 ms later.

    Adverts need a source: the group is released, and whoever has one takes it. With the address the node is fit again,
    and owns again when its turn comes.
    """
    talk = master(rules())
    talk.quiet(3010)
    assert talk.feed(3010, InterfaceChanged("eth0", True, None, None)) == [
        "remove web #4",
        "web: MASTER -> FAULT, epoch 1 (interface eth0 has no IPv4 address)",
        "member web=0 if leases/a made @4",
    ]
    assert talk.kernel_removed(3012) == [
        "advert vr 0",
        "web: release epoch 1 (interface eth0 has no IPv4 address) if owners/web @14",
    ]
    assert talk.etcd_does(3014, "release") == []
    talk.etcd_does(3015, "member")
    assert talk.other_writes(3020, (Kind.OWNERS, "web", owner("b", epoch=2))) == []
    assert talk.hears_link(3210) == [
        "web: FAULT -> BACKUP, epoch 2 (fit again)",
        "member web=100 if leases/a made @4",
    ]
    talk.quiet(3240)
    assert talk.other_writes(3240, (Kind.OWNERS, "web", owner("b", epoch=2, clean=True))) == [
        "web: claim epoch 3 (released by b) if owners/web @34, leases/a made @4"
    ]


def test_a_primary_address_that_is_back_before_the_kernel_has_confirmed():
    """Removed and added within the time that the removal takes: nothing was released, so the node just owns again."""
    talk = master(rules())
    talk.quiet(3010)
    assert "remove web #4" in talk.feed(3010, InterfaceChanged("eth0", True, None, None))
    assert "web: FAULT -> BACKUP, epoch 1 (fit again)" in talk.hears_link(3011)
    assert talk.kernel_removed(3012) == ["advert vr 0", "install web #5: 10.0.0.100 until 3970"]
    assert talk.kernel_installed(3014)[0] == "web: BACKUP -> MASTER, epoch 1 (there was no owner)"
