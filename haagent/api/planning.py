"""What an operator's request means, decided from what stands in etcd: one transaction, or a refusal with its reason.

Pure. Whoever asks has read the keys (`scene`), and says which incarnations still renew (`Pulse`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from haagent.core.claims import PREEMPT
from haagent.core.records import (
    ORDERS,
    Guard,
    HistoryEntry,
    Intent,
    Key,
    Kind,
    LeaseValue,
    MemberValue,
    Orders,
    OwnerRecord,
    Put,
    Revision,
    Seen,
)
from haagent.core.units import Duration, S, Wall
from haagent.wire.records import MAX_DRAINED

LINGERS: Final[Duration] = 60 * S
"""How long a wish for now may wait for its owner, whose wall clock may be another one."""
WINDOW: Final[Duration] = 600 * S
"""How long after its time a scheduled switchover may still be done, unless told otherwise."""
SLACK: Final[Duration] = 60 * S
"""A time that has passed by less than that is now."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """An incarnation whose lease may still run. `renewed_ago`: since its newest renewal was seen; None: not known."""

    renewed_ago: Duration | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """The cluster as its keys show it; `pulses` by incarnation, `cut_off`: nodes that the asker has no stream to."""

    owners: Mapping[str, OwnerRecord]
    leases: Mapping[str, LeaseValue]
    members: Mapping[str, MemberValue]
    intents: Mapping[str, Intent]
    orders: Orders
    revisions: Mapping[Key, Revision]
    wall: Wall
    pulses: Mapping[str, Pulse] = field(default_factory=dict[str, Pulse])
    cut_off: Collection[str] = ()

    @property
    def groups(self) -> list[str]:
        """All groups that anybody knows."""
        known = {group for member in self.members.values() for group in member.standings}
        return sorted(known | self.owners.keys())

    @property
    def nodes(self) -> set[str]:
        """All nodes that anybody knows."""
        recorded = {record.node for record in self.owners.values()}
        return recorded | self.members.keys() | self.leases.keys() | set(self.orders.drained)

    def owner(self, group: str) -> str:
        """The node that the group's record names, empty if it was released or never owned."""
        record = self.owners.get(group)
        return record.node if record is not None and not record.clean else ""

    def owned_by(self, node: str) -> list[str]:
        """The groups whose records name that node."""
        return [group for group in self.groups if self.owner(group) == node]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing is changed. `reason`: a word for programs, `text`: for people."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Order:
    """One transaction. `orders`: what all nodes are told from then on."""

    guards: tuple[Guard, ...]
    puts: tuple[Put, ...]
    orders: Orders


