"""Who else says that he has one of our addresses: ARP and neighbour discovery, as they pass on our interfaces.

One packet socket for each interface and family that carries an address, with a filter in the kernel which passes only
what names one of them as the sender's own (ARP) or as found (ND): what else goes over the network never wakes us. What
this host itself sends does not count, whichever of its interfaces it comes from.

A flood costs little: a few frames in one go, a pause after each full one (the kernel drops what has no room), and for
each address at most one event in `PAUSE`, with what came last told at its end. Nothing is kept of anybody but counters.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from haagent.adapters.neighbours.taps import (
    IF_ALWAYS,
    IF_EQUAL,
    LARGEST,
    LOAD_BYTE,
    LOAD_WORD,
    RETURN,
    Instruction,
    interface_index,
    mac_address,
    tap,
)
from haagent.core.model import AddressSeenElsewhere, VirtualAddress
from haagent.core.units import MS, Duration, Instant, S
from haagent.runtime.ports import Deliver
from haagent.wire import arp, ndisc
from haagent.wire.rejection import Rejected

log = logging.getLogger("haagent.neighbours")

PAUSE: Final[Duration] = 100 * MS
"""Between two events about the same address."""
BITE: Final = 32
"""Frames read in one go: about half a millisecond."""
REST: Final[Duration] = 20 * MS
"""After a bite that was full."""
OWN_FOR: Final[Duration] = 1 * S
"""A MAC address that is none of ours, as far as we know, is looked up anew if what we know is older."""


Program = Sequence[Instruction]


class Spot(NamedTuple):
    """Where a socket listens: an interface and a family (4 or 6)."""

    interface: str
    family: int


class Neighbours:
    """Delivers `AddressSeenElsewhere`, whoever owns at that time. All methods belong to the event loop's thread.

    `counters`: claims (of our addresses, by others), own (by ourselves), rests, refused_<reason>, open_<ERRNO>,
    receive_<ERRNO>.
    """

    def __init__(self, deliver: Deliver) -> None:
        self.counters: Counter[str] = Counter()
        self._deliver = deliver
        self._watched: dict[tuple[str, bytes], list[tuple[str, VirtualAddress]]] = {}
        self._filters: dict[Spot, Program] = {}
        self._taps: dict[Spot, _Tap] = {}
        self._told: dict[tuple[str, bytes], bytes | None] = {}
        self._own: frozenset[bytes] = frozenset()
        self._own_at: Instant = 0
        self._failing: set[Spot] = set()

    def configure(self, addresses: Mapping[str, Iterable[VirtualAddress]]) -> None:
        """Listen for just these addresses from now on; `addresses` by group."""
        self._watched = {}
        spots: dict[Spot, set[bytes]] = {}
        for group, those in addresses.items():
            for each in those:
                self._watched.setdefault((each.interface, each.address), []).append((group, each))
                spots.setdefault(Spot(each.interface, 4 if len(each.address) == 4 else 6), set()).add(each.address)
        before, self._filters = self._filters, {spot: _program(spot, sorted(those)) for spot, those in spots.items()}
        for spot in list(self._taps):
            if self._filters.get(spot) != before[spot]:
                self._close(spot)
        for spot in self._filters:
            if spot not in self._taps:
                self._open(spot)

    def refresh(self, interface: str) -> None:
        """The interface changed: if it came, went, or is another one by now, its sockets follow.

        It may have another MAC address, which must not be taken for somebody else's.
        """
        self._own_at = 0
        for spot in self._filters:
            if spot.interface == interface:
                kept = self._taps.get(spot)
                if kept is None or kept.index != interface_index(interface):
                    self._open(spot)

    def close(self) -> None:
        """Close every socket."""
        self.configure({})

    # Sockets.

    def _open(self, spot: Spot) -> None:
        self._close(spot)
        index = interface_index(spot.interface)
        if index is None:
            return
        try:
            opened = tap(spot.interface, _PROTOCOLS[spot.family], self._filters[spot])
        except OSError as error:
            self.counters[f"open_{errno.errorcode.get(error.errno or 0, error.errno)}"] += 1
            if spot not in self._failing:
                self._failing.add(spot)
                log.warning("%s: cannot hear who else claims its addresses: %s", spot.interface, error.strerror)
            return
        self._failing.discard(spot)
        if opened is not None:
            self._taps[spot] = _Tap(spot, opened, index)
            self._read_again(self._taps[spot])

    def _close(self, spot: Spot) -> None:
        tap = self._taps.pop(spot, None)
        if tap is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(tap.socket.fileno())
            # Takes an RCU grace period, 10 ms, and just when a node must let go of what was on a lost interface.
            loop.run_in_executor(None, tap.socket.close)

    def _read_again(self, tap: _Tap) -> None:
        if self._taps.get(tap.spot) is tap:
            asyncio.get_running_loop().add_reader(tap.socket.fileno(), self._readable, tap)

    # What comes.

    def _readable(self, tap: _Tap) -> None:
        loop = asyncio.get_running_loop()
        try:
            for _ in range(BITE):
                frame, about = tap.socket.recvfrom(LARGEST)
                if about[2] != socket.PACKET_OUTGOING:
                    self._judge(tap.spot, frame)
        except BlockingIOError:
            return
        except OSError as error:  # ENETDOWN, once, when the interface goes down
            self.counters[f"receive_{errno.errorcode.get(error.errno or 0, error.errno)}"] += 1
            return
        if self._taps.get(tap.spot) is not tap:  # closed by what came last
            return
        self.counters["rests"] += 1
        loop.remove_reader(tap.socket.fileno())
        loop.call_later(REST / S, self._read_again, tap)

    def _judge(self, spot: Spot, frame: bytes) -> None:
        claim = _claim_v4(frame) if spot.family == 4 else _claim_v6(frame)
        if isinstance(claim, Rejected):
            self.counters[f"refused_{claim.reason}"] += 1
            return
        if claim is None or (spot.interface, claim[0]) not in self._watched:
            return
        address, mac = claim
        if self._is_own(mac):
            self.counters["own"] += 1
            return
        self.counters["claims"] += 1
        self._tell((spot.interface, address), mac)

    def _tell(self, where: tuple[str, bytes], mac: bytes) -> None:
        if where in self._told:
            self._told[where] = mac  # after the pause
            return
        self._told[where] = None
        asyncio.get_running_loop().call_later(PAUSE / S, self._tell_rest, where)
        for group, address in self._watched.get(where, ()):
            self._deliver(AddressSeenElsewhere(group, address, mac))

    def _tell_rest(self, where: tuple[str, bytes]) -> None:
        mac = self._told.pop(where)
        if mac is not None:
            self._tell(where, mac)

    def _is_own(self, mac: bytes) -> bool:
        if mac in self._own:
            return True
        now = time.monotonic_ns()
        if now - self._own_at > OWN_FOR:
            self._own, self._own_at = _own_macs(), now
        return mac in self._own


@dataclass(frozen=True, slots=True, eq=False)
class _Tap:
    """An open socket, and the interface that it was opened on."""

    spot: Spot
    socket: socket.socket
    index: int


def _claim_v4(frame: bytes) -> tuple[bytes, bytes] | Rejected | None:
    """The address that an ARP packet's sender says is at a MAC address; neighbours learn it from any operation."""
    packet = arp.decode(frame)
    return packet if isinstance(packet, Rejected) else (packet.sender_ip, packet.sender_mac)


