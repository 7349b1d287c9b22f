"""The probing process: `python -m haagent.lab.probing`, its orders as one JSON argument, run as root.

Every `step` it asks for all addresses on the client's own wire, and then sleeps until the next step or an answer. On
every other path that a client may use it asks as well, by a cable of the host's own: so that host is asked whatever
lies between it and the client, and its answers are its own whatever MAC address it has. Each path has its turn once in
`PERIOD` steps, with one kind of question after the other. The process runs under SCHED_FIFO where that is allowed, so
that the noise of the machine does not blind it, and always leaves a quarter of a step to others.

When was an answer given? Most are dated by when they were asked, which they bring back: the host answered between then
and a round trip later (0.1 ms here). If it came to another host, that one forwarded it, and may have kept it for long,
until it knew to whom. Such an answer is dated as those of ARP and ND, which bring no date: the kernel stamps their
arrival, before any queueing behind a sleeping prober. That stamp is of the wall clock, so its distance from
CLOCK_BOOTTIME is measured at every step.

SIGTERM ends it; then it listens for the last answers, and writes its statistics.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypedDict

from haagent.core.units import MS, Duration, Instant
from haagent.lab import probes, sightings
from haagent.lab.commands import now
from haagent.lab.packets import Wire

BLIND_AFTER: Final = 5 * MS
"""A step that is late by more than this is recorded as blindness."""
PERIOD: Final = 2
"""Each path is asked once in so many steps."""
QUESTIONS: Final = (probes.Neighbour, probes.Echo, probes.Datagram, probes.Connection)
"""What a path is asked, one after the other."""
LINGER: Final[Duration] = 50 * MS
"""How long it listens after it last asked: what is on its way by then is not lost."""
PATIENCE: Final[Duration] = 100 * MS
"""How long an answer of a MAC address that is new may wait for its host's own cable to say whose it is."""
_MOST_TRIPS: Final = 1_000_000
_MOST_MACS: Final = 4


class PathOrders(TypedDict):
    """One path: a cable to `host`, whose interfaces at its end have these MAC addresses; and in whose name to ask."""

    host: str
    namespace: str
    interface: str
    asker: str
    ipv4: str
    ipv6: str
    macs: list[str]


class Orders(TypedDict):
    """What to probe, and where to write. MAC addresses as hex digits, `step` in nanoseconds.

    `namespace`, `interface`, `ipv4` and `ipv6` are the client's; `hosts` are the MAC addresses of each host's own
    interface there, by name.
    """

    namespace: str
    interface: str
    ipv4: str
    ipv6: str
    vips: list[str]
    hosts: dict[str, str]
    paths: list[PathOrders]
    step: int
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


class _Question(Protocol):
    def frame(self, asked_at: Instant, /) -> bytes: ...


class _Path:
    """One cable, and what is asked there, round by round."""

    def __init__(self, orders: PathOrders, host: int, cookie: int, vips: list[bytes]) -> None:
        asker = bytes.fromhex(orders["asker"])
        self.host = host
        self.wire = Wire(orders["interface"], asker, orders["namespace"])
        self._asker = probes.Asker(asker, ip_address(orders["ipv4"]).packed, ip_address(orders["ipv6"]).packed, cookie)
        self._vips = vips
        self._macs = [bytes.fromhex(mac) for mac in orders["macs"]]
        self._number = 0
        self._rounds: list[list[_Question]] = []

    def number(self, number: int) -> None:
        """Ask by this number, by which the answers name the path."""
        self._number = number
        self._rounds = [[] for _ in QUESTIONS]
        for vip in self._vips:
            self._rounds[0].append(probes.Everybody(self._asker, vip))
            for mac in self._macs:
                for questions, kind in zip(self._rounds, QUESTIONS, strict=True):
                    questions.append(kind(self._asker, vip, mac, number))

    def learn(self, mac: bytes) -> bool:
        """The host answered from this MAC address: ask it there too, from now on. Whether that is news."""
        if mac in self._macs:
            return False
        self._macs = [*self._macs[-_MOST_MACS + 1 :], mac]
        self.number(self._number)
        return True

    def ask(self, turn: int) -> None:
        """Ask the questions of this turn."""
        if self.wire.open():
            for question in self._rounds[turn % len(self._rounds)]:
                self.wire.send(question.frame(now()))


