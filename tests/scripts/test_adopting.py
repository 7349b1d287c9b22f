"""Conversations with an agent that starts while a gate is open: what the dead incarnation left may go on, by then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core.model import GateClosed, Role, TimePassed
from haagent.core.records import Key, Kind, OwnerRecord
from haagent.core.states import Adopting
from haagent.core.units import MS
from tests.scripts.talk import Talk, master
from tests.unit.core.values import lease, owner, rules

OPEN_UNTIL = 800
"""Milliseconds: when the gate closes that the dead incarnation left."""


def restarted(record: OwnerRecord | None) -> Talk:
    """The agent on `a` was killed, and starts again; etcd has its old lease key, and this record."""
    talk = Talk(rules())
    talk.etcd.write((Key(Kind.LEASES, "a"), lease("a", 0)))
    if record is not None:
        talk.etcd.write((Key(Kind.OWNERS, "web"), record))
    assert talk.start(open_until=OPEN_UNTIL) == []
    assert talk.hears_link(2) == []
    return talk


def test_a_restart_within_the_lease_goes_on_where_it_was_stopped():
    """The addresses stay, behind a gate that ends with the old lease. The record still stands: it is claimed at once,
    and only then the kernel is told, which has nothing to do but to let the addresses live longer.
    """
    talk = restarted(owner("a", 0, epoch=6))
    assert talk.lists(3) == ["renew #1 if leases/a @2"]
    assert talk.etcd_does(5, "renew") == [
        "lease held (renewals are seen)",
        "member web=100 if leases/a made @2",
        "web: claim epoch 7 (claimed again) if owners/web @3, leases/a made @2",
    ]
    assert talk.etcd_does(7, "claim") == ["install web #2: 10.0.0.100 until 973"]
    assert talk.kernel_installed(8) == [
        "web: INIT -> MASTER, epoch 7 (claimed again)",
        "advert vr 100",
        "announce vr",
    ]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(None, id="there is none"),
        pytest.param(owner("b", epoch=7), id="another node owns"),
        pytest.param(replace(owner("a", 0, epoch=6), clean=True), id="it was released"),
        pytest.param(replace(owner("a", 0, epoch=6), host="host-z"), id="of our name on another host"),
    ],
)
def test_what_no_record_stands_for_is_swept(record: OwnerRecord | None):
    """The first list shows that nothing is there to go on with."""
    talk = restarted(record)
    assert "remove web #1" in talk.lists(3)
    assert talk.node.roles["web"] is Role.INIT
    assert (
        talk.kernel_removed(5)[0]
        == "web: INIT -> BACKUP, epoch " + ("0" if record is None else str(record.epoch)) + " (started)"
    )


def test_a_claim_that_fails_sweeps():
    """Another node was faster: its claim is done between our list and ours. What was left must go, then we follow."""
    talk = restarted(owner("a", 0, epoch=6))
    talk.lists(3)
    talk.etcd_does(5, "renew")
    talk.etcd.write((Key(Kind.OWNERS, "web"), owner("b", epoch=7)))
    assert talk.etcd_does(7, "claim") == ["remove web #2"]
    assert talk.kernel_removed(9) == ["web: INIT -> BACKUP, epoch 7 (started)"]


def test_etcd_may_be_faster_than_the_kernel():
    """The list comes before the kernel has told of the interface. That is no fault of it: the claim waits, the
    addresses stay; meanwhile the lease is renewed.
    """
    talk = Talk(rules())
    talk.etcd.write((Key(Kind.LEASES, "a"), lease("a", 0)))
    talk.etcd.write((Key(Kind.OWNERS, "web"), owner("a", 0, epoch=6)))
    assert talk.start(open_until=OPEN_UNTIL) == []
    assert talk.lists(2) == ["renew #1 if leases/a @2"]
    assert talk.etcd_does(4, "renew") == ["lease held (renewals are seen)", "member web=0 if leases/a made @2"]
    assert talk.hears_link(5) == [
        "web: claim epoch 7 (claimed again) if owners/web @3, leases/a made @2",
    ]
    assert talk.etcd_does(7, "claim") == ["install web #2: 10.0.0.100 until 972"]


def test_a_kernel_that_never_tells_of_the_interface_sweeps_when_the_gate_closes():
    """From then on that the record names this host says nothing: others may have claimed in a history that was lost."""
    talk = Talk(rules())
    talk.etcd.write((Key(Kind.OWNERS, "web"), owner("a", 0, epoch=6)))
    talk.start(open_until=OPEN_UNTIL)
    talk.lists(2)
    talk.feed(799, TimePassed())
    assert isinstance(talk.node.groups["web"], Adopting)
    assert "remove web #1" in talk.feed(800, TimePassed())


def test_an_unfit_interface_sweeps():
    """The interface is down: whatever the record says, we can not go on."""
    talk = Talk(rules())
    talk.etcd.write((Key(Kind.OWNERS, "web"), owner("a", 0, epoch=6)))
    talk.start(open_until=OPEN_UNTIL)
    talk.hears_link(2, up=False)
    assert "remove web #1" in talk.lists(3)


def test_without_etcd_it_sweeps_when_the_gate_closes():
    """etcd is away. Nothing is left lying about."""
    talk = restarted(owner("a", 0, epoch=6))
    assert talk.node.due() == OPEN_UNTIL * MS
    assert talk.tick(OPEN_UNTIL) == ["remove web #1"]


def test_a_closed_gate_says_nothing_of_the_predecessors_right():
    """The record names this host, by an incarnation whose gate has closed: it may be a restored one, and somebody else
    may own by the history that was lost. Swept, and claimed a patience after the first list.
    """
    talk = Talk(rules())
    talk.etcd.write((Key(Kind.LEASES, "a"), lease("a", 0)))
    talk.etcd.write((Key(Kind.OWNERS, "web"), owner("a", 0, epoch=6)))
    assert talk.start() == ["remove web #1"]
    talk.hears_link(2)
    talk.kernel_removed(3)
    talk.lists(10)
    lines = talk.live(2_000)
    assert lines[-1] == "1040: web: claim epoch 7 (claimed again) if owners/web @3, leases/a made @2"


def test_a_gate_that_the_kernel_closed_ends_the_lease():
    """The process stalled for so long that the kernel closed the gate: it does not go on as if it answered."""
    talk = master(rules())
    lines = talk.feed(1200, GateClosed("refused: No such file or directory"))
    assert lines[:2] == ["lease lost (the gate is closed: refused: No such file or directory)", "remove web #4"]
    assert talk.node.roles["web"] is Role.BACKUP
