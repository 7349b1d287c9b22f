"""Gratuitous ARP and unsolicited neighbour advertisements, in small bites.

The first announcement of every address goes out before any second one, and all at once as far as the event loop
allows. Repetitions, and what only refreshes, are paced: 200 addresses five times each are no burst of a thousand
frames, which switches that limit broadcasts would drop. What has waited for too long is not sent any more: an
announcement is true only while its address is held.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from haagent.adapters.vrrp_socket.outcomes import Outcomes
from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Duration, Instant, S
from haagent.wire import arp, ndisc

FRESH: Final[Duration] = 250 * MS
BITE: Final = 32
PACED: Final = 10
PACE: Final[Duration] = 10 * MS
"""What is paced: so many frames at once, and then a pause; a thousand a second."""


class Announcer:
    """Counts `announced`, `announce_stale`, and `announce_<ERRNO>` in the counters that it is given.

    One packet socket, bound to nothing and receiving nothing, sends on every interface: a name is looked up for each
    frame, so that an interface which came back as another one needs no care.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._outcomes = Outcomes(counters, "announce")
        self._socket: socket.socket | None = None
        self._waiting: deque[_Frame] = deque()
        self._handle: asyncio.Handle | None = None
        self._paced: deque[_Frame] = deque()
        self._pacing: asyncio.TimerHandle | None = None

    def announce(self, router: str, addresses: Iterable[VirtualAddress], repeat: int) -> None:
        """Announce each address at once, and `repeat` times in all; what waits of the same router is replaced."""
        self.cancel(router)
        frames = self._frames(router, addresses)
        self._waiting.extend(frames)
        if self._handle is None:
            self._send_some()
        self._pace(frames * (repeat - 1))

    def refresh(self, router: str, addresses: Iterable[VirtualAddress]) -> None:
        """Announce each address once, without hurry; what waits of the same router is replaced."""
        self.cancel(router)
        self._pace(self._frames(router, addresses))

    def cancel(self, router: str) -> None:
        """Send nothing more of what waits for this router: it gives its addresses up."""
        if self._waiting:
            self._waiting = deque(frame for frame in self._waiting if frame.router != router)
        if self._paced:
            self._paced = deque(frame for frame in self._paced if frame.router != router)

    def close(self) -> None:
        """Drop what waits, and close."""
        self._waiting.clear()
        self._paced.clear()
        for handle in (self._handle, self._pacing):
            if handle is not None:
                handle.cancel()
        self._handle = self._pacing = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send_some(self) -> None:
        self._handle = None
        oldest = time.monotonic_ns() - FRESH
        for _ in range(min(BITE, len(self._waiting))):
            frame = self._waiting.popleft()
            if frame.asked < oldest:
                self._counters["announce_stale"] += 1
            else:
                self._send(frame)
        if self._waiting:
            self._handle = asyncio.get_running_loop().call_soon(self._send_some)

    def _pace(self, frames: list[_Frame]) -> None:
        self._paced.extend(frames)
        if self._pacing is None and self._paced:
            self._pace_on(time.monotonic_ns())

    def _pace_on(self, now: Instant) -> None:
        self._pacing = asyncio.get_running_loop().call_later(PACE / S, self._send_paced, now + PACE)

    def _send_paced(self, due: Instant) -> None:
        self._pacing = None
        now = time.monotonic_ns()
        if now > due + FRESH:  # the process did not run
            self._counters["announce_stale"] += len(self._paced)
            self._paced.clear()
        for _ in range(min(PACED, len(self._paced))):
            self._send(self._paced.popleft())
        if self._paced:
            self._pace_on(now)

    def _send(self, frame: _Frame) -> None:
        try:
            self._open().sendto(frame.data, (frame.interface, 0))
        except OSError as error:
            self._outcomes.failed(frame.interface, error)
        else:
            self._counters["announced"] += 1
            self._outcomes.worked(frame.interface)

    def _frames(self, router: str, addresses: Iterable[VirtualAddress]) -> list[_Frame]:
        asked = time.monotonic_ns()
        ports: dict[str, _Port | None] = {}
        frames: list[_Frame] = []
        for each in addresses:
            if each.interface not in ports:
                ports[each.interface] = self._port(each.interface)
            port = ports[each.interface]
            if port is not None:
                frames.append(_Frame(router, each.interface, port.announcement(each.address), asked))
        return frames

    def _port(self, interface: str) -> _Port | None:
        """None for an interface that is not there, and for one without neighbours: a loopback, a tunnel."""
        try:
            answer = fcntl.ioctl(self._open(), _SIOCGIFHWADDR, _IFREQ.pack(interface.encode(), 0, b""))
        except OSError as error:
            self._outcomes.failed(interface, error)
            return None
        _, kind, mac = _IFREQ.unpack(answer)
        return _Port(mac, interface) if kind == _ARPHRD_ETHER else None

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        return self._socket


@dataclass
class _Port:
    """What announcements say of an interface."""

    mac: bytes
    interface: str

    def announcement(self, address: bytes) -> bytes:
        if len(address) == 4:
            return arp.gratuitous(address, self.mac)
        return ndisc.unsolicited(address, self.mac, router=self._forwards)

    @cached_property
    def _forwards(self) -> bool:
        """Whether the host is a router there: its announcements must say so, or it drops out of neighbours' routes."""
        try:
            return Path(f"/proc/sys/net/ipv6/conf/{self.interface}/forwarding").read_text().strip() != "0"
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class _Frame:
    router: str
    interface: str
    data: bytes
    asked: Instant


# linux/sockios.h; struct ifreq: a name, and here a struct sockaddr, of 40 bytes in all.
_SIOCGIFHWADDR: Final = 0x8927
_IFREQ = struct.Struct("=16sH6s16x")
_ARPHRD_ETHER: Final = 1
