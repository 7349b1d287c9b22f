"""The netlink adapter follows the kernel: interfaces as they come, change and go; addresses put back, kept, ended.

Lifetimes end what nobody extends, a fight over an address is limited, and lost news is read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from dataclasses import replace

import pytest

from haagent.adapters.netlink.rtnl import OverrunError
from haagent.core.model import AddressesInstalled, AddressesRemoved, InterfaceChanged
from haagent.core.units import MS, S
from tests.integration.kernel import Bench, bench, on_bench, shown, tagged, until_true, vip
from tests.integration.namespace import Neighbour, in_namespace, sh

pytestmark = pytest.mark.integration


def has(interface: str, text: str) -> bool:
    return text in shown(interface)


async def shell(line: str) -> str:
    """Run a command without holding up the loop."""
    return await asyncio.to_thread(sh, line)


@in_namespace
def test_interfaces_are_reported_once_and_then_on_change_only():
    cable = Neighbour("eth0", "peer")
    sh("sysctl -q -w net.ipv4.conf.all.promote_secondaries=1")
    sh("ip address add 10.9.0.1/24 dev eth0")
    sh("ip address add 10.9.0.2/24 dev eth0")
    linklocal = next(a.partition("/")[0] for a in shown() if a.startswith("fe80"))
    own = vip("10.9.0.1").address, vip(linklocal).address

    async def main() -> None:
        async with bench(["eth0", "eth9"], {"g": (vip("10.9.0.2/24"),)}) as b:
            await until_true(lambda: replace(b.interface("eth0"), mac=b"") == InterfaceChanged("eth0", True, *own))
            assert b.interface("eth9") == InterfaceChanged("eth9", up=False, v4=None, v6=None)
            before = len(b.events)

            await b.installed("g", vip("10.9.0.2/24"), vip("10.9.0.3"), vip("2001:db8::1"))
            await shell("ip address add 10.9.0.4/24 dev eth0")
            await asyncio.sleep(0.05)
            assert len(b.events) == before + 1  # the answer: nothing changed of the interface

            await shell("ip address del 10.9.0.1/24 dev eth0")
            await until_true(lambda: b.interface("eth0").v4 == vip("10.9.0.4").address)
            await shell("ip link set eth0 address 02:00:00:00:00:77")  # as at a bond's failover
            await until_true(lambda: b.interface("eth0").mac == bytes.fromhex("020000000077"))
            await asyncio.to_thread(cable.run, lambda: sh("ip link set peer down"))  # no carrier
            await until_true(lambda: not b.interface("eth0").up)
            await asyncio.to_thread(cable.run, lambda: sh("ip link set peer up"))
            await until_true(lambda: b.interface("eth0").up)
            await shell("ip link set eth0 down")
            await until_true(lambda: not b.interface("eth0").up and b.interface("eth0").v6 is None)

            b.kernel.configure(["lo"], {})
            await until_true(lambda: b.interface("lo").up)
            assert b.interface("lo").v4 == bytes((127, 0, 0, 1))

    asyncio.run(main())


@on_bench
async def test_an_address_taken_away_is_put_back_at_once(b: Bench):
    await b.installed("g", vip("10.9.0.100"), vip("2001:db8::1"))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as monitor:
        monitor.bind((0, 0x10 | 0x100))
        monitor.settimeout(5)
        took = []
        for text in ("10.9.0.100/32", "2001:db8::1/128") * 4:
            await asyncio.sleep(0.25)
            removal = asyncio.create_task(shell(f"ip address del {text} dev eth0"))
            gone = back = 0
            while not back:
                kind = int.from_bytes((await asyncio.to_thread(monitor.recv, 65536))[4:6], "little")
                if kind == 21:
                    gone = time.monotonic_ns()
                elif gone:
                    back = time.monotonic_ns()
            await removal
            took.append((back - gone) / MS)
    await until_true(lambda: b.kernel.counters["repaired"] == 8)
    print(f"repair: median {sorted(took)[4]:.2f} ms, max {max(took):.2f} ms, as another process sees it")
    await b.removed("g")
    assert not tagged()


@on_bench
async def test_a_fight_over_an_address_is_limited(b: Bench):
    await b.installed("g", vip("10.9.0.100"))
    fight = await asyncio.create_subprocess_shell(
        "while :; do ip address del 10.9.0.100/32 dev eth0; done", stderr=subprocess.DEVNULL
    )
    await asyncio.sleep(2)
    fight.kill()
    await fight.wait()
    # Ten at once, then one each 250 ms.
    assert 10 <= b.kernel.counters["repaired"] <= 20
    await until_true(lambda: has("eth0", "10.9.0.100/32"))
    remove = b.remove("g")
    assert await b.answer(remove) == AddressesRemoved("g", remove)


@on_bench
async def test_extending_keeps_the_address_and_its_lifetime_short(b: Bench):
    await b.installed("g", vip("10.9.0.100"), vip("2001:db8::1"), lasts=1 * S)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as monitor:
        monitor.bind((0, 0x10 | 0x100))
        monitor.setblocking(False)
        for _ in range(16):
            await asyncio.sleep(0.25)
            b.extend(1 * S)
            assert int(str((await asyncio.to_thread(shown))["10.9.0.100/32"]["valid_life_time"])) <= 3
        kinds: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                kinds.append(int.from_bytes(monitor.recv(65536)[4:6], "little"))
    assert 21 not in kinds  # RTM_DELADDR: it never flapped
    assert 2 * 2 <= b.kernel.counters["renewed"] <= 2 * 5
    b.extend(300 * S)
    await asyncio.sleep(0.1)
    assert int(str(shown()["10.9.0.100/32"]["valid_life_time"])) >= 299
    b.extend(5 * S)  # a lease that got shorter
    await asyncio.sleep(0.1)
    assert int(str(shown()["10.9.0.100/32"]["valid_life_time"])) <= 7


@in_namespace
def test_the_kernel_ends_what_nobody_extends_without_us():
    Neighbour("eth0", "peer")

    async def main() -> None:
        async with bench() as b:
            await b.installed("g", vip("10.9.0.100"), vip("2001:db8::1"), lasts=1 * S)
        # The agent is gone; nothing but the lifetimes is left.
        began = time.monotonic()
        assert has("eth0", "10.9.0.100/32")
        await until_true(lambda: not tagged())
        print(f"lifetimes ended {time.monotonic() - began - 1:+.2f} s relative to the lease")
        assert 0.5 < time.monotonic() - began < 4.5

    asyncio.run(main())


@on_bench
async def test_the_thread_takes_addresses_away_when_the_lease_ends_and_back_when_it_is_extended(b: Bench):
    await b.installed("g", vip("10.9.0.100"), vip("2001:db8::1"), lasts=300 * MS)
    time.sleep(0.8)  # noqa: ASYNC251 - the loop hangs
    assert not tagged()
    assert b.kernel.counters["lapsed"] == 2
    await shell("ip address add 10.9.0.7/32 dev eth0")
    await asyncio.sleep(0.1)
    assert not tagged()  # nothing is repaired after the lease
    b.extend(5 * S)
    await until_true(lambda: tagged() == {"10.9.0.100", "2001:db8::1"})
    assert b.kernel.counters["repaired"] == 0


@in_namespace
def test_an_interface_that_comes_back_gets_its_addresses_back():
    cable = Neighbour("eth0", "peer")

    async def main() -> None:
        async with bench() as b:
            await b.installed("g", vip("10.9.0.100"), vip("2001:db8::1"))
            await shell("ip link del eth0")
            await until_true(lambda: not b.interface("eth0").up)
            await asyncio.to_thread(cable.connect)
            await until_true(lambda: tagged() == {"10.9.0.100", "2001:db8::1"})
            await until_true(lambda: b.interface("eth0").up)

            await shell("ip link del eth0")  # an interface that vanished holds nothing
            await b.removed("g")
            await asyncio.to_thread(cable.connect)
            await asyncio.sleep(0.1)
            assert not tagged()

            await b.installed("g", vip("10.9.0.100"))
            await shell("ip link set eth0 down")
            await shell("ip link set eth0 name eth1")
            await until_true(lambda: not tagged("eth1"))

    asyncio.run(main())


@on_bench
async def test_lost_news_is_read_anew(b: Bench):
    await b.installed("g", vip("10.9.0.100"))
    worker = b.kernel._worker
    assert worker is not None
    read = worker._events.read
    lost = iter([True])

    def read_nothing_once():
        if next(lost, False):
            list(read())
            raise OverrunError
        return read()

    worker._events.read = read_nothing_once
    await shell("ip address del 10.9.0.100/32 dev eth0")
    await until_true(lambda: tagged() == {"10.9.0.100"})
    assert b.kernel.counters["overrun"] == 1


@on_bench
async def test_a_storm_that_overruns_the_socket_is_survived(b: Bench):
    await b.installed("g", vip("10.9.0.100"))
    worker = b.kernel._worker
    assert worker is not None
    worker._events._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    read = worker._events.read

    def read_late():
        time.sleep(0.01)  # slower than the storm
        return read()

    worker._events.read = read_late
    lines = "\n".join(
        f"address {verb} 10.88.{n // 250}.{n % 250}/32 dev lo" for verb in ("add", "del") for n in range(1000)
    )
    await asyncio.to_thread(
        subprocess.run, ["ip", "-batch", "-"], input=f"address del 10.9.0.100/32 dev eth0\n{lines}", text=True
    )
    await until_true(lambda: tagged() == {"10.9.0.100"})
    assert b.kernel.counters["overrun"] >= 1
    await b.removed("g")
    again = b.install("g", vip("10.9.0.100"))
    assert await b.answer(again) == AddressesInstalled("g", again)


@in_namespace
def test_without_the_right_to_change_addresses_start_says_so():
    Neighbour("eth0", "peer")

    async def main() -> None:
        async with bench() as b:
            await b.installed("g", vip("10.9.0.100"))
        import ctypes

        libc = ctypes.CDLL(None)
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS is of no use to another user's thread: capabilities go
        assert libc.setresuid(65534, 65534, 65534) == 0
        with pytest.raises(OSError, match=r"cannot remove 10\.9\.0\.100 on eth0, left by an earlier run: EPERM"):
            async with bench():
                pass

    asyncio.run(main())
