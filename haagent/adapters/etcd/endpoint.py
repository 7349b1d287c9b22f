"""One etcd member as a client has it: a channel that is kept connected, and the calls that wait on it.

A channel to every endpoint is open all the time, so that leaving one costs no connecting and no TLS handshake. While it
is not connected, the host's addresses and our certificates are looked at again before each attempt; if they are others
than those that the channel was made with, another one takes its place.
"""

from __future__ import annotations

import asyncio
import itertools
import urllib.parse
from collections.abc import Callable
from typing import Final

import grpc
import grpc.aio
from aetcd import rpc

from haagent.adapters.etcd.failures import FAILURES, CallError, Trouble, failure
from haagent.adapters.etcd.lookup import Lookup
from haagent.adapters.etcd.settings import Target
from haagent.adapters.etcd.trust import Trust

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
    # Else its resolver asks the nameservers for one, and a dead nameserver holds the connection up.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # Two stores of one process must not share a connection, nor its backoff.
    ("grpc.use_local_subchannel_pool", 1),
)

_WHY_TIMEOUT: Final = 0.3
_CLOSE_TIMEOUT: Final = 0.05
_LOOKUP_PATIENCE: Final = 2.0
_PAUSE: Final = 0.2
"""Seconds until a connection that broke at once, or a lookup that failed, is tried again."""
_LOOK_AGAIN: Final = 0.5
"""Seconds between two looks at files and addresses while it is not connected."""
_SAY_AGAIN: Final = 10.0
"""Seconds after which another reason for not being connected is worth a line of its own."""

Changed = Callable[["Endpoint", bool], None]


