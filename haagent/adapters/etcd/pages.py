"""A whole range of keys at one revision, read in pages."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
from aetcd import rpc

from haagent.adapters.etcd import requests
from haagent.adapters.etcd.failures import CallError, Trouble
from haagent.adapters.etcd.pool import Pool
from haagent.core.records import Seen

MAX_LIST: Final = 64 * 1024 * 1024
"""Bytes of a list; a larger one is refused: it is not one of a cluster of ours, and memory has an end."""
PAGE: Final = 500
"""Keys of a list's page: what is decoded at a stretch, without a look at the event loop's other work."""


class Lister:
    """Reads ranges. Its pages get smaller when one is more than an answer may have."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._page = PAGE

    async def read(self, first: bytes, end: bytes, patience: float) -> tuple[rpc.ResponseHeader, list[Seen]]:
        """The keys that are ours from `first` to before `end`; `patience` in seconds for each page. CallError."""
        seen: list[Seen] = []
        header: rpc.ResponseHeader | None = None
        size = 0
        while True:
            # The first page is linearizable and sets the revision; the others are read as of then.
            revision = 0 if header is None else header.revision
            request = rpc.RangeRequest(key=first, range_end=end, limit=self._page, revision=revision)
            page = await self._read_page(request, patience)
            header = header or page.header
            if header.cluster_id != page.header.cluster_id:
                raise CallError("the endpoints are not of one cluster", Trouble.REFUSED)
            size += page.ByteSize()
            if size > MAX_LIST:
                raise CallError(f"more than {MAX_LIST} bytes", Trouble.REFUSED)
            seen += requests.listed(page.kvs)
            if not page.more:
                return header, seen
            first = page.kvs[-1].key + b"\0"

    async def _read_page(self, request: rpc.RangeRequest, patience: float) -> rpc.RangeResponse:
        try:
            return await self._pool.call(
                lambda endpoint, metadata, timeout: endpoint.kv.Range(request, metadata=metadata, timeout=timeout),
                asyncio.get_running_loop().time() + patience,
                repeatable=True,
            )
        except CallError as error:
            if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                # More than an answer may have: values of a size that is none of ours.
                self._page = max(1, self._page // 2)
            raise
