"""Conversations about an etcd that loses, changes or hides what a node wrote, and about others who write there."""

from __future__ import annotations

from haagent.core.model import Role, Unanswered
from haagent.core.records import Garbage, Kind
from tests.scripts.talk import Etcd, Talk, backup, master
from tests.unit.core.values import LEASES, OWNERS, group, lease, owner, router, rules


def test_etcd_is_wiped_while_we_own():
    """Somebody restores etcd from nothing: another cluster id, no keys. The list shows it.

    The node holds nothing from that moment, lets go, and begins anew: it asks for its lease at once, but claims only
    after one ttl. The epoch goes on where it was.
    """
    talk = master(rules(), peers="")
    talk.quiet(1200)
    talk.etcd = Etcd("another")
    assert talk.lists(1200) == [
        "ALARM etcd-rewound etcd: its history is another one: wiped or restored",
        "lease lost (etcd was wiped or restored)",
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (the lease lapsed)",
        "renew #6 if no leases/a",
    ]
    assert talk.etcd_does(1205, "renew") == [
        "lease held (renewals are seen)",
        "calm etcd-rewound etcd: its history is another one: wiped or restored",
        "member web=100 if leases/a made @2",
    ]
    assert talk.kernel_removed(1210) == []
    assert [line.partition(" if ")[0] for line in talk.live(2300)] == [
        "2230: web: claim epoch 2 (there was no owner)",
    ]


def test_etcd_goes_back_in_time():
    """A snapshot of yesterday is restored, with the same cluster id: a list at a lower revision.

    Yesterday b owned. That says nothing of who holds by the history that is gone: others wait for whoever may. We know
    that it was nobody but us, and claim as soon as our kernel is silent.
    """
    talk = master(rules())
    talk.quiet(1200)
    yesterday = Etcd()
    yesterday.write((OWNERS, owner("b", 7, epoch=1, clean=True)))
    talk.etcd = yesterday
    assert talk.lists(1200)[:4] == [
        "ALARM etcd-rewound etcd: its history is another one: wiped or restored",
        "lease lost (etcd was wiped or restored)",
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (the lease lapsed)",
    ]
    talk.kernel_removed(1210)
    lines = talk.live(1300, peers="")
    assert [line for line in lines if "claim" in line] == [
        "1210: web: claim epoch 2 (released by b) if owners/web @2, leases/a made @3"
    ]


def test_a_wipe_ends_what_was_wrong_with_the_old_history():
    """A garbage key was told of, and a renewal was done but not shown, when etcd is wiped. Both are of the past.

    No alarm stays for a key that does not exist, and the watch is not begun anew for a revision that never comes.
    """
    talk = master(rules(), peers="")
    talk.quiet(1200)
    talk.other_writes(1200, (Kind.MEMBERS, "z", Garbage("not JSON")))
    talk.live(1260, etcd=False)
    talk.etcd.revision = 1000
    answer, _ = talk.etcd.commit(talk.asked.pop("renew"))  # type: ignore[arg-type]
    talk.feed(1270, answer)
    talk.etcd = Etcd("another")
    assert "calm unreadable members/z: not JSON" in talk.lists(1300)
    assert [line for line in talk.live(9000) if "resync" in line] == []
    assert talk.node.alarms == {}


def test_the_record_is_deleted_while_we_own():
    """Somebody deletes the ownership record with etcdctl. Its owner lets go, and the group waits out one ttl."""
    talk = master(rules(), peers="")
    talk.quiet(1200)
    assert talk.other_writes(1200, (Kind.OWNERS, "web", None)) == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (the ownership record is gone or unreadable)",
    ]
    assert talk.kernel_removed(1205) == []
    assert talk.live(2300) == ["2230: web: claim epoch 2 (there was no owner) if no owners/web, leases/a made @2"]


def test_the_record_is_garbage_while_we_own():
    """Somebody writes nonsense into the ownership record. It is told, by its key; the owner lets go.

    A ttl later it is claimed, guarded by the nonsense being what it was, and that ends the alarm.
    """
    talk = master(rules(), peers="")
    talk.quiet(1200)
    assert talk.other_writes(1200, (Kind.OWNERS, "web", Garbage("not JSON"))) == [
        "ALARM unreadable owners/web: not JSON",
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (the ownership record is gone or unreadable)",
    ]
    assert talk.kernel_removed(1205) == []
    assert talk.live(2240) == ["2230: web: claim epoch 2 (there was no owner) if owners/web @9, leases/a made @2"]
    assert talk.etcd_does(2240, "claim") == [
        "calm unreadable owners/web: not JSON",
        "install web #6: 10.0.0.100 until 2970",
    ]


def test_our_lease_key_is_deleted_while_we_own():
    """etcd's own lease ran out early, or somebody deleted the key. It is written anew at once, guarded by our records.

    They are unchanged, so nobody claimed: the node goes on as MASTER, and the wire does not notice.
    """
    talk = master(rules())
    talk.quiet(1200)
    assert talk.other_writes(1200, (Kind.LEASES, "a", None)) == ["renew #6 if no leases/a, owners/web @14"]
    assert talk.etcd_does(1205, "renew") == ["extend until 2170"]
    talk.quiet(9000)
    assert talk.node.roles["web"] is Role.MASTER


def test_our_lease_key_is_deleted_and_somebody_claimed():
    """As before, but c claims in the moment in which there was no key. The guard fails: that is an answer.

    The refusal shows c's record, ahead of the watch, and the node lets go at once.
    """
    talk = master(rules())
    talk.quiet(1200)
    talk.other_writes(1200, (Kind.LEASES, "a", None))
    talk.etcd.write((OWNERS, owner("c", epoch=2)))
    assert talk.etcd_does(1205, "renew")[:2] == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 2 (the record names c)",
    ]


