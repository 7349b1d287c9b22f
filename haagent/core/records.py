"""What stands in etcd, as values: one key kind a class. The JSON form is `haagent.wire.records`.

Keys live under `/haagent/<cluster>/<kind>/<name>`. A key's own `mod_revision` orders everything that is ever
learned about it: older news never overrides newer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from haagent.core.units import Duration, Wall

Revision = int
"""An etcd revision. 0 as a guard means: the key does not exist."""


class Kind(StrEnum):
    """The second part of a key's path."""

    LEASES = "leases"
    OWNERS = "owners"
    MEMBERS = "members"
    INTENTS = "intents"
    HISTORY = "history"
    ORDERS = "orders"


class Key(NamedTuple):
    """`<kind>/<name>`; the name is a node for leases and members, else a group (history: `group/epoch`).

    There is one key of operators' orders for the whole cluster, `orders/cluster`.
    """

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class LeaseValue:
    """`leases/<node>`: rewritten at every renewal.

    `host` names the kernel whose state the node keeps (boot id and network namespace): an agent that holds that
    host's lock knows that an earlier incarnation of the same host is dead. `round` counts the renewals that this
    incarnation asked for, so that whoever sees the value knows which question it answers.
    """

    incarnation: str
    host: str
    ttl: Duration
    round: int


class Candidate(NamedTuple):
    """A node that may claim a group soon, and which machine goes by that name: a promise binds only who gave it."""

    node: str
    machine: str


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """`owners/<group>`: who owns the group, by which epoch (the fencing token, which only grows).

    `clean` says that the owner's kernel no longer answered when this was written: anyone may claim at once. The
    record then still names the last owner. `ttl` is how long that incarnation's lease runs at the longest.
    `candidates` are the nodes whose promises can extend the lease while etcd is away, `machines` which machines go by
    these names, in the same order. Who is none of them claims no earlier than `failsafe` after the last sign of the
    owner in etcd (0: promises extend nothing, all wait alike).
    """

    node: str
    incarnation: str
    host: str
    ttl: Duration
    epoch: int
    clean: bool
    candidates: tuple[str, ...]
    reason: str
    failsafe: Duration = 0
    machines: tuple[str, ...] = ()

    @property
    def named(self) -> frozenset[Candidate]:
        """The candidates, with their machines."""
        return frozenset(map(Candidate, self.candidates, self.machines))

    def naming(self, candidates: Sequence[Candidate]) -> OwnerRecord:
        """The same record with these candidates."""
        nodes, machines = tuple(one.node for one in candidates), tuple(one.machine for one in candidates)
        return replace(self, candidates=nodes, machines=machines)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a node stands in one group: its effective priority (0: it can not own) and the address that breaks ties."""

    priority: int
    address: bytes


@dataclass(frozen=True, slots=True)
class MemberValue:
    """`members/<node>`: what the others must know of a node. `addresses` are the packed sources of its adverts.

    `endpoint` is where its peers reach it (`host:port`), empty when it has no peers. `machine` tells it from another
    one that goes by the same name; a restart, or a reboot, does not change it.
    """

    incarnation: str
    version: str
    addresses: tuple[bytes, ...]
    standings: Mapping[str, Standing]
    endpoint: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Intent:
    """`intents/<group>`: a wish that the owner by `from_epoch` hands the group to `to`. Any other epoch: void.

    Not to be granted before `not_before` (0: at once), nor from `expires` on (0: it does not expire).
    """

    to: str
    from_epoch: int
    by: str
    not_before: Wall = 0
    expires: Wall = 0


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """`history/<group>/<epoch>`: one change of owner."""

    node: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Orders:
    """`orders/cluster`: what operators want of all nodes. `paused` says by whom, empty when it is not so.

    `drained`: the nodes that are to own nothing.
    """

    paused: str = ""
    drained: tuple[str, ...] = ()


ORDERS = Key(Kind.ORDERS, "cluster")


@dataclass(frozen=True, slots=True)
class Garbage:
    """A value that is none of ours: what is wrong with it."""

    reason: str


Value = LeaseValue | OwnerRecord | MemberValue | Intent | HistoryEntry | Orders
"""What the core writes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A key as etcd showed it: `value` None means that it is gone, `revision` its `mod_revision` (of the removal).

    `since`: when it was written by its writer's wall clock (owners and history; 0: not said). For people only.
    """

    key: Key
    created: Revision
    revision: Revision
    value: Value | Garbage | None
    since: Wall = field(default=0, compare=False)


class Guard(NamedTuple):
    """A condition of a transaction: the key's `mod_revision` (or, with `created`, its `create_revision`) is this.

    `least`: its `mod_revision` is this, or a later one.
    """

    key: Key
    revision: Revision
    created: bool = False
    least: bool = False


class Put(NamedTuple):
    """A write. `session` hangs the key on the node's etcd lease: it disappears from listings after the node."""

    key: Key
    value: Value
    session: bool = False
