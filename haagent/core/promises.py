"""Failsafe, the candidate's side: what this node has promised to other owners, and when it may promise at all.

A promise binds for `ttl * 1.01 + guard` from when the heartbeat was received, whatever etcd shows meanwhile, but for a
clean release or a later epoch (`View.claimable_at`). It is given only about what etcd has shown: that the asker owns
the group by that epoch. And only by a node none of whose claims of the group can still be done:

- its own claims whose outcome is not known may yet be;
- so may those of an incarnation before it, until the member key is written anew, which every claim is guarded by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from haagent.core.context import Context
from haagent.core.heartbeat import HeartbeatReceived, SendPromise, Tenure
from haagent.core.model import Commit, Committed, Refused
from haagent.core.records import Kind, OwnerRecord, Revision

OPEN_KEPT = 16
"""Claims of a group that are told apart by their number; of more, only by what would refuse them."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A claim that may still be done: while the record has that revision, by that epoch. Number 0: several."""

    number: int
    revision: Revision
    epoch: int


class Promises:
    """Gives promises, and keeps the claims that forbid them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: dict[str, set[_Open]] = {}

    def claimed(self, commit: Commit) -> None:
        """A claim is asked for."""
        guard = next(guard for guard in commit.guards if guard.key.kind is Kind.OWNERS)
        record = next(put.value for put in commit.puts if isinstance(put.value, OwnerRecord))
        known = self._open.setdefault(guard.key.name, set())
        if len(known) >= OPEN_KEPT:
            known = self._open[guard.key.name] = {replace(one, number=0) for one in known}
        known.add(_Open(commit.ask.number, guard.revision, record.epoch))

    def answered(self, event: Committed | Refused) -> None:
        """What became of a claim is known."""
        known = self._open.get(event.ask.name, set())
        known.difference_update([one for one in known if one.number == event.ask.number])

    def start_over(self) -> None:
        """Another history of etcd begins: claims of the old one will not be done in it."""
        self._open.clear()

    def asked(self, event: HeartbeatReceived) -> None:
        """An owner asks for a promise: it gets one about as much as can be promised."""
        context = self._context
        view, rules = context.view, context.rules
        own = view.members.get(rules.node)
        if own is None or own.incarnation != rules.incarnation:
            return
        granted = tuple(tenure for tenure in event.tenures if self._may(event, tenure))
        if not granted:
            return
        for tenure in granted:
            view.promise(tenure, event.ttl, rules, context.now)
        context.out.append(SendPromise(event.node, rules.machine, event.incarnation, event.round, granted))

    def _may(self, event: HeartbeatReceived, tenure: Tenure) -> bool:
        record = self._context.view.record(tenure.group)
        return (
            record is not None
            and not record.clean
            and (record.node, record.incarnation, record.epoch) == (event.node, event.incarnation, tenure.epoch)
            and not self._claims(tenure.group)
        )

    def _claims(self, group: str) -> bool:
        """Whether a claim of the group may still be done.

        Over a record it is refused once that has changed; over none, once its epoch is given to another.
        """
        view = self._context.view
        revision, epoch = view.record_revision(group), view.epochs.get(group, 0)
        known = self._open.get(group, set())
        known.difference_update(
            [one for one in known if (revision != one.revision if one.revision else epoch >= one.epoch)]
        )
        return bool(known)
