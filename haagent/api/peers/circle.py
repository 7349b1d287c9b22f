"""This node and its peers: who they are, which streams stand, what is known of each. The adapter's parts share it.

At most one stream stands with each peer: a new one ends the one before it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from haagent.api.credentials import Credentials
from haagent.api.peers.greeting import Greeting
from haagent.api.peers.limits import SHUNNED
from haagent.api.peers.messages import Reported
from haagent.api.peers.reasons import NOBODY, Reason, Refusals, Refused
from haagent.api.peers.session import Pipe, Session, Told
from haagent.core.units import Duration, Instant, S
from haagent.runtime.ports import Deliver
from haagent.v1.status_pb2 import NodeStatus

_LOG: Final = logging.getLogger("haagent.peers")

PEERS_MOST: Final = 256
FORGOTTEN: Final[Duration] = 600 * S
"""How long after its stream has ended a peer is remembered that nobody names any more."""
_QUIET: Final[Duration] = 1 * S
"""How often it is said at most that a peer has connected."""


@dataclass(slots=True)
class Link:
    """What is known of a peer. `named`: the node knows it as one; `error`: why there is no stream."""

    name: str
    endpoint: str = ""
    named: bool = False
    session: Session | None = None
    version: int = 0
    release: str = ""
    incarnation: str = ""
    since_wall: int = 0
    ended_at: Instant = 0
    error: Refused | None = None
    shunned_until: Instant = 0
    quiet_until: Instant = 0
    status: NodeStatus | None = None
    task: asyncio.Task[None] | None = None


class Circle:
    """Made on the running event loop. `links` by name; `credentials` are those for the next connection."""

    def __init__(
        self, ours: Greeting, credentials: Credentials | None, deliver: Deliver, clock: Callable[[], Instant]
    ) -> None:
        self.ours = ours
        self.credentials = credentials
        self.clock = clock
        self.refusals = Refusals()
        self.counters: Counter[str] = Counter()
        self.links: dict[str, Link] = {}
        self.status: bytes | None = None
        self._deliver = deliver

    def link(self, name: str) -> Link | Refused:
        """What is known of the peer; nothing yet if it is new, and there is room for one more."""
        found = self.links.get(name)
        if found is None:
            if len(self.links) >= PEERS_MOST:
                return Refused(Reason.CROWDED, f"{PEERS_MOST} peers are known already")
            found = self.links[name] = Link(name, ended_at=self.clock(), since_wall=time.time_ns())
        return found

    def refuse(self, peer: str, why: Refused) -> None:
        """Count it, and log it now and then; of a peer that is not known, as of nobody."""
        self.counters[f"refused_{why.reason}"] += 1
        self.refusals.note(peer if peer in self.links else NOBODY, why, self.clock())

    async def converse(self, link: Link, theirs: Greeting, version: int, pipe: Pipe) -> Refused:
        """Hold the stream with the peer that greeted so until it ends, in place of one that stands; returns why."""
        session = Session(
            theirs,
            pipe,
            hear=lambda heard: self._hear(link, heard),
            refuse=lambda refused: self.refuse(link.name, refused),
            clock=self.clock,
            counters=self.counters,
        )
        if link.session is not None:
            link.session.end(Refused(Reason.REPLACED, "it has opened another stream"))
        link.session = session
        link.version, link.release, link.incarnation = version, theirs.release, theirs.incarnation
        link.since_wall, link.error = time.time_ns(), None
        self.counters["streams"] += 1
        now = self.clock()
        if now >= link.quiet_until:
            _LOG.info("peers: %s: connected, it runs %s, protocol version %d", link.name, theirs.release, version)
            link.quiet_until = now + _QUIET
        session.ping()
        if self.status is not None:
            session.status(self.status)
        why = Refused(Reason.CLOSED, "")
        try:
            why = await session.run()
        finally:
            self._over(link, session, why)
        return why

    def _over(self, link: Link, session: Session, why: Refused) -> None:
        now = self.clock()
        self.refuse(link.name, why)
        if why.reason is Reason.FLOOD:
            link.shunned_until = now + SHUNNED
        if link.session is session:
            link.session = None
            link.since_wall, link.ended_at, link.error = time.time_ns(), now, why

    def _hear(self, link: Link, heard: Told) -> None:
        if isinstance(heard, Reported):
            link.status = heard.status
        else:
            self._deliver(heard)
