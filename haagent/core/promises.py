"""Failsafe, the candidate's side: what this node promises to owners that ask.

A promise binds for `ttl * 1.01 + guard` from when the heartbeat was received, whatever etcd shows meanwhile, but for a
clean release or a later epoch (`View.claimable_at`). It is given only about what etcd has shown: that the asker owns
the group by that epoch, and that the record carries failsafe. A claim that was asked for before, and may still be done,
does no harm: it was asked when the owner's right by the record of that revision had ended, and a right that begins
again has a record of another revision.
"""

from __future__ import annotations

from haagent.core.context import Context
from haagent.core.heartbeat import HeartbeatReceived, SendPromise, Tenure
from haagent.core.view import View


def promise(event: HeartbeatReceived, context: Context) -> None:
    """An owner asks for a promise: it gets one about as much as can be promised."""
    view, rules = context.view, context.rules
    granted = tuple(tenure for tenure in event.tenures if _owns(event, tenure, view))
    for tenure in granted:
        view.promise(tenure, event.ttl, rules, context.now)
    if granted:
        context.out.append(SendPromise(event.node, rules.machine, event.incarnation, event.round, granted))


def _owns(event: HeartbeatReceived, tenure: Tenure, view: View) -> bool:
    record = view.record(tenure.group)
    return (
        record is not None
        and not record.clean
        and record.failsafe > 0  # else others do not wait for what we promise
        and (record.node, record.incarnation, record.epoch) == (event.node, event.incarnation, tenure.epoch)
    )
