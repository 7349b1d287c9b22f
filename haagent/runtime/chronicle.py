"""What has happened on this node, for whoever asks later: changes of role, alarms, and since when the kernel answers.

An observer of the pump. *Answers*: the kernel confirmed the addresses of the newest install. *Ceased*: their removal
was begun, which closes the gate first; or the lease lapsed, and the kernel had closed the gate when it was over; or
the kernel was found to have closed it. All is bounded, and nothing is written down: a new incarnation knows nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from haagent.core.model import (
    AddressesInstalled,
    Alarm,
    Effect,
    Event,
    GateClosed,
    InstallAddresses,
    LeaseChanged,
    Listed,
    RemoveAddresses,
    Role,
    RoleChanged,
    RulesChanged,
    Watched,
)
from haagent.core.records import Kind, OwnerRecord, Seen
from haagent.core.units import Duration, Instant, Wall

KEPT: Final = 100
"""Changes of roles, and of the lease, that are remembered."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was so, by the clock that nobody sets and by the one that people read."""

    boot: Instant
    wall: Wall


@dataclass(frozen=True, slots=True)
class Change:
    """A group changed its role. `gap`: how long nobody answered before this node did; None: not known (yet)."""

    at: Moment
    group: str
    before: Role
    after: Role
    why: str
    epoch: int
    gap: Duration | None = None


@dataclass(frozen=True, slots=True)
class LeaseTurn:
    """The lease began to run, or lapsed."""

    at: Moment
    held: bool
    why: str


@dataclass(frozen=True, slots=True)
class Voice:
    """Whether the kernel answers for a group; since when, or until when it did. None: not since the agent started."""

    answering: bool = False
    answers_since: Moment | None = None
    silent_since: Moment | None = None


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm that is not over."""

    kind: str
    subject: str
    detail: str
    since: Moment


@dataclass(frozen=True, slots=True)
class _Reign:
    """Who owns a group by the newest epoch seen, and who did by the one before (empty: not known)."""

    epoch: int
    node: str
    before: str


class Chronicle:
    """Observes one node. `wall` reads the wall clock."""

    def __init__(self, node: str, wall: Callable[[], Wall]) -> None:
        self.started: Wall = wall()
        self._node = node
        self._wall = wall
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._leases: deque[LeaseTurn] = deque(maxlen=KEPT)
        self._voices: dict[str, Voice] = {}
        self._alarms: dict[tuple[str, str], Raised] = {}
        self._installing: dict[str, int] = {}
        self._reigns: dict[str, _Reign] = {}

    # --- what it knows

    @property
    def changes(self) -> tuple[Change, ...]:
        """The last changes of roles, oldest first."""
        return tuple(self._changes)

    @property
    def leases(self) -> tuple[LeaseTurn, ...]:
        """The last times that the lease began to run or lapsed, oldest first."""
        return tuple(self._leases)

    @property
    def alarms(self) -> tuple[Raised, ...]:
        """The alarms that are not over, oldest first."""
        return tuple(self._alarms.values())

    @property
    def voices(self) -> Mapping[str, Voice]:
        """Every group for which this node answered since it started."""
        return self._voices

    def voice(self, group: str) -> Voice:
        """Whether the kernel answers for the group, and since when."""
        return self._voices.get(group, Voice())

    def predecessor(self, group: str) -> str:
        """Who owned the group before the present owner, empty if that was not seen."""
        reign = self._reigns.get(group)
        return reign.before if reign is not None else ""

    def learn_silence(self, group: str, node: str, since: Instant, answered: Instant = 0) -> None:
        """Another node's kernel ceased to answer then, having begun to at `answered`, both on our clock.

        Now the gap of our taking over may be known. A node that was killed last said when it ceased the time before.
        """
        if since < answered:
            return
        reign, voice = self._reigns.get(group), self._voices.get(group)
        if reign is None or voice is None or voice.answers_since is None or reign.before != node:
            return
        for at, change in enumerate(self._changes):
            taken = change.group == group and change.after is Role.MASTER and change.epoch == reign.epoch
            if taken and change.gap is None and change.at.boot == voice.answers_since.boot:
                self._changes[at] = replace(change, gap=max(0, change.at.boot - since))

    # --- the pump's observer

    def heard(self, event: Event, now: Instant) -> None:
        """An event is about to be fed."""
        match event:
            case AddressesInstalled(group, serial):
                if self._installing.get(group) == serial:
                    self._answers(group, now)
            case GateClosed():
                self._all_cease(now)
            case Listed(seen=seen) | Watched(seen=seen):
                self._note_owners(seen)
            case RulesChanged(rules):
                kept = {name for name, voice in self._voices.items() if voice.answering} | rules.groups.keys()
                self._voices = {name: voice for name, voice in self._voices.items() if name in kept}
            case _:
                pass

    def done(self, effect: Effect, now: Instant) -> None:
        """An effect is about to be performed."""
        match effect:
            case InstallAddresses(group, serial):
                self._installing[group] = serial
            case RemoveAddresses(group):
                self._installing.pop(group, None)
                self._ceases(group, now)
            case LeaseChanged(held, why, late):
                self._leases.append(LeaseTurn(self._moment(now), held, why))
                if not held:
                    self._all_cease(now, late)
            case RoleChanged():
                self._note_change(effect, now)
            case Alarm(kind, subject, detail, True):
                self._alarms[kind, subject] = Raised(kind, subject, detail, self._moment(now))
            case Alarm(kind, subject):
                self._alarms.pop((kind, subject), None)
            case _:
                pass

    def _note_change(self, effect: RoleChanged, now: Instant) -> None:
        gap = None
        if effect.after is Role.MASTER:
            self._note_reign(effect.group, effect.epoch, self._node)  # our own write may be ahead of the watch
            gap = self._own_gap(effect.group)
        at = self._moment(now)
        self._changes.append(Change(at, effect.group, effect.before, effect.after, effect.why, effect.epoch, gap))

    def _answers(self, group: str, now: Instant) -> None:
        before = self.voice(group)
        if not before.answering:
            self._voices[group] = replace(before, answering=True, answers_since=self._moment(now))

    def _all_cease(self, now: Instant, late: Duration = 0) -> None:
        for group in tuple(self._voices):
            self._ceases(group, now, late)

    def _ceases(self, group: str, now: Instant, late: Duration = 0) -> None:
        before = self.voice(group)
        if before.answering:
            self._voices[group] = replace(before, answering=False, silent_since=self._moment(now, late))

    def _own_gap(self, group: str) -> Duration | None:
        """How long nobody answered, if it was this node that did before."""
        reign, voice = self._reigns.get(group), self.voice(group)
        if reign is None or reign.before != self._node or voice.answers_since is None or voice.silent_since is None:
            return None
        return max(0, voice.answers_since.boot - voice.silent_since.boot)

    def _note_owners(self, seen: Iterable[Seen]) -> None:
        for one in seen:
            if one.key.kind is Kind.OWNERS and isinstance(one.value, OwnerRecord):
                self._note_reign(one.key.name, one.value.epoch, one.value.node)

    def _note_reign(self, group: str, epoch: int, node: str) -> None:
        known = self._reigns.get(group)
        if known is None or epoch > known.epoch:
            before = known.node if known is not None and epoch == known.epoch + 1 else ""
            self._reigns[group] = _Reign(epoch, node, before)

    def _moment(self, now: Instant, late: Duration = 0) -> Moment:
        return Moment(now - late, self._wall() - late)
