"""How things are, as messages: the node that answers, and the cluster as it sees it. A function of values.

`Around` is what the node itself can not know; whoever serves a status gathers it (`haagent.serving`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Protocol

from haagent.api.reach import Asked, asked, reach
from haagent.core.lease import Held
from haagent.core.model import GroupRules, Role, RouterRules, VirtualAddress
from haagent.core.node import Node
from haagent.core.records import Intent, MemberValue, OwnerRecord
from haagent.core.states import Owning
from haagent.core.units import Duration, Instant, Wall
from haagent.runtime.chronicle import Change, Chronicle, Moment
from haagent.runtime.reached import Answers, Verdict
from haagent.v1 import status_pb2


class PeerTable(Protocol):
    """What is known of the other nodes over their streams."""

    def table(self) -> Mapping[str, status_pb2.Peer]:
        """The connection with each peer, by its node's name."""
        ...

    def statuses(self) -> Mapping[str, status_pb2.NodeStatus]:
        """What each peer said of itself last."""
        ...

    def publish(self, status: status_pb2.NodeStatus) -> None:
        """Tell this to every peer, now and to those that connect later."""
        ...


class NoPeerTable:
    """Nothing is known of anybody."""

    def table(self) -> Mapping[str, status_pb2.Peer]:
        return {}

    def statuses(self) -> Mapping[str, status_pb2.NodeStatus]:
        return {}

    def publish(self, status: status_pb2.NodeStatus) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Counted:
    """Of a group's addresses: those that the kernel has now, and those that it has not."""

    held: tuple[VirtualAddress, ...] = ()
    missing: tuple[VirtualAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class GateState:
    """What keeps the lease in the kernel: nft, bpf, nft+bpf, none; whether nobody else can change it; what it dropped.

    `kept_by`: who keeps it so when this process dies. By kind: why it `failed`, how often it was `rebuilt`.
    `uncovered`: interfaces of this host on which no gate ends what it answers.
    """

    kind: str
    owned: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    kept_by: str = ""
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    rebuilt: Mapping[str, int] = field(default_factory=dict[str, int])
    uncovered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Around:
    """When it is, and what surrounds the node.

    `etcd`: whether it answers; `condition`: how it is itself; `renewal`: how long the last answered renewal took
    (None: none yet). `counted`: by group, as the kernel says. `verdicts`: by group, what this node gets from addresses
    that another one owns.
    """

    cluster: str
    boot: Instant
    wall: Wall
    chronicle: Chronicle
    gate: GateState
    etcd: bool
    condition: status_pb2.EtcdStatus | None = None
    renewal: Duration | None = None
    counted: Mapping[str, Counted] = field(default_factory=dict[str, Counted])
    counters: Mapping[str, int] = field(default_factory=dict[str, int])
    failsafe: status_pb2.FailsafeStatus | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])


def connected(peers: PeerTable) -> dict[str, status_pb2.NodeStatus]:
    """What each peer says of itself that there is a stream with now."""
    table = peers.table()
    return {name: said for name, said in peers.statuses().items() if name in table and table[name].connected}


def status(node: Node, around: Around, peers: PeerTable) -> status_pb2.Status:
    """The whole."""
    own = node_status(node, around)
    view, statuses = node.view, peers.statuses()
    said = {**statuses, node.rules.node: own}
    roles = asked({**connected(peers), node.rules.node: own})
    names = sorted(node.rules.groups.keys() | {name for name in view.records if view.record(name) is not None})
    return status_pb2.Status(
        cluster=around.cluster,
        at_wall_ns=around.wall,
        at_boot_ns=around.boot,
        self=own,
        groups=[_group(name, node, around, said, roles.get(name, {})) for name in names],
        members=_members(node, around, peers.table(), statuses),
        changes=[_change(change) for change in around.chronicle.changes],
        paused_by=view.orders.paused,
        counters=around.counters,
    )