def _claim_v6(frame: bytes) -> tuple[bytes, bytes] | Rejected | None:
    """The same of an advertisement, or of a solicitation that names its sender's MAC address (RFC 4861 7.2.3)."""
    packet = ndisc.decode(frame)
    match packet:
        case ndisc.Advertisement(target=target, mac=mac):
            return target, frame[6:12] if mac is None else mac
        case ndisc.Solicitation(source=source, mac=mac):
            return None if mac is None else (source, mac)
        case Rejected():
            return packet


# --- the kernel


def _own_macs() -> frozenset[bytes]:
    """The MAC addresses of all Ethernet interfaces of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:  # closing a packet socket takes 10 ms
        found: list[bytes | None] = []
        for _, name in socket.if_nameindex():
            try:
                found.append(mac_address(asked, name))
            except OSError:  # it went away
                continue
    return frozenset(mac for mac in found if mac is not None)


def _program(spot: Spot, addresses: Sequence[bytes]) -> Program:
    """Classic BPF that passes what the claim of one of these addresses may be; offsets are from the Ethernet header.

    Of an IPv6 address its last four bytes are compared, and the rest by us.
    """
    ends = sorted({int.from_bytes(address[-4:]) for address in addresses})
    if spot.family == 4:
        load = [(LOAD_WORD, 0, 0, 28)]  # the sender's address
    else:
        load = [
            (LOAD_BYTE, 0, 0, 20),  # next header
            (IF_EQUAL, 0, 3, 58),
            (LOAD_BYTE, 0, 0, 54),  # ICMPv6 type
            (IF_EQUAL, 2, 0, 136),
            (IF_EQUAL, 3, 0, 135),
            (RETURN, 0, 0, 0),
            (LOAD_WORD, 0, 0, 74),  # an advertisement's target
            (IF_ALWAYS, 0, 0, 1),
            (LOAD_WORD, 0, 0, 34),  # a solicitation's source
        ]
    match = [step for end in ends for step in ((IF_EQUAL, 0, 1, end), (RETURN, 0, 0, LARGEST))]
    match.append((RETURN, 0, 0, 0))
    if len(ends) > _COMPARED_MOST:
        match = [(RETURN, 0, 0, LARGEST)]
    return (*load, *match)


_COMPARED_MOST: Final = 500
"""A program has room in net.core.optmem_max (20 KiB on old kernels); for more addresses the kernel compares none."""
_PROTOCOLS: Final = {4: 0x0806, 6: 0x86DD}
