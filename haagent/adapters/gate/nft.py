"""The gate by nftables: timed elements that the kernel lets end, whatever becomes of us. `layout` has the table.

Why it can not open late. A timeout is relative, and counts from when the kernel performs it: were it simply set to
`until - now`, every delay between reading the clock and the kernel's reading it (we are stopped, preempted, waiting for
memory inside the system call) would keep the gate open for as long past the deadline. So it is done in two batches:

1. *Stage*: put a new ticket, with its timeout, that nothing points to yet. Its end is fixed from here on. Then look
   at the clock again: if more than SLACK has passed since the timeout was computed, the ticket is left to rot
   and another is tried, until there is no time left for one.
2. *Turn*: in one atomic batch, delete the ticket that the session had (refused if it is over: what has closed
   does not reopen by renewal) and let the session pass by the new one. However late this comes, the end stands.

Both take the same two system calls for one address or for a thousand: addresses point to a session, a session to a
ticket. An incarnation, and each time that it opens the first group anew, has a session of its own, and no ticket
is ever used twice: what an earlier session had open ends with the ticket that it has, and is taken over, address by
address, as `open` points it to the new session.

What others may do. On Linux 6.9 and later the table is owned: nobody else can change it while our socket is open
(`nft flush ruleset` passes over it), it outlives us, and the next incarnation takes it over; between the two anyone
who may use nftables can delete it. Before 6.9 anyone can at any time: then `hear` builds it anew, closed, and says
`lost`; from the deletion until then everything passes.

What it does not hold. An interface that is renamed: from Linux 6.16 on chains hook the name (and come back with it by
themselves), so that everything passes under the new one. Time in suspend, which the kernel's timeouts do not count: for
that long it closes late. The eBPF gate holds both. Kernels without egress hooks (before Linux 5.16) do not have it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import logging
import secrets
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from haagent.adapters.gate import layout
from haagent.adapters.gate import nfnetlink as nf
from haagent.adapters.gate.layout import COMMENT, LEASE, SESSION, SHUT, TABLE, Shape
from haagent.adapters.gate.netlink import NETLINK_NETFILTER, Message, NetlinkError, News, OverrunError
from haagent.adapters.gate.nfnetlink import Change, Element, Generation, TableFlags
from haagent.adapters.gate.places import Groups, Place, places
from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Duration, Instant
from haagent.runtime.clock import boottime
from haagent.runtime.ports import GateClosedError, GateFailedError

log = logging.getLogger("haagent.gate")

SLACK: Final[Duration] = 10 * MS
"""How much earlier than asked the gate closes, at least: what staging may take, and EARLY."""
EARLY: Final[Duration] = 2 * MS
"""What is left of SLACK for a timer tick that comes late, which was measured as 0.15 ms."""
OWNED: Final = TableFlags.OWNER | TableFlags.PERSIST


class NftGate:
    """The `Gate` port. Belongs to the network namespace of the thread that makes it, and to one thread at a time.

    When `fileno` is readable, call `hear`. `lost` is told why the gate can not be relied on any more: it is there
    again, but all is closed, and `renew` says so until every group has been closed.
    """

    def __init__(
        self,
        lost: Callable[[str], None],
        *,
        clock: Callable[[], Instant] = boottime,
        owned: bool | None = None,
    ) -> None:
        """Take over the table that an earlier incarnation left, or make it.

        `owned`: whether the table is owned; by default, if the kernel can. Raises GateFailedError.
        """
        self._lost = lost
        self._clock = clock
        self._owned = owned
        self._groups = Groups()
        self._session: _Session | None = None
        self._guarded: dict[str, frozenset[bytes]] = {}
        self._tickets = _numbers()
        try:
            self._news = News(NETLINK_NETFILTER, (nf.NFNLGRP_NFTABLES,))
            self._kernel = nf.Nftables()
        except OSError as error:
            raise GateFailedError(f"nftables: {error}") from error
        with _failing("nftables"):
            self._take()

    @property
    def owned(self) -> bool:
        """Whether nobody else can change the table."""
        return self._flags == OWNED

    # The port.

    def protect(self, addresses: Iterable[VirtualAddress]) -> None:
        """Have a gate for just these addresses, on their interfaces. Those that stay keep the state they have.

        What is in the kernel is compared, so that chains which went with their interface come back. On kernels whose
        hooks need the interface, one that does not exist has no gate; `open` refuses it.
        """
        wanted: dict[str, frozenset[bytes]] = {}
        for place in places(addresses):
            wanted[place.interface] = wanted.get(place.interface, frozenset()) | {place.address}
        with _failing("cannot protect"):
            shape = self._read()
            if shape is None:
                self._build(wanted)
            else:
                self._hooked(wanted, lambda those: self._changes(shape, those))
        kept = {Place(interface, address) for interface in wanted for address in wanted[interface]}
        self._groups.keep(kept)
        if self._session is not None:
            self._session = dataclasses.replace(self._session, places=self._session.places & kept)

    def open(self, group: str, addresses: Iterable[VirtualAddress], until: Instant) -> None:
        """Let these addresses of the group pass until then, never longer, and with them all else that is open.

        Raises GateClosedError if it came too late, or if what was open had closed.
        """
        those = places(addresses)
        for place in those:
            if place.address not in self._guarded.get(place.interface, ()):
                raise GateFailedError(f"{place}: has no gate")
        if self._groups and self._session is None:
            raise GateClosedError("what was open has closed")
        ticket = self._stage(until)
        session = self._session
        if session is None:
            session = _Session(f"{SESSION}{ticket:08x}", ticket)
            operations = [nf.add_chain(TABLE, session.chain)]
        else:
            operations = _forget(session)
        fresh = those - session.places
        operations += layout.session(session.chain, ticket) + _point(fresh, session.chain)
        self._turn(operations, strict=session is self._session)
        self._session = _Session(session.chain, ticket, session.places | fresh)
        self._shut(self._groups.opened(group, those))

    def renew(self, until: Instant) -> None:
        """Let all that is open pass until then. Raises GateClosedError if any of it had closed: then all is closed."""
        if not self._groups:
            return
        session = self._session
        if session is None:
            raise GateClosedError("what was open has closed")
        ticket = self._stage(until)
        self._turn([*_forget(session), *layout.session(session.chain, ticket)], strict=True)
        self._session = dataclasses.replace(session, ticket=ticket)

    def close(self, group: str) -> None:
        """Let nothing of the group pass from now on. Closing what is closed is nothing."""
        self._shut(self._groups.closed(group))

    # What the port does not have.

    def fileno(self) -> int:
        """Readable when nftables has changed."""
        return self._news.fileno()

    def hear(self) -> None:
        """Learn whether somebody else has changed the table; if so, build it anew, closed, and tell `lost`."""
        why = self._disturbance()
        if why is None:
            return
        log.error("the gate is lost: %s", why)
        with _failing("cannot build the gate anew"):
            self._build(self._guarded)
        self._lost(why)

    def sweep(self) -> None:
        """Close what an earlier incarnation left open, and this one has not opened."""
        with _failing("cannot sweep"):
            shape = self._read()
            mine = SHUT if self._session is None else self._session.chain
            left = {
                Place(interface, address)
                for interface in self._guarded
                for address, jump in (shape.guarded(interface) if shape else {}).items()
                if jump not in (SHUT, mine)
            }
            if shape is not None and left:
                ends = {jump for i in self._guarded for jump in shape.guarded(i).values()} - {SHUT, mine}
                chains = [nf.delete_chain(TABLE, chain) for chain in sorted(ends)]
                self._kernel.commit([*_point(left, SHUT), *chains])

    def counters(self) -> Mapping[str, int]:
        """Packets dropped since the table was made, by protocol: arp, ipv4, ipv6. Raises GateFailedError."""
        with _failing("cannot read the counters"):
            return self._kernel.counters(TABLE)

    def remove(self) -> None:
        """Have no gate any more: only when the kernel has none of the addresses. Then `leave`."""
        with _failing("cannot remove the gate"):
            try:
                self._kernel.commit([nf.delete_table(TABLE)])
            except NetlinkError as error:
                if error.number != errno.ENOENT:
                    raise
        self.leave()

    def leave(self) -> None:
        """Let go: what is open ends at its time, and the next incarnation takes the table over."""
        self._kernel.close()
        self._news.close()

    # The table.

    def _take(self) -> None:
        """Own what is there, if it is ours and whole; else make it."""
        self._flags = OWNED if self._owned is None or self._owned else TableFlags.NONE
        there = self._kernel.tables().get(TABLE)
        if there is not None and there.comment == COMMENT and self._adopt():
            return
        try:
            self._build({})
        except NetlinkError as error:
            if self._owned is not None or error.number not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            self._flags = TableFlags.NONE
            self._build({})

    def _adopt(self) -> bool:
        """Whether the table is ours from now on. One that nobody owned can not become owned (EOPNOTSUPP)."""
        give_up = time.monotonic() + _TAKE_PATIENCE
        while True:
            try:
                self._kernel.commit([nf.add_table(TABLE, self._flags, COMMENT)])
            except NetlinkError as error:
                if error.number in (errno.EINVAL, errno.EOPNOTSUPP):
                    return False
                # The kernel may still be busy to end the incarnation before.
                if error.number != errno.EPERM or time.monotonic() > give_up:
                    raise
                time.sleep(0.005)
            else:
                return layout.read(self._kernel) is not None

    def _read(self) -> Shape | None:
        return layout.read(self._kernel) if TABLE in self._kernel.tables() else None

    def _build(self, wanted: Mapping[str, frozenset[bytes]]) -> None:
        """Make the table anew in one batch, all closed."""
        self._session = None
        old = [nf.delete_table(TABLE)] if TABLE in self._kernel.tables() else []
        start = [*old, nf.add_table(TABLE, self._flags, COMMENT), *layout.frame()]
        nothing = Shape({}, frozenset(), {})
        self._hooked(wanted, lambda those: [*start, *self._changes(nothing, those)])

    def _hooked(
        self, wanted: Mapping[str, frozenset[bytes]], changes: Callable[[Mapping[str, frozenset[bytes]]], list[Message]]
    ) -> None:
        """Commit the changes; where the kernel refuses chains of interfaces that do not exist, without those."""
        those = dict(wanted)
        while True:
            try:
                operations = changes(those)
                if operations:
                    self._kernel.commit(operations)
            except NetlinkError as error:
                missing = those.keys() - _interfaces()
                if error.number != errno.ENOENT or not missing:
                    raise
                those = {name: mine for name, mine in those.items() if name not in missing}
            else:
                self._guarded = those
                return

    def _changes(self, shape: Shape, wanted: Mapping[str, frozenset[bytes]]) -> list[Message]:
        """What makes the table hold just this."""
        operations: list[Message] = []
        for interface in sorted(shape.interfaces() - wanted.keys()):
            operations += layout.delete_hooks(interface, shape) + layout.delete_maps(interface, shape)
        for interface, addresses in sorted(wanted.items()):
            mapped = shape.mapped(interface)
            hooked = mapped and shape.hooked(interface)
            if not hooked:
                operations += layout.delete_hooks(interface, shape)
            if not mapped:
                operations += layout.delete_maps(interface, shape) + layout.maps(interface)
            there = set(shape.guarded(interface)) if mapped else set[bytes]()
            operations += layout.delete(interface, there - addresses) + layout.add(interface, addresses - there)
            if not hooked:
                operations += layout.hooks(interface)
        return operations + self._abandoned(shape, wanted)

    # Tickets.

    def _stage(self, until: Instant) -> int:
        """Put a ticket that ends in time, whenever that is done, and that nothing points to."""
        for ticket in itertools.islice(self._tickets, _STAGE_TRIES):
            asked_at = self._clock()
            timeout = (until - SLACK - asked_at) // MS
            if timeout < 1:
                break
            with _failing("cannot stage"):
                self._kernel.commit(nf.add_elements(TABLE, LEASE, [Element(layout.key(ticket), timeout=timeout)]))
            # The kernel counted from an instant between these two readings.
            if self._clock() - asked_at <= SLACK - EARLY:
                return ticket
        raise GateClosedError("too late: there is no time left to open for")

    def _turn(self, operations: Sequence[Message], *, strict: bool) -> None:
        """Commit; `strict`: the first operation deletes the old ticket, and its refusal says that we had closed."""
        with _failing("cannot open"):
            try:
                self._kernel.commit(operations)
            except NetlinkError as error:
                if not strict or error.number != errno.ENOENT or error.at != 0:
                    raise
                self._end_session()
                raise GateClosedError("it had closed before it was renewed") from error

    def _shut(self, those: Iterable[Place]) -> None:
        """Close places that no group has open any more; the session ends with the last group."""
        session = self._session
        if session is None:
            return
        if not self._groups:
            self._end_session()
            return
        shut = session.places & set(those)
        if shut:
            self._commit_shut(_point(shut, SHUT))
            self._session = dataclasses.replace(session, places=session.places - shut)

    def _end_session(self) -> None:
        """Close all that this incarnation has open. Its last ticket, if it still runs, lets nothing pass any more."""
        session, self._session = self._session, None
        if session is not None:
            self._commit_shut([*_point(session.places, SHUT), nf.delete_chain(TABLE, session.chain)])

    def _commit_shut(self, operations: Sequence[Message]) -> None:
        with _failing("cannot close"):
            try:
                self._kernel.commit(operations)
            except NetlinkError as error:
                # Somebody changed the table, or took it away: what is to be closed is closed all the same.
                log.warning("cannot close what should be open (%s): building the table anew, closed", error)
                self._build(self._guarded)

    # What others do.

    def _disturbance(self) -> str | None:
        """Who changed our table since we last looked, if it was not us and not the kernel by itself."""
        strangers: set[int] = set()
        names: dict[int, str] = {}
        overrun = False
        while True:
            try:
                for message in self._news.read():
                    match nf.change(message):
                        case Change(table=layout.TABLE, portid=portid) if portid not in (0, self._kernel.portid):
                            strangers.add(portid)
                        case Generation(pid, process, portid):
                            names[portid] = f"{process} (pid {pid})"
                        case _:
                            pass
            except OverrunError:
                overrun = True
            else:
                break
        if strangers:
            return f"the table {TABLE} was changed by {names.get(min(strangers), 'somebody')}"
        return f"the table {TABLE} was changed, unseen" if overrun and not self._whole() else None

    def _whole(self) -> bool:
        with _failing("cannot list the gate"):
            shape = self._read()
            return shape is not None and not self._changes(shape, self._guarded)

    def _abandoned(self, shape: Shape, wanted: Mapping[str, frozenset[bytes]]) -> list[Message]:
        """Delete the sessions that no address points to any more."""
        used = {
            jump
            for interface, addresses in wanted.items()
            for address, jump in shape.guarded(interface).items()
            if address in addresses
        }
        if self._session is not None:
            used.add(self._session.chain)
        return [nf.delete_chain(TABLE, name) for name in sorted(shape.sessions() - used)]


@dataclass(frozen=True, slots=True)
class _Session:
    """A chain, the ticket that it lets pass by, and the places that point to it."""

    chain: str
    ticket: int
    places: frozenset[Place] = frozenset()


def _forget(session: _Session) -> list[Message]:
    """Delete the ticket, which must run still, and the rule that lets pass by it."""
    old = Element(layout.key(session.ticket))
    return [*nf.delete_elements(TABLE, LEASE, [old]), nf.delete_rules(TABLE, session.chain)]


def _point(those: Iterable[Place], chain: str) -> list[Message]:
    by_interface: dict[str, list[bytes]] = {}
    for place in those:
        by_interface.setdefault(place.interface, []).append(place.address)
    return [m for interface, addresses in by_interface.items() for m in layout.point(interface, addresses, chain)]


def _numbers() -> Iterator[int]:
    """Numbers that no earlier incarnation is likely to have used within its lease."""
    start = secrets.randbits(32)
    return (number & 0xFFFFFFFF for number in itertools.count(start))


def _interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


@contextlib.contextmanager
def _failing(what: str) -> Generator[None]:
    """Say as the port does that the kernel refused."""
    try:
        yield
    except NetlinkError as error:
        raise GateFailedError(f"{what}: {error}") from error


_STAGE_TRIES: Final = 20
_TAKE_PATIENCE: Final = 0.5
"""Seconds that the kernel gets to end the socket of an incarnation that has just died."""