class _Loop:
    def __init__(self, orders: Orders, record: BinaryIO) -> None:
        self.realtime = _go_realtime()
        cookie = os.getpid() & 0xFFFF | 0x8000
        self._wire = Wire(orders["interface"], None, orders["namespace"])
        asker = probes.Asker(
            self._wire.mac, ip_address(orders["ipv4"]).packed, ip_address(orders["ipv6"]).packed, cookie
        )
        vips = [ip_address(vip).packed for vip in orders["vips"]]
        hosts = list(orders["hosts"])
        targets = [bytes.fromhex(mac) for mac in orders["hosts"].values()]
        self._host_of = {mac: number for number, mac in enumerate(targets)}
        self._everybody = [probes.who_has(asker, vip) for vip in vips]
        self._paths = [_Path(each, hosts.index(each["host"]), cookie, vips) for each in orders["paths"]]
        for number, path in enumerate(self._paths, 1):
            path.number(number)
            self._host_of |= {bytes.fromhex(mac): path.host for mac in orders["paths"][number - 1]["macs"]}
        # Whom a question was put to, by its number: the paths', and then each host's on the client's own wire.
        self._asked = [sightings.STRANGER, *(path.host for path in self._paths), *range(len(targets))]
        first = 1 + len(self._paths)
        self._personal = [
            probes.Echo(asker, vip, mac, first + host) for vip in vips for host, mac in enumerate(targets)
        ]
        self._number = {vip: number for number, vip in enumerate(vips)}
        self._cookie = cookie
        self._step = orders["step"]
        self._record = record
        self._unwritten = bytearray()
        self._unknown: list[tuple[Instant, probes.Reply]] = []
        self._late = array("q")
        self._trips = array("q")
        self._answers = 0
        self.wanted = True

    def run(self) -> None:
        """Probe until `wanted` is no longer."""
        due = asked = now()
        self._unwritten += sightings.pack(due, sightings.START)
        while self.wanted:
            began = now()
            self._late.append(began - due)
            if began - due > BLIND_AFTER:
                self._unwritten += sightings.pack_blind(asked, began)
            asked = began
            if not self._unwritten:  # silence is news too: it was asked, and nobody answered
                self._unwritten += sightings.pack(began, sightings.ASKED)
            if self._unknown:
                self._name(began - PATIENCE if self._paths else began)
            self._ask()
            self._record.write(self._unwritten)
            self._unwritten.clear()
            due = max(due + self._step, now() + self._step // 4)
            self._listen_until(due)
        self._listen_until(now() + LINGER)
        self._name(now())
        self._record.write(self._unwritten)

    def statistics(self) -> Statistics:
        """Of the whole run."""
        wires = [self._wire, *(path.wire for path in self._paths)]
        return Statistics(
            steps=len(self._late),
            sent=sum(wire.sent for wire in wires),
            refused=sum(wire.refused for wire in wires),
            answers=self._answers,
            realtime=self.realtime,
            cpu=time.process_time(),
            **dict(zip(("late_p50", "late_p99", "late_max"), _spread(self._late), strict=True)),
            **dict(zip(("trip_p50", "trip_p99", "trip_max"), _spread(self._trips), strict=True)),
        )

    def _ask(self) -> None:
        for frame in self._everybody:
            self._wire.send(frame)
        for question in self._personal:
            self._wire.send(question.frame(now()))
        step = len(self._late)
        for path in self._paths[step % PERIOD :: PERIOD]:
            path.ask(step // PERIOD)

    def _listen_until(self, end: Instant) -> None:
        while (left := end - now()) > 0:
            wires = (self._wire, *(path.wire for path in self._paths))
            waiting = [wire.descriptor for wire in wires if wire.descriptor is not None]
            if select.select(waiting, [], [], left / 1e9)[0]:
                self._listen()

    def _listen(self) -> None:
        for number, path in enumerate(self._paths, 1):
            for arrived, reply in self._replies(path.wire):
                if path.learn(reply.source_mac):
                    self._host_of[reply.source_mac] = path.host
                self._note(arrived, reply, reply.target or number, path.host)
        for arrived, reply in self._replies(self._wire):
            if (host := self._host_of.get(reply.source_mac)) is None:
                self._unknown.append((arrived, reply))
            else:
                self._note(arrived, reply, 0, host)

    def _name(self, before: Instant) -> None:
        """Note the answers of new MAC addresses: by now a path may have said whose they are. Later ones may wait."""
        for arrived, reply in self._unknown:
            host = self._host_of.get(reply.source_mac)
            if host is not None or arrived < before:
                self._note(arrived, reply, 0, sightings.STRANGER if host is None else host)
        self._unknown = [
            each for each in self._unknown if each[0] >= before and each[1].source_mac not in self._host_of
        ]

    def _replies(self, wire: Wire) -> Iterator[tuple[Instant, probes.Reply]]:
        for arrived, frame in wire.receive():
            reply = probes.read(frame, self._cookie)
            ours = reply is not None and reply.address in self._number and (reply.target or 0) < len(self._asked)
            if reply is not None and ours:
                yield arrived, reply

    def _note(self, arrived: Instant, reply: probes.Reply, path: int, host: int) -> None:
        self._answers += 1
        at = arrived
        if reply.asked_at is not None:
            asked_at = probes.whole(reply.asked_at, arrived) if reply.kind in probes.RESETS else reply.asked_at
            if reply.target is not None and self._asked[reply.target] == host:
                at = asked_at
            if len(self._trips) < _MOST_TRIPS:
                self._trips.append(arrived - asked_at)
        self._unwritten += sightings.pack(at, reply.kind, self._number[reply.address], path, host, reply.source_mac)


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


def _spread(values: array[int]) -> tuple[int, int, int]:
    ordered = sorted(values) or [0]
    last = len(ordered) - 1
    return ordered[last // 2], ordered[last * 99 // 100], ordered[last]


if __name__ == "__main__":
    main()