@dataclass(frozen=True, slots=True)
class Wish:
    """A change of owner that is asked for; empty words and zeros as in `control.proto`."""

    group: str = ""
    to: str = ""
    by: str = ""
    not_before: Wall = 0
    expires: Wall = 0
    from_epoch: int = 0
    force: bool = False
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transaction that writes a wish: the group is to go from `owner` (empty: from nobody) to `intent.to`."""

    group: str
    owner: str
    intent: Intent
    guards: tuple[Guard, ...]
    puts: tuple[Put, ...]
    later: bool = False

    @property
    def key(self) -> Key:
        """Where the wish stands."""
        return Key(Kind.INTENTS, self.group)


def scene(seen: Iterable[Seen], wall: Wall) -> Scene:
    """What these keys show. What can not be read is as if it were not there, but for its revision."""
    owners: dict[str, OwnerRecord] = {}
    leases: dict[str, LeaseValue] = {}
    members: dict[str, MemberValue] = {}
    intents: dict[str, Intent] = {}
    revisions: dict[Key, Revision] = {}
    orders = Orders()
    for one in seen:
        if one.value is not None:
            revisions[one.key] = one.revision
        match one.value:
            case OwnerRecord():
                owners[one.key.name] = one.value
            case LeaseValue():
                leases[one.key.name] = one.value
            case MemberValue():
                members[one.key.name] = one.value
            case Intent():
                intents[one.key.name] = one.value
            case Orders():
                orders = one.value
            case _:
                pass
    return Scene(owners, leases, members, intents, orders, revisions, wall)


# --- changes of owner


def switchover(at: Scene, wish: Wish) -> Transfer | Refusal:
    """The owner is asked to hand the group over."""
    if isinstance(group := _group(at, wish.group), Refusal):
        return group
    record = at.owners.get(group)
    if record is None or record.clean:
        return Refusal("no-owner", f"{group} has no owner that could hand it over; use failover")
    if at.orders.paused:
        return _paused(at)
    if wish.from_epoch not in (0, record.epoch):
        return Refusal("epoch-changed", f"{group} is owned by epoch {record.epoch}, not {wish.from_epoch}")
    if isinstance(to := _target(at, group, wish, record.node), Refusal):
        return to
    if record.incarnation not in at.pulses:
        return Refusal("owner-dead", f"{record.node}, which owns {group}, does not renew its lease; use failover")
    if isinstance(times := _times(at, wish), Refusal):
        return times
    return _transfer(at, group, record.node, Intent(to, record.epoch, _by(wish.by), *times))


def failover(at: Scene, wish: Wish) -> Transfer | Refusal:
    """The owner can not be asked: the target is to claim first, once the lease allows it."""
    if isinstance(group := _group(at, wish.group), Refusal):
        return group
    if at.orders.paused:
        return _paused(at)
    record = at.owners.get(group)
    owner = at.owner(group)
    if record is not None and owner and _renews(at, record):
        return Refusal("owner-alive", f"{owner} owns {group} and renews its lease; use switchover")
    # A host that was made again has the old one's name, and may take what that one left.
    named = "" if wish.dead and record is not None and _made_again(at, record) else owner
    if isinstance(to := _target(at, group, wish, named), Refusal):
        return to
    epoch = record.epoch if record is not None else 0
    transfer = _transfer(at, group, owner, Intent(to, epoch, _by(wish.by), 0, at.wall + LINGERS))
    if not wish.dead or isinstance(transfer, Refusal):
        return transfer
    if record is None or not owner:
        return Refusal("no-owner", f"no record names an owner of {group}: there is nobody to declare dead")
    return replace(transfer, puts=(*transfer.puts, *_declared_dead(group, record, _by(wish.by))))


def _made_again(at: Scene, record: OwnerRecord) -> bool:
    member = at.members.get(record.node)
    return member is not None and member.incarnation != record.incarnation


def _declared_dead(group: str, record: OwnerRecord, by: str) -> tuple[Put, Put]:
    """The record without failsafe: no promise carries its owner from then on, and others wait for a ttl only."""
    why = f"{record.reason}; then {record.node} was declared dead by {by}"
    return (
        Put(Key(Kind.OWNERS, group), replace(record, failsafe=0)),
        Put(Key(Kind.HISTORY, f"{group}/{record.epoch}"), HistoryEntry(record.node, record.epoch, why)),
    )


def _renews(at: Scene, record: OwnerRecord) -> bool:
    """Whether the owner can be asked. One that missed two renewals can not, although its lease may still run."""
    pulse = at.pulses.get(record.incarnation)
    return pulse is not None and (pulse.renewed_ago is None or pulse.renewed_ago <= record.ttl // 2)


def _group(at: Scene, asked: str) -> str | Refusal:
    known = at.groups
    if asked in known:
        return asked
    if not asked and len(known) == 1:
        return known[0]
    what = f"there is no group {asked!r}" if asked else "name a group"
    return Refusal("group-unknown", f"{what}; {_there_are('groups', known)}")


def _target(at: Scene, group: str, wish: Wish, owner: str) -> str | Refusal:
    if wish.to:
        return _check_target(at, group, wish.to, owner, wish.force) or wish.to
    able = [node for node in sorted(at.members) if _check_target(at, group, node, owner, wish.force) is None]
    if len(able) == 1:
        return able[0]
    if able:
        return Refusal("target-unknown", f"name the node that is to own {group}; {_there_are('candidates', able)}")
    return Refusal("no-candidate", f"no other node can own {group} now")


def _check_target(at: Scene, group: str, node: str, owner: str, force: bool) -> Refusal | None:
    member = at.members.get(node)
    if node == owner:
        return Refusal("already-owner", f"{node} owns {group} already")
    if member is None:
        return Refusal("target-unknown", f"there is no node {node!r}; {_there_are('nodes', sorted(at.members))}")
    if group not in member.standings:
        return Refusal("target-unknown", f"{group} is not configured on {node}")
    if node in at.orders.drained:
        return Refusal("target-drained", f"{node} is drained; undrain it first")
    if member.incarnation not in at.pulses:
        return Refusal("target-dead", f"{node} does not renew its lease")
    if member.standings[group].priority == 0:
        return Refusal("target-faulty", f"{node} says that it can not own {group} now; its status says why")
    return None if force else _check_reach(at, node, member)


def _check_reach(at: Scene, node: str, member: MemberValue) -> Refusal | None:
    lease, ago = at.leases.get(node), at.pulses[member.incarnation].renewed_ago
    if lease is not None and ago is not None and ago > lease.ttl // 2:
        return Refusal("lease-too-old", f"{node} renewed its lease {ago / S:.1f} s ago; --insist moves it nevertheless")
    if node in at.cut_off:
        return Refusal("target-unreachable", f"there is no stream to {node}; --insist moves it nevertheless")
    return None


def _times(at: Scene, wish: Wish) -> tuple[Wall, Wall] | Refusal:
    """Not before, and until when."""
    if wish.not_before and wish.not_before < at.wall - SLACK:
        return Refusal("past", "the time at which it is to be done has passed")
    later = wish.not_before > at.wall
    begin = wish.not_before if later else at.wall
    expires = wish.expires or begin + (WINDOW if later else LINGERS)
    if expires <= begin:
        return Refusal("past", "it would expire before it could be done")
    return (wish.not_before if later else 0), expires


def _transfer(at: Scene, group: str, owner: str, intent: Intent) -> Transfer:
    record, wish = Key(Kind.OWNERS, group), Key(Kind.INTENTS, group)
    guards = tuple(Guard(key, at.revisions.get(key, 0)) for key in (record, wish))
    return Transfer(group, owner, intent, guards, (Put(wish, intent),), later=intent.not_before > at.wall)


# --- orders to all


def pause(at: Scene, by: str) -> Order | Refusal:
    """Ownership is frozen."""
    if at.orders.paused:
        return Refusal("paused", f"the cluster is paused already, by {at.orders.paused}")
    return _order(at, lambda orders: replace(orders, paused=_by(by)))


def resume(at: Scene) -> Order | Refusal:
    """Ownership may change again."""
    if not at.orders.paused:
        return Refusal("not-paused", "the cluster is not paused")
    return _order(at, lambda orders: replace(orders, paused=""))


def drain(at: Scene, node: str, *, force: bool = False) -> Order | Refusal:
    """The node is to own nothing from now on."""
    if node not in at.nodes:
        return _no_node(at, node)
    if node in at.orders.drained:
        return Refusal("drained", f"{node} is drained already")
    if len(at.orders.drained) >= MAX_DRAINED:
        return Refusal("invalid", f"at most {MAX_DRAINED} nodes can be drained")
    if at.orders.paused and at.owned_by(node):
        return _paused(at)
    if (stuck := only_owner_of(at, node)) and not force:
        return Refusal("no-candidate", f"no other node can own {', '.join(stuck)} now; --insist drains it nevertheless")
    return _order(at, lambda orders: replace(orders, drained=tuple(sorted({*orders.drained, node}))))


def only_owner_of(at: Scene, node: str) -> list[str]:
    """The groups of that node that nobody else can own now: it keeps them, drained or not."""
    return [group for group in at.owned_by(node) if not _others(at, group, node)]


def undrain(at: Scene, node: str) -> Order | Refusal:
    """The node may own again."""
    if node not in at.nodes:
        return _no_node(at, node)
    if node not in at.orders.drained:
        return Refusal("not-drained", f"{node} is not drained")
    return _order(at, lambda orders: replace(orders, drained=tuple(one for one in orders.drained if one != node)))


def _others(at: Scene, group: str, node: str) -> list[str]:
    return [other for other in at.members if _check_target(at, group, other, node, force=True) is None]


def _order(at: Scene, change: Callable[[Orders], Orders]) -> Order:
    orders = change(at.orders)
    return Order((Guard(ORDERS, at.revisions.get(ORDERS, 0)),), (Put(ORDERS, orders),), orders)


# --- words


def _by(by: str) -> str:
    return by if by and by != PREEMPT else "an operator"  # that word is for the nodes' own wishes


def _paused(at: Scene) -> Refusal:
    return Refusal("paused", f"the cluster is paused by {at.orders.paused}; resume it first")


def _no_node(at: Scene, node: str) -> Refusal:
    return Refusal("node-unknown", f"there is no node {node!r}; {_there_are('nodes', sorted(at.nodes))}")


def _there_are(what: str, names: list[str]) -> str:
    if not names:
        return f"there are no {what}"
    shown = ", ".join(names[:10])
    return f"{what}: {shown}" + (f" and {len(names) - 10} more" if len(names) > 10 else "")
