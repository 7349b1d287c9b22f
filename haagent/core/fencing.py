"""Fencing: which holder that lapsed must be made sure of before a group is claimed from it, and what came of asking.

The lease alone makes a claim safe (docs/SAFETY.md). Whoever wants more than that configures a plug-in: then a record of
another node that was not released is claimed from only after the plug-in confirmed that this incarnation is fenced. The
claim keeps all its guards and its waits; fencing can only make it later.

It is about incarnations: several groups of one are fenced once, and the confirmation counts until no record names that
incarnation any more, or it shows life again. A refusal and a time-out are tried again, after a pause that grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from haagent.core.asking import Ask, Asking
from haagent.core.context import Context, Timer
from haagent.core.fence import Fence, FenceConfirmed, FenceRefused, FenceTimedOut
from haagent.core.model import Rules
from haagent.core.records import OwnerRecord
from haagent.core.units import MS, NEVER, Duration, Instant
from haagent.core.view import View

ALARM = "fencing"
FIRST_PAUSE: Duration = 1_000 * MS
LONGEST_PAUSE: Duration = 16_000 * MS
"""Between attempts at one incarnation: doubled after each that failed, up to this."""
OVERDUE: Duration = 2_000 * MS
"""How much later than asked for an answer may come: whoever is to give it may have to kill what hangs first."""


# --- what a group's decision needs to know


@dataclass(frozen=True, slots=True)
class Clear:
    """Nobody is to be fenced before a claim, or it is confirmed."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """This node is to be fenced first, and nothing has come of it yet."""

    node: str


@dataclass(frozen=True, slots=True)
class Resting:
    """This node is to be fenced first, which failed; it is tried again from `until` on."""

    node: str
    until: Instant


Verdict = Clear | Awaited | Resting
CLEAR: Final = Clear()


def victim(view: View, rules: Rules, group: str) -> OwnerRecord | None:
    """The record of whoever must be fenced before the group is claimed, once the claim's wait is over.

    Nobody after a clean release, and none of our own name: that is our predecessor, or this machine before it booted.
    """
    record = view.record(group) if rules.fence else None
    return record if record is not None and not record.clean and record.node != rules.node else None


# --- what is known of each incarnation


@dataclass(frozen=True, slots=True)
class _Asked:
    ask: Ask
    node: str
    failures: int


@dataclass(frozen=True, slots=True)
class _Failed:
    node: str
    failures: int
    until: Instant


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """`alive_until`: the evidence of the incarnation's life at that time. Newer evidence voids the confirmation."""

    node: str
    alive_until: Instant


class Fences:
    """What came of fencing, by incarnation."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, _Asked | _Failed | _Confirmed] = {}
        self._number = 0

    def verdict(self, group: str) -> Verdict:
        """Whether a claim of the group must wait for a fencing."""
        context = self._context
        record = victim(context.view, context.rules, group)
        if record is None:
            return CLEAR
        match self._known.get(record.incarnation):
            case _Confirmed(_, alive_until) if self._alive_until(record.incarnation) <= alive_until:
                return CLEAR
            case _Failed(node, _, until) if context.now < until:
                return Resting(node, until)
            case _:
                return Awaited(record.node)

    def ask(self, group: str) -> None:
        """A group waits for the fencing of who held it: ask for that, unless it is asked for already."""
        context = self._context
        record = victim(context.view, context.rules, group)
        assert record is not None, "a group waits for the fencing of nobody"
        incarnation = record.incarnation
        known = self._known.get(incarnation)
        if isinstance(known, _Asked):
            return
        self._number += 1
        ask = Ask(Asking.FENCE, incarnation, self._number)
        failures = known.failures if isinstance(known, _Failed) else 0
        self._known[incarnation] = _Asked(ask, record.node, failures)
        until = context.now + context.rules.fence
        context.timers.set(Timer("fence", incarnation), until + OVERDUE)
        context.out.append(Fence(ask, group, record.node, incarnation, record.epoch, until))

    def answered(self, event: FenceConfirmed | FenceRefused | FenceTimedOut) -> None:
        """An answer. One to another question than the newest about its incarnation is late, and says nothing."""
        incarnation = event.ask.name
        known = self._known.get(incarnation)
        if not isinstance(known, _Asked) or known.ask != event.ask:
            return
        self._context.timers.set(Timer("fence", incarnation), NEVER)
        match event:
            case FenceConfirmed():
                self._known[incarnation] = _Confirmed(known.node, self._alive_until(incarnation))
                self._calm()
            case FenceRefused(_, why):
                self._failed(incarnation, known, f"refused: {why}")
            case FenceTimedOut():
                self._failed(incarnation, known, "timed out")
            case _:
                assert_never(event)

    def overdue(self, incarnation: str) -> None:
        """No answer came at all."""
        known = self._known.get(incarnation)
        if isinstance(known, _Asked):
            self.answered(FenceTimedOut(known.ask))

    def forget(self) -> None:
        """Drop what no record asks for any more, and the alarms about it."""
        if not self._known:
            return
        view, rules = self._context.view, self._context.rules
        wanted = {record.incarnation for name in rules.groups if (record := victim(view, rules, name)) is not None}
        for incarnation, known in list(self._known.items()):
            revived = isinstance(known, _Failed) and view.alive(incarnation, self._context.now)
            if not isinstance(known, _Asked) and (incarnation not in wanted or revived):
                del self._known[incarnation]
        self._calm()

    def _failed(self, incarnation: str, known: _Asked, what: str) -> None:
        pause = min(FIRST_PAUSE << min(known.failures, 16), LONGEST_PAUSE)
        self._known[incarnation] = _Failed(known.node, known.failures + 1, self._context.now + pause)
        if self._context.alarms.get((ALARM, known.node)) != what:
            self._context.calm(ALARM, known.node)
            self._context.alarm(ALARM, known.node, what)

    def _calm(self) -> None:
        """The alarm about a node is over with the last of its incarnations that could not be fenced."""
        troubled = {
            known.node
            for known in self._known.values()
            if isinstance(known, _Failed) or (isinstance(known, _Asked) and known.failures)
        }
        for kind, node in list(self._context.alarms):
            if kind == ALARM and node not in troubled:
                self._context.calm(ALARM, node)

    def _alive_until(self, incarnation: str) -> Instant:
        known = self._context.view.evidence.get(incarnation)
        return known.expires_at if known is not None else 0
