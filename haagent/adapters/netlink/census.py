"""What the kernel has of the addresses, asked of itself: not what the agent believes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from haagent.adapters.netlink.ledger import Ledger
from haagent.adapters.netlink.rtnl import Held, Link, News, Requests, knows_tags
from haagent.core.model import HostAddresses, VirtualAddress


async def held(addresses: Iterable[VirtualAddress]) -> frozenset[VirtualAddress]:
    """Those of the addresses that the kernel has now, with whatever prefix. OSError: it did not say."""
    there = {(one.interface, one.address) for one in await asyncio.to_thread(_addresses)}
    return frozenset(one for one in addresses if (one.interface, one.address) in there)


async def configured(addresses: Iterable[VirtualAddress]) -> list[VirtualAddress]:
    """Where this host has any of the addresses now, on whatever interface, by whomever. OSError: it did not say.

    A link-local IPv6 address counts on its own interface only: elsewhere it is another one.
    """
    wanted = {(one.interface if one.address[:2] == b"\xfe\x80" else "", one.address) for one in addresses}
    there = await asyncio.to_thread(_addresses)
    return [one for one in there if {("", one.address), (one.interface, one.address)} & wanted]


@dataclass(frozen=True, slots=True)
class Survey:
    """What this host has of what a configuration names. `absent`: interfaces.

    `only`: by interface, the virtual addresses that are configured there for ever, if it has no other IPv4 address.
    """

    absent: frozenset[str]
    host: HostAddresses
    only: Mapping[str, frozenset[bytes]]


def survey(
    interfaces: frozenset[str], addresses: Mapping[str, tuple[VirtualAddress, ...]], sources: frozenset[bytes]
) -> Survey:
    """Ask the kernel, which takes some milliseconds. OSError: it did not say."""
    ledger = Ledger(tags=knows_tags(os.uname().release))
    ledger.configure(addresses, sources)
    ledger.relearn(_dump())
    host = ledger.host()
    only = {
        name: frozenset(each.address for each in host.foreign if each.interface == name and len(each.address) == 4)
        for name in interfaces
        if ledger.interface(name).v4 is None
    }
    return Survey(frozenset(name for name in interfaces if not ledger.exists(name)), host, only)


def _addresses() -> list[VirtualAddress]:
    news = _dump()
    names = {one.index: one.name for one in news if isinstance(one, Link)}
    return [VirtualAddress(one.address, one.prefix, names.get(one.index, "")) for one in news if isinstance(one, Held)]


def _dump() -> list[News]:
    requests = Requests()
    try:
        return requests.dump()
    finally:
        requests.close()
