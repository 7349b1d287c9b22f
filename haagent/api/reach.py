"""Whether an owner's addresses answer, by what the other nodes get from them on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from haagent.core.node import Node
from haagent.core.reach import ReachReported
from haagent.core.states import Owning
from haagent.core.units import Instant
from haagent.runtime.ports import Deliver
from haagent.runtime.reached import Target
from haagent.v1 import status_pb2

Answers = status_pb2.Answers


@dataclass(frozen=True, slots=True)
class Reach:
    """`nodes`: those that get no answer; `silence`: what they say of it, `10.0.0.100 answers no ARP on eth0`."""

    answers: Answers = status_pb2.ANSWERS_UNSPECIFIED
    nodes: tuple[str, ...] = ()
    silence: str = ""

    @property
    def detail(self) -> str:
        """One line for people; empty if the addresses answer, or nobody knows."""
        if self.answers != status_pb2.NO:
            return ""
        return f"{self.silence}, {'say' if len(self.nodes) > 1 else 'says'} {' and '.join(self.nodes)}"


Asked = Mapping[str, status_pb2.GroupRole]
"""Of one group: what each node says of it that asks, by the node's name."""


def asked(said: Mapping[str, status_pb2.NodeStatus]) -> Mapping[str, Asked]:
    """By group, of what the nodes say of themselves."""
    found: dict[str, dict[str, status_pb2.GroupRole]] = {}
    for name, status in sorted(said.items()):
        for role in status.groups:
            if role.answers:
                found.setdefault(role.group, {})[name] = role
    return found


def reach(epoch: int, roles: Asked) -> Reach:
    """What the nodes get from the addresses that another one owns by `epoch`.

    One that gets an answer is enough: where others get none, the network between is at fault, not the owner.
    """
    found = {name: role for name, role in roles.items() if role.asked_epoch == epoch}
    answers = {role.answers for role in found.values()}
    for verdict in (status_pb2.YES, status_pb2.PENDING):
        if verdict in answers:
            return Reach(verdict)
    if not found:
        return Reach()
    silence = "; ".join(dict.fromkeys(line for role in found.values() for line in role.silent))
    return Reach(status_pb2.NO, tuple(found), silence)


def targets(node: Node, now: Instant) -> list[Target]:
    """The addresses that this node is to ask for: those of its configured groups that another node owns now."""
    found: list[Target] = []
    for name, group in node.rules.groups.items():
        record = node.view.record(name)
        if record is None or record.clean or record.node == node.rules.node or isinstance(node.groups[name], Owning):
            continue
        if not node.view.alive(record.incarnation, now):
            continue
        member = node.view.members.get(record.node)
        own = member.addresses if member is not None else ()
        for router in group.routers:
            for address in router.addresses:
                control = next((one for one in own if len(one) == len(address.address)), None)
                found.append(Target(name, record.epoch, address, control))
    return found


class Reporter:
    """Tells the node what its peers get from the addresses that it owns, whenever that changed."""

    def __init__(self, node: Node, deliver: Deliver) -> None:
        self._node = node
        self._deliver = deliver
        self._told: dict[str, ReachReported] = {}

    def report(self, said: Mapping[str, status_pb2.NodeStatus]) -> None:
        """`said`: what each connected peer last said of itself."""
        roles = asked(said)
        for name, state in list(self._node.groups.items()):
            if not isinstance(state, Owning):
                self._told.pop(name, None)
                continue
            report = ReachReported(name, state.epoch, reach(state.epoch, roles.get(name, {})).detail)
            before = self._told.get(name, ReachReported(name, state.epoch, ""))
            if report != before:
                self._told[name] = report
                self._deliver(report)