class Endpoint:
    """Made on the running event loop; to be closed. `kv` and the other stubs are there once it is connected.

    `standing` compares endpoints of which none is known to be good. Positive: when it last said something; negative:
    when an answer of it was missed, and nothing was heard since; 0: neither ever.
    """

    kv: rpc.KVStub
    lease: rpc.LeaseStub
    watch: rpc.WatchStub
    auth: rpc.AuthStub
    maintenance: rpc.MaintenanceStub

    def __init__(self, target: Target, trust: Trust) -> None:
        self.name = target.name
        self._target = target
        self._trust = trust
        self._lookup = Lookup(target)
        self._channel: grpc.aio.Channel | None = None
        self._made_with: tuple[str, grpc.ChannelCredentials | None] | None = None
        self._tries = 0
        self._greeted = False
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, float] = {}
        self._numbers = itertools.count()
        self.suspected = asyncio.Event()
        self.standing = 0.0
        self._next_state: asyncio.Future[None] | None = None
        self._waiting_for: tuple[grpc.aio.Channel, grpc.ChannelConnectivity] | None = None
        self._said: tuple[bool, str, float] | None = None
        self.why = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether a call made now is sent: it is connected, and has answered since it is."""
        return self._greeted and self._ready

    @property
    def _ready(self) -> bool:
        return self._channel is not None and self._channel.get_state() is grpc.ChannelConnectivity.READY

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

    async def tend(self, changed: Changed) -> None:
        """Keep the channel connected; `changed` hears of each change. Runs until cancelled."""
        while True:
            channel = self._channel
            if channel is None or not self._ready:
                channel = await self._channel_to_try(changed)
            state = channel.get_state(try_to_connect=True)
            match state:
                case grpc.ChannelConnectivity.READY if not self._greeted:
                    if not await self._greet(changed):
                        await asyncio.sleep(_PAUSE)
                        continue
                case grpc.ChannelConnectivity.READY | grpc.ChannelConnectivity.CONNECTING:
                    pass
                case _ if self._greeted or state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    # States carry no reason. A call on a channel that failed is not sent, and tells why.
                    self._greeted = False
                    error = await self._ask()
                    if error is not None:
                        self._fail(error.why, changed)
                        self._tries += 1
                case _:
                    pass
            # While it is not connected its state may stay as it is, whatever the files and the nameservers say by now.
            await self._state_changed(channel, state, None if self._greeted else _LOOK_AGAIN)

    async def close(self) -> None:
        """Close the channel. Calls on it must have ended."""
        if self._channel is not None:
            await self._channel.close()
        if self._next_state is not None:
            await asyncio.wait({self._next_state}, timeout=_CLOSE_TIMEOUT)

    async def _state_changed(
        self, channel: grpc.aio.Channel, state: grpc.ChannelConnectivity, seconds: float | None
    ) -> None:
        """Wait until the channel's state is another one, so long at most."""
        if self._next_state is None or self._next_state.done() or self._waiting_for != (channel, state):
            self._waiting_for = channel, state
            self._next_state = asyncio.ensure_future(channel.wait_for_state_change(state))
            self._next_state.add_done_callback(_look_at)
        # Not cancelled with us: grpc would still answer it, after the event loop may have been closed.
        await asyncio.wait({self._next_state}, timeout=seconds)

    async def _channel_to_try(self, changed: Changed) -> grpc.aio.Channel:
        """A channel with the newest addresses and certificates: the one that there is, or another one."""
        addresses = await self._addresses(changed)
        wanted = (addresses[self._tries % len(addresses)], await self._trust.newest() if self._target.tls else None)
        if self._channel is not None and wanted == self._made_with:
            return self._channel
        if self._channel is not None:
            await self._channel.close()
        self._greeted = False
        self._made_with = wanted
        self._channel = self._make(*wanted)
        return self._channel

    async def _addresses(self, changed: Changed) -> tuple[str, ...]:
        """Those that were found last; without any, wait for the lookup, and say so."""
        self._lookup.begin()
        while not self._lookup.found:
            await self._lookup.ended(_LOOKUP_PATIENCE)
            if self._lookup.waiting:
                self._fail("the lookup of its name has no answer: check the nameservers in /etc/resolv.conf", changed)
            elif not self._lookup.found:
                self._fail(f"the lookup of its name failed: {self._lookup.why}", changed)
                await asyncio.sleep(_PAUSE)
                self._lookup.begin()
        return self._lookup.found

    def _make(self, address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        options: list[tuple[str, object]] = list(_OPTIONS)
        if not self._target.numeric:
            options.append(("grpc.default_authority", urllib.parse.quote(self.name, safe=":")))
        if credentials is None:
            channel = grpc.aio.insecure_channel(address, options=options)
        else:
            if not self._target.numeric:
                options.append(("grpc.ssl_target_name_override", self._target.host))
            channel = grpc.aio.secure_channel(address, credentials, options=options)
        self.kv = rpc.KVStub(channel)
        self.lease = rpc.LeaseStub(channel)
        self.watch = rpc.WatchStub(channel)
        self.auth = rpc.AuthStub(channel)
        self.maintenance = rpc.MaintenanceStub(channel)
        return channel

    async def _greet(self, changed: Changed) -> bool:
        """Whether it answers on a new connection: by TLS 1.3 it may refuse our certificate after the handshake."""
        error = await self._ask()
        if error is not None and error.trouble is Trouble.UNKNOWN and not self._ready:
            self._fail(error.why, changed)
            return False
        self._greeted = True
        self._tell(changed, True, "")
        return True

    def _fail(self, why: str, changed: Changed) -> None:
        self.why = why if (expired := self._trust.expired) is None or not self._target.tls else f"{why}; {expired}"
        self._tell(changed, False, self.why)

    def _tell(self, changed: Changed, connected: bool, why: str) -> None:
        now = self._loop.time()
        if self._said is not None:
            before, because, at = self._said
            if before is connected and (why == because or now - at < _SAY_AGAIN):
                return
        self._said = connected, why, now
        changed(self, connected)

    async def _ask(self) -> CallError | None:
        """Why a call is not answered now; None: it is."""
        try:
            await self.maintenance.Status(rpc.StatusRequest(), timeout=_WHY_TIMEOUT)
        except FAILURES as error:
            return failure(error)
        return None


def _look_at(done: asyncio.Future[None]) -> None:
    """The channel may have been closed meanwhile, which is an error that nobody waits for."""
    if not done.cancelled():
        done.exception()
