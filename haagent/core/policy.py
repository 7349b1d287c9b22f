"""What operators and policies want of a group: who may claim it now, who goes first, and when its owner hands it over.

Pure functions of a `Situation`, asked by `haagent.core.ownership`. None of them makes a claim earlier than the lease
allows, or lets an owner hold for longer: policies choose among what is safe, and whatever is read wrong here (a wall
clock that was set, an order that came late) can cost a move or delay one. Fencing, gate and lapse know nothing of them.

- *Paused*: who the record names may claim it (again), nobody else; no handover. Without a record anybody may.
- *Drained*: this node hands over to the best that is able, and claims nothing; but what it is the last owner of it
  keeps, and may take again, while nobody else is able.
- *Damped*: this node goes after every other one that is able.
- *An operator's intent*, for the present epoch and from `not_before` until `expires`, moves the group, or names who
  claims first. A wish (by `PREEMPT`) is granted while preemption is allowed, to who is still better, after `min_hold`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from haagent.core import claims
from haagent.core.claims import PREEMPT, Situation, able
from haagent.core.records import Intent, Revision, Standing
from haagent.core.units import NEVER, Duration, Instant

LEASELESS: Final = "our own lease does not run"


class Move(NamedTuple):
    """Hand the group over to that node."""

    to: str
    why: str


class Stay(NamedTuple):
    """Go on owning; look again at `until`. `expired`: the revision of an intent past its time, to be deleted."""

    until: Instant
    expired: Revision


# --- who may claim, and when


def barred(at: Situation) -> str:
    """Why this node, fit or not, must not claim the group now; empty if it may."""
    orders, me = at.view.orders, at.rules.node
    record = at.view.record(at.group.name)
    last_owner = record is not None and record.node == me
    if orders.paused and record is not None and not last_owner:
        return f"paused by {orders.paused}"
    if me not in orders.drained or (last_owner and (orders.paused or _best(at) is None)):
        return ""  # in a pause nobody else may have it either
    return "drained"


def look_again(at: Situation) -> Instant:
    """When a node that is barred looks again: that nobody else is able any more is told by no event."""
    record = at.view.record(at.group.name)
    last_owner = record is not None and record.node == at.rules.node
    return at.now + at.rules.ttl if last_owner else NEVER


def rank(at: Situation) -> int:
    """How many candidates go before this node: better ones that live, and whoever an operator's intent names."""
    if at.view.orders.paused and at.view.record(at.group.name) is not None:
        return 0  # nobody else may claim
    first = _first(at)
    if first == at.rules.node:
        return 0
    better = at.view.rank(at.group.name, at.rules, at.standing, at.now)
    counted = first is None or at.view.goes_before(first, at.group.name, at.standing, at.now)
    return better + (not counted)


def deference(at: Situation) -> Duration:
    """How much longer than its rank says this node waits: damped, it leaves time to any better one."""
    damped = at.plans.damped_until and _first(at) != at.rules.node
    best = _best(at) if damped and not at.view.orders.paused else None
    return at.rules.ttl if best is not None and _standing(at, best) > _key(at.standing) else 0


def _first(at: Situation) -> str | None:
    """Who claims first because an operator's intent for the present epoch says so, if it can."""
    intent = _intent(at, claims.epoch(at))
    if intent is None or intent.by == PREEMPT or not _due(intent, at) or _expired(intent, at):
        return None
    if intent.to == at.rules.node:
        return intent.to if at.rules.node not in at.view.orders.drained else None
    return intent.to if able(at, intent.to) is not None else None


# --- preemption


def may_wish(at: Situation) -> bool:
    """Whether this node should ask the owner for the group: it is better, and nothing speaks against it."""
    orders = at.view.orders
    if orders.paused or at.rules.node in orders.drained or at.plans.damped_until or not _failback(at):
        return False
    intent = _intent(at, claims.epoch(at))
    planned = intent is not None and intent.by != PREEMPT and not _expired(intent, at)
    return not planned and claims.outranks_owner(at)


def _failback(at: Situation) -> bool:
    return at.plans.window or not at.group.windowed


# --- what an owner does


