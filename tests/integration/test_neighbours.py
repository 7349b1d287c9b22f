"""Who else claims an address of ours is heard: every kind of claim, none that is ours, and a flood only in sips."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from haagent.adapters.neighbours import Neighbours, Spot
from haagent.core.model import AddressSeenElsewhere, Event, VirtualAddress
from haagent.wire import arp, ndisc
from tests.integration.kernel import until_true, vip
from tests.integration.namespace import Neighbour, in_namespace, sh

pytestmark = pytest.mark.integration

FOUR, SIX, OTHER = vip("10.9.0.100/24"), vip("2001:db8::64/64"), vip("10.9.0.101/24")
SOMEBODY, ANOTHER = bytes.fromhex("02aa00000009"), bytes.fromhex("02aa0000000a")
FREE4, FREE6 = vip("10.9.0.7").address, vip("2001:db8:1::f:7").address


@dataclass
class Watch:
    """The adapter, what it delivered, and who speaks to it from the other end of the cable."""

    cable: Neighbour
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.neighbours = Neighbours(self.events.append)

    @property
    def counters(self) -> Mapping[str, int]:
        return self.neighbours.counters

    async def hears(self, *frames: bytes) -> None:
        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
                for frame in frames:
                    out.sendto(frame, (self.cable.there, 0))

        await asyncio.to_thread(self.cable.run, send)

    async def only(self, *expected: AddressSeenElsewhere) -> None:
        """Just these have been delivered; forget them, and let the pause go by."""
        await until_true(lambda: len(self.events) >= len(expected))
        await asyncio.sleep(0.13)
        assert self.events == list(expected)
        self.events.clear()


@asynccontextmanager
async def watch(*addresses: VirtualAddress, cable: Neighbour | None = None) -> AsyncGenerator[Watch]:
    made = Watch(cable or Neighbour("eth0", "peer"))
    made.neighbours.configure({"web": addresses})
    try:
        yield made
    finally:
        made.neighbours.close()


def seen(address: VirtualAddress, mac: bytes = SOMEBODY, group: str = "web") -> AddressSeenElsewhere:
    return AddressSeenElsewhere(group, address, mac)


def mac_of(interface: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as asked:
        asked.bind((interface, 0))
        return asked.getsockname()[4]


@in_namespace
def test_every_kind_of_claim_is_heard():
    async def main() -> None:
        async with watch(FOUR, SIX) as w:
            for frame, address in (
                (arp.gratuitous(FOUR.address, SOMEBODY), FOUR),
                (arp.gratuitous(FOUR.address, SOMEBODY, reply=True), FOUR),
                (arp.request(FREE4, mac=SOMEBODY, sender=FOUR.address), FOUR),
                (ndisc.unsolicited(SIX.address, SOMEBODY), SIX),
                (ndisc.unsolicited(SIX.address, SOMEBODY, source=FREE6), SIX),
                (ndisc.solicitation(FREE6, mac=SOMEBODY, source=SIX.address), SIX),
            ):
                await w.hears(frame)
                await w.only(seen(address))

    asyncio.run(main())


@in_namespace
def test_what_is_no_claim_is_not_even_received():
    """Questions for the address, probes before taking it, others' addresses: the kernel's filter passes none."""

    async def main() -> None:
        async with watch(FOUR, SIX) as w:
            await w.hears(
                arp.request(FOUR.address, mac=SOMEBODY, sender=FREE4),
                arp.request(FOUR.address, mac=SOMEBODY),
                arp.gratuitous(FREE4, SOMEBODY),
                ndisc.solicitation(SIX.address, mac=SOMEBODY, source=FREE6),
                ndisc.solicitation(SIX.address, mac=SOMEBODY),
                ndisc.unsolicited(FREE6, SOMEBODY),
            )
            await w.only()
            assert w.counters == {}
            # The same last four bytes: passed by the filter, but none of ours.
            await w.hears(ndisc.unsolicited(bytes(12) + SIX.address[-4:], SOMEBODY))
            await w.only()
            # Rubbish that the filter takes for a claim.
            await w.hears(arp.gratuitous(FOUR.address, SOMEBODY)[:20] + b"\0\x09" + bytes(6) + FOUR.address + bytes(10))
            await w.only()
            assert w.counters == {"refused_bad_operation": 1}

    asyncio.run(main())


@in_namespace
def test_what_comes_from_this_host_is_no_claim():
    """Neither what it sends there, nor what comes back or through another of its interfaces."""

    async def main() -> None:
        async with watch(FOUR, SIX) as w:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
                for frame in (arp.gratuitous(FOUR.address, SOMEBODY), ndisc.unsolicited(SIX.address, SOMEBODY)):
                    out.sendto(frame, ("eth0", 0))
            await w.only()
            assert w.counters == {}
            await w.hears(arp.gratuitous(FOUR.address, mac_of("eth0")))
            await asyncio.to_thread(sh, "ip link add eth1 type veth peer name far1")
            await asyncio.sleep(1.1)  # what is ours is looked up once a second
            await w.hears(arp.gratuitous(FOUR.address, mac_of("eth1")), arp.gratuitous(FOUR.address, mac_of("far1")))
            await w.only()
            assert w.counters == {"own": 3}

    asyncio.run(main())


@in_namespace
def test_a_flood_is_told_ten_times_a_second_and_its_end_is_not_lost():
    """Forged claims as fast as a socket takes them, for one address; meanwhile the loop runs."""

    async def main() -> None:
        async with watch(FOUR, OTHER) as w:
            flood = [arp.gratuitous(FOUR.address, SOMEBODY)] * 200
            began = time.monotonic()
            turns = 0
            cpu = time.process_time()
            while time.monotonic() - began < 1.5:
                await w.hears(*flood)
                turns += 1
            cpu = time.process_time() - cpu
            took = time.monotonic() - began
            assert w.counters["rests"] > 10
            await until_true(lambda: not w.neighbours._told)  # what waits is read and told
            told = len(w.events)
            assert took * 5 <= told <= took * 10 + 3
            assert set(w.events) == {seen(FOUR)}
            print(
                f"{turns * 200 / took:.0f} claims a second: {told} events, {w.counters['claims']} read, {cpu:.2f} s CPU"
            )
            w.events.clear()
            # Two claims within a pause: the second is told at its end.
            await w.hears(arp.gratuitous(FOUR.address, SOMEBODY), arp.gratuitous(FOUR.address, ANOTHER))
            await w.hears(arp.gratuitous(OTHER.address, ANOTHER))
            assert len(w.neighbours._told) <= 2
            await until_true(lambda: len(w.events) == 3)
            assert w.events == [seen(FOUR), seen(OTHER, ANOTHER), seen(FOUR, ANOTHER)]

    asyncio.run(main())


@in_namespace
def test_it_follows_interfaces_and_configuration():
    async def main() -> None:
        cable = Neighbour("eth0", "peer")
        async with watch(FOUR, cable=cable) as w:
            w.neighbours.configure({"web": (FOUR,), "db": (FOUR, OTHER)})
            await w.hears(arp.gratuitous(FOUR.address, SOMEBODY), arp.gratuitous(OTHER.address, SOMEBODY))
            await w.only(seen(FOUR), seen(FOUR, group="db"), seen(OTHER, group="db"))

            for line in ("ip link set eth0 down", "ip link set eth0 up"):
                await asyncio.to_thread(sh, line)
                w.neighbours.refresh("eth0")
            await asyncio.sleep(0.05)
            await w.hears(arp.gratuitous(OTHER.address, SOMEBODY))
            await w.only(seen(OTHER, group="db"))

            await asyncio.to_thread(sh, "ip link del eth0")
            w.neighbours.refresh("eth0")
            await asyncio.to_thread(cable.connect)
            w.neighbours.refresh("eth0")
            await w.hears(arp.gratuitous(OTHER.address, SOMEBODY))
            await w.only(seen(OTHER, group="db"))

            w.neighbours.configure({"web": (SIX,)})
            await w.hears(arp.gratuitous(FOUR.address, SOMEBODY), ndisc.unsolicited(SIX.address, SOMEBODY))
            await w.only(seen(SIX))
            assert list(w.neighbours._taps) == [Spot("eth0", 6)]

    asyncio.run(main())


@in_namespace
def test_a_mac_address_that_is_ours_since_now_is_no_claim():
    """A bond's failover: its announcements come back by the other interface, at once."""

    async def main() -> None:
        async with watch(FOUR) as w:
            for last in range(3):
                mac = bytes([2, 0, 0, 0, 0, 0x70 + last])
                await asyncio.to_thread(sh, f"ip link set eth0 address {mac.hex(':')}")
                w.neighbours.refresh("eth0")
                await w.hears(arp.gratuitous(FOUR.address, mac))
                await w.only()
            assert w.counters["own"] == 3

    asyncio.run(main())


@in_namespace
def test_many_addresses_have_room_in_the_kernel():
    """More than what the kernel compares: then all are passed, and compared here."""

    async def main() -> None:
        async with watch() as w:
            for count in (500, 501, 2000):
                fours = [vip(f"10.8.{n // 250}.{n % 250}") for n in range(count)]
                sixes = [vip(f"2001:db8::{n:x}") for n in range(count)]
                w.neighbours.configure({"web": [*fours, *sixes]})
                await w.hears(arp.gratuitous(fours[-1].address, SOMEBODY), arp.gratuitous(FREE4, SOMEBODY))
                await w.hears(ndisc.unsolicited(sixes[-1].address, SOMEBODY), ndisc.unsolicited(FREE6, SOMEBODY))
                await w.only(seen(fours[-1]), seen(sixes[-1]))

    asyncio.run(main())


@in_namespace
def test_a_loopback_has_no_neighbours():
    async def main() -> None:
        async with watch(vip("10.9.0.100", "lo"), vip("10.9.0.100", "none")) as w:
            assert w.neighbours._taps == {}
            assert w.counters == {}

    asyncio.run(main())
