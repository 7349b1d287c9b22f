"""Planned work, as a node keeps it: which failback windows are open, what was lost lately, and the alarms about it.

The decisions are in `haagent.core.policy`, which knows no state.
"""

from __future__ import annotations

from haagent.core import claims, policy
from haagent.core.claims import Situation
from haagent.core.context import Context
from haagent.core.damping import Losses
from haagent.core.lease import Held
from haagent.core.planned import Plans, WindowChanged
from haagent.core.states import GroupState, Leaving, Owning

PAUSED, DRAIN_WAITS, SWITCHOVER_WAITS = "paused", "drain-waits", "switchover-waits"


class Planning:
    """What of planned work a node remembers itself."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: set[str] = set()
        self._losses = Losses(context)

    def plans(self, group: str) -> Plans:
        """What a decision on the group rests on."""
        return Plans(self._context.wall_ahead, group in self._open, self._losses.damped_until(group))

    def damped(self, group: str) -> bool:
        """Whether this node goes last for the group."""
        return self._losses.damped_until(group) > 0

    def window(self, event: WindowChanged) -> None:
        """A failback window opened or closed."""
        (self._open.add if event.open else self._open.discard)(event.group)

    def lost(self, group: str, after: GroupState, faulty: bool, held: bool) -> bool:
        """The owner of a group became `after`. Notes and returns whether that is a loss, for a flaw of this node.

        `faulty`: its interfaces have faults; `held`: its lease runs. If neither, a release says that its kernel failed.
        """
        flawed = isinstance(after, Leaving) and after.to is None and (faulty or not held or after.release)
        if flawed:
            self._losses.lost(group)
        return flawed

    def forget(self, group: str) -> None:
        """The group is no longer configured."""
        self._open.discard(group)
        self._losses.forget(group)
        for kind in (DRAIN_WAITS, SWITCHOVER_WAITS):
            self._context.calm(kind, group)

    # --- alarms

    def tell_orders(self) -> None:
        """The cluster is paused, or no longer, or by somebody else."""
        self._tell(PAUSED, "cluster", f"by {by}" if (by := self._context.view.orders.paused) else "")

    def tell_damping(self, group: str) -> None:
        """This node goes last for the group, or no longer."""
        self._losses.tell(group)

    def tell_waiting(self, state: GroupState, at: Situation) -> None:
        """What an operator wants of this owner, and it can not do yet."""
        group = at.group.name
        lapsed = not isinstance(at.lease, Held) and claims.named(at.view, at.rules, group)
        self._tell(SWITCHOVER_WAITS, group, policy.switchover_waits(at) if isinstance(state, Owning) or lapsed else "")
        self._tell(DRAIN_WAITS, group, policy.drain_waits(at) if isinstance(state, Owning) else "")

    def concerns(self, group: str) -> bool:
        """Whether `tell_waiting` may have something to say: most of the time it has not."""
        context = self._context
        return (
            group in context.view.intents
            or context.rules.node in context.view.orders.drained
            or (SWITCHOVER_WAITS, group) in context.alarms
            or (DRAIN_WAITS, group) in context.alarms
        )

    def _tell(self, kind: str, subject: str, detail: str) -> None:
        if self._context.alarms.get((kind, subject), "") != detail:
            self._context.calm(kind, subject)
            if detail:
                self._context.alarm(kind, subject, detail)
