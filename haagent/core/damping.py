"""Flap damping: a node that keeps losing a group lets others go first, for a while.

Each node counts its own losses: its lease lapsed, its interface or its kernel failed while it owned. What was planned
(a handover, a stop, a reload that removes the group) is none. With the last `losses` of them `within` the time, the
node's standing is `LEAST` (`haagent.core.fitness`) and it claims late (`haagent.core.policy`), until the oldest of them
is out of the window. An agent that is started anew has lost nothing.
"""

from __future__ import annotations

from haagent.core.context import Context, Timer
from haagent.core.units import NEVER, Instant, S

ALARM = "damped"


class Losses:
    """What this node lost, by group: when, as often as counts."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lost: dict[str, tuple[Instant, ...]] = {}

    def lost(self, group: str) -> None:
        """The group was lost just now, and not as planned."""
        damping = self._context.rules.groups[group].damping
        if damping.losses:
            self._lost[group] = (*self._lost.get(group, ()), self._context.now)[-damping.losses :]

    def damped_until(self, group: str) -> Instant:
        """Until when this node goes last for the group; 0 if it does not."""
        lost = self._lost.get(group)
        if lost is None:
            return 0
        damping = self._context.rules.groups[group].damping
        if not damping.losses or len(lost) < damping.losses:
            return 0
        until = lost[-damping.losses] + damping.within
        return until if until > self._context.now else 0

    def tell(self, group: str) -> None:
        """Raise or end the alarm, and wake up when it is over."""
        context, until = self._context, self.damped_until(group)
        context.timers.set(Timer("damping", group), until or NEVER)
        if until:
            damping = context.rules.groups[group].damping
            context.alarm(ALARM, group, f"lost {damping.losses} times within {damping.within // S} s: it goes last")
        else:
            context.calm(ALARM, group)

    def forget(self, group: str) -> None:
        """The group is no longer configured."""
        self._lost.pop(group, None)
        self._context.timers.set(Timer("damping", group), NEVER)
        self._context.calm(ALARM, group)
