"""Transactions that are asked for at once go to etcd as one, each of them still done or refused by itself.

A node that gives up twenty groups asks for twenty handovers in one go, and each call costs half a millisecond here
and at every other end. etcd takes transactions within a transaction: it judges the guards of all before it writes
anything, and then does each whose guards hold. So only those go together of which none writes what another writes or
looks at: each is told what it would be told had they come one after the other, but that their writes have one revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aetcd import rpc

from haagent.adapters.etcd.failures import CallError, Trouble
from haagent.adapters.etcd.pool import Pool

MOST: Final = 48
"""Transactions in one. etcd takes 128 operations in a transaction, and leaves those within it what remains of them."""
LARGEST: Final = 128 - MOST
"""Guards, reads or writes of one that goes with others."""


@dataclass(slots=True)
class _Batch:
    """What goes together. `reads` alone may be repeated; `until`: the least patient one's deadline."""

    reads: bool
    until: float
    writes: set[bytes] = field(default_factory=set[bytes])
    touches: set[bytes] = field(default_factory=set[bytes])
    asked: list[tuple[rpc.TxnRequest, asyncio.Future[rpc.TxnResponse]]] = field(
        default_factory=list[tuple[rpc.TxnRequest, asyncio.Future[rpc.TxnResponse]]]
    )

    def has_room(self, writes: set[bytes], touches: set[bytes], reads: bool) -> bool:
        free = self.writes.isdisjoint(touches) and writes.isdisjoint(self.touches)
        return free and len(self.asked) < MOST and self.reads == reads


class Together:
    """Gathers what is asked for in one turn of the event loop. `tasks` is what the calls run in."""

    def __init__(self, pool: Pool, tasks: asyncio.TaskGroup) -> None:
        self._pool = pool
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._gathering: list[_Batch] = []

    async def transact(self, request: rpc.TxnRequest, deadline: float) -> rpc.TxnResponse:
        """The answer to one transaction, its header that of the call. CallError: it is not known, or was not sent."""
        writes, touches = _keys(request)
        reads = not request.compare and not writes
        if max(len(request.compare), len(request.success), len(request.failure)) > LARGEST:
            return await self.alone(request, deadline)
        if not self._gathering:
            self._loop.call_soon(self._send)
        batch = next((one for one in self._gathering if one.has_room(writes, touches, reads)), None)
        if batch is None:
            batch = _Batch(reads, deadline)
            self._gathering.append(batch)
        answer: asyncio.Future[rpc.TxnResponse] = self._loop.create_future()
        batch.asked.append((request, answer))
        batch.writes |= writes
        batch.touches |= touches
        batch.until = min(batch.until, deadline)
        return await answer

    async def alone(self, request: rpc.TxnRequest, deadline: float) -> rpc.TxnResponse:
        """The answer to a transaction that goes by itself."""
        return await self._call(request, deadline, reads=not request.compare and not _keys(request)[0])

    def _send(self) -> None:
        gathered, self._gathering = self._gathering, []
        for batch in gathered:
            sending = self._answer(batch)
            try:
                self._tasks.create_task(sending)
            except RuntimeError:  # they are being cancelled, and so is everybody who waits
                sending.close()

    async def _answer(self, batch: _Batch) -> None:
        requests = [request for request, _ in batch.asked]
        answers: Sequence[rpc.TxnResponse | CallError]
        try:
            if len(requests) == 1:
                answers = [await self._call(requests[0], batch.until, batch.reads)]
            else:
                answers = _each(await self._call(_as_one(requests), batch.until, batch.reads))
        except CallError as error:
            answers = [CallError(error.why, error.trouble, error.code) for _ in requests]
            if error.trouble is Trouble.REFUSED and len(requests) > 1:  # for the fault of one, perhaps, and not done
                answers = [await self._alone_or_why(request, batch.until) for request in requests]
        for (_, waiting), answer in zip(batch.asked, answers, strict=True):
            if waiting.done():
                continue  # nobody waits any more
            if isinstance(answer, CallError):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)

    async def _alone_or_why(self, request: rpc.TxnRequest, deadline: float) -> rpc.TxnResponse | CallError:
        try:
            return await self.alone(request, deadline)
        except CallError as error:
            return error

    async def _call(self, request: rpc.TxnRequest, deadline: float, reads: bool) -> rpc.TxnResponse:
        # What writes is not repeatable: a second one, sent because the first one's answer was lost, could be refused by
        # the first one's own writes, and that would read as if somebody else had been quicker.
        return await self._pool.call(
            lambda endpoint, metadata, timeout: endpoint.kv.Txn(request, metadata=metadata, timeout=timeout),
            deadline,
            repeatable=reads,
        )


def _keys(request: rpc.TxnRequest) -> tuple[set[bytes], set[bytes]]:
    """The keys that a transaction may write, and all that it is about."""
    writes = {op.request_put.key or op.request_delete_range.key for op in request.success} - {b""}
    reads = {op.request_range.key for op in (*request.success, *request.failure)} - {b""}
    return writes, writes | reads | {compare.key for compare in request.compare}


def _as_one(requests: Sequence[rpc.TxnRequest]) -> rpc.TxnRequest:
    return rpc.TxnRequest(success=[rpc.RequestOp(request_txn=request) for request in requests])


def _each(response: rpc.TxnResponse) -> list[rpc.TxnResponse]:
    """The answers within an answer; etcd fills in the outer header only."""
    answers = [each.response_txn for each in response.responses]
    for answer in answers:
        answer.header.CopyFrom(response.header)
    return answers
