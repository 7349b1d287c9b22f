"""What the kernel has of the addresses, asked of itself: not what the agent believes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from haagent.adapters.netlink.rtnl import Held, Link, Requests
from haagent.core.model import VirtualAddress


async def held(addresses: Iterable[VirtualAddress]) -> frozenset[VirtualAddress]:
    """Those of the addresses that the kernel has now, with whatever prefix. OSError: it did not say."""
    wanted = tuple(addresses)
    return await asyncio.to_thread(_held, wanted)


def _held(wanted: tuple[VirtualAddress, ...]) -> frozenset[VirtualAddress]:
    requests = Requests()
    try:
        news = requests.dump()
    finally:
        requests.close()
    names: Mapping[int, str] = {one.index: one.name for one in news if isinstance(one, Link)}
    found = {(names.get(one.index), one.address) for one in news if isinstance(one, Held)}
    return frozenset(one for one in wanted if (one.interface, one.address) in found)
