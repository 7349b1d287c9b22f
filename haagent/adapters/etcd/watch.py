"""What stands in etcd, delivered as one sequence: a list, then every change after it; after any doubt, a new list.

One coroutine does both, in turn, so that nothing of an older watch can come after a newer list. The stream hands out
whole revisions in their order, because fragments are not asked for (etcd's api_learning "guarantees": ordered, unique,
reliable, atomic). It is told from the keys' own `mod_revision` how far it got, never from progress notes or headers: in
etcd 3.4 those may be ahead of the events (etcd issue 15220), or behind the start of the watch (20221).

A list is delivered once its watch stands. Whoever hears of it writes at once, and a watch that begins before what is
newest is served ten times a second only (etcd's syncWatchersLoop): its first news came 50 ms later, in the mean.

A watch that begins at a compacted revision may lack what that revision deleted, without a word (etcd issues 18089 and
19179: before 3.4.36 and 3.5.18). So, once etcd has created the watch, the listed revision is read again, which etcd
refuses if any later one was compacted; only then are changes delivered. To begin the watch at the listed revision
itself would show the same, but would make each watch one of those that are served late.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from typing import Final

import grpc
from aetcd import rpc
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from haagent.adapters.etcd import requests
from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.endpoint import Endpoint
from haagent.adapters.etcd.failures import FAILURES, CallError, Trouble, failure
from haagent.adapters.etcd.lineage import Lineage, Mark
from haagent.adapters.etcd.pages import Lister
from haagent.adapters.etcd.pool import Metadata, Pool
from haagent.core.model import Listed, Watched
from haagent.core.records import Seen
from haagent.runtime.ports import Deliver

_BACKOFF: Final = wait_random_exponential(multiplier=0.02, min=0.02, max=0.5)
_FIRST_PATIENCE: Final = 0.5
_LONGEST_PATIENCE: Final = 8.0
_CREATE_PATIENCE: Final = 1.0
_TELL_PATIENCE: Final = 0.1
"""Seconds that a list waits for its watch; by then etcd would have served one that is late."""
_LASTED: Final = 1.0
_PAUSE: Final = (0.02, 0.5)


class Watcher:
    """Lists and watches from `run` on; `resync` drops what it does and begins again, at another endpoint."""

    def __init__(
        self,
        pool: Pool,
        cluster: str,
        deliver: Deliver,
        lineage: Lineage,
        counters: Counter[str],
        announcer: Announcer,
    ) -> None:
        self._pool = pool
        self._lister = Lister(pool)
        self._first, self._end = requests.watched_range(cluster)
        self._deliver = deliver
        self._lineage = lineage
        self._counters = counters
        self._announcer = announcer
        self._loop = asyncio.get_running_loop()
        self._follower: asyncio.Task[None] | None = None
        self._endpoint: Endpoint | None = None

    def resync(self) -> None:
        """List again. Nothing if a list is under way or due: what it shows is newer than any doubt before it."""
        if self._follower is not None and self._endpoint is not None:
            self._counters["resynced"] += 1
            self._pool.put_behind(self._endpoint, "its watch is behind")
            self._follower.cancel()

    async def run(self) -> None:
        """List and watch, until cancelled."""
        pause = _PAUSE[0]
        while True:
            listed = None
            async for attempt in AsyncRetrying(retry=retry_if_exception_type(CallError), wait=_BACKOFF):
                with attempt:
                    listed = await self._list(attempt.retry_state)
            assert listed is not None, "tried until it succeeds"
            began = self._loop.time()
            await self._follow_while_it_lasts(listed)
            # When etcd drops all watches at once, not every agent shall list at once; nor without end if each
            # new watch is dropped, too.
            pause = _PAUSE[0] if self._loop.time() - began > _LASTED else min(pause * 2, _PAUSE[1])
            await asyncio.sleep(random.uniform(0, pause))

    async def _list(self, state: RetryCallState) -> _List:
        patience = min(_FIRST_PATIENCE * 2 ** (state.attempt_number - 1), _LONGEST_PATIENCE)
        mark = self._lineage.mark()
        try:
            header, seen = await self._lister.read(self._first, self._end, patience)
        except CallError as error:
            self._counters["list_failed"] += 1
            if error.trouble is not Trouble.NOT_SENT:  # then another line has said what is missing
                self._announcer.bad("list", f"not answered ({error.why})")
            raise
        self._counters["listed"] += 1
        self._announcer.over("list", "answered again")
        return _List(header, tuple(seen), mark)

    def _tell(self, listed: _List) -> None:
        """Deliver a list, once. What is answered from now on is judged by its history."""
        if listed.told:
            return
        listed.told = True
        name = self._lineage.begin(listed.header, listed.mark)
        self._announcer.good("cluster", name)
        self._deliver(Listed(name, listed.header.revision, listed.seen))

    async def _follow_while_it_lasts(self, listed: _List) -> None:
        follower = self._follower = asyncio.ensure_future(self._follow(listed))
        try:
            # Unlike `await`, this tells its cancellation by `resync` from ours.
            await asyncio.wait({follower}, timeout=_TELL_PATIENCE)
            self._tell(listed)
            await asyncio.wait({follower})
        finally:
            self._follower = self._endpoint = None
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        if not follower.cancelled():
            follower.result()

    async def _follow(self, listed: _List) -> None:
        """Deliver the list and what changes after it, until the watch ends, for whatever reason."""
        endpoint = None
        metadata: Metadata = ()
        try:
            metadata = await self._pool.metadata(self._loop.time() + _CREATE_PATIENCE)
            endpoint = await self._pool.connected(self._loop.time() + _CREATE_PATIENCE)
            self._endpoint = endpoint
            await self._stream(endpoint, metadata, listed)
        except FAILURES as error:
            ended = failure(error)
        except CallError as error:
            ended = error
        except TimeoutError:
            ended = CallError("the watch was not created in time", Trouble.UNKNOWN)
        else:
            ended = CallError("the stream ended", Trouble.UNKNOWN)
        self._counters["watch_ended"] += 1
        self._announcer.bad("watch", f"ended ({ended.why})")
        if ended.trouble is Trouble.TOKEN:
            self._pool.drop_token(metadata)
        if endpoint is not None:
            self._pool.failed(endpoint, ended)

    async def _stream(self, endpoint: Endpoint, metadata: Metadata, listed: _List) -> None:
        revision = listed.header.revision
        call = endpoint.watch.Watch(metadata=metadata)
        # Progress notes carry nothing that we believe, but a connection that is gone is found out by them.
        request = rpc.WatchCreateRequest(
            key=self._first, range_end=self._end, start_revision=revision + 1, progress_notify=True
        )
        try:
            async with asyncio.timeout(_CREATE_PATIENCE):
                await call.write(rpc.WatchRequest(create_request=request))
                response = await call.read()
                await self._check_complete(endpoint, metadata, revision)
            self._tell(listed)
            if isinstance(response, rpc.WatchResponse) and not response.canceled:
                self._announcer.good("watch", f"at {endpoint.name}")
            while isinstance(response, rpc.WatchResponse):
                self._check(response)
                revision = self._hand_on(response, revision)
                response = await call.read()
        finally:
            call.cancel()

    async def _check_complete(self, endpoint: Endpoint, metadata: Metadata, revision: int) -> None:
        """Nothing after the listed revision was compacted before the watch was created, so it shows all of that."""
        request = rpc.RangeRequest(key=self._first, limit=1, revision=revision)
        try:
            await endpoint.kv.Range(request, metadata=metadata, timeout=_CREATE_PATIENCE)
        except FAILURES as error:
            if failure(error).code is grpc.StatusCode.OUT_OF_RANGE:
                self._counters["compacted"] += 1
            raise

    def _check(self, response: rpc.WatchResponse) -> None:
        if response.compact_revision:
            self._counters["compacted"] += 1
            raise CallError(f"compacted up to revision {response.compact_revision}", Trouble.REFUSED)
        if response.canceled:
            raise CallError(response.cancel_reason or "cancelled by etcd", Trouble.REFUSED)
        if not self._lineage.same_cluster(response.header):
            raise CallError(f"it is cluster {response.header.cluster_id}", Trouble.REFUSED)

    def _hand_on(self, response: rpc.WatchResponse, revision: int) -> int:
        """Deliver a response's changes, and return how far they go."""
        if not response.events:
            return revision
        newest = response.events[-1].kv.mod_revision
        if newest <= revision:
            return revision
        self._counters["watched"] += 1
        self._lineage.saw(newest)
        self._deliver(Watched(newest, requests.changed(response.events, revision)))
        return newest


@dataclass(slots=True)
class _List:
    """What was listed, the mark that was taken before, and whether it was delivered."""

    header: rpc.ResponseHeader
    seen: tuple[Seen, ...]
    mark: Mark
    told: bool = False
