"""The gate by nftables: timed elements that the kernel lets end, whatever becomes of us. `layout` has the tables.

Why it cannot open late. A timeout is relative, and counts from when the kernel performs it: were it simply set to
`until - now`, every delay between reading the clock and the kernel's reading it (we are stopped, preempted, waiting for
memory inside the system call) would keep the gate open for as long past the deadline. So it is done in two batches:

1. *Stage*: put a new ticket, with its timeout, that nothing points to yet. Its end is fixed from here on. Then look
   at the clock again: if more than SLACK has passed since the timeout was computed, the ticket is left to rot
   and another is tried, until there is no time left for one.
2. *Turn*: in one atomic batch, delete the ticket that the session had (refused if it is over: what has closed
   does not reopen by renewal) and let the session pass by the new one. However late this comes, the end stands.

Both take the same two system calls for one address or for a thousand: addresses point to a session, a session to a
ticket, which is in each table. An incarnation, and each time that it opens the first group anew, has a session of its
own, and no ticket is ever used twice: what an earlier session had open ends with the ticket that it has, and is taken
over, address by address, as `open` points it to the new session. What was left open is read once, at the start.

What others may do. On Linux 6.9 and later the tables are owned: nobody else can change them while our socket is open
(`nft flush ruleset` passes over them), they outlive us, and the next incarnation takes them over; between the two
anyone who may use nftables can delete them, unless somebody keeps the socket (`keeper`). Before 6.9 anyone can at any
time: then `hear` builds them anew, closed, and says `lost`; from the deletion until then everything passes.

What it does not hold. A link-local address on an interface that is renamed: from Linux 6.16 on chains hook the name
(and come back with it by themselves), so that everything passes under the new one. Time in suspend, which the kernel's
timeouts do not count: for that long it closes late. What passes through this host in an address's name while the host
does not have it, by another interface than the address's: a rule of address translation that names the address
itself, or a connection translated before. Kernels without egress hooks (before Linux 5.16) do not have this gate.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from haagent.adapters.gate import layout
from haagent.adapters.gate.layout import SESSION, SHUT, TABLES, Spot
from haagent.adapters.gate.netlink import Message, NetlinkError
from haagent.adapters.gate.operations import Ref
from haagent.adapters.gate.places import Groups, Place, places
from haagent.adapters.gate.shape import Guarded
from haagent.adapters.gate.table import Table
from haagent.core.host import Passing
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

    When `fileno` is readable, call `hear`. `lost` is told why the gate cannot be relied on any more: it is there
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
        """Take over the tables that an earlier incarnation left, or make them.

        `owned`: whether the tables are owned; by default, if the kernel can. `opened`: the socket by which an earlier
        incarnation owned them, and others may still. Raises GateFailedError.
        """
        self._lost = lost
        self._clock = clock
        self._groups: Groups[Spot] = Groups()
        self._session: _Session | None = None
        self._tickets = _numbers()
        now = clock()
        try:
            self._table = Table(owned, opened)
        except (OSError, NetlinkError) as error:
            raise GateFailedError(f"nftables: {error}") from error
        self._left = _Left({spot: (chain, now + left * MS) for spot, (chain, left) in self._table.running.items()})

    @property
    def owned(self) -> bool:
        """Whether nobody else can change the tables."""
        return self._table.owned

    @property
    def owner(self) -> socket.socket:
        """The socket that owns the tables: as long as anybody has it open, nobody else can change them."""
        return self._table.kernel.owner

    # The port.

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str] = ()) -> None:  # noqa: ARG002
        """Have a gate for just these addresses, on all interfaces. Those that stay keep the state they have.

        What is in the kernel is compared, so that chains which went with their interface come back. On kernels whose
        hooks need the interface, an address on one that does not exist has no gate; `open` refuses it.
        """
        those = tuple(addresses)
        free = frozenset(each.address for each in those if each.without_lease is Passing.IP)
        wanted = Guarded(places(those), free)
        with _failing("cannot protect"):
            if not self._table.hold(wanted, self._chain()):
                self._session = None
        kept = layout.gates(wanted.places)
        self._groups.keep(kept)
        self._left.keep(kept)
        if self._session is not None:
            self._session.spots &= kept

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        """Let just these addresses of these groups pass until then, never longer, and with them all else that is open.

        Raises GateClosedError if it came too late, or if what was open had closed.
        """
        by_group = {group: places(addresses) for group, addresses in groups.items()}
        those = frozenset[Place]().union(*by_group.values())
        if missing := those - self._table.guarded.places:
            raise GateFailedError(f"{min(missing)}: has no gate")
        if self._groups and self._session is None:
            raise GateClosedError("what was open has closed")
        self._turn_to(until, layout.gates(those))
        self._shut(self._groups.opened({group: frozenset(layout.gates(each)) for group, each in by_group.items()}))

    def renew(self, until: Instant) -> None:
        """Let all that is open pass until then. Raises GateClosedError if any of it had closed: then all is closed."""
        if not self._groups:
            return
        if self._session is None:
            raise GateClosedError("what was open has closed")
        self._turn_to(until, set())

    def close(self, groups: Iterable[str]) -> None:
        """Let nothing of these groups pass from now on. Closing what is closed is nothing."""
        self._shut(self._groups.closed(groups))

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        """Close those of these addresses that an earlier incarnation left open, and this one has not opened."""
        those = self._left.those(layout.gates(places(addresses)))
        if those:
            self._commit_shut(layout.point(those, SHUT) + self._left.take(those))

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        """By group: until when what an earlier incarnation left open stays open, for all of its addresses."""
        now = self._clock()
        found = {
            group: min(map(self._left.end, layout.gates(places(addresses))), default=0)
            for group, addresses in groups.items()
        }
        return {group: until for group, until in found.items() if until > now}

    # What the port does not have.

    def fileno(self) -> int:
        """Readable when nftables has changed."""
        return self._table.news.fileno()

    def hear(self) -> None:
        """Learn whether somebody else has changed the tables; if so, build them anew, closed, and tell `lost`."""
        with _failing("cannot list the gate"):
            why = self._table.disturbance(self._chain())
        if why is None:
            return
        log.error("the gate is lost: %s", why)
        with _failing("cannot build the gate anew"):
            self._build()
        self._lost(why)

    def counters(self) -> Mapping[str, int]:
        """Packets dropped since the tables were made, by protocol: arp, ipv4, ipv6. Raises GateFailedError."""
        counted: Counter[str] = Counter()
        with _failing("cannot read the counters"):
            for table in TABLES:
                counted.update(self._table.kernel.counters(table))
        return counted

    def remove(self) -> None:
        """Have no gate any more: only when the kernel has none of the addresses. Then `leave`."""
        with _failing("cannot remove the gate"):
            self._table.remove()
        self.leave()

    def leave(self) -> None:
        """Let go: what is open ends at its time, and the next incarnation takes the tables over."""
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
                self._table.kernel.commit(layout.stage(ticket, timeout))
            # The kernel counted from an instant between these two readings.
            if self._clock() - asked_at <= SLACK - EARLY:
                return ticket
        raise GateClosedError("too late: there is no time left to open for")

    def _turn_to(self, until: Instant, spots: set[Spot]) -> None:
        """Let what the session has open, and these, pass until then; begin a session if there is none."""
        ticket = self._stage(until)
        before = self._session
        session = before or _Session(f"{SESSION}{ticket:08x}", ticket)
        fresh = spots - session.spots
        operations = (
            layout.begin_session(session.chain)
            if before is None
            else layout.take_back(before.ticket) + layout.clear_session(before.chain)
        )
        operations += layout.fill_session(session.chain, ticket)
        operations += layout.point(fresh, session.chain) + self._left.take(fresh)
        with _failing("cannot open"):
            try:
                self._table.kernel.commit(operations)
            except NetlinkError as error:
                # The old ticket is taken back first, in each table: it was over.
                if before is None or error.number != errno.ENOENT or error.at >= len(TABLES):
                    raise
                self._end_session()
                raise GateClosedError("it had closed before it was renewed") from error
        session.ticket = ticket
        session.spots |= fresh
        self._session = session

    def _shut(self, those: Iterable[Spot]) -> None:
        """Close what no group has open any more; the session ends with the last group."""
        session = self._session
        if session is None:
            return
        if not self._groups:
            self._end_session()
            return
        shut = session.spots & set(those)
        if shut:
            self._commit_shut(layout.point(shut, SHUT))
            session.spots -= shut

    def _chain(self) -> str | None:
        return None if self._session is None else self._session.chain

    def _build(self) -> None:
        """The tables anew, with all closed."""
        self._session = None
        self._left.keep(())
        self._table.build(self._table.guarded)

    def _end_session(self) -> None:
        """Close all that this incarnation has open. Its last ticket, if it still runs, lets nothing pass any more."""
        session, self._session = self._session, None
        if session is not None:
            chains = [(table, session.chain) for table in TABLES]
            self._commit_shut(layout.point(session.spots, SHUT) + layout.end_sessions(chains))

    def _commit_shut(self, operations: Sequence[Message]) -> None:
        with _failing("cannot close"):
            try:
                self._table.kernel.commit(operations)
            except NetlinkError as error:
                # Somebody changed the tables, or took them away: what is to be closed is closed all the same.
                log.warning("cannot close what should be open (%s): building the tables anew, closed", error)
                self._build()


@dataclass(slots=True)
class _Session:
    """A chain in every table, the ticket that it lets pass by, and what points to it."""

    chain: str
    ticket: int
    spots: set[Spot] = field(default_factory=set[Spot])


class _Left:
    """What an earlier incarnation left open: each with the chain of its session, and when its ticket ends."""

    def __init__(self, left: dict[Spot, tuple[str, Instant]]) -> None:
        self._left = left
        self._chains = Counter((spot.table, chain) for spot, (chain, _) in left.items())

    def those(self, spots: Iterable[Spot]) -> set[Spot]:
        """Which of these it is."""
        return {spot for spot in spots if spot in self._left}

    def end(self, spot: Spot) -> Instant:
        """When it ends; 0: it is not left open."""
        return self._left[spot][1] if spot in self._left else 0

    def keep(self, spots: Iterable[Spot]) -> None:
        """Forget all but these: they are not guarded any more."""
        kept = set(spots)
        self._left = {spot: each for spot, each in self._left.items() if spot in kept}
        self._chains = Counter((spot.table, chain) for spot, (chain, _) in self._left.items())

    def take(self, spots: Iterable[Spot]) -> list[Message]:
        """These are pointed elsewhere: what deletes the chains to which nothing points after that."""
        over: set[tuple[Ref, str]] = set()
        for spot in spots:
            if spot in self._left:
                chain = (spot.table, self._left.pop(spot)[0])
                self._chains[chain] -= 1
                if not self._chains[chain]:
                    over.add(chain)
        return layout.end_sessions(sorted(over))


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
