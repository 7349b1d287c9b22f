"""Asks, as any client on the wire would, whether the addresses that other nodes own answer.

One packet socket for each interface that carries such an address: questions leave as whole frames (ARP or neighbour
solicitation, then an ICMP echo request to the MAC address that answered), and a filter in the kernel passes only ARP
replies, neighbour advertisements and echo replies. So this host's routes, its neighbour table and an address that
somebody configured here by hand cannot answer in the owner's place. `haagent.runtime.reached` judges what comes back.

Bounded: in a `STEP`, `AT_ONCE` addresses at the most are asked for, and `NEW` that have another owner than before; the
others wait their turn. At most `BITE` frames are read in one go, with a pause after that many. Nothing of what comes in
is kept but the judged rounds.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from haagent.adapters.neighbours.taps import (
    IF_EQUAL,
    LARGEST,
    LOAD_BYTE,
    LOAD_BYTE_AT_X,
    LOAD_HALF,
    LOAD_IP_LENGTH,
    RETURN,
    interface_index,
    mac_address,
    tap,
)
from haagent.core.units import Instant, S
from haagent.runtime.clock import boottime
from haagent.runtime.reached import SOON, Reached, Target, Verdict
from haagent.wire import arp, echo, ndisc
from haagent.wire.echo import EchoReply, Ends
from haagent.wire.ethernet import ETHERTYPE_ARP

STEP: Final = SOON / S
"""Seconds between two looks at what is to be asked."""
AT_ONCE: Final = 20
NEW: Final = 100
"""After many groups moved at once, each is asked for within a second or so."""
BITE: Final = 64
Sources = Mapping[str, tuple[bytes | None, bytes | None]]
"""By interface: this host's own packed IPv4 and link-local IPv6 address there; None: it has none."""


