"""What tests of the netlink adapter share: the adapter with its answers, and what `ip` shows."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from haagent.adapters.netlink import NetlinkKernel
from haagent.adapters.netlink.rtnl import Held, Requests
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    Event,
    ExtendAddresses,
    HostAddresses,
    InstallAddresses,
    InterfaceChanged,
    KernelFailed,
    RemoveAddresses,
    VirtualAddress,
)
from haagent.core.units import MS, S
from tests.integration.namespace import Neighbour, apart, sh

Answer = AddressesInstalled | AddressesRemoved | KernelFailed


def clock() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def vip(text: str, interface: str = "eth0") -> VirtualAddress:
    address, _, prefix = text.partition("/")
    packed = ip_address(address).packed
    return VirtualAddress(packed, int(prefix or len(packed) * 8), interface)


def vips(count: int, interface: str = "eth0") -> tuple[VirtualAddress, ...]:
    return tuple(vip(f"10.77.{n // 250}.{n % 250 + 1}", interface) for n in range(count))


def shown(interface: str = "eth0") -> dict[str, dict[str, object]]:
    """What `ip -d address` says of each address, by `address/prefix`."""
    listed = json.loads(sh(f"ip -d -j address show dev {interface}"))
    return {f"{a['local']}/{a['prefixlen']}": a for link in listed for a in link.get("addr_info", [])}


def tagged(interface: str = "eth0") -> set[str]:
    """The addresses there that carry our tag, which Debian's `ip` does not know how to show."""
    requests = Requests()
    news = requests.dump()
    requests.close()
    index = socket.if_nametoindex(interface)
    return {str(ip_address(h.address)) for h in news if isinstance(h, Held) and h.tagged and h.index == index}


async def until_true(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for it; looks every millisecond."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.001)


@dataclass
class Bench:
    """The adapter, and everything that it delivered."""

    events: list[Event] = field(default_factory=list)
    serial: int = 0

    def __post_init__(self) -> None:
        self.kernel = NetlinkKernel(self.events.append)

    def install(self, group: str, *addresses: VirtualAddress, lasts: int = 60 * S) -> int:
        self.serial += 1
        self.kernel.install(InstallAddresses(group, self.serial, addresses, clock() + lasts))
        return self.serial

    def remove(self, group: str) -> int:
        self.serial += 1
        self.kernel.remove(RemoveAddresses(group, self.serial))
        return self.serial

    def extend(self, lasts: int) -> None:
        self.kernel.extend(ExtendAddresses(clock() + lasts))

    def answers(self) -> list[Answer]:
        return [event for event in self.events if isinstance(event, Answer)]

    async def answer(self, serial: int) -> Answer:
        """The one answer to a serial."""
        await until_true(lambda: any(each.serial == serial for each in self.answers()))
        (only,) = (each for each in self.answers() if each.serial == serial)
        return only

    async def installed(self, group: str, *addresses: VirtualAddress, lasts: int = 60 * S) -> None:
        serial = self.install(group, *addresses, lasts=lasts)
        assert await self.answer(serial) == AddressesInstalled(group, serial)

    async def removed(self, group: str) -> None:
        serial = self.remove(group)
        assert await self.answer(serial) == AddressesRemoved(group, serial)

    def host(self) -> HostAddresses:
        """What was last said of the host's addresses; before that, that there is nothing to say."""
        told = [event for event in self.events if isinstance(event, HostAddresses)]
        return told[-1] if told else HostAddresses((), frozenset())

    def interface(self, name: str) -> InterfaceChanged:
        """What was last said of it; of one that nothing was said of, that it is not there."""
        told = [e for e in self.events if isinstance(e, InterfaceChanged) and e.name == name]
        return told[-1] if told else InterfaceChanged(name, up=False, v4=None, v6=None)


@asynccontextmanager
async def bench(
    interfaces: Iterable[str] = ("eth0",),
    addresses: Mapping[str, tuple[VirtualAddress, ...]] | None = None,
    sources: Iterable[bytes] = (),
) -> AsyncGenerator[Bench]:
    made = Bench()
    await made.kernel.start(interfaces, addresses or {}, sources)
    try:
        yield made
    finally:
        await made.kernel.close()


def on_bench(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
    """Make a test in a namespace of its own, on a bench there whose `eth0` has a neighbour."""

    async def main() -> None:
        async with bench() as made:
            await test(made)

    def body() -> None:
        Neighbour("eth0", "peer")
        asyncio.run(main())

    return apart(test, body)


class Lag:
    """The event loop's longest delay while the block runs, in nanoseconds."""

    async def __aenter__(self) -> Lag:
        self.worst = 0
        self._task = asyncio.create_task(self._measure())
        await asyncio.sleep(0.02)
        self.worst = 0
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _measure(self) -> None:
        while True:
            before = time.monotonic_ns()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.monotonic_ns() - before - 1 * MS)
