"""One etcd member as a client has it: a channel that is kept connected, and the calls that wait on it.

A channel to every endpoint is open all the time, so that leaving one costs no connecting and no TLS handshake.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

import grpc
import grpc.aio
from aetcd import rpc

from haagent.adapters.etcd.failures import FAILURES, failure
from haagent.adapters.etcd.settings import Target

MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of one answer that are taken. etcd's own limit for a request is 1.5 MiB."""

# etcd drops clients that ping more often than every 5 s, or ping while no call is under way (its defaults
# grpc-keepalive-min-time 5s, PermitWithoutStream false): a hung member is left long before a ping finds out.
_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Also how long one attempt to connect may take: a stopped member accepts and then says nothing.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # Two stores of one process must not share a connection, nor its backoff.
    ("grpc.use_local_subchannel_pool", 1),
)

_WHY_TIMEOUT: Final = 0.3
_CLOSE_TIMEOUT: Final = 0.05


class Endpoint:
    """Made on the running event loop; to be closed.

    `standing` compares endpoints of which none is known to be good. Positive: when it last said something; negative:
    when an answer of it was missed, and nothing was heard since; 0: neither ever.
    """

    def __init__(self, target: Target) -> None:
        self.name = target.name
        if target.credentials is None:
            self._channel = grpc.aio.insecure_channel(target.address, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target.address, target.credentials, options=_OPTIONS)
        self.kv = rpc.KVStub(self._channel)
        self.lease = rpc.LeaseStub(self._channel)
        self.watch = rpc.WatchStub(self._channel)
        self.auth = rpc.AuthStub(self._channel)
        self._maintenance = rpc.MaintenanceStub(self._channel)
        self._waiting: dict[int, float] = {}
        self._numbers = itertools.count()
        self.suspected = asyncio.Event()
        self.standing = 0.0
        self._next_state: asyncio.Future[None] | None = None
        self.why = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether a call made now is sent."""
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    def begin(self, overdue_at: float) -> int:
        """Note a call: unanswered at `overdue_at` (event loop time), it speaks against the endpoint."""
        number = next(self._numbers)
        self._waiting[number] = overdue_at
        return number

    def end(self, number: int) -> bool:
        """The call that `begin` numbered has ended. Whether the endpoint answered nothing since it began."""
        return self._waiting.pop(number, None) is not None

    def overdue(self, now: float) -> bool:
        """Whether a call has been waiting for too long."""
        return any(instant <= now for instant in self._waiting.values())

    def suspect(self) -> None:
        """It may not answer, or may not be able to do its work: to be avoided until `clear`."""
        self.suspected.set()

    def spoke(self, now: float) -> None:
        """It said something, if only that it can not do its work."""
        self.standing = now

    def missed(self, now: float) -> None:
        """It owes an answer. What it said before no longer speaks for it."""
        self.standing = -now

    def clear(self, now: float) -> None:
        """It answered. What still waits was asked in worse times, and says nothing about these."""
        self.spoke(now)
        self.suspected.clear()
        self._waiting.clear()

    async def tend(self, changed: Callable[[Endpoint, bool], None]) -> None:
        """Keep the channel connected; `changed` hears of each change. Runs until cancelled."""
        connected: bool | None = None
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                # States carry no reason. A call on a channel that failed is not sent, and tells why.
                self.why = await self._ask_why() or self.why
            settled = state in (
                grpc.ChannelConnectivity.READY,
                grpc.ChannelConnectivity.TRANSIENT_FAILURE,
            )
            ready = state is grpc.ChannelConnectivity.READY
            if settled and ready is not connected:
                connected = ready
                changed(self, ready)
            self._next_state = asyncio.ensure_future(self._channel.wait_for_state_change(state))
            # Not cancelled with us: grpc would still answer it, after the event loop may have been closed.
            await asyncio.wait({self._next_state})

    async def close(self) -> None:
        """Close the channel. Calls on it must have ended."""
        await self._channel.close()
        if self._next_state is not None:
            await asyncio.wait({self._next_state}, timeout=_CLOSE_TIMEOUT)

    async def _ask_why(self) -> str | None:
        try:
            await self._maintenance.Status(rpc.StatusRequest(), timeout=_WHY_TIMEOUT)
        except FAILURES as error:
            return failure(error).why
        return None