def _etcd(node: Node, around: Around) -> status_pb2.EtcdStatus:
    said = status_pb2.EtcdStatus(reachable=around.etcd, cluster=node.view.cluster or "", revision=node.view.revision)
    if around.condition is not None:
        said.MergeFrom(around.condition)
    return said


def node_status(node: Node, around: Around) -> status_pb2.NodeStatus:
    """What the node says of itself."""
    rules, gate = node.rules, around.gate
    return status_pb2.NodeStatus(
        node=rules.node,
        incarnation=rules.incarnation,
        release=rules.version,
        groups=[_role(name, node, around) for name in node.groups],
        lease=_lease(node, around),
        failsafe=around.failsafe,
        gate=status_pb2.GateStatus(
            kind=gate.kind,
            owned=gate.owned,
            dropped=gate.dropped,
            kept_by=gate.kept_by,
            failed=gate.failed,
            rebuilt=gate.rebuilt,
            uncovered=gate.uncovered,
        ),
        alarms=[
            status_pb2.Alarm(kind=one.kind, subject=one.subject, detail=one.detail, since_wall_ns=one.since.wall)
            for one in around.chronicle.alarms
        ],
        stopping=node.stopping,
        started_wall_ns=around.chronicle.started,
        etcd=_etcd(node, around),
        at_boot_ns=around.boot,
        at_wall_ns=around.wall,
    )


def address_text(address: VirtualAddress) -> str:
    """`10.0.0.100/24`."""
    return f"{ip_address(address.address)}/{address.prefix}"


def intent_message(intent: Intent) -> status_pb2.Intent:
    """A wish that stands in etcd."""
    return status_pb2.Intent(
        to=intent.to,
        from_epoch=intent.from_epoch,
        by=intent.by,
        not_before_wall_ns=intent.not_before,
        expires_wall_ns=intent.expires,
    )


def member_message(name: str, member: MemberValue | None, *, alive: bool, drained: bool) -> status_pb2.Member:
    """A node as its key in etcd shows it, if it has one."""
    message = status_pb2.Member(node=name, alive=alive, drained=drained)
    if member is not None:
        message.release = member.version
        message.incarnation = member.incarnation
        message.endpoint = member.endpoint
        message.addresses.extend(str(ip_address(packed)) for packed in member.addresses)
        for group, standing in member.standings.items():
            message.priorities[group] = standing.priority
    return message


# --- parts of it


def _role(name: str, node: Node, around: Around) -> status_pb2.GroupRole:
    state, voice = node.groups[name], around.chronicle.voice(name)
    counted = around.counted.get(name, Counted())
    member = node.view.members.get(node.rules.node)
    standing = member.standings.get(name) if member is not None else None
    epoch = state.epoch if isinstance(state, Owning) else node.view.epochs.get(name, 0)
    answers, silent = voice.answers_since or _UNKNOWN, voice.silent_since or _UNKNOWN
    verdict = None if isinstance(state, Owning) else around.verdicts.get(name)
    return status_pb2.GroupRole(
        group=name,
        role=_ROLES[node.roles[name]],
        state=type(state).__name__.lower(),
        epoch=epoch,
        priority=standing.priority if standing is not None else 0,
        faults=node.faults.get(name, ()),
        answers_since_boot_ns=answers.boot,
        answers_since_wall_ns=answers.wall,
        silent_since_boot_ns=silent.boot,
        silent_since_wall_ns=silent.wall,
        addresses_held=len(counted.held),
        addresses_missing=len(counted.missing),
        answers=_ANSWERS[verdict.answers] if verdict is not None else status_pb2.ANSWERS_UNSPECIFIED,
        asked_epoch=verdict.epoch if verdict is not None else 0,
        silent=verdict.silent if verdict is not None else (),
    )


