"""The node's etcd session: an ordinary lease with a long TTL, on which its keys hang for the sake of tidy listings.

Safety never depends on it. When it is lost its keys are gone; the core sees that through the watch and writes
them anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from aetcd import rpc
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.endpoint import Endpoint
from haagent.adapters.etcd.failures import CallError, Trouble
from haagent.adapters.etcd.kept import Kept
from haagent.adapters.etcd.pool import Metadata, Pool

_PATIENCE: Final = 1.0
_BACKOFF: Final = wait_random_exponential(multiplier=0.02, min=0.02, max=0.5)
_REVOKE_PATIENCE: Final = 0.5


class Session:
    """`lease` is the id of the lease, for the puts that hang on it."""

    def __init__(self, pool: Pool, ttl: int, counters: Counter[str], announcer: Announcer) -> None:
        self.lease: Kept[int] = Kept("session")
        self._pool = pool
        self._ttl = ttl
        self._counters = counters
        self._announcer = announcer
        self._loop = asyncio.get_running_loop()
        self._resigned = False

    async def run(self) -> None:
        """Keep a lease there, until `resign`."""
        while not self._resigned:
            async for attempt in AsyncRetrying(retry=retry_if_exception_type(CallError), wait=_BACKOFF):
                with attempt:
                    lease = await self._grant()
                    if not self._resigned:
                        self.lease.put(lease)
            while not await self.lease.lost_within(self._ttl / 3):
                await self._keep_alive()

    async def resign(self) -> None:
        """End the session: its keys vanish now. At most half a second; if etcd does not answer, they vanish later."""
        self._resigned = True
        lease = self.lease.value
        if lease is None:
            return
        self.lease.why = "the node resigned"
        self.lease.drop(lease)
        try:
            await self._pool.call(
                lambda endpoint, metadata, timeout: endpoint.lease.LeaseRevoke(
                    rpc.LeaseRevokeRequest(ID=lease), metadata=metadata, timeout=timeout
                ),
                self._loop.time() + _REVOKE_PATIENCE,
                repeatable=True,
            )
        except CallError as error:
            self._announcer.bad("session", f"not ended, its keys stay for {self._ttl} s ({error.why})")
        else:
            self._announcer.good("session", "ended")

    async def _grant(self) -> int:
        try:
            response = await self._pool.call(
                lambda endpoint, metadata, timeout: endpoint.lease.LeaseGrant(
                    rpc.LeaseGrantRequest(TTL=self._ttl), metadata=metadata, timeout=timeout
                ),
                self._loop.time() + _PATIENCE,
                # One whose answer is lost ends by itself, with nothing on it.
                repeatable=True,
            )
        except CallError as error:
            self.lease.why = error.why
            if error.trouble is not Trouble.NOT_SENT:
                self._announcer.bad("session", f"none ({error.why})")
            raise
        self._counters["session_granted"] += 1
        self._announcer.good("session", f"{response.ID:x}, {response.TTL} s")
        return response.ID

    async def _keep_alive(self) -> None:
        lease = self.lease.value
        if lease is None:
            return
        try:
            left = await self._pool.call(
                lambda endpoint, metadata, timeout: _renew(endpoint, metadata, timeout, lease),
                self._loop.time() + self._ttl / 6,
                repeatable=True,
            )
        except CallError:
            self._counters["session_keepalive_failed"] += 1
            return
        if left <= 0:
            self._announcer.bad("session", f"{lease:x} is gone")
            self.lease.drop(lease)


async def _renew(endpoint: Endpoint, metadata: Metadata, seconds: float, lease: int) -> int:
    """Seconds that the lease has now. A stream of one: the next one may have to go to another endpoint."""
    call = endpoint.lease.LeaseKeepAlive(metadata=metadata, timeout=seconds)
    try:
        await call.write(rpc.LeaseKeepAliveRequest(ID=lease))
        response = await call.read()
        if isinstance(response, rpc.LeaseKeepAliveResponse):
            return response.TTL
        raise CallError("the stream ended without an answer", Trouble.UNKNOWN)
    finally:
        call.cancel()
