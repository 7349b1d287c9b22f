"""Floods and announcements: neither what others send nor what we announce holds up the event loop.

Malformed and forged adverts at 10,000 a second are counted by name and forgotten; 200 addresses are announced five
times each in small bites, and not at all once they are given up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from haagent.core.units import MS, S
from haagent.wire import vrrp
from haagent.wire.inet import VRRP_GROUP_V4
from haagent.wire.rejection import Reason
from tests.integration.kernel import Lag, until_true
from tests.integration.namespace import ROOT, in_namespace, sh
from tests.integration.speaking import Capture, Station, cable, injected, router

pytestmark = [pytest.mark.integration, pytest.mark.alone]

# Sends the frames on its standard input round and round, so many a second for so many seconds; says how many it sent.
SENDER = """
import json, socket, sys, time
interface, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
frames = [bytes.fromhex(each) for each in json.load(sys.stdin)]
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sock.bind((interface, 0))
begin, sent = time.monotonic(), 0
while (now := time.monotonic() - begin) < seconds:
    while sent < now * rate:
        sock.send(frames[sent % len(frames)])
        sent += 1
    time.sleep(0.001)
print(sent)
"""


def resident() -> int:
    """Memory of this process, in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def forged(sources: int) -> list[bytes]:
    """Of everything that can be wrong, from many addresses."""
    advert = vrrp.Advert(3, 51, 255, 1 * S, (bytes((10, 9, 0, 100)),))
    unknown = replace(advert, vrid=99)
    frames: list[bytes] = []
    for n in range(sources):
        source = bytes((10, 9, 1 + n // 250, 1 + n % 250))
        good = vrrp.encode(advert, source=source, destination=VRRP_GROUP_V4)
        pdu, ttl = (
            (good, 254),
            (good[:6] + b"\0\1" + good[8:], 255),
            (good[:-1], 255),
            (good + bytes(200), 255),
            (b"\x41" + good[1:], 255),
            (vrrp.encode(unknown, source=source, destination=VRRP_GROUP_V4), 255),
            (good[:1], 255),
            (bytes(64), 255),
        )[n % 8]
        frames.append(injected(pdu, source=source, ttl=ttl))
    return frames


@in_namespace
def test_ten_thousand_forged_adverts_a_second_change_nothing_but_counts():
    other = cable()
    sh("sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0")
    frames = json.dumps([frame.hex() for frame in forged(2000)])

    async def main() -> None:
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        logging.getLogger("haagent.vrrp").addHandler(handler)
        station = Station()
        station.speaker.configure([router()])

        async def flood(seconds: float) -> int:
            def run() -> int:
                sender = subprocess.Popen(
                    [sys.executable, "-c", SENDER, "peer", "10000", str(seconds)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                )  # fmt: skip
                return int(sender.communicate(frames)[0])

            # The sender is made by the neighbour's thread, and so lives in its namespace.
            return await asyncio.to_thread(other.run, run)

        await flood(0.3)
        received, cpu, began = station.speaker.counters["received"], time.process_time(), time.monotonic()
        memory = resident()
        async with Lag() as lag:
            sent = await flood(2)
        await asyncio.sleep(0.1)
        took = time.monotonic() - began
        received = station.speaker.counters["received"] - received
        (dropped,) = station.speaker.overflowed().values()
        cost = (time.process_time() - cpu) / max(received, 1) * 1e6
        grown = resident() - memory
        print(
            f"{sent} sent, {received} received, {dropped} dropped in {took:.1f} s; {cost:.1f} us CPU each; "
            f"loop lag max {lag.worst / MS:.1f} ms; memory {grown:+} KiB; {len(lines)} log lines"
        )
        assert received + dropped >= sent
        assert not station.heard()
        assert lag.worst < 100 * MS
        assert grown < 2048
        counted = station.speaker.rejected
        assert counted.total() == station.speaker.counters["received"]
        assert {reason for _, reason in counted} == {
            Reason.BAD_TTL, Reason.BAD_CHECKSUM, Reason.TRUNCATED, Reason.OVERSIZED, Reason.BAD_VERSION,
            Reason.UNKNOWN_VRID,
        }, counted  # fmt: skip
        assert len(lines) < 150
        assert len(station.speaker._rejections._lines) < 100
        station.speaker.close()

    asyncio.run(main())


@in_namespace
def test_two_hundred_addresses_are_announced_five_times_and_only_the_first_in_a_burst():
    """Each once, as fast as the loop allows; then a thousand frames a second, and what refreshes likewise."""
    other = cable()
    texts = tuple(f"10.9.{n // 200}.{n % 200 + 3}" for n in range(200))

    async def main() -> None:
        station = Station()
        station.speaker.configure([router(addresses=texts)])
        with Capture(other) as capture:
            async with Lag() as lag:
                began = time.monotonic()
                station.speaker.announce("r")
                returned = time.monotonic() - began
                await until_true(lambda: station.speaker.counters["announced"] >= 200)
                first = time.monotonic() - began
                assert station.speaker.counters["announced"] < 300
                await until_true(lambda: station.speaker.counters["announced"] == 1000)
                took = time.monotonic() - began
            print(
                f"1000 announcements: {returned * 1e3:.2f} ms to return, each once after {first * 1e3:.1f} ms, "
                f"{took * 1e3:.1f} ms in all, loop lag max {lag.worst / MS:.1f} ms"
            )
            assert took > 0.75, "800 repetitions, ten each 10 ms at the most"
            for count in (1, 200):
                station.speaker.configure([router(addresses=texts[:count])])
                sent, cpu, began = station.speaker.counters["announced"], time.process_time(), time.monotonic()
                for _ in range(3):
                    sent += count
                    station.speaker.announce("r", refresh=True)
                    await until_true(lambda sent=sent: station.speaker.counters["announced"] == sent)
                took = (time.monotonic() - began) / 3
                print(f"refresh of {count}: {took * 1e3:.1f} ms, {(time.process_time() - cpu) / 3 * 1e3:.2f} ms of CPU")
                assert took > count / 1000 - 0.01
            frames = await asyncio.to_thread(capture.frames)
        assert lag.worst < 50 * MS
        from haagent.wire import arp

        said = [arp.decode(frame) for frame in frames if frame[12:14] == b"\x08\x06"]
        assert len(said) == 1000 + 3 * (1 + 200)
        first_round = {each.sender_ip for each in said[:200] if isinstance(each, arp.Arp)}
        assert len(first_round) == 200
        station.speaker.close()

    asyncio.run(main())


@in_namespace
def test_announcements_of_both_families_go_to_each_addresss_own_interface():
    other = cable()
    sh("ip link add link eth0 name eth1 type macvlan mode bridge")
    sh("ip link set eth1 up")

    async def main() -> None:
        from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr
        from scapy.layers.l2 import ARP, Ether

        from tests.integration.kernel import vip
        from tests.integration.speaking import mac_of

        station = Station()
        plain = router(repeat=1)
        spread = (vip("10.9.0.100"), vip("10.9.0.101", "eth1"), vip("2001:db8::100"), vip("10.9.0.102", "lo"))
        station.speaker.configure([replace(plain, rules=replace(plain.rules, addresses=spread))])
        with Capture(other) as capture:
            station.speaker.announce("r")
            frames = [Ether(frame) for frame in await asyncio.to_thread(capture.frames)]
        arps = [(f[ARP].psrc, f[ARP].hwsrc, f[ARP].op) for f in frames if ARP in f]
        assert arps == [("10.9.0.100", mac_of("eth0"), 1), ("10.9.0.101", mac_of("eth1"), 1)]
        (na,) = (f for f in frames if ICMPv6ND_NA in f)
        assert (na[ICMPv6ND_NA].tgt, na[ICMPv6ND_NA].O, na[ICMPv6ND_NA].S) == ("2001:db8::100", 1, 0)
        assert na[ICMPv6NDOptDstLLAddr].lladdr == mac_of("eth0")
        station.speaker.close()

    asyncio.run(main())


@in_namespace
def test_what_is_given_up_or_late_is_not_announced():
    other = cable()
    texts = tuple(f"10.9.{n // 200}.{n % 200 + 3}" for n in range(200))

    async def main() -> None:
        station = Station()
        station.speaker.configure([router(addresses=texts), router("next", vrid=52, repeat=1)])
        with Capture(other) as capture:
            station.speaker.announce("r")
            station.speaker.advert("r", 0)
            before = station.speaker.counters["announced"]
            assert 0 < before < 100
            station.speaker.announce("next")
            await asyncio.sleep(0.05)
            assert station.speaker.counters["announced"] == before + 1
            station.speaker.announce("r")
            time.sleep(0.5)  # noqa: ASYNC251 - the process was stopped
            await asyncio.sleep(0.05)
            assert station.speaker.counters["announce_stale"] > 900
            station.speaker.announce("r", refresh=True)
            time.sleep(0.5)  # noqa: ASYNC251
            await asyncio.sleep(0.05)
            assert station.speaker.counters["announce_stale"] > 1100
            await asyncio.to_thread(capture.frames)
        station.speaker.close()

    asyncio.run(main())
