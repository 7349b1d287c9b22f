"""What a status means to somebody who looks at the whole cluster: its rows, its marks, and what is wrong. Pure.

A node counts as heard if it is the one that answered, or its peer stream stands: only then is what it said news. What
is known of the others is what the records in etcd say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from haagent.core.units import Duration, Wall
from haagent.v1 import status_pb2 as pb

ROLES: Final[Mapping[int, str]] = {pb.INIT: "INIT", pb.BACKUP: "BACKUP", pb.MASTER: "MASTER", pb.FAULT: "FAULT"}


@dataclass(frozen=True, slots=True)
class Row:
    """A node as it stands in a group. `since`: when its role began, 0 if not known; `lease_left`: None if not known."""

    group: str
    node: str
    role: str
    epoch: int
    since: Wall
    lease_left: Duration | None
    priority: int
    state: str


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A switchover that is written down, and not done yet; `at` 0: at once."""

    group: str
    owner: str
    to: str
    by: str
    at: Wall


@dataclass(frozen=True, slots=True)
class Facts:
    """`answered`: the node that answered, empty for etcd. `two_owners`: by group, who all say that they own it.

    `without_owner`: by group, why. `failsafe`: by node that lives on promises, how much longer at most. `elsewhere`:
    nodes that see somebody else have an address of theirs, and what they see. `unreachable`: by group whose owner does
    not answer the other nodes, how.
    """

    cluster: str
    answered: str
    rows: tuple[Row, ...]
    paused_by: str = ""
    two_owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    without_owner: Mapping[str, str] = field(default_factory=dict[str, str])
    failsafe: Mapping[str, Duration] = field(default_factory=dict[str, Duration])
    drained: tuple[str, ...] = ()
    scheduled: tuple[Scheduled, ...] = ()
    etcd_away: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()
    unreachable: Mapping[str, str] = field(default_factory=dict[str, str])
    alarms: int = 0

    @property
    def unhealthy(self) -> bool:
        """Whether there is a group that nobody owns, more than one node owns, or whose owner does not answer."""
        return bool(self.two_owners or self.without_owner or self.unreachable)


def facts(status: pb.Status, group: str | None = None) -> Facts:
    """The whole, or what concerns one group."""
    groups = [each for each in status.groups if group in (None, each.name)]
    said = heard(status)
    return Facts(
        cluster=status.cluster,
        answered=status.self.node,
        rows=tuple(row for each in groups for row in _rows(each, status, said)),
        paused_by=status.paused_by,
        two_owners={each.name: nodes for each in groups if len(nodes := _masters(each.name, said)) > 1},
        without_owner={each.name: why for each in groups if (why := _ownerless(each, said))},
        failsafe={node: each.failsafe.left_ns for node, each in said.items() if each.failsafe.active},
        drained=tuple(member.node for member in status.members if member.drained),
        scheduled=tuple(
            Scheduled(each.name, each.owner or "nobody", each.intent.to, each.intent.by, each.intent.not_before_wall_ns)
            for each in groups
            if each.HasField("intent") and each.intent.from_epoch == each.epoch
        ),
        etcd_away=tuple(node for node, each in said.items() if each.HasField("etcd") and not each.etcd.reachable),
        elsewhere=tuple(
            (node, alarm.detail)
            for node, each in said.items()
            for alarm in each.alarms
            if alarm.kind == "address-elsewhere"
        ),
        unreachable={each.name: _silence(each) for each in groups if each.owner and each.answers == pb.NO},
        alarms=sum(len(each.alarms) for each in said.values()),
    )


def heard(status: pb.Status) -> dict[str, pb.NodeStatus]:
    """What is news, by node: from the node that answered, and from those whose stream with it stands."""
    said = {status.self.node: status.self} if status.self.node else {}
    for member in status.members:
        if member.node not in said and member.HasField("status") and member.peer.connected:
            said[member.node] = member.status
    return said


def candidates(status: pb.Status, group: pb.Group) -> list[str]:
    """Who could take the group, the best first: alive, not drained, able to own it, and not its owner."""
    able = [
        (-member.priorities[group.name], member.node)
        for member in status.members
        if member.alive and not member.drained and member.node != group.owner
        if member.priorities.get(group.name, 0) > 0
    ]
    return [node for _, node in sorted(able)]


def _rows(group: pb.Group, status: pb.Status, said: Mapping[str, pb.NodeStatus]) -> Iterator[Row]:
    members = {member.node: member for member in status.members}
    for node in sorted(members.keys() | said.keys()):
        member = members.get(node, pb.Member(node=node, alive=True))
        own = said.get(node, pb.NodeStatus())
        role = next((each for each in own.groups if each.group == group.name), None)
        if role is None and group.name not in member.priorities and node != group.owner:
            continue  # this node has nothing to do with the group
        yield _by_record(group, member, bool(status.self.node)) if role is None else _by_word(group, member, own, role)


def _by_word(group: pb.Group, member: pb.Member, own: pb.NodeStatus, role: pb.GroupRole) -> Row:
    marks = [*role.faults] or [role.state]
    marks += ["drained"] * member.drained + ["stopping"] * own.stopping
    if role.role == pb.MASTER and role.addresses_missing:
        marks.append(f"{role.addresses_missing} addresses missing")
    if role.role == pb.MASTER and member.node == group.owner and group.answers == pb.NO:
        marks.append("unreachable")
    return Row(
        group=group.name,
        node=member.node,
        role=ROLES.get(role.role, "?"),
        epoch=role.epoch,
        since=role.answers_since_wall_ns if role.role == pb.MASTER else role.silent_since_wall_ns,
        lease_left=own.lease.left_ns if own.lease.held else 0,
        priority=role.priority,
        state=", ".join(marks),
    )


def _by_record(group: pb.Group, member: pb.Member, by_agent: bool) -> Row:
    owns = group.owner == member.node
    priority = member.priorities.get(group.name, 0)
    marks = ["renewing" if member.alive else "gone"] + ["drained"] * member.drained
    if by_agent and member.alive:
        marks.insert(0, "not heard")
    return Row(
        group=group.name,
        node=member.node,
        role="MASTER" if owns else "-" if not member.alive else "BACKUP" if priority else "FAULT",
        epoch=group.epoch if owns else 0,
        since=group.since_wall_ns if owns else 0,
        lease_left=None,
        priority=priority,
        state=", ".join(marks),
    )


def _masters(group: str, said: Mapping[str, pb.NodeStatus]) -> tuple[str, ...]:
    return tuple(
        sorted(
            node for node, own in said.items() for each in own.groups if (each.group, each.role) == (group, pb.MASTER)
        )
    )


def _silence(group: pb.Group) -> str:
    return f"{group.owner} owns it, but {group.silence} (asked by {', '.join(group.unanswered)})"


def _ownerless(group: pb.Group, said: Mapping[str, pb.NodeStatus]) -> str:
    if not group.owner:
        return f"last {group.last_owner}, epoch {group.epoch}" if group.last_owner else "nobody ever owned it"
    if group.owner in said and not _masters(group.name, said):
        # Owned in name only: the record is the owner's, but its kernel does not answer (yet, or any more).
        role = next((each for each in said[group.owner].groups if each.group == group.name), pb.GroupRole())
        return f"the record names {group.owner}, which is {ROLES.get(role.role, 'nothing')} there"
    return ""
