"""Who can tell how the nodes are: which leases are renewed, and what each node says of its own kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from haagent.api.planning import Pulse, Scene
from haagent.api.reach import Asked, Reach, asked, reach
from haagent.api.status import PeerTable, connected
from haagent.core.node import Node
from haagent.core.records import Key, Kind, LeaseValue
from haagent.core.units import Duration, Instant, S
from haagent.core.view import patience
from haagent.runtime.ports import Records
from haagent.v1 import status_pb2

Roles = Mapping[str, status_pb2.GroupRole]
"""How a node stands, by group."""


def by_group(status: status_pb2.NodeStatus) -> Roles:
    """The roles that it tells of."""
    return {role.group: role for role in status.groups}


@dataclass(frozen=True, slots=True)
class Said:
    """What a node said of itself last: its `roles` by group.

    `ahead`: its CLOCK_BOOTTIME less ours, known to `error`; None: not compared.
    """

    roles: Roles
    ahead: Duration = 0
    error: Duration | None = None

    def role(self, group: str) -> status_pb2.GroupRole | None:
        """How it stands in that group."""
        return self.roles.get(group)


class Witness(Protocol):
    """What an operator's eyes are."""

    async def pulses(self, scene: Scene) -> Mapping[str, Pulse]:
        """The incarnations whose leases may run, of those that the scene shows."""
        ...

    def cut_off(self) -> Collection[str]:
        """The nodes that there should be a stream to, and is none."""
        ...

    async def said(self, node: str) -> Said | None:
        """What that node says of itself; None if nobody can ask it."""
        ...

    async def reach(self, group: str, epoch: int) -> Reach:
        """Whether the addresses of the node that owns the group by that epoch answer the other nodes."""
        ...


class AgentWitness:
    """An agent: it sees renewals as they come, and its peers tell it how they are. `own` tells of this node, now."""

    def __init__(
        self,
        node: Node,
        peers: PeerTable,
        own: Callable[[], Awaitable[status_pb2.NodeStatus]],
        clock: Callable[[], Instant],
    ) -> None:
        self._node = node
        self._peers = peers
        self._own = own
        self._clock = clock
        self._roles: dict[str, tuple[status_pb2.NodeStatus, Roles]] = {}
        self._asked: tuple[Mapping[str, status_pb2.NodeStatus], Mapping[str, Asked]] = {}, {}

    async def pulses(self, scene: Scene) -> Mapping[str, Pulse]:  # noqa: ARG002 - it knows of all
        view, rules, now = self._node.view, self._node.rules, self._clock()
        found: dict[str, Pulse] = {}
        for incarnation, known in view.evidence.items():
            if known.expires_at > now:
                renewed = known.by_lease - patience(known.ttl, rules.guard)
                found[incarnation] = Pulse(now - renewed if known.by_lease else None)
        found[rules.incarnation] = Pulse(0)
        return found

    def cut_off(self) -> Collection[str]:
        return [name for name, peer in self._peers.table().items() if not peer.connected]

    async def said(self, node: str) -> Said | None:
        if node == self._node.rules.node:
            return Said(self._by_group(node, await self._own()), 0, 0)
        status, peer = self._peers.statuses().get(node), self._peers.table().get(node)
        if status is None or peer is None or not peer.connected:
            return None
        compared = peer.round_trip_ns > 0
        error = peer.round_trip_ns // 2 if compared else None
        return Said(self._by_group(node, status), peer.clock_ahead_ns, error)

    async def reach(self, group: str, epoch: int) -> Reach:
        said = {**connected(self._peers), self._node.rules.node: await self._own()}
        before, roles = self._asked
        if said.keys() != before.keys() or any(said[name] is not before[name] for name in said):
            roles = asked(said)
            self._asked = said, roles
        return reach(epoch, roles.get(group, {}))

    def _by_group(self, node: str, status: status_pb2.NodeStatus) -> Roles:
        """The roles that it tells of; made once a status, for it may be asked about a thousand groups."""
        known = self._roles.get(node)
        if known is None or known[0] is not status:
            known = self._roles[node] = status, by_group(status)
        return known[1]


class EtcdWitness:
    """Nobody but etcd: a lease that is rewritten while one looks is renewed, and of kernels nothing is known."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def pulses(self, scene: Scene) -> Mapping[str, Pulse]:
        """Looks for as long as a lease lasts, if need be. UnreadableError."""
        waiting, found = dict(scene.leases), dict[str, Pulse]()
        longest = max((lease.ttl for lease in waiting.values()), default=0)
        loop = asyncio.get_running_loop()
        end = loop.time() + longest / S
        while waiting:
            keys = [Key(Kind.LEASES, node) for node in waiting]
            for seen in (await self._records.look(keys)).seen:
                if isinstance(seen.value, LeaseValue) and seen.revision != scene.revisions.get(seen.key):
                    found[seen.value.incarnation] = Pulse(0)
                    del waiting[seen.key.name]
            if loop.time() > end:
                break
            await asyncio.sleep(min(lease.ttl for lease in waiting.values()) / 16 / S if waiting else 0)
        return found

    def cut_off(self) -> Collection[str]:
        return ()

    async def said(self, node: str) -> Said | None:  # noqa: ARG002 - whoever it is
        return None

    async def reach(self, group: str, epoch: int) -> Reach:  # noqa: ARG002 - etcd knows of no packets
        return Reach()
