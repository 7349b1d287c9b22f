"""Conversations about owners that fall silent, stop, or are only not heard; and about answers that come too late."""

from __future__ import annotations

from haagent.core.model import AddressesInstalled, AddressesRemoved, KernelFailed, Role, TimePassed, Watched
from haagent.core.records import Key, Kind
from haagent.core.units import MS
from tests.scripts.talk import backup, master
from tests.unit.core.values import OWNERS, B, C, group, lease, owner, router, rules


def test_the_owner_falls_silent():
    """b owns and renews every 250 ms, for the last time at 1001 ms. Then its host is lost.

    a waits until b's lease has run out on any clock, then claims: guarded by b not having renewed since.
    """
    talk = backup(rules(), record=owner(epoch=4))
    talk.peer_renews(1001, "b")
    assert talk.live(2040, peers="") == [
        "2031: web: claim epoch 5 (the lease of b lapsed) if owners/web @4, leases/a made @5, leases/b @15"
    ]
    assert talk.etcd_does(2040, "claim") == ["install web #3: 10.0.0.100 until 2970"]
    assert talk.kernel_installed(2045) == [
        "web: BACKUP -> MASTER, epoch 5 (the lease of b lapsed)",
        "advert vr 100",
        "announce vr",
    ]


def test_the_owner_was_only_slow():
    """b's renewal is done just before the claim of a, which has not seen it yet. The claim's guard fails.

    The refusal shows the renewal: b is alive, and a waits anew, from when it learned of it.
    """
    talk = backup(rules(), record=owner(epoch=4))
    talk.quiet(2030, peers="")
    renewal = talk.etcd.write((Key(Kind.LEASES, "b"), lease(round=9)))
    assert talk.live(2031, peers="")
    assert talk.etcd_does(2035, "claim") == []
    assert talk.node.due() > 2035 * MS
    assert talk.feed(2040, Watched(talk.etcd.revision, renewal)) == []
    assert [line.partition(":")[0] for line in talk.live(3080, peers="")] == ["3065"]


def test_a_claims_answer_comes_after_the_lapse():
    """a claims, and then hears nothing of etcd for a second: its lease runs out. The claim was done long ago.

    The answer makes no MASTER. When renewals are seen again, the record is older than the new chain: a claims anew.
    """
    talk = backup(rules(), priority=90)
    assert talk.live(1031) == [
        "1030: web: claim epoch 1 (there was no owner) if no owners/web, leases/a made @4"
    ]  # fmt: skip
    hear = talk.silently("claim")
    assert talk.live(2100, etcd=False) == ["1970: lease lost (it ran out)"]
    assert hear(2100) == []
    assert talk.node.roles["web"] is Role.BACKUP
    assert talk.live(2110) == [
        "2100: lease held (renewals are seen)",
        "2100: web: claim epoch 2 (claimed again) if owners/web @14, leases/a made @4",
    ]
    assert talk.etcd_does(2110, "claim") == ["install web #4: 10.0.0.100 until 2970"]


def test_a_master_stalls_beyond_its_lease():
    """The process sleeps for three seconds. The first event it then sees is an answer to a renewal of before.

    It is too late: the first thing that a does is to let go. Meanwhile c has claimed.
    """
    talk = master(rules())
    talk.quiet(1200)
    talk.live(1251, etcd=False)
    hear = talk.silently("renew")
    assert hear(4300) == [
        "lease lost (it ran out)",
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (the lease lapsed)",
        "renew #7 if leases/a @15",
    ]
    assert talk.other_writes(4301, (Kind.OWNERS, "web", owner("c", epoch=2))) == []
    assert talk.kernel_removed(4310) == [], "no last word: the lease does not run, and the record is c's"


def test_a_master_that_lapsed_takes_its_group_back():
    """etcd is silent for a while, and nobody else is there. The master lets go in time, and claims again afterwards."""
    talk = master(rules(), peers="")
    talk.quiet(1200)
    assert talk.live(2990, etcd=False) == [
        "1970: lease lost (it ran out)",
        "1970: remove web #4",
        "1970: web: MASTER -> BACKUP, epoch 1 (the lease lapsed)",
    ]
    assert talk.kernel_removed(2990) == []
    assert talk.live(3010) == [
        "2990: lease held (renewals are seen)",
        "2990: web: claim epoch 2 (claimed again) if owners/web @8, leases/a made @2",
    ]


def test_the_owner_says_that_it_stops():
    """b advertises priority 0. That is a hint: a looks at the record, ahead of its watch, and finds it released.

    A released record is claimed at once, guarded all the same.
    """
    talk = backup(rules(), record=owner(epoch=4))
    assert talk.hears_advert(1100) == []
    assert talk.hears_advert(1110, priority=0) == ["look at owners/web, leases/b"]
    talk.etcd.write((OWNERS, owner(epoch=4, clean=True)))
    assert talk.etcd_does(1113, "look") == ["web: claim epoch 5 (released by b) if owners/web @15, leases/a made @5"]