def _lease(node: Node, around: Around) -> status_pb2.LeaseStatus:
    lease, rules, until = node.lease, node.rules, node.held_until
    renewal = around.renewal or 0
    if not until:
        return status_pb2.LeaseStatus(held=False, ttl_ns=rules.ttl, renewal_ns=renewal)
    ttl = lease.ttl if isinstance(lease, Held) else rules.ttl
    asked_at = until - ttl + rules.margin
    return status_pb2.LeaseStatus(
        held=True,
        ttl_ns=ttl,
        left_ns=until - around.boot,
        age_ns=max(0, around.boot - asked_at),
        renewal_ns=renewal,
    )


def _group(
    name: str,
    node: Node,
    around: Around,
    said: Mapping[str, status_pb2.NodeStatus],
    roles: Asked,
) -> status_pb2.Group:
    view, record = node.view, node.view.record(name)
    message = status_pb2.Group(name=name, epoch=view.epochs.get(name, 0))
    if record is not None:
        message.owner = record.node if _holds(name, record, node, around, said) else ""
        message.last_owner = record.node
        message.reason = record.reason
        message.since_wall_ns = view.records[name].since
        message.candidates.extend(record.candidates)
        found = reach(record.epoch, roles)
        message.answers, message.silence = found.answers, found.silence
        message.unanswered.extend(found.nodes)
    if (intent := view.intents.get(name)) is not None:
        message.intent.CopyFrom(intent_message(intent))
    if (group := node.rules.groups.get(name)) is not None:
        message.addresses.extend(address_text(one) for one in _addresses(group))
        message.routers.extend(_router(router) for router in group.routers)
    return message


def _holds(
    name: str, record: OwnerRecord, node: Node, around: Around, said: Mapping[str, status_pb2.NodeStatus]
) -> bool:
    """Whether the node that the record names holds the group, for all that is known."""
    if record.clean:
        return False
    if record.node == node.rules.node:
        return isinstance(node.groups.get(name), Owning)
    if node.view.alive(record.incarnation, around.boot):
        return True
    # While etcd is away its keys show nothing, and failsafe may carry the lease: what the owner says itself counts.
    own = said.get(record.node)
    return own is not None and any(
        one.group == name and one.role == status_pb2.MASTER and one.epoch == record.epoch for one in own.groups
    )


def _router(router: RouterRules) -> status_pb2.Router:
    return status_pb2.Router(
        name=router.name,
        vrid=router.vrid,
        version=router.version,
        interface=router.interface,
        addresses=[address_text(one) for one in router.addresses],
    )


def _addresses(group: GroupRules) -> tuple[VirtualAddress, ...]:
    return tuple(address for router in group.routers for address in router.addresses)


def _members(
    node: Node,
    around: Around,
    table: Mapping[str, status_pb2.Peer],
    statuses: Mapping[str, status_pb2.NodeStatus],
) -> list[status_pb2.Member]:
    view, me = node.view, node.rules.node
    found: list[status_pb2.Member] = []
    for name in sorted({me} | view.members.keys() | view.leases.keys() | table.keys()):
        member = view.members.get(name)
        alive = name == me or (member is not None and view.alive(member.incarnation, around.boot))
        message = member_message(name, member, alive=alive, drained=name in view.orders.drained)
        if name != me:
            message.peer.CopyFrom(table.get(name) or status_pb2.Peer())
            if (said := statuses.get(name)) is not None:
                message.status.CopyFrom(said)
        found.append(message)
    return found


def _change(change: Change) -> status_pb2.Change:
    return status_pb2.Change(
        at_wall_ns=change.at.wall,
        group=change.group,
        before=_ROLES[change.before],
        after=_ROLES[change.after],
        why=change.why,
        epoch=change.epoch,
        gap_ns=change.gap or 0,
    )


_UNKNOWN: Final = Moment(0, 0)

_ANSWERS: Final = {
    Answers.PENDING: status_pb2.PENDING,
    Answers.YES: status_pb2.YES,
    Answers.NO: status_pb2.NO,
}

_ROLES: Final = {
    Role.INIT: status_pb2.INIT,
    Role.BACKUP: status_pb2.BACKUP,
    Role.MASTER: status_pb2.MASTER,
    Role.FAULT: status_pb2.FAULT,
}
