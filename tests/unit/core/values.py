"""What the tests of the core are made of: a node `a` among `b` and `c`, a group `web` with the virtual router `vr`.

Each builder makes the ordinary thing; what a test is about is said by name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haagent.core.claims import Situation
from haagent.core.lease import Held, Lease, Questions
from haagent.core.model import (
    AdvertReceived,
    GroupRules,
    InterfaceChanged,
    Listed,
    RouterRules,
    Rules,
    VirtualAddress,
    Watched,
)
from haagent.core.records import (
    Garbage,
    Intent,
    Key,
    Kind,
    LeaseValue,
    MemberValue,
    OwnerRecord,
    Seen,
    Standing,
    Value,
)
from haagent.core.units import MS, Instant, S
from haagent.core.view import View

A, B, C, VIP, VIP2 = (bytes([10, 0, 0, last]) for last in (1, 2, 3, 100, 101))
STRANGER = bytes([10, 0, 0, 9])
ETH0 = InterfaceChanged("eth0", up=True, v4=A, v6=None)
ADDRESS = VirtualAddress(VIP, 24, "eth0")
OWNERS, LEASES = Key(Kind.OWNERS, "web"), Key(Kind.LEASES, "a")

TTL, MARGIN = 1 * S, 30 * MS
PATIENCE = 1030 * MS
"""How long a challenger waits for a holder with a ttl of a second: 1 % for the clocks, 20 ms for the kernel."""


def router(name: str = "vr", **changes: Any) -> RouterRules:
    ordinary = RouterRules(
        name=name,
        vrid=51,
        version=3,
        family=4,
        interface="eth0",
        priority=100,
        advert_interval=1 * S,
        addresses=(ADDRESS,),
    )
    return replace(ordinary, **changes)


def group(name: str = "web", *routers: RouterRules, **changes: Any) -> GroupRules:
    return replace(GroupRules(name, routers or (router(),)), **changes)


def rules(*groups: GroupRules, **changes: Any) -> Rules:
    named = {one.name: one for one in groups or (group(),)}
    return replace(Rules("a", "a1", "host-a", "test", named), **changes)


def held(since: int = 1, until: Instant = 970 * MS, created: int = 1) -> Held:
    return Held(Questions((), 1, 250 * MS, TTL, 1), since, created, until, TTL)


def lease(node: str = "b", turn: int = 1, **changes: Any) -> LeaseValue:
    """The lease key's value of a node's `turn`-th incarnation."""
    return replace(LeaseValue(f"{node}{turn}", f"host-{node}", TTL, round=1), **changes)


def owner(node: str = "b", turn: int = 1, **changes: Any) -> OwnerRecord:
    ordinary = OwnerRecord(
        node=node,
        incarnation=f"{node}{turn}",
        host=f"host-{node}",
        ttl=TTL,
        epoch=1,
        clean=False,
        candidates=("a", "b"),
        reason="there was no owner",
    )
    return replace(ordinary, **changes)


def member(node: str = "b", priority: int = 100, address: bytes = B, groups: tuple[str, ...] = ("web",)) -> MemberValue:
    return MemberValue(f"{node}1", "test", (address,), {name: Standing(priority, address) for name in groups})


def seen(kind: Kind, name: str, value: Value | Garbage | None, revision: int, created: int | None = None) -> Seen:
    return Seen(Key(kind, name), (revision if created is None else created) if value else 0, revision, value)


def leases(revision: int, node: str = "b", turn: int = 1, **changes: Any) -> Seen:
    return seen(Kind.LEASES, node, lease(node, turn, **changes), revision)


def owners(revision: int, record: OwnerRecord | Garbage | None, name: str = "web") -> Seen:
    return seen(Kind.OWNERS, name, record, revision)


def members(revision: int, node: str = "b", **changes: Any) -> Seen:
    return seen(Kind.MEMBERS, node, member(node, **changes), revision)


def intents(revision: int, to: str, epoch: int = 1, by: str = "operator") -> Seen:
    return seen(Kind.INTENTS, "web", Intent(to, epoch, by), revision)


def listed(revision: int, *news: Seen, cluster: str = "etcd") -> Listed:
    return Listed(cluster, revision, news)


def watched(*news: Seen, revision: int = 0) -> Watched:
    return Watched(max([revision, *(one.revision for one in news)]), news)


def view(*news: Seen, now: Instant = 0, of: Rules | None = None, new: bool = False) -> View:
    """What `a` knows after a list that showed all of `news` at `now`: its first one, if it is `new`."""
    of, made = of or rules(), View("a")
    made.list(listed(max([1, *(one.revision for one in news)]), *news), of, now)
    if not new:
        made.settled_at = 0
    return made


def show(to: View, *news: Seen, now: Instant, of: Rules | None = None) -> list[Seen]:
    """The watch shows more; what of it is news."""
    return list(to.watch(watched(*news), of or rules(), now))


def situation(
    known: View | None = None,
    *,
    lease: Lease | None = None,
    now: Instant = 0,
    faults: tuple[str, ...] = (),
    of: Rules | None = None,
    priority: int = 100,
) -> Situation:
    of, lease = of or rules(), lease or held()
    return Situation(
        rules=of,
        group=of.groups["web"],
        lease=lease,
        view=known or view(),
        standing=Standing(priority, A),
        faults=faults,
        now=now,
        until=lease.held_until if isinstance(lease, Held) else 0,
    )


def advert(
    source: bytes = B,
    priority: int = 100,
    interval: int = 1 * S,
    name: str = "vr",
    addresses: tuple[bytes, ...] = (VIP,),
) -> AdvertReceived:
    return AdvertReceived(name, source, priority, interval, addresses)
