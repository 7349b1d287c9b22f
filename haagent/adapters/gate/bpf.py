"""The gate by eBPF: a classifier at clsact that drops what concerns an address whose deadline has come.

Why it cannot open late: the deadline is an instant of CLOCK_BOOTTIME, which the kernel compares with its own clock at
each packet. (In a time namespace ours is another one: the difference is read at the start, and checked.) However long
we are delayed between deciding and writing, what is written is the same deadline; if it has come meanwhile, nothing
opens. Time in suspend counts.

Each interface has two programs (in, out) and a map with its addresses' deadlines, 0 for those that are closed. The
classifiers keep both alive, by the interface's index, whatever becomes of us and through a rename; nothing is pinned.
The next incarnation finds them by the classifiers, and takes the map over if the programs are those that it would
attach itself; if not, it attaches its own in their place, with an empty map filled before: closed.

What others may do: whoever may use `tc` can detach the classifiers at any time; then `hear` attaches them again,
closed, and says `lost`; from the deletion until then everything passes. Not noticed: a classifier before ours that
takes packets out of the path by a verdict of its own. A clsact that was made stays; it may have got other users.
Needs Linux 5.8 (bpf_ktime_get_boot_ns), CAP_BPF and CAP_NET_ADMIN.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from haagent.adapters.gate import bpf_syscall as bpf
from haagent.adapters.gate.bpf_clock import ahead
from haagent.adapters.gate.bpf_program import COUNTERS, ELSEWHERE, KEY, VALUE, address, instructions, key
from haagent.adapters.gate.netlink import NETLINK_ROUTE, NetlinkError, News, OverrunError
from haagent.adapters.gate.places import Groups, Place, places
from haagent.adapters.gate.tc import RTNLGRP_TC, Side, TrafficControl, touched
from haagent.core.host import Passing
from haagent.core.model import VirtualAddress
from haagent.core.units import Instant
from haagent.runtime.clock import boottime
from haagent.runtime.ports import GateClosedError, GateFailedError

log = logging.getLogger("haagent.gate")

NAME: Final = "haagent"
MOST: Final = 4096
"""The most addresses of one interface."""


class BpfGate:
    """The `Gate` port. Belongs to the network namespace of the thread that makes it, and to one thread at a time.

    When `fileno` is readable, call `hear`. `lost` is told why the gate cannot be relied on any more: it is there
    again, but all is closed, and `renew` says so until every group has been closed.
    """

    def __init__(self, lost: Callable[[str], None], *, clock: Callable[[], Instant] = boottime) -> None:
        """Raises GateFailedError."""
        self._lost = lost
        self._clock = clock
        self._groups: Groups[Place] = Groups()
        self._interfaces: frozenset[str] = frozenset()
        self._own: frozenset[Place] = frozenset()
        self._left: dict[Place, Instant] = {}
        self._until: Instant = 0
        self._guards: dict[str, _Guard] = {}
        with _failing("the clock of eBPF"):
            self._ahead = ahead()
        with _failing("traffic control"):
            self._news = News(NETLINK_ROUTE, (RTNLGRP_TC,))
            self._tc = TrafficControl()

    @property
    def interfaces(self) -> frozenset[str]:
        """Where it is; by all others everything passes."""
        return frozenset(self._guards)

    # The port.

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str] = ()) -> None:
        """Have a gate for just these addresses, on their own and on these interfaces, and on no others.

        What only passes through this host goes on, but not by an address's own interface. Those that stay keep the
        state they have, or are closed if another interface is theirs by now. An interface that does not exist has no
        gate; `open` refuses it.
        """
        self._interfaces = frozenset(interfaces)
        addresses = tuple(addresses)
        before, self._own = self._own, places(addresses)
        wanted: dict[str, set[bytes]] = {}
        for place in self._spread(addresses):
            wanted.setdefault(place.interface, set()).add(key(place.address))
        known = {Place(name, address(one)) for name, guard in self._guards.items() for one in guard.keys}
        with _failing("cannot protect"):
            self._set(known & (before ^ self._own), 0)
            for interface in self._guards.keys() - wanted.keys():
                self._detach(self._guards.pop(interface))
            for interface, keys in wanted.items():
                self._guard(interface, keys)
        kept = {Place(i, address(k)) for i, keys in wanted.items() if i in self._guards for k in keys}
        self._groups.keep(kept)
        self._left = {place: end for place, end in self._left.items() if place in kept}

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        """Let just these addresses of these groups pass until then, never longer, and with them all else that is open.

        Raises GateClosedError if it came too late, or if what was open had closed.
        """
        by_group = {group: self._spread(addresses) for group, addresses in groups.items()}
        for place in frozenset[Place]().union(*by_group.values()):
            guard = self._guards.get(place.interface)
            if guard is None or key(place.address) not in guard.keys:
                raise GateFailedError(f"{place}: has no gate")
        self._check(until)
        gone = self._groups.opened(by_group)
        with _failing("cannot open"):
            self._set(gone, 0)
            self._set(self._groups.all(), until)
        self._until = until

    def renew(self, until: Instant) -> None:
        """Let all that is open pass until then. Raises GateClosedError if any of it had closed: then all is closed."""
        if not self._groups:
            return
        self._check(until)
        with _failing("cannot renew"):
            self._set(self._groups.all(), until)
        self._until = until

    def close(self, groups: Iterable[str]) -> None:
        """Let nothing of these groups pass from now on. Closing what is closed is nothing."""
        gone = self._groups.closed(groups)
        with _failing("cannot close"):
            self._set(gone, 0)

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        """Close those of these addresses that an earlier incarnation left open, and this one has not opened."""
        with _failing("cannot sweep"):
            self._set([place for place in self._spread(addresses) if not self._groups.has(place)], 0)

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        """By group: until when what an earlier incarnation left open stays open, for all of its addresses."""
        now = self._clock()
        found = {
            group: min((self._left.get(place, 0) for place in self._spread(addresses)), default=0)
            for group, addresses in groups.items()
        }
        return {group: until for group, until in found.items() if until > now}

    # What the port does not have.

    def fileno(self) -> int:
        """Readable when traffic control has changed."""
        return self._news.fileno()

    def hear(self) -> None:
        """Learn whether somebody else has detached a classifier; if so, attach it again, closed, and tell `lost`."""
        with _failing("cannot attach anew"):
            missing = [name for name in self._disturbed() if self._is_missing(name)]
            if not missing:
                return
            self._set((Place(name, address(one)) for name, guard in self._guards.items() for one in guard.keys), 0)
            self._until = 0
            for name in missing:
                self._attach(self._guards[name])
        why = f"the classifiers of {', '.join(missing)} were detached by somebody"
        log.error("the gate is lost: %s", why)
        self._lost(why)

    def counters(self) -> Mapping[str, int]:
        """Packets dropped since the gates were made, by protocol: arp, ipv4, ipv6. Raises GateFailedError."""
        counted: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        with _failing("cannot read the counters"):
            for guard in self._guards.values():
                for index, name in enumerate(COUNTERS):
                    counted[name] += _U64.unpack(bpf.map_get(guard.counters, _U32.pack(index), VALUE))[0]
        return counted

    def remove(self) -> None:
        """Have no gate any more: only when the kernel has none of the addresses. Then `leave`."""
        with _failing("cannot remove the gate"):
            for interface in list(self._guards):
                self._detach(self._guards.pop(interface))
        self.leave()

    def leave(self) -> None:
        """Let go: what is open ends at its time, and the next incarnation takes the gates over."""
        for guard in self._guards.values():
            guard.close()
        self._guards.clear()
        self._tc.close()
        self._news.close()

    # Deadlines.

    def _check(self, until: Instant) -> None:
        """That what is open has not closed, and that `until` is not past. What is closed by the clock stays closed."""
        now = self._clock()
        if self._groups and now >= self._until:
            with _failing("cannot close"):
                self._set(self._groups.all(), 0)
            self._until = 0  # until every group has been closed
            raise GateClosedError("it had closed before it was renewed")
        if now >= until:
            raise GateClosedError("too late: the time is over")

    def _set(self, those: Iterable[Place], deadline: Instant) -> None:
        for place in those:
            guard = self._guards.get(place.interface)
            if guard is not None:
                bpf.map_set(guard.deadlines, key(place.address), self._value(place, deadline))
                self._left.pop(place, None)

    def _value(self, place: Place, deadline: Instant) -> bytes:
        bit = 0 if place in self._own else ELSEWHERE
        return _U64.pack((deadline - self._ahead if deadline else 0) & ~ELSEWHERE | bit)

    def _spread(self, addresses: Iterable[VirtualAddress]) -> frozenset[Place]:
        """A host answers on every interface for an address that it has on one: where each is guarded.

        An address of which IP always passes is not: that is for the nftables gate.
        """
        whole = (one for one in addresses if one.without_lease is Passing.NOTHING)
        return frozenset(Place(name, address) for own, address in places(whole) for name in self._interfaces | {own})

    # Classifiers.

    def _guard(self, interface: str, keys: set[bytes]) -> None:
        """Have an interface's gate, for just these keys."""
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            index = None
        guard = self._guards.get(interface)
        if guard is not None and guard.index != index:  # renamed, or made anew
            self._guards.pop(interface).close()
            guard = None
        if index is None:
            return
        if guard is None:
            guard = self._adopted(interface, index)
            if guard is None:
                guard = self._made(interface, index)
            else:
                self._note_left(interface, guard)
            self._guards[interface] = guard
        for one in guard.keys - keys:
            bpf.map_delete(guard.deadlines, one)
        for one in keys - guard.keys:
            bpf.map_set(guard.deadlines, one, self._value(Place(interface, address(one)), 0))
        guard.keys = keys
        if self._is_missing(interface):
            self._attach(guard)

    def _made(self, interface: str, index: int) -> _Guard:
        """A gate with a map of its own, not attached."""
        with contextlib.ExitStack() as made:
            maps: list[int] = []
            for kind, key_size, entries in ((bpf.MapType.HASH, KEY, MOST), (bpf.MapType.ARRAY, 4, len(COUNTERS))):
                maps.append(bpf.map_create(kind, key_size, VALUE, entries, NAME.encode()))
                made.callback(os.close, maps[-1])
            deadlines, counters = maps
            programs: dict[Side, int] = {}
            for side in Side:
                code = instructions(deadlines, counters, egress=side is Side.EGRESS, link=_link_header(interface))
                programs[side] = bpf.program_load(code, NAME.encode())
                made.callback(os.close, programs[side])
            made.pop_all()
        return _Guard(index, deadlines, counters, programs)

    def _adopted(self, interface: str, index: int) -> _Guard | None:
        """The gate that an earlier incarnation left, if it is what we would attach."""
        there = [self._tc.attached(index, side) for side in Side]
        if any(each is None or each.name != NAME for each in there):
            return None
        ours = self._made(interface, index)
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            programs: dict[Side, int] = {}
            known: list[bpf.Program] = []
            for side, each in zip(Side, there, strict=True):
                assert each is not None
                programs[side] = bpf.program_by_id(each.program)
                undo.callback(os.close, programs[side])
                known.append(bpf.program(programs[side]))
                if known[-1].tag != bpf.program(ours.programs[side]).tag or known[-1].maps != known[0].maps:
                    return None
            maps = {bpf.map_key_size(each): each for each in map(bpf.map_by_id, known[0].maps)}
            guard = _Guard(index, maps[KEY], maps[4], programs)
            guard.keys = set(bpf.map_keys(guard.deadlines, KEY))
            undo.pop_all()
        ours.close()
        log.info("%s: took over the gate of an earlier run", interface)
        return guard

    def _note_left(self, interface: str, guard: _Guard) -> None:
        """Of what an earlier incarnation left: when each ends. What was another interface's then is closed."""
        for one in guard.keys:
            place = Place(interface, address(one))
            (value,) = _U64.unpack(bpf.map_get(guard.deadlines, one, VALUE))
            deadline = value & ~ELSEWHERE
            if value & ELSEWHERE == (0 if place in self._own else ELSEWHERE):
                self._left[place] = deadline + self._ahead if deadline else 0
            else:
                bpf.map_set(guard.deadlines, one, self._value(place, 0))

    def _attach(self, guard: _Guard) -> None:
        self._tc.add_clsact(guard.index)
        for side, program in guard.programs.items():
            self._tc.attach(guard.index, side, program, NAME)

    def _detach(self, guard: _Guard) -> None:
        for side in Side:
            self._tc.detach(guard.index, side)
        guard.close()

    def _is_missing(self, interface: str) -> bool:
        """Whether an interface that is there has not both of our classifiers."""
        guard = self._guards[interface]
        try:
            socket.if_indextoname(guard.index)
        except OSError:
            return False
        for side, program in guard.programs.items():
            there = self._tc.attached(guard.index, side)
            if there is None or there.program != bpf.program(program).number:
                return True
        return False

    def _disturbed(self) -> set[str]:
        """The interfaces whose classifiers somebody else may have changed since we last looked."""
        names = {guard.index: name for name, guard in self._guards.items()}
        found: set[str] = set()
        while True:
            try:
                for message in self._news.read():
                    index = touched(message)
                    if message.portid != self._tc.portid and index in names:
                        found.add(names[index])
            except OverrunError:
                found |= self._guards.keys()
            else:
                return found


@dataclass(slots=True)
class _Guard:
    """An interface's gate: its index, the descriptors of maps and programs, and the keys in the map of deadlines."""

    index: int
    deadlines: int
    counters: int
    programs: dict[Side, int]
    keys: set[bytes] = field(default_factory=set[bytes])

    def close(self) -> None:
        """Close the descriptors; what is attached stays."""
        for descriptor in (self.deadlines, self.counters, *self.programs.values()):
            os.close(descriptor)


def _link_header(interface: str) -> int:
    """The bytes before ARP or IP in an interface's packets, as a classifier sees them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        told = fcntl.ioctl(asking, _SIOCGIFHWADDR, _IFREQ.pack(interface.encode(), 0))
    return 14 if _IFREQ.unpack(told)[1] in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK) else 0


@contextlib.contextmanager
def _failing(what: str) -> Generator[None]:
    """Say as the port does that the kernel refused."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise GateFailedError(f"{what}: {error}") from error


_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")
_IFREQ = struct.Struct("=16sH22x")
_SIOCGIFHWADDR: Final = 0x8927
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
