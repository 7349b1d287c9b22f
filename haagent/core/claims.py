"""What is written of ownership: claims, handovers, releases and wishes, and the guards that make them safe."""

from __future__ import annotations

from dataclasses import dataclass, replace

from haagent.core.candidates import candidates
from haagent.core.fencing import CLEAR, Verdict
from haagent.core.heartbeat import NO_OFFER, Offer
from haagent.core.lease import Held, Lease
from haagent.core.model import Ask, Asking, Commit, GroupRules, Rules
from haagent.core.planned import UNPLANNED, Plans
from haagent.core.records import Guard, HistoryEntry, Intent, Key, Kind, LeaseValue, OwnerRecord, Put, Standing
from haagent.core.units import Instant
from haagent.core.view import View

PREEMPT = "preempt"
"""By whom an intent is that a better candidate wrote, and no operator."""
_HANDOVER = "handover from "
HISTORY_KEPT = 100
"""Changes of owner kept of each group: each new one removes the one that lies that many epochs back."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision rests on. `faults`: why this node must not own the group now, by name; empty if it may.

    `fence`: whether a claim must wait until who held the group is fenced. `unseen`: the faults are not known yet, for
    the kernel has not told of all interfaces that the group needs. `failsafe`: whether promises carry what this node
    owns; `carried`: and this group, by its record. `until`: when the right to it ends, by lease or promises.
    """

    rules: Rules
    group: GroupRules
    lease: Lease
    view: View
    standing: Standing
    faults: tuple[str, ...]
    now: Instant
    fence: Verdict = CLEAR
    unseen: bool = False
    plans: Plans = UNPLANNED
    failsafe: bool = False
    carried: bool = False
    until: Instant = 0
    offer: Offer = NO_OFFER


def is_ours(view: View, rules: Rules, lease: Lease, group: str) -> bool:
    """Whether the newest record makes this node the owner: it names us, and the lease has run without a break since.

    One of the revision at which the chain began was written by that renewal, over the record as it was (`Renewals`).
    And it tells challengers that know nothing else of us how long to wait: our lease must not run longer. Nor may the
    lease key have been made anew since: only the record shows that to who saw the key gone before and after.
    """
    record = view.record(group)
    return (
        record is not None
        and isinstance(lease, Held)
        and named(view, rules, group)
        and view.record_revision(group) >= lease.since
        and view.record_revision(group) >= lease.created
        and lease.ttl <= record.ttl
    )


def named(view: View, rules: Rules, group: str) -> bool:
    """Whether the newest record names this incarnation, ours to act on or not."""
    record = view.record(group)
    return record is not None and record.incarnation == rules.incarnation and not record.clean


def loss(at: Situation) -> str:
    """Why what was owned is owned no longer."""
    if not isinstance(at.lease, Held) and not at.failsafe:
        return "the lease lapsed"
    record = at.view.record(at.group.name)
    if record is None:
        return "the ownership record is gone or unreadable"
    return f"the record names {record.node}" if record.node != at.rules.node else "the record is older than the lease"


def epoch(at: Situation) -> int:
    """The highest epoch ever seen of the group: it grows even over a record that was wiped."""
    return at.view.epochs.get(at.group.name, 0)


def claim(at: Situation, lease: Held, ask: Ask) -> tuple[Commit, OwnerRecord]:
    """Take the group: by the next epoch, while everything is as it was observed."""
    rules = at.rules
    before = at.view.record(at.group.name)
    record = OwnerRecord(
        node=rules.node,
        incarnation=rules.incarnation,
        host=rules.host,
        ttl=rules.ttl,
        epoch=epoch(at) + 1,
        clean=False,
        candidates=(),
        reason=_claim_reason(before, rules),
    ).naming(candidates(at.view, at.group.name, rules))
    record = _carrying(record, rules)
    return _change_owner(ask, claim_guards(at, lease), record, at), record


def _carrying(record: OwnerRecord, rules: Rules) -> OwnerRecord:
    """The record with failsafe, if it names another candidate than its owner (`haagent.core.offering`)."""
    others = any(one.node != record.node for one in record.named)
    return replace(record, failsafe=rules.failsafe if others else 0)


def claim_guards(at: Situation, lease: Held) -> tuple[Guard, ...]:
    """What must still be so when the claim is done: the record, our own lease key, and the old holder's lease key.

    Ours by its `create_revision`: renewals are always in flight and move its `mod_revision`. But it must have our last
    renewal that was seen: an etcd without it was restored, and what we know is of a history that was lost. The holder's
    only while it may still be renewed by the incarnation that the record names: not after a clean release, and not when
    another incarnation has taken the key over, whose renewals would only get in the way.
    """
    view, me = at.view, at.rules.node
    mine = Key(Kind.LEASES, me)
    guards = [record_unchanged(at), Guard(mine, lease.created, created=True)]
    guards.append(Guard(mine, view.lease_revision(me), least=True))
    record = view.record(at.group.name)
    if record is not None and record.node != me and not record.clean and not _taken_over(view, record):
        guards.append(Guard(Key(Kind.LEASES, record.node), view.lease_revision(record.node)))
    return tuple(guards)


