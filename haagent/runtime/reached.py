"""Whether the addresses that other nodes own answer this node: what was asked of each, and what came back.

One round for each address: ask for its MAC address (ARP, neighbour solicitation); ask that MAC address for an echo
from the address, and, to compare with, for one from an address that is the owner's own. The address answers if the echo
comes, or if only its MAC address comes and the owner answers no echo at all, as with a firewall that drops ICMP.

Values and the time go in, questions and verdicts come out: no sockets here (`haagent.adapters.reach` has them).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Duration, Instant, S

SOON: Final[Duration] = 100 * MS
"""Between two rounds of an address that has not answered since its owner changed, or has just missed a round."""
OFTEN: Final[Duration] = 1 * S
"""Between two rounds of an address that answers."""
MISSES: Final = 5
PATIENCE: Final[Duration] = 2 * S
"""An address does not answer once it missed so many rounds in a row, over that time at least."""
REMEMBERED: Final = 4096
"""Echo requests whose answers are recognised: the newest."""


class Answers(StrEnum):
    """What the rounds say of a group."""

    PENDING = "pending"
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Target:
    """An address that another node owns by `epoch`. `control`: packed, the owner's own of the same family, if known."""

    group: str
    epoch: int
    address: VirtualAddress
    control: bytes | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a group's addresses. `silent`: those that do not answer, each with how."""

    epoch: int
    answers: Answers
    silent: tuple[str, ...] = ()


@dataclass(slots=True)
class _Round:
    mac: bytes | None = None
    echo: bool = False
    control: bool = False

    @property
    def good(self) -> bool:
        return self.mac is not None and (self.echo or not self.control)


@dataclass(slots=True)
class _Entry:
    target: Target
    next_at: Instant = 0
    round: _Round | None = None
    last: _Round = field(default_factory=_Round)
    answers: Answers = Answers.PENDING
    missed: int = 0
    missed_since: Instant = 0


class Reached:
    """The rounds of all addresses that are followed."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, VirtualAddress], _Entry] = {}
        self._queue: deque[tuple[str, VirtualAddress]] = deque()
        self._by_place: dict[tuple[str, bytes], list[_Entry]] = {}
        self._echoes: dict[int, tuple[_Round, bool]] = {}
        self._sequence = 0

    def follow(self, targets: Iterable[Target]) -> None:
        """Ask for just these from now on. What is known of an address stays while its owner's epoch does."""
        wanted = {(target.group, target.address): target for target in targets}
        if {key: entry.target for key, entry in self._entries.items()} == wanted:
            return
        before, self._entries = self._entries, {}
        for key, target in wanted.items():
            old = before.get(key)
            if old is not None and old.target.epoch == target.epoch:
                old.target = target
            self._entries[key] = old if old is not None and old.target.epoch == target.epoch else _Entry(target)
        self._queue = deque(self._entries)
        self._by_place = {}
        for entry in self._entries.values():
            place = entry.target.address.interface, entry.target.address.address
            self._by_place.setdefault(place, []).append(entry)

    def begin(self, now: Instant, most: int, new: int = 0) -> list[Target]:
        """Those whose next round begins now, `most` at once, in turn. The round before it is over.

        Of those that were never asked in their owner's epoch, so many as `new` come first, beside the others.
        """
        found = self._some(now, new, lambda entry: entry.round is None)
        return found + self._some(now, most, lambda entry: now >= entry.next_at)

    def _some(self, now: Instant, most: int, due: Callable[[_Entry], bool]) -> list[Target]:
        found: list[Target] = []
        for _ in range(len(self._queue)):
            if len(found) == most:
                break
            key = self._queue[0]
            self._queue.rotate(-1)
            entry = self._entries[key]
            if not due(entry):
                continue
            if entry.round is not None:
                _conclude(entry, entry.round, now)
            entry.round = _Round()
            settled = entry.answers is Answers.NO or (entry.answers is Answers.YES and not entry.missed)
            entry.next_at = now + (OFTEN if settled else SOON)
            found.append(entry.target)
        return found

    def resolved(self, interface: str, address: bytes, mac: bytes) -> list[tuple[Target, int, int]]:
        """The address is said to be at `mac`: returned are the targets to send echo requests for there now.

        Each with the sequence numbers for the address itself and for the owner's own. Only the first answer of a round
        is asked on.
        """
        found: list[tuple[Target, int, int]] = []
        for entry in self._by_place.get((interface, address), ()):
            if entry.round is not None and entry.round.mac is None:
                entry.round.mac = mac
                found.append((entry.target, self._number(entry.round, False), self._number(entry.round, True)))
        return found

    def echoed(self, sequence: int) -> None:
        """The echo request with this number was answered."""
        asked = self._echoes.pop(sequence, None)
        if asked is not None:
            asked_in, control = asked
            if control:
                asked_in.control = True
            else:
                asked_in.echo = True

    def verdicts(self, now: Instant) -> Mapping[str, Verdict]:
        """What is known, by group. A round that succeeded counts at once."""
        found: dict[str, list[_Entry]] = {}
        for entry in self._entries.values():
            if entry.round is not None and entry.round.echo:
                _conclude(entry, entry.round, now)
            found.setdefault(entry.target.group, []).append(entry)
        return {group: _verdict(entries) for group, entries in found.items()}

    def _number(self, asked_in: _Round, control: bool) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._echoes.pop(self._sequence, None)
        self._echoes[self._sequence] = asked_in, control
        if len(self._echoes) > REMEMBERED:
            del self._echoes[next(iter(self._echoes))]
        return self._sequence


def _conclude(entry: _Entry, asked: _Round, now: Instant) -> None:
    entry.last = asked
    if asked.good:
        entry.answers, entry.missed = Answers.YES, 0
        return
    if not entry.missed:
        entry.missed_since = now
    entry.missed += 1
    if entry.missed >= MISSES and now - entry.missed_since >= PATIENCE:
        entry.answers = Answers.NO


def _verdict(entries: list[_Entry]) -> Verdict:
    said = {entry.answers for entry in entries}
    answers = next(one for one in (Answers.NO, Answers.PENDING, Answers.YES) if one in said)
    silent = tuple(_silence(entry) for entry in entries if entry.answers is Answers.NO)
    return Verdict(entries[0].target.epoch, answers, silent)


def _silence(entry: _Entry) -> str:
    address = entry.target.address
    what = "ARP" if len(address.address) == 4 else "neighbour solicitations"
    missing = f"answers no {what}" if entry.last.mac is None else f"answers {what}, but no ICMP echo requests"
    return f"{ip_address(address.address)} {missing} on {address.interface}"
