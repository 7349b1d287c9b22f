"""Conversations about new rules and failing interfaces: what an owner keeps, what it gives up, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haagent.core.model import GroupRules, Role, Rules, RulesChanged, Strangers, TimePassed, VirtualAddress
from haagent.core.records import Kind
from haagent.core.units import MS, S
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import ADDRESS, STRANGER, VIP2, group, owner, router, rules

ADDRESS2 = VirtualAddress(VIP2, 24, "eth0")
SECOND = router("vr2", vrid=52, interface="eth1", addresses=(VirtualAddress(VIP2, 24, "eth1"),))
PAIR = group("web", router(), SECOND)


def reload(talk: Talk, at: float, *groups: GroupRules, **changes: Any) -> list[str]:
    talk.quiet(at)
    new: Rules = replace(talk.node.rules, groups={one.name: one for one in groups}, **changes)
    return talk.feed(at, RulesChanged(new))


# --- interfaces


def test_a_sync_group_whose_second_interface_fails_and_comes_back():
    """Two virtual routers on two interfaces are owned as one. eth1 goes down: all of the group is given up.

    The release says why; nobody else is there, so when eth1 is back the group is claimed again, as a whole.
    """
    talk = master(rules(PAIR), peers="")
    talk.quiet(1200)
    assert talk.hears_link(1200, up=False, name="eth1") == [
        "remove web #4",
        "web: MASTER -> FAULT, epoch 1 (interface eth1 is down or absent)",
        "member web=0 if leases/a made @2",
    ]
    assert talk.kernel_removed(1203) == [
        "advert vr 0",
        "advert vr2 0",
        "web: release epoch 1 (interface eth1 is down or absent) if owners/web @8",
    ]
    assert talk.etcd_does(1210, "release") == []
    talk.quiet(5010)
    assert talk.hears_link(5010, name="eth1") == [
        "web: claim epoch 2 (claimed again) if owners/web @9, leases/a made @2",
        "web: FAULT -> BACKUP, epoch 1 (fit again)",
        "member web=100 if leases/a made @2",
    ]
    assert talk.etcd_does(5015, "claim") == ["install web #7: 10.0.0.100 10.0.0.101 until 5970"]
    assert talk.kernel_installed(5020) == [
        "web: BACKUP -> MASTER, epoch 2 (claimed again)",
        "advert vr 100",
        "announce vr",
        "advert vr2 100",
        "announce vr2",
    ]


def test_an_interface_that_flaps_while_the_kernel_lets_go():
    """eth0 is down and up again before the kernel confirmed. The record names us, the lease runs: own again."""
    talk = master(rules())
    talk.quiet(1200)
    talk.hears_link(1200, up=False)
    assert talk.hears_link(1201)[-1:] == ["web: FAULT -> BACKUP, epoch 1 (fit again)"]
    assert talk.kernel_removed(1205) == ["advert vr 0", "install web #5: 10.0.0.100 until 1970"]
    assert talk.kernel_installed(1206)[0].startswith("web: BACKUP -> MASTER, epoch 1")


def test_an_interface_that_is_not_ours_does_not_matter():
    """eth7 comes and goes."""
    talk = master(rules())
    talk.quiet(1200)
    assert talk.hears_link(1200, up=False, name="eth7") == []


# --- addresses and routers


def test_an_address_is_added_and_one_is_taken_away():
    """A reload while MASTER: the kernel follows, the neighbours are told, nothing is let go."""
    talk = master(rules())
    assert reload(talk, 1200, group("web", router(addresses=(ADDRESS, ADDRESS2)))) == [
        "install web #4: 10.0.0.100 10.0.0.101 until 1970"
    ]
    assert talk.kernel_installed(1205) == ["announce vr"]
    assert reload(talk, 1210, group("web", router(addresses=(ADDRESS2,)))) == [
        "install web #5: 10.0.0.101 until 1970"
    ]  # fmt: skip
    assert talk.kernel_installed(1215) == ["announce vr"]
    talk.quiet(9000)
    assert talk.node.roles["web"] is Role.MASTER


def test_a_router_joins_the_group_of_a_master():
    """The group gets a second virtual router on eth0: it speaks only once the kernel has its address."""
    talk = master(rules())
    joined = router("vr2", vrid=52, addresses=(ADDRESS2,))
    assert reload(talk, 1200, group("web", router(), joined)) == [
        "install web #4: 10.0.0.100 10.0.0.101 until 1970"
    ]  # fmt: skip
    said = talk.kernel_installed(1205)
    assert said.count("advert vr2 100") == 1
    assert "advert vr 100" not in said


def test_a_router_of_a_master_is_renamed():
    """The name of a virtual router changes, nothing else. The new one speaks, the old one is not heard of any more."""
    talk = master(rules())
    assert reload(talk, 1200, group("web", router("vip"))) == ["install web #4: 10.0.0.100 until 1970"]
    assert talk.kernel_installed(1205)[-2:] == ["advert vip 100", "announce vip"]
    assert talk.node.due() < 1300 * MS
    talk.quiet(3000)
    assert set(talk.node.routers) == {"vip"}


def test_a_router_is_renamed_while_a_stranger_is_heard():
    """keepalived is master of `vr` (`strangers: yield`), and a reload renames it. What was about `vr` is over with it.

    The stranger is heard on `vip` the next time.
    """
    yielding = router(strangers=Strangers.YIELD)
    talk = backup(rules(group("web", yielding)), peers="")
    talk.hears_advert(1010, STRANGER, 200)
    said = reload(talk, 1020, group("web", replace(yielding, name="vip")))
    assert said == ["calm stranger vr: 10.0.0.9 advertises priority 200"]
    assert talk.hears_advert(1025, STRANGER, 200, router="vip") == [
        "ALARM stranger vip: 10.0.0.9 advertises priority 200"
    ]  # fmt: skip
    talk.quiet(3000)


def test_a_router_that_is_removed_takes_its_alarms_along():
    """b's adverts for `vr2` were lost and differ; then `vr2` is configured no more."""
    pair = group("web", router("vr2", vrid=52, addresses=(ADDRESS2,)), router())
    talk = backup(rules(pair), record=owner(epoch=4))
    talk.hears_advert(1100, router="vr2")
    talk.live(6001)
    assert set(talk.node.alarms) == {("adverts-lost", "vr2"), ("addresses-differ", "vr2")}
    said = reload(talk, 6010, group())
    assert {line.partition(":")[0] for line in said} == {"calm adverts-lost vr2", "calm addresses-differ vr2"}
    assert talk.node.alarms == {}


