"""The lifetime of an address ends soon after the lease, and never before it: also where the machine is busy."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Generator

import pytest

from haagent.adapters.netlink.plan import EARLY, lifetime_for
from haagent.adapters.netlink.rtnl import Events, Gone, Requests, set_address
from haagent.core.units import MS, Duration, Instant, S
from haagent.runtime.clock import boottime
from tests.integration.kernel import bench, vips
from tests.integration.namespace import Neighbour, in_namespace, sh

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ADDRESSES = vips(20)
LASTS = 6 * S
KERNEL = 2 * S
"""What the kernel may take beyond the lifetime: its work queue looks at most once a second, and rounds."""


class Removals(threading.Thread):
    """When the kernel said that an address has gone."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[Instant] = []
        self._events = Events()
        self._over = False
        self.start()

    def run(self) -> None:
        while not self._over:
            for each in self._events.read():
                if isinstance(each, Gone) and each.address:
                    self.seen.append(boottime())
            threading.Event().wait(0.0005)

    def close(self) -> None:
        self._over = True
        self.join()
        self._events.close()


@contextlib.contextmanager
def removals() -> Generator[Removals]:
    made = Removals()
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def load() -> Generator[None]:
    """Every core busy, and the lock of all addresses as well."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    churn = (
        "import subprocess\nwhile True:\n"
        " subprocess.run('ip link add d0 type dummy; ip address add 10.9.9.9/32 dev d0; ip link del d0', shell=True)\n"
    )
    busy.append(subprocess.Popen([sys.executable, "-c", churn], stderr=subprocess.DEVNULL))
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


async def owner(ttl: Duration, removed: Removals) -> list[tuple[Instant, Instant]]:
    """An owner that renews every quarter of a ttl; the leases it had, each with the instant from which it counted."""
    leases: list[tuple[Instant, Instant]] = []
    async with bench(addresses={"g": ADDRESSES}) as made:
        until = boottime() + ttl - 30 * MS
        leases.append((boottime(), until))
        await made.installed("g", *ADDRESSES, lasts=until - boottime())
        removed.seen.clear()
        for _ in range(4 * LASTS // ttl):
            await asyncio.sleep(ttl / 4 / S)
            lasts = ttl - 30 * MS
            leases.append((boottime(), boottime() + lasts))
            made.extend(lasts)
        gone = list(removed.seen)
    assert gone or made.kernel.counters["repaired"] == 0
    removed.seen[:] = gone
    return leases


def lost(leases: list[tuple[Instant, Instant]], removed: list[Instant]) -> list[Instant]:
    """The removals at which the lease in force had not ended."""
    found: list[Instant] = []
    for at in removed:
        in_force = max((until for since, until in leases if since <= at), default=0)
        found += [at] if at < in_force else []
    return found


def a_healthy_owner_loses_nothing(ttl: Duration) -> None:
    Neighbour("eth0", "p0")
    sh("ip link set eth0 up")
    with removals() as removed, load():
        leases = asyncio.run(owner(ttl, removed))
        lapses = sum(now > before for (_, before), (now, _) in itertools.pairwise(leases))
        assert not lost(leases, removed.seen)
        assert lapses or not removed.seen


@in_namespace
def test_a_healthy_owner_loses_no_address_at_300_ms():
    a_healthy_owner_loses_nothing(300 * MS)


@in_namespace
def test_a_healthy_owner_loses_no_address_at_1_s():
    a_healthy_owner_loses_nothing(1 * S)


@in_namespace
def test_a_healthy_owner_loses_no_address_at_4_s():
    a_healthy_owner_loses_nothing(4 * S)


@in_namespace
def test_the_kernel_removes_what_a_dead_owner_left():
    """Never before the lease's end, and soon after the whole seconds that reach it."""
    Neighbour("eth0", "p0")
    index = int(sh("ip -o link show dev eth0").partition(":")[0])
    requests = Requests()
    with removals() as removed:
        for rest in (270 * MS, 965 * MS, 975 * MS, 1965 * MS):
            now = boottime()
            until = now + rest
            (refusal,) = requests.apply([set_address(index, ADDRESSES[0], lifetime_for(until, now))])
            assert refusal is None
            removed.seen.clear()
            while not removed.seen and boottime() < until + 5 * S:
                threading.Event().wait(0.01)
            (at,) = removed.seen
            print(f"rest {rest // MS} ms: removed {(at - until) / MS:.0f} ms after the lease's end")
            assert until <= at <= until + EARLY + 1 * S + KERNEL
    requests.close()