class Asker:
    """Made on the running event loop; `start`, then `close`. All methods belong to the event loop's thread.

    `targets` says what to ask now, and `sources` with which addresses; `changed` is called when a verdict changed.
    `counters`: rounds, replies, open_<ERRNO>, send_<ERRNO>, receive_<ERRNO>.
    """

    def __init__(
        self,
        targets: Callable[[], Iterable[Target]],
        sources: Callable[[], Sources],
        changed: Callable[[], None],
        clock: Callable[[], Instant] = boottime,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.verdicts: Mapping[str, Verdict] = {}
        self._targets = targets
        self._sources = sources
        self._changed = changed
        self._clock = clock
        self._reached = Reached()
        self._wires: dict[str, _Wire] = {}
        self._identifier = secrets.randbits(16)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._task = asyncio.create_task(self._run(), name="reachability")

    def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
        for name in list(self._wires):
            self._close(name)

    async def _run(self) -> None:
        while True:
            self.step()
            await asyncio.sleep(STEP)

    def step(self) -> None:
        """Ask what is due, and judge what came back."""
        sources = self._sources()
        targets = [one for one in self._targets() if _source(one, sources) is not None]
        self._reached.follow(targets)
        self._open_just({one.address.interface for one in targets})
        now = self._clock()
        for target in self._reached.begin(now, AT_ONCE, NEW):
            self._ask(target, sources)
        verdicts = self._reached.verdicts(now)
        if verdicts != self.verdicts:
            self.verdicts = verdicts
            self._changed()

    # Questions.

    def _ask(self, target: Target, sources: Sources) -> None:
        wire, source = self._wires.get(target.address.interface), _source(target, sources)
        if wire is None or source is None:
            return
        self.counters["rounds"] += 1
        address = target.address.address
        if len(address) == 4:
            self._send(wire, arp.request(address, mac=wire.mac, sender=source))
        else:
            self._send(wire, ndisc.solicitation(address, mac=wire.mac, source=source))

    def _resolved(self, wire: _Wire, address: bytes, mac: bytes) -> None:
        sources = self._sources()
        for target, own, control in self._reached.resolved(wire.name, address, mac):
            source = _source(target, sources)
            if source is None:
                continue
            self._send(wire, echo.request(Ends(wire.mac, source, mac, address), self._identifier, own))
            if target.control is not None:
                ends = Ends(wire.mac, source, mac, target.control)
                self._send(wire, echo.request(ends, self._identifier, control))

    def _send(self, wire: _Wire, frame: bytes) -> None:
        try:
            wire.socket.send(frame)
        except OSError as error:
            self.counters[f"send_{errno.errorcode.get(error.errno or 0, error.errno)}"] += 1

    # Answers.

    def _readable(self, name: str) -> None:
        wire = self._wires.get(name)
        if wire is None:
            return
        for _ in range(BITE):
            try:
                frame = wire.socket.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:  # ENETDOWN, once, when the interface goes down
                self.counters[f"receive_{errno.errorcode.get(error.errno or 0, error.errno)}"] += 1
                return
            self._judge(wire, frame)
        loop = asyncio.get_running_loop()
        loop.remove_reader(wire.socket.fileno())
        loop.call_later(STEP, self._read_again, wire)

    def _read_again(self, wire: _Wire) -> None:
        if self._wires.get(wire.name) is wire:
            asyncio.get_running_loop().add_reader(wire.socket.fileno(), self._readable, wire.name)

    def _judge(self, wire: _Wire, frame: bytes) -> None:
        self.counters["replies"] += 1
        if frame[12:14] == ETHERTYPE_ARP.to_bytes(2):
            packet = arp.decode(frame)
            if isinstance(packet, arp.Arp):
                self._resolved(wire, packet.sender_ip, packet.sender_mac)
            return
        reply = echo.decode(frame)
        if isinstance(reply, EchoReply):
            if reply.identifier == self._identifier:
                self._reached.echoed(reply.sequence)
            return
        found = ndisc.decode(frame)
        if isinstance(found, ndisc.Advertisement):
            self._resolved(wire, found.target, frame[6:12] if found.mac is None else found.mac)

    # Sockets.

    def _open_just(self, names: set[str]) -> None:
        for name in [
            one for one, wire in self._wires.items() if one not in names or interface_index(one) != wire.index
        ]:
            self._close(name)
        for name in names - self._wires.keys():
            try:
                wire = _open(name)
            except OSError as error:
                self.counters[f"open_{errno.errorcode.get(error.errno or 0, error.errno)}"] += 1
                continue
            if wire is None:
                continue
            self._wires[name] = wire
            self._read_again(wire)

    def _close(self, name: str) -> None:
        wire = self._wires.pop(name)
        loop = asyncio.get_running_loop()
        loop.remove_reader(wire.socket.fileno())
        loop.run_in_executor(None, wire.socket.close)  # closing a packet socket takes 10 ms


@dataclass(frozen=True, slots=True, eq=False)
class _Wire:
    """An open packet socket. `mac`: of the interface when it was opened."""

    name: str
    index: int
    mac: bytes
    socket: socket.socket


def _source(target: Target, sources: Sources) -> bytes | None:
    v4, v6 = sources.get(target.address.interface, (None, None))
    return v4 if len(target.address.address) == 4 else v6


def _open(name: str) -> _Wire | None:
    """None: the interface is no Ethernet. OSError: it does not exist."""
    opened = tap(name, _ETH_P_ALL, _ANSWERS)
    if opened is None:
        return None
    number, address = interface_index(name), mac_address(opened, name)
    if number is None or address is None:
        opened.close()
        raise OSError(errno.ENODEV, "the interface went away")
    return _Wire(name, number, address, opened)


_ANSWERS: Final = (
    (LOAD_HALF, 0, 0, 12),
    (IF_EQUAL, 0, 2, 0x0806),
    (LOAD_HALF, 0, 0, 20),
    (IF_EQUAL, 12, 13, 2),  # ARP: a reply
    (IF_EQUAL, 0, 5, 0x0800),
    (LOAD_BYTE, 0, 0, 23),
    (IF_EQUAL, 0, 10, 1),  # IPv4: ICMP
    (LOAD_IP_LENGTH, 0, 0, 14),
    (LOAD_BYTE_AT_X, 0, 0, 14),
    (IF_EQUAL, 6, 7, 0),  # an echo reply
    (IF_EQUAL, 0, 6, 0x86DD),
    (LOAD_BYTE, 0, 0, 20),
    (IF_EQUAL, 0, 4, 58),  # IPv6: ICMPv6
    (LOAD_BYTE, 0, 0, 54),
    (IF_EQUAL, 1, 0, 129),  # an echo reply
    (IF_EQUAL, 0, 1, 136),  # or a neighbour advertisement
    (RETURN, 0, 0, LARGEST),
    (RETURN, 0, 0, 0),
)
_ETH_P_ALL: Final = 0x0003
