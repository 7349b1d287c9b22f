"""What operators read and write: the port `Records`, beside the node on its connections, or with its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aetcd import rpc

from haagent.adapters.etcd import requests
from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.auth import Access
from haagent.adapters.etcd.failures import CallError, Trouble
from haagent.adapters.etcd.pages import Lister
from haagent.adapters.etcd.pool import Pool
from haagent.adapters.etcd.settings import EtcdSettings, targets
from haagent.core.model import Ask, Asking, Commit
from haagent.core.records import Guard, Key, Put
from haagent.core.units import Duration, S
from haagent.runtime.ports import Listing, NotWritten, Unclear, UnreadableError, Written

PATIENCE: Final[Duration] = 3 * S
"""For one read, or one transaction."""


class EtcdRecords:
    """The port `Records`. `pool` says what to call with now; None: nothing runs."""

    def __init__(self, cluster: str, pool: Callable[[], Pool | None]) -> None:
        self._cluster = cluster
        self._pool = pool

    async def read(self) -> Listing:
        return await self._list(*requests.watched_range(self._cluster))

    async def history(self) -> Listing:
        return await self._list(*requests.history_range(self._cluster))

    async def look(self, keys: Sequence[Key]) -> Listing:
        request = requests.looking(self._cluster, keys)
        try:
            response = await self._txn(request, repeatable=True)
        except CallError as error:
            raise UnreadableError(error.why) from None
        return Listing(response.header.revision, requests.shown(keys, response))

    async def commit(
        self, guards: Sequence[Guard], puts: Sequence[Put], deletes: Sequence[Key] = ()
    ) -> Written | NotWritten | Unclear:
        effect = Commit(Ask(Asking.INTENT, "", 0), tuple(guards), tuple(puts), tuple(deletes), PATIENCE)
        try:
            request = requests.transaction(self._cluster, effect, session=0)
        except ValueError as error:
            return NotWritten(str(error))
        try:
            response = await self._txn(request, repeatable=False)
        except CallError as error:
            # Of all troubles these are the ones in which it may have been done.
            return Unclear(error.why) if error.trouble in (Trouble.UNKNOWN, Trouble.FULL) else NotWritten(error.why)
        return Written(response.header.revision) if response.succeeded else NotWritten()

    async def _list(self, first: bytes, end: bytes) -> Listing:
        try:
            header, seen = await Lister(self._running()).read(first, end, PATIENCE / S)
        except CallError as error:
            raise UnreadableError(error.why) from None
        return Listing(header.revision, tuple(seen))

    async def _txn(self, request: rpc.TxnRequest, *, repeatable: bool) -> rpc.TxnResponse:
        return await self._running().call(
            lambda endpoint, metadata, timeout: endpoint.kv.Txn(request, metadata=metadata, timeout=timeout),
            asyncio.get_running_loop().time() + PATIENCE / S,
            repeatable=repeatable,
        )

    def _running(self) -> Pool:
        pool = self._pool()
        if pool is None:
            raise CallError("the connection with etcd is closed", Trouble.NOT_SENT)
        return pool


@asynccontextmanager
async def open_records(settings: EtcdSettings) -> AsyncGenerator[EtcdRecords]:
    """With connections of its own, for as long as the block lasts. EtcdSettingsError if the settings can not work."""
    announcer = Announcer()
    pool = Pool(targets(settings), Access(settings, announcer), Counter[str](), announcer)
    tending = asyncio.create_task(pool.tend(), name="etcd")
    try:
        yield EtcdRecords(settings.cluster, lambda: pool)
    finally:
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)
        await pool.close()