def test_somebody_pretends_that_the_owner_stops():
    """The same advert, and the record says otherwise: nothing comes of it."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.hears_advert(1110, priority=0)
    assert talk.etcd_does(1113, "look") == []
    talk.quiet(6000, adverts="b")
    assert talk.node.roles["web"] is Role.BACKUP


def test_the_owners_adverts_are_lost():
    """b owns and renews, but its adverts do not arrive: a switch eats multicast. An alarm, said once; no failover.

    When they are heard again, it is over, and that too is said once.
    """
    talk = backup(rules(), record=owner(epoch=4))
    assert talk.hears_advert(1100) == []
    assert talk.live(30_100) == [
        "4709: ALARM adverts-lost vr: adverts lost, owner b alive",
        "4709: look at owners/web, leases/b",
    ]
    assert talk.hears_advert(30_101) == ["calm adverts-lost vr: adverts lost, owner b alive"]
    assert talk.hears_advert(30_200) == []
    assert talk.live(40_000, adverts="b") == []


def test_adverts_lost_and_then_the_owner_too():
    """The adverts of b were lost; then b is lost, and a takes over. The alarm about adverts has nothing to be about."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.hears_advert(1100)
    talk.live(9001)
    assert ("adverts-lost", "vr") in talk.node.alarms
    talk.live(11_000, peers="")
    talk.etcd_does(11_000, "claim")
    assert talk.kernel_installed(11_010) == [
        "web: BACKUP -> MASTER, epoch 5 (the lease of b lapsed)",
        "calm adverts-lost vr: adverts lost, owner b alive",
        "advert vr 100",
        "announce vr",
    ]
    assert talk.node.alarms == {}


def test_adverts_lost_and_then_our_interface_too():
    """The adverts of b are lost because our own interface is failing; then it is down. One fault, one message."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.hears_advert(1100)
    talk.live(9001)
    assert talk.hears_link(9001, up=False)[0] == "calm adverts-lost vr: adverts lost, owner b alive"
    talk.hears_link(9100)
    assert talk.node.alarms == {}


def test_adverts_lost_and_then_the_owner_stops():
    """The first advert that is heard again is the last one of b."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.hears_advert(1100)
    talk.live(9001)
    assert talk.hears_advert(9100, priority=0) == [
        "calm adverts-lost vr: adverts lost, owner b alive",
        "look at owners/web, leases/b",
    ]


def test_a_flood_of_adverts_is_ten_looks_a_second():
    """Somebody sends priority-0 adverts in the owner's name, a thousand a second, for five seconds."""
    talk = backup(rules(), record=owner(epoch=4))
    looks = 0
    for step in range(5000):
        at = 1001 + step
        if step % 250 == 0:
            talk.peer_renews(at, "b")
        looks += sum(line.startswith("look") for line in talk.hears_advert(at, priority=0))
        talk.live(at + 0.5, peers="")
    assert 40 <= looks <= 50
    assert talk.node.roles["web"] is Role.BACKUP


def test_rivals_do_not_silence_the_master():
    """A member that is not the owner advertises priority 255, a hundred times a second. The master goes on speaking."""
    talk = master(rules(group("web", router(advert_interval=100 * MS))))
    said: list[str] = []
    for step in range(200):
        at = 1101 + 10 * step
        said += talk.hears_advert(at, B, priority=255)
        said += talk.feed(at, TimePassed())
        if "renew" in talk.asked:
            talk.etcd_does(at, "renew")
    assert said.count("advert vr 100") == 20
    assert 10 <= said.count("look at owners/web, leases/a") <= 21
    assert talk.node.roles["web"] is Role.MASTER


def test_members_configured_with_other_addresses_are_told_apart():
    """b advertises another list of addresses than ours: an alarm while it lasts. A removed router's is nothing.

    It is over when b's list has been ours for five seconds: what comes in turns is not said each time.
    """
    talk = backup(rules(), record=owner(epoch=4))
    assert talk.hears_advert(1100, addresses=(C,)) == [
        "ALARM addresses-differ vr: b advertises other addresses than ours"
    ]  # fmt: skip
    assert talk.hears_advert(1200, addresses=(C,)) == []
    assert talk.hears_advert(1201, router="removed") == []
    for at in range(1202, 6200, 100):
        assert talk.hears_advert(at) == []
        talk.live(at + 99)
    assert talk.hears_advert(6202) == ["calm addresses-differ vr: b advertises other addresses than ours"]


def test_an_owner_that_released_and_fell_silent():
    """b released cleanly and is quiet, as it should be: that is no alarm. (Our own claim gets no answer meanwhile.)"""
    talk = backup(rules(), record=owner(epoch=4))
    talk.hears_advert(1020)
    talk.other_writes(1040, (Kind.OWNERS, "web", owner(epoch=4, clean=True)))
    assert [line for line in talk.live(6000) if "claim" not in line] == ["4629: look at owners/web, leases/b"]


def test_the_kernel_answers_late():
    """Confirmations of what was asked for before the last thing that was asked for, and for a group that is gone."""
    talk = master(rules())
    talk.quiet(1200)
    assert talk.feed(1200, AddressesRemoved("web", 1)) == []
    assert talk.feed(1201, KernelFailed("web", 2, "late")) == []
    assert talk.hears_link(1202, up=False)[0] == "remove web #4"
    assert talk.feed(1203, AddressesInstalled("web", 3)) == []
    assert talk.feed(1204, AddressesRemoved("web", 3)) == []
    assert talk.feed(1205, AddressesInstalled("gone", 1)) == []
    assert talk.kernel_removed(1206)[0] == "advert vr 0"
