"""Conversations about beginning and ending: a cold start, a restart, a clean stop, a stop at a bad moment."""

from __future__ import annotations

from haagent.core.model import KernelFailed, Role, StopRequested, Unanswered
from haagent.core.records import Kind
from haagent.core.units import MS
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import LEASES, OWNERS, lease, owner, rules


def test_a_cold_start():
    """A node begins alone. It sweeps the kernel first; it learns its interface, lists etcd, and asks for its lease.

    There is no record, so it waits one ttl and what clocks may differ (1030 ms) from its first list, claims, and only
    once the kernel has the addresses does it speak. Five seconds later it announces again.
    """
    talk = Talk(rules())
    assert talk.start() == ["remove web #1"]
    assert talk.kernel_removed(3) == ["web: INIT -> FAULT, epoch 0 (interface eth0 not seen yet)"]
    assert talk.hears_link(5) == ["web: FAULT -> BACKUP, epoch 0 (fit again)"]
    assert talk.lists(10) == ["renew #1 if no leases/a"]
    assert talk.etcd_does(12, "renew") == ["lease held (renewals are seen)", "member web=100 if leases/a made @2"]
    assert talk.etcd_does(14, "member") == []

    talk.quiet(1040)
    assert talk.tick(1040) == ["web: claim epoch 1 (there was no owner) if no owners/web, leases/a made @2"]
    assert talk.etcd_does(1042, "claim") == ["install web #3: 10.0.0.100 until 1980"]
    assert talk.kernel_installed(1045) == [
        "web: BACKUP -> MASTER, epoch 1 (there was no owner)",
        "advert vr 100",
        "announce vr",
    ]
    talk.quiet(2045)
    assert talk.tick(2045) == ["advert vr 100"]
    talk.quiet(6045)
    assert talk.tick(6045) == ["advert vr 100", "announce vr"]


def test_a_cold_start_of_three():
    """Three nodes begin at once. The one with the highest address goes first, then the others, 20 ms apart.

    Here is the last of the three: it waits two ranks, and when the first claims, it follows.
    """
    talk = backup(rules(), peers="bc")
    talk.quiet(1070)
    assert talk.node.due() == 1070 * MS
    assert talk.other_writes(1069, (Kind.OWNERS, "web", owner("c"))) == []
    talk.quiet(4000)
    assert talk.node.roles["web"] is Role.BACKUP


def test_a_restart_takes_back_what_its_predecessor_held():
    """The agent was killed while it owned, and is started again on the same host, where no gate says until when the
    incarnation before it had its right. So its record, which may be a restored one, is claimed a patience after the
    first list. The old lease key is overwritten under guard.
    """
    talk = Talk(rules())
    talk.etcd.write((LEASES, lease("a", 0)))
    talk.etcd.write((OWNERS, owner("a", 0, epoch=6)))
    talk.start()
    talk.kernel_removed(1)
    talk.hears_link(2)
    assert talk.lists(3) == ["renew #1 if leases/a @2"]
    assert talk.etcd_does(5, "renew") == [
        "lease held (renewals are seen)",
        "member web=100 if leases/a made @2",
    ]
    assert talk.live(1_100) == ["1033: web: claim epoch 7 (claimed again) if owners/web @3, leases/a made @2"]


def test_nothing_is_claimed_before_the_kernel_was_swept():
    """The kernel is slow to say that nothing answers any more. Lease and view are there; the group must wait.

    After two seconds the sweep is asked for anew, and only the newest answer counts.
    """
    talk = Talk(rules())
    talk.start()
    first = talk.removals["web"]
    talk.hears_link(0)
    talk.lists(0)
    talk.etcd_does(1, "renew")
    talk.quiet(2000)
    assert "remove web #2" in talk.tick(2000)
    talk.removals["web"], second = first, talk.removals["web"]
    assert talk.kernel_removed(2001) == []
    talk.removals["web"] = second
    talk.quiet(2010)
    assert talk.kernel_removed(2010) == [
        "web: claim epoch 1 (there was no owner) if no owners/web, leases/a made @2",
        "web: INIT -> BACKUP, epoch 0 (started)",
    ]


def test_a_clean_stop_of_the_owner():
    """SIGTERM. First the kernel lets go; when it confirmed, the last word is said on the wire, and the release written.

    Only when that is done does the session end. All the time until then the node renews.
    """
    talk = master(rules())
    talk.quiet(1200)
    assert talk.feed(1200, StopRequested()) == [
        "remove web #4",
        "web: MASTER -> FAULT, epoch 1 (the agent stops)",
        "member web=0 if leases/a made @4",
    ]
    assert talk.etcd_does(1203, "member") == []
    assert talk.kernel_removed(1210) == [
        "advert vr 0",
        "web: release epoch 1 (the agent stops) if owners/web @14",
    ]
    assert talk.etcd_does(1215, "release") == ["resign"]
    assert talk.live(9000) == ["1970: lease lost (it ran out)"], "not another word"


def test_a_stop_without_etcd():
    """SIGTERM while etcd does not answer. The addresses go, the last word is said, the release is tried again.

    The lease lapses meanwhile. When etcd is back, the record still names the node: it is released, not claimed again.
    """
    talk = master(rules())
    talk.quiet(1200)
    talk.feed(1200, StopRequested())
    said = talk.kernel_removed(1210)
    assert said[0] == "advert vr 0"
    ask = talk.asked["release"].ask
    talk.live(1510, etcd=False)
    assert talk.feed(1510, Unanswered(ask, "no answer in time")) == []
    assert talk.live(2100, etcd=False) == [
        "1610: web: release epoch 1 (the agent stops) if owners/web @14",
        "1970: lease lost (it ran out)",
    ]
    assert talk.etcd_does(2110, "release") == ["resign"]


def test_a_stop_while_a_claim_is_under_way():
    """SIGTERM comes between the claim and its answer. The claim was done: the record names us, so it must be undone.

    Nothing is installed; the kernel is asked all the same, and then the record is released.
    """
    talk = backup(rules(), priority=90)
    talk.live(1031)
    hear = talk.silently("claim")
    assert talk.feed(1040, StopRequested()) == [
        "web: BACKUP -> FAULT, epoch 0 (the agent stops)",
        "member web=0 if leases/a made @4",
    ]
    assert hear(1050) == ["remove web #4"]
    assert talk.kernel_removed(1060) == [
        "advert vr 0",
        "web: release epoch 1 (the agent stops) if owners/web @14",
    ]
    assert talk.etcd_does(1070, "release") == ["resign"]


def test_a_backup_stops_at_once():
    """SIGTERM at a node that owns nothing: there is nothing to wait for."""
    talk = backup(rules(), record=owner())
    talk.quiet(1200)
    assert talk.feed(1200, StopRequested()) == [
        "web: BACKUP -> FAULT, epoch 1 (the agent stops)",
        "member web=0 if leases/a made @5",
        "resign",
    ]


def test_a_stop_waits_for_a_kernel_that_fails():
    """SIGTERM, and the kernel refuses to remove the addresses. Nothing is released before it has."""
    talk = master(rules())
    talk.quiet(1200)
    talk.feed(1200, StopRequested())
    assert talk.feed(1210, KernelFailed("web", 4, "EBUSY")) == []
    assert talk.live(1320) == ["1310: remove web #5"]
    assert talk.feed(1330, KernelFailed("web", 5, "EBUSY")) == []
    assert talk.live(1440) == ["1430: remove web #6"]
    assert talk.kernel_removed(1450)[0] == "advert vr 0"
    assert talk.etcd_does(1460, "release") == ["resign"]
