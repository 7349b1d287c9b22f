"""What the kernel has of the addresses, asked of itself: not what the agent believes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from haagent.adapters.netlink.rtnl import Held, Link, Requests
from haagent.core.model import VirtualAddress


async def held(addresses: Iterable[VirtualAddress]) -> frozenset[VirtualAddress]:
    """Those of the addresses that the kernel has now, with whatever prefix. OSError: it did not say."""
    there = {(one.interface, one.address) for one in await asyncio.to_thread(_dump)}
    return frozenset(one for one in addresses if (one.interface, one.address) in there)


async def configured(addresses: Iterable[VirtualAddress]) -> list[VirtualAddress]:
    """Where this host has any of the addresses now, on whatever interface, by whomever. OSError: it did not say.

    A link-local IPv6 address counts on its own interface only: elsewhere it is another one.
    """
    wanted = {(one.interface if one.address[:2] == b"\xfe\x80" else "", one.address) for one in addresses}
    there = await asyncio.to_thread(_dump)
    return [one for one in there if {("", one.address), (one.interface, one.address)} & wanted]


def _dump() -> list[VirtualAddress]:
    requests = Requests()
    try:
        news = requests.dump()
    finally:
        requests.close()
    names = {one.index: one.name for one in news if isinstance(one, Link)}
    return [VirtualAddress(one.address, one.prefix, names.get(one.index, "")) for one in news if isinstance(one, Held)]
