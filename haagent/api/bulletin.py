"""The newest status, for whoever asks, waits or subscribes; and this node's own, published to its peers.

An observer of the pump: it hears when something changed that people look at. What is asked for often is made once:
watchers and the dashboard share a status for a few hundredths of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

from haagent.api import status as statuses
from haagent.api.reach import Reporter
from haagent.api.status import Around, Counted, PeerTable
from haagent.core.model import Alarm, Effect, Event, LeaseChanged, Listed, Meet, RoleChanged, Watched
from haagent.core.node import Node
from haagent.core.records import Kind
from haagent.core.units import Instant
from haagent.runtime.chronicle import Chronicle
from haagent.v1 import status_pb2

SHARED: Final = 0.02
"""Seconds for which a status is good enough for somebody else, if nothing changed."""
SPACING: Final = 0.05
"""Seconds at least between two statuses of one watcher, however often things change."""
RESTS: Final = 4
"""After a status of this node, none is made for so many times as long as it took."""
PUBLISHED: Final = 1.0
"""Seconds between two statuses for the peers when nothing changes."""

_SHOWN: Final = frozenset(Kind) - {Kind.LEASES, Kind.HISTORY}


class Bulletin:
    """Made on the running event loop.

    `around`: what surrounds the node now, by what was counted; `count`: what the kernel has of each group's addresses;
    `reporter`: tells the node what its peers say of its addresses.
    """

    def __init__(
        self,
        node: Node,
        chronicle: Chronicle,
        peers: PeerTable,
        around: Callable[[Mapping[str, Counted]], Around],
        count: Callable[[], Awaitable[Mapping[str, Counted]]],
        reporter: Reporter,
    ) -> None:
        self._node = node
        self._chronicle = chronicle
        self._around = around
        self._count = count
        self._reporter = reporter
        self._counted: Mapping[str, Counted] = {}
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._version = 0
        self._subscribers: list[Callable[[], None]] = []
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._last: tuple[float, int, status_pb2.Status] | None = None
        self._own: asyncio.Task[status_pb2.NodeStatus] | None = None
        self._own_until = 0.0

    async def status(self) -> status_pb2.Status:
        """How things are. The message is shared: do not change it."""
        if self._last is not None:
            made, version, last = self._last
            if version == self._version and self._loop.time() - made < SHARED:
                return last
        version = self._version
        await self.count()
        status = self.now()
        self._last = self._loop.time(), version, status
        return status

    def now(self) -> status_pb2.Status:
        """How things are, with the addresses as they were counted last: a second ago, or less."""
        self._learn_silences()
        return statuses.status(self._node, self._around(self._counted), self._peers)

    async def own(self) -> status_pb2.NodeStatus:
        """How this node is, or was lately: one is shared for RESTS times as long as it took. Do not change it."""
        if self._own is None or (self._own.done() and self._loop.time() >= self._own_until):
            self._own = self._loop.create_task(self._timed_own())
        return await asyncio.shield(self._own)

    async def _timed_own(self) -> status_pb2.NodeStatus:
        began = self._loop.time()
        status = await self._new_own()
        ended = self._loop.time()
        self._own_until = ended + (ended - began) * RESTS
        return status

    async def _new_own(self) -> status_pb2.NodeStatus:
        await self.count()
        self._learn_silences()
        return statuses.node_status(self._node, self._around(self._counted))

    async def count(self) -> Mapping[str, Counted]:
        """Ask the kernel what it has of each group's addresses."""
        self._counted = await self._count()
        return self._counted

    async def watch(self, interval: float) -> AsyncGenerator[status_pb2.Status]:
        """A status at once, then whenever something changed, and at least every `interval` seconds."""
        while True:
            version = self._version
            yield await self.status()
            await asyncio.sleep(SPACING)
            if version == self._version:
                await asyncio.wait({self._changed}, timeout=interval)

    async def publish(self) -> None:
        """Tell the peers how this node is, and the node what they say, until cancelled."""
        while True:
            version, began = self._version, self._loop.time()
            self._peers.publish(await self._new_own())
            self._reporter.report(statuses.connected(self._peers))
            # Of many groups it takes long to tell, and they change all the time while they move.
            await asyncio.sleep((self._loop.time() - began) * RESTS)
            if version == self._version:
                await asyncio.wait({self._changed}, timeout=PUBLISHED)

    def subscribe(self, told: Callable[[], None]) -> None:
        """Have it called whenever something changed that people look at; it must not take long."""
        self._subscribers.append(told)

    def touch(self) -> None:
        """Something changed that people look at."""
        self._version += 1
        for told in self._subscribers:
            told()
        if not self._changed.done():
            self._changed.set_result(None)
        self._changed = self._loop.create_future()

    # --- the pump's observer

    def heard(self, event: Event, now: Instant) -> None:  # noqa: ARG002 - when it was is no matter here
        """An event is about to be fed."""
        if isinstance(event, Listed | Watched) and any(one.key.kind in _SHOWN for one in event.seen):
            self._loop.call_soon(self.touch)  # once the node has taken it in

    def done(self, effect: Effect, now: Instant) -> None:  # noqa: ARG002
        """An effect is about to be performed."""
        if isinstance(effect, RoleChanged | Alarm | LeaseChanged | Meet):
            self.touch()

    def _learn_silences(self) -> None:
        """The gaps of what this node took over, as far as those it took it from say when they ceased to answer."""
        table = self._peers.table()
        for name, said in self._peers.statuses().items():
            peer = table.get(name)
            if peer is None or not peer.round_trip_ns:
                continue
            for role in said.groups:
                if role.silent_since_boot_ns and self._chronicle.predecessor(role.group) == name:
                    since, answered = role.silent_since_boot_ns, role.answers_since_boot_ns
                    ahead = peer.clock_ahead_ns
                    self._chronicle.learn_silence(role.group, name, since - ahead, answered - ahead)