def _taken_over(view: View, record: OwnerRecord) -> bool:
    seen = view.leases.get(record.node)
    value = seen.value if seen is not None else None
    return isinstance(value, LeaseValue) and value.incarnation != record.incarnation


def handed_by(record: OwnerRecord) -> str:
    """The owner that wrote this record for the next one, after its kernel had let go; empty if that one claimed."""
    return record.reason.removeprefix(_HANDOVER) if record.reason.startswith(_HANDOVER) else ""


def _claim_reason(before: OwnerRecord | None, rules: Rules) -> str:
    if before is None:
        return "there was no owner"
    if before.node == rules.node:
        return "claimed again"
    return f"released by {before.node}" if before.clean else f"the lease of {before.node} lapsed"


def release(at: Situation, ask: Ask, why: str) -> tuple[Commit, OwnerRecord] | None:
    """Give the group up: anyone may claim it at once. None when the record does not name us."""
    record = at.view.record(at.group.name)
    if record is None:
        return None
    after = replace(record, clean=True, reason=why).naming(candidates(at.view, at.group.name, at.rules))
    put = Put(Key(Kind.OWNERS, at.group.name), after)
    return Commit(ask, (record_unchanged(at),), (put,), (), patience=at.rules.ttl), after


def handover(at: Situation, ask: Ask, to: str) -> tuple[Commit, OwnerRecord] | None:
    """Name the next owner, who acts on it when its watch shows it. None when that node can not own any more."""
    incarnation = able(at, to)
    if incarnation is None or not is_ours(at.view, at.rules, at.lease, at.group.name):
        return None
    seen = at.view.leases.get(to)
    lease = seen.value if seen is not None else None
    host = lease.host if isinstance(lease, LeaseValue) and lease.incarnation == incarnation else ""
    record = OwnerRecord(
        node=to,
        incarnation=incarnation,
        host=host,
        ttl=at.view.evidence[incarnation].ttl,
        epoch=epoch(at) + 1,
        clean=False,
        candidates=(),
        reason=f"{_HANDOVER}{at.rules.node}",
    ).naming(candidates(at.view, at.group.name, at.rules))
    record = _carrying(record, at.rules)
    return _change_owner(ask, (record_unchanged(at),), record, at), record


def wish(at: Situation, ask: Ask) -> Commit:
    """Ask the present owner, by its epoch, to hand the group to us. An operator's intent is not written over."""
    key = Key(Kind.INTENTS, at.group.name)
    guards = (record_unchanged(at), Guard(key, at.view.intent_revision(at.group.name)))
    return Commit(ask, guards, (Put(key, Intent(at.rules.node, epoch(at), PREEMPT)),), (), patience=at.rules.ttl)


def wished(at: Situation) -> bool:
    """Whether our wish for the present epoch stands in etcd."""
    intent = at.view.intents.get(at.group.name)
    return intent is not None and (intent.to, intent.from_epoch) == (at.rules.node, epoch(at))


def forget_intent(at: Situation) -> Commit:
    """Delete the group's intent, as it was seen."""
    key, revision = Key(Kind.INTENTS, at.group.name), at.view.intent_revision(at.group.name)
    return Commit(Ask(Asking.INTENT, at.group.name, revision), (Guard(key, revision),), (), (key,), at.rules.ttl)


def outranks_owner(at: Situation) -> bool:
    """Whether we preempt, and the present owner's priority is lower than ours."""
    record = at.view.record(at.group.name)
    if not at.group.preempt or record is None or record.clean or record.node == at.rules.node:
        return False
    owner = at.view.members.get(record.node)
    standing = owner.standings.get(at.group.name) if owner is not None else None
    return standing is not None and at.standing.priority > standing.priority


def able(at: Situation, node: str) -> str | None:
    """The incarnation of a node that may own the group and whose lease runs; None if it may not."""
    member = at.view.members.get(node)
    standing = member.standings.get(at.group.name) if member is not None else None
    if member is None or standing is None or standing.priority == 0 or node in at.view.orders.drained:
        return None
    return member.incarnation if at.view.alive(member.incarnation, at.now) else None


def record_unchanged(at: Situation) -> Guard:
    """That the group's record is as the view has it."""
    return Guard(Key(Kind.OWNERS, at.group.name), at.view.record_revision(at.group.name))


def _change_owner(ask: Ask, guards: tuple[Guard, ...], record: OwnerRecord, at: Situation) -> Commit:
    """A change of owner: the record, its history, and an end to wishes that were meant for the old epoch.

    No epoch is given twice. That a record is absent says little: it may have come and gone since, its history has not.
    """
    group, epoch = at.group.name, record.epoch
    history = Key(Kind.HISTORY, f"{group}/{epoch}")
    guards = (*guards, Guard(history, 0))
    puts = (Put(Key(Kind.OWNERS, group), record), Put(history, HistoryEntry(record.node, epoch, record.reason)))
    deletes = (Key(Kind.INTENTS, group), Key(Kind.HISTORY, f"{group}/{epoch - HISTORY_KEPT}"))
    return Commit(ask, guards, puts, deletes, patience=at.rules.ttl)
