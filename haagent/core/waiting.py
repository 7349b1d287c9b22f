"""Who waits for promises: a group may have no owner for minutes, because promises may carry who is not seen."""

from __future__ import annotations

from haagent.core.context import Context
from haagent.core.evidence import patience
from haagent.core.units import NEVER, Duration, S

ALARM = "waits-for-promises"
UNNAMED = "an owner that etcd names no more"


def tell(group: str, owning: bool, context: Context) -> None:
    """Raise the alarm while nobody renews the group, and this node must not claim it for longer than a ttl."""
    left = 0 if owning else _left(group, context)
    if left <= patience(context.rules.ttl, context.rules.guard):
        context.calm(ALARM, group)
        return
    record = context.view.record(group)
    whom = record.node if record is not None and not record.clean else UNNAMED
    context.alarm(ALARM, group, f"not claimed here for {-(-left // S)} s: promises may carry {whom}")


def _left(group: str, context: Context) -> Duration:
    view, now = context.view, context.now
    record, until = view.record(group), view.claimable_at(group, context.rules)
    renewed = record is not None and not record.clean and view.alive(record.incarnation, now)
    return 0 if until == NEVER or renewed else until - now