def test_a_router_moves_to_another_group_while_master():
    """`vr` and `vr2` were owned as one; now `vr2` is a group of its own. The master keeps `vr`, and claims the other.

    `vr2` says nothing until the new group is owned and the kernel has its address.
    """
    pair = group("web", router(), router("vr2", vrid=52, addresses=(ADDRESS2,)))
    talk = master(rules(pair))
    alone = group("db", router("vr2", vrid=52, addresses=(ADDRESS2,)))
    assert reload(talk, 1200, group(), alone)[:2] == ["install web #4: 10.0.0.100 until 1970", "remove db #1"]
    assert talk.kernel_installed(1201) == ["announce vr"]
    assert talk.kernel_removed(1202, "db")[0].startswith("db: claim epoch 1 (there was no owner)")
    assert talk.etcd_does(1210, "claim db") == ["install db #3: 10.0.0.101 until 1970"]
    assert talk.kernel_installed(1215, "db")[1:] == ["advert vr2 100", "announce vr2"]


def test_a_router_moves_to_a_group_that_another_owns():
    """`vr2` joins `db`, which b owns, while a is MASTER of `web`, its old group: a is silent about `vr2`."""
    second = router("vr2", vrid=52, addresses=(ADDRESS2,))
    third = group("db", router("vr3", vrid=53, addresses=()))
    talk = backup(rules(group("web", router(), second), third), priority=90)
    talk.other_writes(1010, (Kind.OWNERS, "db", owner()))
    talk.live(1035)
    talk.etcd_does(1035, "claim web")
    assert "advert vr2 100" in talk.kernel_installed(1040)
    moved = replace(third, routers=(*third.routers, second))
    assert reload(talk, 1200, group(), moved)[0] == "install web #4: 10.0.0.100 until 1970"
    assert [line for line in talk.kernel_installed(1205) if "vr2" in line] == []
    said = [line for at in range(1250, 4000, 10) for line in talk.feed(at, TimePassed())]
    assert [line for line in said if line.startswith("advert vr2")] == []


