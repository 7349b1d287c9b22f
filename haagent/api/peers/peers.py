"""The other nodes: one stream with each, what they say delivered to the core, how they are for people.

Implements `haagent.runtime.ports.Peers`. Every call returns at once. What can not be said to a peer now is lost: the
next heartbeat is soon.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from haagent.api.credentials import Credentials
from haagent.api.peers import messages
from haagent.api.peers.circle import FORGOTTEN, Circle, Link
from haagent.api.peers.dialer import keep
from haagent.api.peers.greeting import Greeting
from haagent.api.peers.listener import Listener
from haagent.api.peers.messages import MESSAGE_MOST
from haagent.api.peers.reasons import Reason, Refused
from haagent.core.heartbeat import Meet, SendHeartbeat, SendPromise
from haagent.core.units import Duration, Instant
from haagent.runtime.clock import boottime
from haagent.runtime.ports import Deliver
from haagent.v1.status_pb2 import NodeStatus

_TICK: Final = 1.0
_STATUS_TICKS: Final = 5
_STATUS_PAUSE: Final = 0.1
"""Seconds at least between two statuses of ours, however often things change."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """How the connection with a peer is, since when (nanoseconds since 1970), and how far ahead its CLOCK_BOOTTIME is.

    `round_trip` and `clock_ahead` are None until a ping was answered; `error` says why there is no stream, else empty.
    """

    endpoint: str
    connected: bool
    since_wall: int
    round_trip: Duration | None
    clock_ahead: Duration | None
    error: str
    release: str
    incarnation: str
    version: int


class GrpcPeers:
    """Made on the running event loop; `start`, then `close`.

    `ours`: who this node is; `listen`: `address:port`; `credentials` None: plain text, and nobody proves who he is.

    `counters`: `connections` begun at our port (with TLS) and `calls` there, `streams` that stood, messages `sent` and
    `received`, `replaced_heartbeats` and `dropped_outgoing` that did not get away in time, heartbeats and promises that
    were `unsent` for want of a stream, `refused_*` by reason. `refused`: by (peer, reason), `?` for who is not known.
    """

    def __init__(
        self,
        ours: Greeting,
        listen: str,
        credentials: Credentials | None,
        deliver: Deliver,
        *,
        clock: Callable[[], Instant] = boottime,
    ) -> None:
        self._circle = Circle(ours, credentials, deliver, clock)
        self._listen = listen
        self._listener: Listener | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._ended: set[asyncio.Task[None]] = set()
        self._status_at = 0.0
        self._status_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Listen. OSError: that can not be."""
        self._listener = Listener(self._circle, self._listen)
        await self._listener.start()
        self._ticking = asyncio.create_task(self._tick(), name="peers")

    async def close(self) -> None:
        """End all streams. Nothing is delivered any more."""
        if self._status_timer is not None:
            self._status_timer.cancel()
        tasks = [link.task for link in self._circle.links.values() if link.task is not None] + list(self._ended)
        if self._ticking is not None:
            tasks.append(self._ticking)
        for task in tasks:
            task.cancel()
        for link in self._circle.links.values():
            if link.session is not None:
                link.session.end(Refused(Reason.STOPPED, "the agent stops"))
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        if self._listener is not None:
            await self._listener.close()

    @property
    def port(self) -> int:
        """Where it listens; only after `start`."""
        assert self._listener is not None, "started"
        return self._listener.port

    # --- the port of the core

    def meet(self, effect: Meet) -> None:
        """Keep a stream with each of these peers. One that is no longer named is kept while its stream stands."""
        named = dict(effect.peers)
        for link in self._circle.links.values():
            link.named = link.name in named
        for name, endpoint in named.items():
            link = self._circle.link(name)
            if isinstance(link, Refused):
                self._circle.refuse(name, link)
                continue
            link.named = True
            if link.endpoint != endpoint or link.task is None:
                self._redial(link, endpoint)

    def heartbeat(self, effect: SendHeartbeat) -> None:
        """Tell those of the named peers with which there is a stream."""
        data = messages.heartbeat(effect)
        if len(data) > MESSAGE_MOST:
            why = Refused(Reason.OVERSIZED, f"a heartbeat of {len(effect.tenures)} groups is too long to be sent")
            self._circle.refuse(self._circle.ours.node, why)
            return
        for name in effect.to:
            link = self._circle.links.get(name)
            if link is None or link.session is None:
                self._circle.counters["unsent"] += 1
            else:
                link.session.heartbeat(data)

    def promise(self, effect: SendPromise) -> None:
        """Tell the peer, if there is a stream with it."""
        link = self._circle.links.get(effect.to)
        if link is None or link.session is None:
            self._circle.counters["unsent"] += 1
        else:
            link.session.say(messages.promise(effect))

    # --- for people

    def publish(self, status: NodeStatus) -> None:
        """Tell all peers how this node is, now or within a tenth of a second; again every five seconds."""
        data = messages.status(status)
        if data != self._circle.status:
            self._circle.status = data
            if self._status_timer is None:
                wait = self._status_at + _STATUS_PAUSE - self._loop.time()
                self._status_timer = self._loop.call_later(max(0.0, wait), self._tell)

    def statuses(self) -> dict[str, NodeStatus]:
        """What each peer last said of itself, by name; without those that never did."""
        return {link.name: link.status for link in self._circle.links.values() if link.status is not None}

    def table(self) -> dict[str, PeerState]:
        """How the connection with each peer is, by name."""
        return {name: _state(link) for name, link in sorted(self._circle.links.items())}

    @property
    def counters(self) -> Counter[str]:
        """What was counted since the start."""
        return self._circle.counters

    @property
    def refused(self) -> Counter[tuple[str, Reason]]:
        """What was refused since the start, by peer and reason."""
        return self._circle.refusals.counted

    @property
    def expires(self) -> float | None:
        """When this node's certificate expires, in seconds since 1970; None without TLS."""
        return None if self._circle.credentials is None else self._circle.credentials.expires

    def renew(self, credentials: Credentials | None) -> bool:
        """Go by these from the next connection on; whether they are others than before. Not from or to plain text.

        Streams go on, unless the CA is another one: then everybody has to prove himself anew.
        """
        before = self._circle.credentials
        if before is None or credentials is None or before == credentials:
            return False
        self._circle.credentials = credentials
        if before.ca != credentials.ca:
            for link in self._circle.links.values():
                if link.session is not None:
                    link.session.end(Refused(Reason.RENEWED, "everybody proves himself anew"))
        return True

    # --- keeping streams

    def _redial(self, link: Link, endpoint: str) -> None:
        link.endpoint = endpoint
        if link.task is not None:
            self._end(link.task)
        link.task = asyncio.create_task(keep(self._circle, link), name=f"stream with {link.name}")

    def _end(self, task: asyncio.Task[None]) -> None:
        self._ended.add(task)
        task.add_done_callback(self._ended.discard)
        task.cancel()

    def _tell(self) -> None:
        self._status_timer = None
        self._status_at = self._loop.time()
        data = self._circle.status
        for link in self._circle.links.values():
            if link.session is not None and data is not None:
                link.session.status(data)

    async def _tick(self) -> None:
        """Ping every second; repeat the status; forget who is gone for good."""
        ticks = 0
        while True:
            await asyncio.sleep(_TICK)
            ticks += 1
            self._look_after(ticks)

    def _look_after(self, ticks: int) -> None:
        now = self._circle.clock()
        for link in list(self._circle.links.values()):
            if link.session is not None:
                link.session.ping()
            elif not link.named and now - link.ended_at > FORGOTTEN:
                del self._circle.links[link.name]
                if link.task is not None:
                    self._end(link.task)
        if ticks % _STATUS_TICKS == 0:
            self._tell()


def _state(link: Link) -> PeerState:
    best = None if link.session is None else link.session.pings.best
    return PeerState(
        endpoint=link.endpoint,
        connected=link.session is not None,
        since_wall=link.since_wall,
        round_trip=None if best is None else best.round_trip,
        clock_ahead=None if best is None else best.ahead,
        error="" if link.session is not None or link.error is None else str(link.error),
        release=link.release,
        incarnation=link.incarnation,
        version=link.version,
    )