def owner(at: Situation, epoch: int, since: Instant) -> Move | Stay:
    """Whether the owner, by `epoch` and for so long, hands the group over now.

    It can not without a lease of its own in etcd, and then must not begin to: it would let go for nothing.
    """
    intent = _intent(at, epoch)
    if intent is not None and intent.to == at.rules.node:
        intent = None
    expired = intent is not None and _expired(intent, at)
    if not at.view.orders.paused and claims.is_ours(at.view, at.rules, at.lease, at.group.name):
        if intent is not None and not expired and _granted(intent, at, since):
            return Move(intent.to, f"handover to {intent.to} ({intent.by})")
        if at.rules.node in at.view.orders.drained and (best := _best(at)) is not None:
            return Move(best, f"drained: handed over to {best}")
    return Stay(_next_look(intent, at, since), at.view.intent_revision(at.group.name) if expired else 0)


def still_wanted(at: Situation, to: str | None) -> str | None:
    """The node to hand over to, now that this one's kernel is silent. None: release instead (a pause came between)."""
    return None if at.view.orders.paused else to


def _granted(intent: Intent, at: Situation, since: Instant) -> bool:
    if not _due(intent, at) or able(at, intent.to) is None:
        return False
    if intent.by != PREEMPT:
        return True
    return at.now >= since + at.group.min_hold and _failback(at) and _standing(at, intent.to)[0] > at.standing.priority


def _next_look(intent: Intent | None, at: Situation, since: Instant) -> Instant:
    """When something may change without an event: a time comes, or the lease of a candidate runs again."""
    drained = at.rules.node in at.view.orders.drained
    again = at.now + at.rules.ttl
    if intent is None:
        return again if drained else NEVER
    moments = [again] if drained or _due(intent, at) else []
    if at.plans.wall_ahead is not None:
        moments += [wall - at.plans.wall_ahead for wall in (intent.not_before, intent.expires) if wall]
    moments.append(since + at.group.min_hold)
    return min((one for one in moments if one > at.now), default=NEVER)


# --- what is told


def switchover_waits(at: Situation) -> str:
    """Why an operator's intent that is due can not be granted by this node, the owner; empty if none waits."""
    intent = _intent(at, claims.epoch(at))
    waits = intent is not None and intent.by != PREEMPT and intent.to != at.rules.node
    if intent is None or not waits or not _due(intent, at) or _expired(intent, at):
        return ""
    orders, to = at.view.orders, intent.to
    if orders.paused:
        return f"to {to}: paused by {orders.paused}"
    if to in orders.drained:
        return f"to {to}: {to} is drained"
    member = at.view.members.get(to)
    standing = member.standings.get(at.group.name) if member is not None else None
    if member is None or standing is None:
        return f"to {to}: {to} is no member" if member is None else f"to {to}: {to} does not have the group"
    if standing.priority == 0:
        return f"to {to}: {to} can not own it"
    if not at.view.alive(member.incarnation, at.now):
        return f"to {to}: the lease of {to} does not run"
    return "" if claims.is_ours(at.view, at.rules, at.lease, at.group.name) else f"to {to}: {LEASELESS}"


def drain_waits(at: Situation) -> str:
    """Why this node, the owner, keeps the group although it is drained; empty if it does not."""
    orders = at.view.orders
    if at.rules.node not in orders.drained:
        return ""
    if orders.paused:
        return f"paused by {orders.paused}"
    if _best(at) is None:
        return "nobody else is able"
    return "" if claims.is_ours(at.view, at.rules, at.lease, at.group.name) else LEASELESS


# --- intents and candidates


def _intent(at: Situation, epoch: int) -> Intent | None:
    intent = at.view.intents.get(at.group.name)
    return intent if intent is not None and intent.from_epoch == epoch else None


def _due(intent: Intent, at: Situation) -> bool:
    if intent.expires and at.plans.wall_ahead is None:
        return False
    return not intent.not_before or at.plans.reached(intent.not_before, at.now)


def _expired(intent: Intent, at: Situation) -> bool:
    return bool(intent.expires) and at.plans.reached(intent.expires, at.now)


def _best(at: Situation) -> str | None:
    """The best of the other nodes that may own the group, and whose leases run."""
    others = [node for node in at.view.members if node != at.rules.node and able(at, node) is not None]
    return max(others, key=lambda node: _standing(at, node), default=None)


def _standing(at: Situation, node: str) -> tuple[int, bytes]:
    return _key(at.view.members[node].standings[at.group.name])


def _key(standing: Standing) -> tuple[int, bytes]:
    return standing.priority, standing.address
