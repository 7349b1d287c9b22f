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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from haagent.adapters.gate import layout
from haagent.adapters.gate import nfnetlink as nf
from haagent.adapters.gate.layout import LEASE, SESSION, SHUT, TABLE
from haagent.adapters.gate.netlink import Message, NetlinkError
from haagent.adapters.gate.nfnetlink import Element
from haagent.adapters.gate.places import Groups, Place, places
from haagent.adapters.gate.table import Table
from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Duration, Instant
from haagent.runtime.clock import boottime
from haagent.runtime.ports import GateClosedError, GateFailedError

log = logging.getLogger("haagent.gate")

SLACK: Final[Duration] = 10 * MS
"""How much earlier than asked the gate closes, at least: what staging may take, and EARLY."""
EARLY: Final[Duration] = 2 * MS
"""What is left of SLACK for a timer tick that comes late, which was measured as 0.15 ms."""


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
        opened: socket.socket | None = None,
    ) -> None:
        """Take over the table that an earlier incarnation left, or make it.

        `owned`: whether the table is owned; by default, if the kernel can. `opened`: the socket by which an earlier
        incarnation owned it, and others may still. Raises GateFailedError.
        """
        self._lost = lost
        self._clock = clock
        self._groups = Groups()
        self._session: _Session | None = None
        self._tickets = _numbers()
        try:
            self._table = Table(owned, opened)
        except (OSError, NetlinkError) as error:
            raise GateFailedError(f"nftables: {error}") from error

    @property
    def owned(self) -> bool:
        """Whether nobody else can change the table."""
        return self._table.owned

    @property
    def owner(self) -> socket.socket:
        """The socket that owns the table: as long as anybody has it open, nobody else can change it."""
        return self._table.kernel.owner

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
            if not self._table.hold(wanted, self._chain()):
                self._session = None
        kept = {Place(interface, address) for interface in wanted for address in wanted[interface]}
        self._groups.keep(kept)
        if self._session is not None:
            self._session = dataclasses.replace(self._session, places=self._session.places & kept)

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        """Let just these addresses of these groups pass until then, never longer, and with them all else that is open.

        Raises GateClosedError if it came too late, or if what was open had closed.
        """
        by_group = {group: places(addresses) for group, addresses in groups.items()}
        those = frozenset[Place]().union(*by_group.values())
        for place in those:
            if place.address not in self._table.guarded.get(place.interface, ()):
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
        self._shut(self._groups.opened(by_group))

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

    def close(self, groups: Iterable[str]) -> None:
        """Let nothing of these groups pass from now on. Closing what is closed is nothing."""
        self._shut(self._groups.closed(groups))

    # What the port does not have.

    def fileno(self) -> int:
        """Readable when nftables has changed."""
        return self._table.news.fileno()

    def hear(self) -> None:
        """Learn whether somebody else has changed the table; if so, build it anew, closed, and tell `lost`."""
        with _failing("cannot list the gate"):
            why = self._table.disturbance(self._chain())
        if why is None:
            return
        log.error("the gate is lost: %s", why)
        with _failing("cannot build the gate anew"):
            self._build()
        self._lost(why)

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        """Close those of these addresses that an earlier incarnation left open, and this one has not opened."""
        those = places(addresses)
        with _failing("cannot sweep"):
            shape = layout.read(self._table.kernel)
            if shape is None:
                self._build()
                return
            mine = {SHUT, self._chain()}
            jumps = {
                Place(interface, address): jump
                for interface in self._table.guarded
                for address, jump in shape.guarded(interface).items()
                if jump not in mine
            }
            swept = jumps.keys() & those
            over = {jumps[place] for place in swept} - {jumps[place] for place in jumps.keys() - swept}
            chains = [nf.delete_chain(TABLE, chain) for chain in sorted(over)]
            if swept:
                self._table.kernel.commit([*_point(swept, SHUT), *chains])

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        """By group: until when what an earlier incarnation left open stays open, for all of its addresses.

        By the ticket that ends first: which one a session passes by is not read, and each ends within its lease.
        """
        asked_at = self._clock()
        with _failing("cannot list the gate"):
            shape = layout.read(self._table.kernel)
            left = [one.left for one in self._table.kernel.elements(TABLE, LEASE) if one.left is not None]
        if shape is None or not left:
            return {}
        closed = {SHUT, self._chain()}
        passing = {
            Place(interface, address)
            for interface in self._table.guarded
            for address, jump in shape.guarded(interface).items()
            if jump not in closed
        }
        until = asked_at + min(left) * MS
        return {name: until for name, addresses in groups.items() if places(addresses) <= passing}

    def counters(self) -> Mapping[str, int]:
        """Packets dropped since the table was made, by protocol: arp, ipv4, ipv6. Raises GateFailedError."""
        with _failing("cannot read the counters"):
            return self._table.kernel.counters(TABLE)

    def remove(self) -> None:
        """Have no gate any more: only when the kernel has none of the addresses. Then `leave`."""
        with _failing("cannot remove the gate"):
            self._table.remove()
        self.leave()

    def leave(self) -> None:
        """Let go: what is open ends at its time, and the next incarnation takes the table over."""
        self._table.close()

    # Tickets.

    def _stage(self, until: Instant) -> int:
        """Put a ticket that ends in time, whenever that is done, and that nothing points to."""
        for ticket in itertools.islice(self._tickets, _STAGE_TRIES):
            asked_at = self._clock()
            timeout = (until - SLACK - asked_at) // MS
            if timeout < 1:
                break
            with _failing("cannot stage"):
                self._table.kernel.commit(nf.add_elements(TABLE, LEASE, [Element(layout.key(ticket), timeout=timeout)]))
            # The kernel counted from an instant between these two readings.
            if self._clock() - asked_at <= SLACK - EARLY:
                return ticket
        raise GateClosedError("too late: there is no time left to open for")

    def _turn(self, operations: Sequence[Message], *, strict: bool) -> None:
        """Commit; `strict`: the first operation deletes the old ticket, and its refusal says that we had closed."""
        with _failing("cannot open"):
            try:
                self._table.kernel.commit(operations)
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

    def _chain(self) -> str | None:
        return None if self._session is None else self._session.chain

    def _build(self) -> None:
        """The table anew, with all of it closed."""
        self._session = None
        self._table.build(self._table.guarded)

    def _end_session(self) -> None:
        """Close all that this incarnation has open. Its last ticket, if it still runs, lets nothing pass any more."""
        session, self._session = self._session, None
        if session is not None:
            self._commit_shut([*_point(session.places, SHUT), nf.delete_chain(TABLE, session.chain)])

    def _commit_shut(self, operations: Sequence[Message]) -> None:
        with _failing("cannot close"):
            try:
                self._table.kernel.commit(operations)
            except NetlinkError as error:
                # Somebody changed the table, or took it away: what is to be closed is closed all the same.
                log.warning("cannot close what should be open (%s): building the table anew, closed", error)
                self._build()


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


@contextlib.contextmanager
def _failing(what: str) -> Generator[None]:
    """Say as the port does that the kernel refused."""
    try:
        yield
    except NetlinkError as error:
        raise GateFailedError(f"{what}: {error}") from error


_STAGE_TRIES: Final = 20