# --- groups


def test_a_group_is_removed_while_master():
    """A reload without the group: it is given up like in a stop, then forgotten; the node goes on with the other."""
    both = rules(group(), group("db", router("vr2", vrid=52, addresses=(ADDRESS2,))))
    talk = master(both)
    assert reload(talk, 1200, both.groups["db"])[:2] == [
        "remove web #4",
        "web: MASTER -> FAULT, epoch 1 (removed from the configuration)",
    ]
    assert talk.kernel_removed(1205)[0] == "advert vr 0"
    assert set(talk.node.groups) == {"web", "db"}
    assert talk.etcd_does(1210, "release web") == []
    assert set(talk.node.groups) == set(talk.node.roles) == set(talk.node.rules.groups) == {"db"}
    assert set(talk.node.routers) == {"vr2"}
    talk.quiet(3000)


def test_a_group_is_removed_while_backup():
    """Nothing is owed: it is forgotten at once."""
    talk = backup(rules(), record=owner(epoch=4))
    said = reload(talk, 1200)
    assert said[0] == "web: BACKUP -> FAULT, epoch 4 (removed from the configuration)"
    assert talk.node.groups == {}
    talk.quiet(3000)


def test_a_group_is_removed_and_comes_back_before_it_was_let_go():
    """The operator thinks twice. The kernel has not confirmed yet; afterwards the group is owned again."""
    talk = master(rules())
    reload(talk, 1200)
    assert reload(talk, 1201, group())[:1] == ["web: FAULT -> BACKUP, epoch 1 (fit again)"]
    assert talk.kernel_removed(1205) == ["advert vr 0", "install web #5: 10.0.0.100 until 1970"]


def test_a_group_is_added():
    """It begins like at a cold start: the kernel first."""
    talk = master(rules())
    added = group("db", router("vr2", vrid=52, addresses=(ADDRESS2,)))
    assert reload(talk, 1200, group(), added)[0] == "remove db #1"
    assert talk.node.roles["db"] is Role.INIT
    claim, role = talk.kernel_removed(1205, "db")
    assert claim.startswith("db: claim epoch 1")
    assert role == "db: INIT -> BACKUP, epoch 0 (started)"


def test_a_group_is_renamed_while_master():
    """`web` becomes `www`, with the same virtual router. The old one is released, the new one begins."""
    talk = master(rules())
    said = reload(talk, 1200, group("www"))
    assert said[0] == "remove www #1"
    assert "remove web #4" in said
    assert talk.kernel_removed(1205)[0] == "advert vr 0"
    talk.etcd_does(1210, "release web")
    assert talk.kernel_removed(1215, "www")[0].startswith("www: claim epoch 1 (there was no owner)")
    talk.etcd_does(1220, "claim")
    assert talk.kernel_installed(1225, "www")[1:] == ["advert vr 100", "announce vr"]
    assert set(talk.node.groups) == {"www"}


# --- the lease


def test_a_shorter_ttl_is_asked_for_at_once_and_counts_at_once():
    """The ttl becomes 300 ms. From the question on the node holds by the shorter one, whatever etcd has.

    And so does its kernel, before anybody can hear of the question: the node may not be there to close it.
    """
    talk = master(rules())
    assert reload(talk, 1200, group(), ttl=300 * MS) == [
        "extend until 1470",
        "renew #6 if leases/a @13, owners/web made @14",
    ]
    assert talk.live(1480, etcd=False)[:1] == ["1470: lease lost (it ran out)"]


def test_a_longer_ttl_is_asked_for_in_time_and_counts_when_it_is_seen():
    """The ttl becomes 3 s. The next renewal carries it; only when the watch shows it does the node hold longer."""
    talk = master(rules())
    assert reload(talk, 1200, group(), ttl=3 * S) == []
    assert talk.live(1300, etcd=False) == []
    assert talk.etcd_does(1300, "renew") == ["extend until 4220"]
