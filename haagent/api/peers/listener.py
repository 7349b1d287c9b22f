"""The port at which peers open streams. Who gets through TLS is greeted, judged, and then talked with.

What strangers can make of it is bounded: connections, handshakes in time, streams on a connection, streams that have
not greeted, bytes of a message. gRPC keeps TLS to itself: who fails there is one of the `connections` that made none of
the `calls`, and no more of him is seen here, while the one who dials is told why (`diagnosis`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any, Final

import grpc.aio

from haagent.api.credentials import listening, proven
from haagent.api.peers.circle import PEERS_MOST, Circle
from haagent.api.peers.greeting import judge
from haagent.api.peers.reasons import NOBODY, Reason, Refused
from haagent.api.peers.wire import COMMON, DEADLINE, REFUSAL, HeardPipe, greet, handler, printable

PENDING_MOST: Final = 64
"""Streams that have not greeted yet."""
CONNECTIONS_MOST: Final = 2 * PEERS_MOST
_FAREWELL: Final = 1.0
_OPTIONS: Final = (
    *COMMON,
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_MOST),
    ("grpc.server_handshake_timeout_ms", int(DEADLINE * 1000)),
    # Who connects and opens no stream is sent away.
    ("grpc.max_connection_idle_ms", 10_000),
    # Peers ask every two seconds whether the connection still stands.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.max_metadata_size", 4096),
    ("grpc.absolute_max_metadata_size", 8192),
)


class Listener:
    """Made on the running event loop. `listen`: `address:port`; `port`: that of it, once started."""

    def __init__(self, circle: Circle, listen: str) -> None:
        self.port = 0
        self._circle = circle
        self._listen = listen
        self._pending = 0
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=PEERS_MOST + PENDING_MOST)
        self._server.add_generic_rpc_handlers((handler(self._exchange),))

    async def start(self) -> None:
        """Take connections. OSError: it can not listen there."""
        try:
            if self._circle.credentials is None:
                self.port = self._server.add_insecure_port(self._listen)
            else:
                made = listening(lambda: self._circle.credentials, self._begun)
                self.port = self._server.add_secure_port(self._listen, made)
        except RuntimeError:
            why = "no address of this host, or somebody else listens there"
            raise OSError(f"peers.listen: cannot listen at {self._listen}: {why}") from None
        finally:
            # A server that was never started can not be stopped either.
            await self._server.start()

    async def close(self) -> None:
        """End all streams, and stop listening."""
        await self._server.stop(0.1)

    def _begun(self) -> None:
        self._circle.counters["connections"] += 1

    async def _exchange(self, _requests: AsyncIterable[bytes], context: Any) -> None:
        self._circle.counters["calls"] += 1
        why = await self._talk(context)
        try:
            async with asyncio.timeout(_FAREWELL):
                await context.abort(REFUSAL, str(why))
        except (TimeoutError, grpc.aio.InternalError):
            # It does not read, or is gone: it can not be told. To gRPC that is a call that was cancelled.
            raise asyncio.CancelledError from None

    async def _talk(self, context: Any) -> Refused:
        """One stream, until it ends."""
        circle = self._circle
        if self._pending >= PENDING_MOST:
            return self._refuse(NOBODY, Refused(Reason.CROWDED, f"{PENDING_MOST} others have not greeted yet"))
        pipe = HeardPipe(context)
        self._pending += 1
        try:
            theirs = await greet(pipe, circle.ours)
        except TimeoutError:
            theirs = Refused(Reason.NO_HELLO, f"{printable(context.peer())} said nothing for {DEADLINE:g} s")
        finally:
            self._pending -= 1
        if isinstance(theirs, Refused):
            return self._refuse(NOBODY, theirs)
        version = judge(circle.ours, theirs, proven=proven(context.auth_context()), expected=None)
        if isinstance(version, Refused):
            return self._refuse(theirs.node, version)
        link = circle.link(theirs.node)
        if isinstance(link, Refused):
            return self._refuse(NOBODY, link)
        if circle.clock() < link.shunned_until:
            return self._refuse(link.name, Refused(Reason.FLOOD, "it sent too much a moment ago"))
        return await circle.converse(link, theirs, version, pipe)

    def _refuse(self, peer: str, why: Refused) -> Refused:
        self._circle.refuse(peer, why)
        return why
