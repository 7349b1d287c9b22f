"""Several gates at once: a packet passes only if every one of them lets it, so all must be taken away to open.

Who flushes nftables leaves the classifiers, and who removes clsact leaves the tables. When one gate is taken away while
the agent runs, the others hold, and it is built again and opened for what is open, until the same deadline: the lease
goes on. A gate that fails is removed, so that what it closed does not stay closed for ever, and `tend` tries it again.
The keeper of the socket that owns the tables is here too: it begins and ends with the gate.
"""

from __future__ import annotations

import logging
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from haagent.adapters.gate.bpf import BpfGate
from haagent.adapters.gate.keeper import Keeper
from haagent.adapters.gate.nft import NftGate
from haagent.core.model import VirtualAddress
from haagent.core.units import Instant
from haagent.runtime.ports import Gate, GateClosedError, GateFailedError, GateKind

_LOG: Final = logging.getLogger("haagent.gate")

Lost = Callable[[str], None]


class Part(Gate, Protocol):
    """A gate that notices what others do to it."""

    def fileno(self) -> int: ...
    def hear(self) -> None: ...
    def counters(self) -> Mapping[str, int]: ...


Makers = Mapping[str, Callable[[Lost], Part]]


class Gates:
    """The `Gate` port. Belongs to the network namespace of the thread that makes it, and to one thread at a time.

    When `fileno` is readable, call `hear`; call `tend` now and then. `lost` is told why nothing holds any more: all is
    closed, and `renew` says so until every group has been closed. `failed` names the gates that should be there and are
    not, with the reason; `rebuilt` counts how often each was taken away and built again.
    """

    def __init__(self, lost: Lost, makers: Makers, keeper: Keeper | None = None) -> None:
        """Make those that the kernel has. GateFailedError: it has none of them."""
        self.failed: dict[str, str] = {}
        self.rebuilt: Counter[str] = Counter()
        self._lost = lost
        self._makers = makers
        self._keeper = keeper
        self._parts: dict[str, Part] = {}
        self._protected: tuple[tuple[VirtualAddress, ...], tuple[str, ...]] = (), ()
        self._open: dict[str, tuple[VirtualAddress, ...]] = {}
        self._until: Instant = 0
        self._doubtful: set[str] = set()
        self._poll = select.epoll()
        self._make_all()
        if keeper is not None:
            self._poll.register(keeper.fileno(), select.EPOLLIN)

    @property
    def holding(self) -> tuple[str, ...]:
        """The kinds that hold, each by itself."""
        return tuple(self._parts)

    @property
    def interfaces(self) -> frozenset[str]:
        """Where the eBPF gate is: it has none that is for all."""
        return frozenset[str]().union(*(part.interfaces for part in self._parts.values() if isinstance(part, BpfGate)))

    @property
    def uncovered(self) -> frozenset[str]:
        """The host's interfaces on which nothing ends what it answers, if the eBPF gate holds alone."""
        if tuple(self._parts) != (GateKind.BPF,):
            return frozenset()
        return frozenset(name for _, name in socket.if_nameindex()) - self.interfaces - {"lo"}

    @property
    def owned(self) -> bool:
        """Whether there is one among them that nobody else can change."""
        return any(isinstance(part, NftGate) and part.owned for part in self._parts.values())

    @property
    def kept_by(self) -> str:
        """Who holds the socket that owns the tables beside this process; empty: nobody."""
        return "" if self._keeper is None else self._keeper.holder

    # The port.

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str]) -> None:
        """Have the gates for just these addresses. Those that stay keep the state they have."""
        self._protected = tuple(addresses), tuple(interfaces)
        for kind, part in list(self._parts.items()):
            try:
                part.protect(*self._protected)
            except GateFailedError as error:
                self._drop(kind, str(error))

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        """Let just these addresses of these groups pass until then. GateClosedError: it came too late."""
        wanted = {group: tuple(addresses) for group, addresses in groups.items()}
        for kind, part in self._parts.items():
            try:
                part.open(wanted, until)
            except (GateClosedError, GateFailedError) as error:
                if isinstance(error, GateFailedError):
                    self._doubtful.add(kind)
                fresh = wanted.keys() - self._open.keys()
                self._each(lambda part, fresh=fresh: part.close(fresh))
                raise
        self._open |= wanted
        self._until = until

    def renew(self, until: Instant) -> None:
        """Let all that is open pass until then. Raises GateClosedError if any of it had closed: then all is closed."""
        for kind, part in list(self._parts.items()):
            try:
                _renew(part, until)
            except GateFailedError as error:
                self._drop(kind, str(error))
        self._until = until

    def close(self, groups: Iterable[str]) -> None:
        """Let nothing of these groups pass from now on: one gate that closes is enough."""
        those = set(groups)
        for group in those:
            self._open.pop(group, None)
        self._each(lambda part: part.close(those))

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        """Close those of these addresses that an earlier incarnation left open, and this one has not opened."""
        those = tuple(addresses)
        self._each(lambda part: part.sweep(those))

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        """By group: until when all gates let pass all of it that an earlier incarnation opened."""
        wanted = {group: tuple(addresses) for group, addresses in groups.items()}
        told = [part.left_until(wanted) for part in self._parts.values()]
        return {group: min(each[group] for each in told) for group in wanted if all(group in each for each in told)}

    # What the port does not have.

    def fileno(self) -> int:
        """Readable when somebody may have changed a gate, or the keeper has ended."""
        return self._poll.fileno()

    def hear(self) -> None:
        """Learn what others have done to the gates and to the keeper. GateFailedError: none is left."""
        for kind, part in list(self._parts.items()):
            try:
                part.hear()
            except GateFailedError as error:
                self._drop(kind, str(error))
        if self._keeper is not None:
            self._keeper.hear()

    def tend(self) -> None:
        """Look after what failed, and try to have it again. GateFailedError: none is left."""
        if self._keeper is not None:
            self._keeper.tend()
        doubtful, self._doubtful = self._doubtful, set()
        for kind in doubtful & self._parts.keys():
            try:
                self._parts[kind].protect(*self._protected)
            except GateFailedError as error:
                self._drop(kind, str(error))
        for kind, why in list(self.failed.items()):
            try:
                part = self._make(kind)
                part.protect(*self._protected)
                part.open(self._open, self._until)
            except (GateClosedError, GateFailedError):
                if kind in self._parts:
                    self._drop(kind, why)
            else:
                _LOG.info("the %s gate holds as well", kind)
                del self.failed[kind]

    def counters(self) -> Mapping[str, int]:
        """Packets dropped, by protocol: what one gate drops, the next one does not see."""
        counted: Counter[str] = Counter()
        for part in self._parts.values():
            counted.update(part.counters())
        return counted

    def remove(self) -> None:
        """Have no gate any more: only when the kernel has none of the addresses. Then `leave`."""
        self._each(lambda part: part.remove(), every=True)
        if self._keeper is not None:
            self._keeper.release()
        self.leave()

    def leave(self) -> None:
        """Let go: what is open ends at its time, and the next incarnation takes the gates over."""
        for part in self._parts.values():
            part.leave()
        if self._keeper is not None:
            self._keeper.leave()
        # What may still be called finds nothing to do.
        self._parts, self.failed, self._keeper = {}, {}, None
        self._poll.close()

    # One of them.

    def _make_all(self) -> None:
        for kind in self._makers:
            try:
                self._make(kind)
            except GateFailedError as error:
                self.failed[kind] = str(error)
        if not self._parts:
            raise GateFailedError("; ".join(f"{kind}: {why}" for kind, why in self.failed.items()))
        for kind, why in self.failed.items():
            _LOG.warning("the %s gate cannot be had (%s): %s holds alone", kind, why, " and ".join(self._parts))

    def _make(self, kind: str) -> Part:
        part = self._makers[kind](lambda why: self._taken(kind, why))
        self._parts[kind] = part
        self._poll.register(part.fileno(), select.EPOLLIN)
        if isinstance(part, NftGate) and part.owned and self._keeper is not None:
            self._keeper.keep(part.owner)
        return part

    def _drop(self, kind: str, why: str) -> None:
        """Go on without it. GateFailedError: it is the last, or cannot be removed and might stay closed for ever."""
        if len(self._parts) == 1:
            raise GateFailedError(why)
        part = self._parts.pop(kind)
        self._poll.unregister(part.fileno())
        if kind not in self.failed:
            _LOG.error("the %s gate fails (%s): %s holds alone", kind, why, " and ".join(self._parts))
        self.failed[kind] = why
        part.remove()

    def _taken(self, kind: str, why: str) -> None:
        """Somebody took it away, and it is there again, closed."""
        self.rebuilt[kind] += 1
        others = [each for each in self._parts if each != kind]
        if not others:
            self._lost(why)
            return
        try:
            self._parts[kind].close(self._open)
            self._parts[kind].open(self._open, self._until)
        except (GateClosedError, GateFailedError) as error:
            self._lost(f"{why}; {error}")
        else:
            _LOG.warning("the %s gate is there again: %s held meanwhile", kind, " and ".join(others))

    def _each(self, do: Callable[[Part], None], *, every: bool = False) -> None:
        """Do it with every gate. GateFailedError: it was done with none of them, or not with `every` one."""
        errors: list[GateFailedError] = []
        for part in self._parts.values():
            try:
                do(part)
            except GateFailedError as error:
                errors.append(error)
        if errors and (every or len(errors) == len(self._parts)):
            raise errors[0]
        for error in errors:
            _LOG.error("one of the gates fails: %s", error)


def _renew(part: Part, until: Instant) -> None:
    try:
        part.renew(until)
    except (GateClosedError, GateFailedError):
        part.hear()  # if somebody took it away, it is there again after this, and open
        part.renew(until)