def test_another_host_with_our_name():
    """A cloned machine: another host runs an agent that calls itself a, and it was first. We wait, and say why."""
    talk = Talk(rules())
    clone = lease("a", 9, host="host-z")
    talk.etcd.write((LEASES, clone))
    talk.start()
    talk.kernel_removed(1)
    talk.hears_link(2)
    assert talk.lists(3) == ["ALARM name-in-use a: by incarnation a9 on host host-z"]
    for at in range(250, 5000, 250):
        assert talk.other_writes(at, (Kind.LEASES, "a", clone)) == []
    assert talk.live(6000) == [
        "5780: calm name-in-use a: by incarnation a9 on host host-z",
        "5780: lease held (renewals are seen)",
        "5780: web: claim epoch 1 (there was no owner) if no owners/web, leases/a made @2",
    ]


def test_our_name_is_taken_while_we_own():
    """The clone comes later and overwrites our lease key (an older version did not ask). We cannot renew, and lapse."""
    talk = master(rules())
    talk.quiet(1200)
    clone = lease("a", 9, host="host-z")
    assert talk.other_writes(1200, (Kind.LEASES, "a", clone)) == [
        "ALARM name-in-use a: by incarnation a9 on host host-z"
    ]  # fmt: skip
    for at in range(1450, 1950, 250):
        assert talk.other_writes(at, (Kind.LEASES, "a", clone)) == []
    assert talk.live(2000) == [
        "1970: lease lost (it ran out)",
        "1970: remove web #4",
        "1970: web: MASTER -> BACKUP, epoch 1 (the lease lapsed)",
    ]


def test_etcd_is_silent():
    """No answer, twice: an alarm. The master lapses. When etcd is back, alarm and lapse are over."""
    talk = master(rules(), peers="")
    talk.quiet(1200)
    said: list[str] = []
    for at in (1251, 1501, 1751):
        said += talk.live(at, etcd=False)
        said += talk.feed(at, Unanswered(talk.asked["renew"].ask, "no endpoint answers"))
    assert said == ["ALARM etcd-silent etcd: no endpoint answers"]
    assert talk.live(1990, etcd=False)[0] == "1970: lease lost (it ran out)"
    assert talk.kernel_removed(1990) == []
    assert talk.live(2010)[:2] == [
        "1990: calm etcd-silent etcd: no endpoint answers",
        "1990: lease held (renewals are seen)",
    ]


def test_the_watch_hangs():
    """Renewals are done and answered, but the watch shows nothing. The node asks for a new one within a quarter ttl."""
    talk = master(rules(), peers="")
    talk.quiet(1240)
    lines: list[str] = []
    while not any("resync" in line for line in lines):
        lines = talk.live(talk.now / 1_000_000 + 10, etcd=False)
        if "renew" in talk.asked:
            answer, _ = talk.etcd.commit(talk.asked.pop("renew"))  # type: ignore[arg-type]
            lines += talk.feed(talk.now / 1_000_000, answer)
    assert talk.now <= 1_800_000_000
    assert talk.lists(talk.now / 1_000_000 + 5)[0].startswith("extend until")
    assert talk.node.roles["web"] is Role.MASTER


def test_the_watch_hangs_and_two_renewals_are_lost():
    """The third is done elsewhere. A fourth would come when the lease is over: the node asks for a new watch before."""
    talk = master(rules(), peers="")
    talk.quiet(1240)
    assert talk.live(1760, etcd=False) == []
    answer, _ = talk.etcd.commit(talk.asked.pop("renew"))  # type: ignore[arg-type]
    assert talk.feed(1765, answer) == []
    assert talk.live(1900, etcd=False) == ["1890: resync"]
    assert talk.lists(1960)[0].startswith("extend until")
    assert talk.node.roles["web"] is Role.MASTER


def test_a_claim_is_refused_because_another_was_faster():
    """Two nodes claim a free group. Ours is second: the refusal shows the winner's record, and it is followed."""
    talk = backup(rules(), priority=90)
    talk.live(1031)
    talk.etcd.write((OWNERS, owner("b", epoch=1)))
    assert talk.etcd_does(1035, "claim") == []
    talk.quiet(6000)
    assert talk.node.roles["web"] is Role.BACKUP


def test_many_groups_and_a_lease_key_that_vanished():
    """A hundred groups are more than one transaction can guard: the node lets go of them all rather than guess."""
    groups = [group(f"g{number}", router(f"vr{number}", addresses=())) for number in range(100)]
    talk = master(rules(*groups), peers="")
    talk.quiet(1200)
    said = talk.other_writes(1200, (Kind.LEASES, "a", None))
    assert said[0].startswith("lease lost (the lease key vanished")
    assert sum(line.startswith("remove") for line in said) == 100
    assert "renew #6 if no leases/a" in said


def test_only_the_stream_makes_a_renewal_count():
    """The watch is slow. The first renewal is done unseen, the second is refused, and the refusal shows the first.

    That is no lease yet: what else was done before it may concern us. Only when the watch shows it does the node hold,
    and by the time of the first question.
    """
    talk = Talk(rules())
    talk.start()
    talk.kernel_removed(0)
    talk.hears_link(0)
    talk.lists(0)
    hear = talk.silently("renew")
    talk.quiet(251, etcd=False)
    assert talk.etcd_does(255, "renew") == []
    assert talk.node.alarms == {}
    assert hear(300)[0] == "lease held (renewals are seen)"
    assert talk.live(1000, etcd=False)[0] == "970: lease lost (it ran out)"
