"""The probing process: `python -m haagent.lab.probing`, its orders as one JSON argument, run inside the
client.

Every `step` it sends all probes and then sleeps until the next step or an answer. It runs under SCHED_FIFO
where that is allowed, so that the noise of the machine does not blind it, and always leaves a quarter of a
step to others.

When was an answer given? Echoes and refused datagrams are dated by when they were asked, which they bring back: the
host answered between then and a round trip later (0.1 ms here). ARP and ND answers bring no date; the kernel
stamps their arrival, before any queueing behind a sleeping prober. That stamp is of the wall clock, so its
distance from CLOCK_BOOTTIME is measured at every step. SIGTERM ends it; then it hears the last answers, and writes its
statistics.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from array import array
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, Final, TypedDict

from haagent.core.units import MS, Duration, Instant
from haagent.lab import probes, sightings
from haagent.lab.commands import now

BLIND_AFTER: Final = 5 * MS
"""A step that is late by more than this is recorded as blindness."""
LINGER: Final[Duration] = 50 * MS
"""How long it listens after it last asked: what is on its way by then is not lost."""
_MOST_TRIPS: Final = 1_000_000


class Orders(TypedDict):
    """What to probe, and where to write. MAC addresses as hex digits, `step` in nanoseconds."""

    interface: str
    ipv4: str
    ipv6: str
    vips: list[str]
    targets: list[str]
    step: int
    udp: bool
    record: str
    statistics: str


@dataclass
class Statistics:
    """What the prober says about itself when it ends; durations in nanoseconds."""

    steps: int
    sent: int
    refused: int
    answers: int
    realtime: bool
    cpu: float
    late_p50: int
    late_p99: int
    late_max: int
    trip_p50: int
    trip_p99: int
    trip_max: int


class _Loop:
    def __init__(self, orders: Orders, record: BinaryIO) -> None:
        self.realtime = _go_realtime()
        self._socket = _open(orders["interface"])
        cookie = os.getpid() & 0xFFFF
        mac: bytes = self._socket.getsockname()[4]
        asker = probes.Asker(mac, ip_address(orders["ipv4"]).packed, ip_address(orders["ipv6"]).packed, cookie)
        vips = [ip_address(vip).packed for vip in orders["vips"]]
        self._targets = [bytes.fromhex(target) for target in orders["targets"]]
        self._everybody = [probes.who_has(asker, vip) for vip in vips]
        each = (probes.Echo, probes.Datagram) if orders["udp"] else (probes.Echo,)
        self._personal = [
            question(asker, vip, target, number)
            for vip in vips
            for number, target in enumerate(self._targets)
            for question in each
        ]
        self._number = {vip: number for number, vip in enumerate(vips)}
        self._cookie = cookie
        self._step = orders["step"]
        self._record = record
        self._unwritten = bytearray()
        self._late = array("q")
        self._trips = array("q")
        self._sent = self._refused = self._answers = 0
        self.wanted = True

    def run(self) -> None:
        """Probe until `wanted` is no longer."""
        due = asked = now()
        self._unwritten += sightings.pack(due, 0, sightings.START, bytes(6))
        while self.wanted:
            began = now()
            self._late.append(began - due)
            if began - due > BLIND_AFTER:
                self._unwritten += sightings.pack_blind(asked, began)
            asked = began
            if not self._unwritten:  # silence is news too: it was asked, and nobody answered
                self._unwritten += sightings.pack(began, 0, sightings.ASKED, bytes(6))
            self._ask()
            self._record.write(self._unwritten)
            self._unwritten.clear()
            due = max(due + self._step, now() + self._step // 4)
            self._listen_until(due)
        self._listen_until(now() + LINGER)
        self._record.write(self._unwritten)

    def statistics(self) -> Statistics:
        """Of the whole run."""
        return Statistics(
            steps=len(self._late),
            sent=self._sent,
            refused=self._refused,
            answers=self._answers,
            realtime=self.realtime,
            cpu=time.process_time(),
            **dict(zip(("late_p50", "late_p99", "late_max"), _spread(self._late), strict=True)),
            **dict(zip(("trip_p50", "trip_p99", "trip_max"), _spread(self._trips), strict=True)),
        )

    def _ask(self) -> None:
        for frame in self._everybody:
            self._send(frame)
        for question in self._personal:
            self._send(question.frame(now()))

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
            self._sent += 1
        except OSError:  # the link is down, or its queue full: not asked, so not answered
            self._refused += 1

    def _listen_until(self, end: Instant) -> None:
        while (left := end - now()) > 0:
            if select.select([self._socket], [], [], left / 1e9)[0]:
                self._listen()

    def _listen(self) -> None:
        ahead = time.time_ns() - now()
        while True:
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # ENETDOWN, once, when the link goes down
                continue
            reply = probes.read(frame, self._cookie)
            if reply is None or reply.address not in self._number:
                continue
            self._answers += 1
            arrived = min(_stamp(ancillary) - ahead, now())
            at, mac = arrived, reply.source_mac
            if reply.asked_at is not None and reply.target is not None:
                at = reply.asked_at
                if len(self._trips) < _MOST_TRIPS:
                    self._trips.append(arrived - at)
                if reply.target < len(self._targets):
                    mac = self._targets[reply.target]
            self._unwritten += sightings.pack(at, self._number[reply.address], reply.kind, mac)


def main() -> None:
    """Probe as ordered until SIGTERM."""
    orders: Orders = json.loads(sys.argv[1])
    with Path(orders["record"]).open("ab", buffering=0) as record:
        loop = _Loop(orders, record)

        def end(*_: object) -> None:
            loop.wanted = False

        signal.signal(signal.SIGTERM, end)
        # A collection of garbage would be a pause, and there are no cycles to collect.
        gc.disable()
        loop.run()
    Path(orders["statistics"]).write_text(json.dumps(vars(loop.statistics())))


def _go_realtime() -> bool:
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        return True
    return False


def _open(interface: str) -> socket.socket:
    # Opened for no protocol: nothing is received until the filter stands and bind names one.
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setblocking(False)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.bind((interface, 0))
    _only_for(opened, opened.getsockname()[4])
    opened.bind((interface, _ETH_P_ALL))
    return opened


def _only_for(opened: socket.socket, mac: bytes) -> None:
    """Let the kernel drop what is not addressed to `mac`, so that a flood of multicast does not wake us."""
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the first four bytes
            (0x15, 0, 3, int.from_bytes(mac[:4])),
            (0x28, 0, 0, 4),  # load the next two
            (0x15, 0, 1, int.from_bytes(mac[4:])),
            (0x06, 0, 0, 0xFFFF),  # accept
            (0x06, 0, 0, 0),  # drop
        )
    )
    kept = ctypes.create_string_buffer(program)
    value = struct.pack("HL", len(program) // 8, ctypes.addressof(kept))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, value)


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's time of arrival (wall clock, ns); now, if it gave none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return seconds * 1_000_000_000 + nanoseconds
    return time.time_ns()


def _spread(values: array[int]) -> tuple[int, int, int]:
    ordered = sorted(values) or [0]
    last = len(ordered) - 1
    return ordered[last // 2], ordered[last * 99 // 100], ordered[last]


# linux/if_packet.h, asm-generic/socket.h, linux/if_ether.h: the socket module lacks them.
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_TIMESTAMPNS: Final = 35
_SO_ATTACH_FILTER: Final = 26
_ETH_P_ALL: Final = 3


if __name__ == "__main__":
    main()
