"""What the peers say of the addresses that this node owns: an alarm, and by configuration a fault for a while.

Nothing that a peer says makes a node an owner, or lets it hold for longer. It can only make an owner let go.
"""

from __future__ import annotations

from haagent.core.context import Context, Timer
from haagent.core.reach import ReachReported
from haagent.core.units import NEVER, Duration, Instant, S

ALARM = "unreachable"
FAULTY_FOR: Duration = 30 * S
"""A node that was unreachable as the owner does not own that long: only an owner can be asked whether it answers."""


class Reach:
    """Keeps the groups that this node was unreachable for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._faulty: dict[str, tuple[Instant, str]] = {}

    def tell(self, event: ReachReported) -> None:
        """Raise or end the alarm about a group that this node owns by that epoch."""
        before = self._context.alarms.get((ALARM, event.group))
        if before != event.silent:
            self._context.calm(ALARM, event.group)
        if event.silent:
            self._context.alarm(ALARM, event.group, event.silent)

    def left(self, group: str) -> None:
        """The node owns the group no longer: nobody asks it now."""
        self._context.calm(ALARM, group)

    def bar(self, group: str, silent: str) -> None:
        """The node is not to own the group for a while."""
        until = self._context.now + FAULTY_FOR
        self._faulty[group] = until, silent
        self._context.timers.set(Timer("reach", group), until)

    def forget(self, group: str) -> None:
        """The group is no longer configured, or the time is over."""
        self._faulty.pop(group, None)
        self._context.timers.set(Timer("reach", group), NEVER)

    def faults(self, group: str) -> tuple[str, ...]:
        """Why this node must not own the group now; empty when it may."""
        known = self._faulty.get(group)
        if known is None or known[0] <= self._context.now:
            return ()
        return (f"it owned the group and did not answer: {known[1]}; it may own again {FAULTY_FOR // S} s later",)
