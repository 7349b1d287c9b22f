"""Who owns a group, seen from one node: follow, claim, own, leave.

Level-triggered: `decide` looks at what is known now (the node's lease, its view of etcd, the group's faults) and says
what the group becomes and what is to be done. It is called whenever any of these changed; answers are seen first by the
view, and only end the waiting here.

A record is ours to act on only if it names this incarnation and was written within the running lease's chain
(`claims.is_ours`): then no claim of another node can have been done since (docs/SAFETY.md). A claim's answer, a watch
event and a handover's record are all judged by that one rule.
"""

from __future__ import annotations

from dataclasses import replace

from haagent.core import claims, offering, policy
from haagent.core.claims import Situation
from haagent.core.fencing import Clear, Resting
from haagent.core.lease import Held
from haagent.core.model import Ask, Asking, GroupRules, InstallAddresses, RemoveAddresses, VirtualAddress
from haagent.core.records import OwnerRecord
from haagent.core.states import (
    KERNEL_PATIENCE,
    RETRY,
    Adopting,
    Claiming,
    Decision,
    Fencing,
    Following,
    GroupState,
    Leaving,
    Owning,
    Wished,
)
from haagent.core.units import NEVER, Instant


def start(group: GroupRules, open_until: Instant, now: Instant) -> Decision:
    """A node begins by making sure that nothing answers: a dead incarnation may have left its addresses.

    While the gate still lets them pass (`open_until`), it first looks whether it can go on where that one was stopped.
    """
    if now < open_until:
        return Adopting(serial=0, sweep_at=open_until), ()
    return _sweep(0, group, now)


def _sweep(serial: int, group: GroupRules, now: Instant) -> Decision:
    serial += 1
    state = Leaving(serial=serial, epoch=0, why="start", retry_at=now + KERNEL_PATIENCE)
    return state, (RemoveAddresses(group.name, serial),)


def decide(state: GroupState, at: Situation) -> Decision:
    """What becomes of the group, and what is to be done."""
    match state:
        case Adopting():
            return _adopt(state, at)
        case Following():
            return _follow(state, at)
        case Fencing():
            return _follow(Following(state.serial), at)  # level-triggered: it may be confirmed, or void by now
        case Claiming():
            return _await_claim(state, at)
        case Owning():
            return _own(state, at)
        case Leaving():
            return _leave(state, at)


# --- following and claiming


def _adopt(state: Adopting, at: Situation) -> Decision:
    if at.now >= state.sweep_at:
        return _sweep(state.serial, at.group, at.now)
    if at.view.observed_since == NEVER:
        return state, ()
    record = at.view.record(at.group.name)
    left = record is not None and not record.clean and (record.node, record.host) == (at.rules.node, at.rules.host)
    if not left:
        return _sweep(state.serial, at.group, at.now)
    if at.unseen:  # etcd was faster than the kernel, and what is not known is no reason to let go
        return state, ()
    if at.faults or policy.barred(at):
        return _sweep(state.serial, at.group, at.now)
    if not isinstance(at.lease, Held):
        return state, ()
    return _claim(state, at, at.lease)


def _follow(state: Following, at: Situation) -> Decision:
    if _may_begin(at):
        return _begin_to_own(state.serial, at)
    barred = policy.barred(at)
    if (at.faults or barred) and claims.named(at.view, at.rules, at.group.name):
        why = "; ".join(at.faults) or barred
        return leave(state.serial, claims.epoch(at), at, why, release=bool(barred))  # never in name only
    if at.faults or at.failsafe or not isinstance(at.lease, Held):
        return Following(state.serial, state.not_before), ()
    claim_at = policy.look_again(at) if barred else _claim_at(state, at)
    if at.now >= claim_at:
        if not isinstance(at.fence, Clear):
            return Fencing(state.serial, at.fence.node), ()
        return _claim(state, at, at.lease)
    return _maybe_preempt(replace(state, claim_at=claim_at), at)


def _claim_at(state: Following, at: Situation) -> Instant:
    base = at.view.claimable_at(at.group.name, at.rules)
    if isinstance(at.fence, Resting):
        base = max(base, at.fence.until)
    if base > at.now:
        return max(base, state.not_before)
    # Each candidate has the time to fence by itself: a node that is power-cycled twice is up later.
    turn = at.rules.stagger if isinstance(at.fence, Clear) else at.rules.stagger + at.rules.fence
    return max(base + policy.rank(at) * turn + policy.deference(at), state.not_before)


def _claim(state: Adopting | Following, at: Situation, lease: Held) -> Decision:
    serial = state.serial + 1
    ask = Ask(Asking.CLAIM, at.group.name, serial)
    commit, record = claims.claim(at, lease, ask)
    adopting = isinstance(state, Adopting)
    return Claiming(serial, ask, record, give_up_at=at.now + at.rules.ttl, adopting=adopting), (commit,)


def _await_claim(state: Claiming, at: Situation) -> Decision:
    if _may_begin(at):
        return _begin_to_own(state.serial, at)
    if at.now >= state.give_up_at or not isinstance(at.lease, Held):
        return _claimed_nothing(state, at.now, at)
    return state, ()


def _claimed_nothing(state: Claiming, not_before: Instant, at: Situation) -> Decision:
    """The claim is over, unless the view shows that it succeeded after all."""
    if state.adopting and not claims.is_ours(at.view, at.rules, at.lease, at.group.name):
        return _sweep(state.serial, at.group, at.now)
    return _follow(Following(state.serial, not_before), at)


def answered(state: GroupState, ask: Ask, done: bool, at: Situation) -> Decision:
    """An answer to this group's question arrived, and what it shows is in the view. Late ones change nothing here."""
    match state:
        case Claiming() if state.ask == ask:
            return _claimed_nothing(state, at.now if done else at.now + at.rules.stagger, at)
        case Leaving() if state.ask == ask:
            return decide(replace(state, ask=None, record=None, retry_at=at.now if done else at.now + RETRY // 10), at)
        case _:
            return decide(state, at)


def unanswered(state: GroupState, ask: Ask, at: Situation) -> Decision:
    """A question has no answer: done or not, the stream will tell. Try again a little later."""
    match state:
        case Claiming() if state.ask == ask:
            return _claimed_nothing(state, at.now + RETRY, at)
        case Leaving() if state.ask == ask:
            return replace(state, ask=None, record=None, retry_at=at.now + RETRY), ()
        case _:
            return state, ()


# --- preemption: a wish, granted by the owner


def _maybe_preempt(state: Following, at: Situation) -> Decision:
    """Ask the owner to hand over, once its priority has been lower than ours for `preempt_delay`."""
    if not policy.may_wish(at):
        return replace(state, preempt_at=NEVER), ()
    if state.preempt_at == NEVER:
        state = replace(state, preempt_at=at.now + at.group.preempt_delay)
    epoch, revision = claims.epoch(at), at.view.record_revision(at.group.name)
    # The owner has written its record again, so that the wish was refused, or was not: then its intent stands.
    overtaken = state.wished.epoch == epoch and state.wished.revision != revision and not claims.wished(at)
    if at.now < state.preempt_at and not overtaken:
        return state, ()
    serial = state.serial + 1
    again = at.now + max(at.group.preempt_delay, 4 * at.rules.ttl)
    ask = Ask(Asking.INTENT, at.group.name, serial)
    wished = Wished(epoch, revision)
    return replace(state, serial=serial, preempt_at=again, wished=wished), (claims.wish(at, ask),)


# --- owning


def _may_begin(at: Situation) -> bool:
    """Whether the record makes us the owner. Not while promises carry something: they are not about this."""
    return not at.failsafe and claims.is_ours(at.view, at.rules, at.lease, at.group.name)


def _begin_to_own(serial: int, at: Situation) -> Decision:
    assert isinstance(at.lease, Held)
    serial += 1
    offer = replace(at.offer, alone_since=None)
    state = Owning(serial, claims.epoch(at), ready=False, offer=offer, since=at.now)
    if at.faults:
        return leave(serial, state.epoch, at, "; ".join(at.faults))
    return state, (InstallAddresses(at.group.name, serial, group_addresses(at.group), at.lease.held_until),)


def group_addresses(group: GroupRules) -> tuple[VirtualAddress, ...]:
    """All addresses that the group's owner holds."""
    return tuple(address for router in group.routers for address in router.addresses)


def _own(state: Owning, at: Situation) -> Decision:
    ours = claims.is_ours(at.view, at.rules, at.lease, at.group.name)
    if not ours and not at.carried:
        return leave(state.serial, state.epoch, at, claims.loss(at))
    if at.faults:
        return leave(state.serial, state.epoch, at, "; ".join(at.faults))
    if not ours:
        return replace(state, look_at=at.until, offer=replace(state.offer, again_at=at.until)), ()
    offer, effects = offering.keep(state.offer, at)
    match policy.owner(at, state.epoch, state.since):
        case policy.Move(to, why):
            return leave(state.serial, state.epoch, at, why, to=to)
        case policy.Stay(until, expired):
            forget = expired and (expired != state.tidied or at.now >= state.look_at)  # again if it still stands
            tidying = (claims.forget_intent(at),) if forget else ()
            return replace(state, look_at=until, tidied=expired, offer=offer), (*effects, *tidying)


def installed(state: GroupState, serial: int, at: Situation) -> Decision:
    """The kernel has the addresses."""
    if isinstance(state, Owning) and state.serial == serial:
        state = replace(state, ready=True)
    return decide(state, at)


def refresh(state: GroupState, at: Situation) -> Decision:
    """The group's rules changed: an owner makes the kernel follow, without letting go."""
    after, effects = decide(state, at)
    if isinstance(state, Owning) and isinstance(after, Owning):
        after = replace(after, serial=after.serial + 1)
        install = InstallAddresses(at.group.name, after.serial, group_addresses(at.group), at.until)
        return after, (*effects, install)
    return after, effects


# --- leaving


def leave(serial: int, epoch: int, at: Situation, why: str, to: str | None = None, release: bool = False) -> Decision:
    """Close the kernel first; what comes after waits for its confirmation."""
    serial += 1
    state = Leaving(serial, epoch, why, at.now + KERNEL_PATIENCE, to, release or to is not None)
    return state, (RemoveAddresses(at.group.name, serial),)


def removed(state: GroupState, serial: int, at: Situation) -> Decision:
    """The kernel confirmed that nothing answers any more."""
    if isinstance(state, Leaving) and state.serial == serial:
        state = replace(state, removed=True, retry_at=at.now)
    return decide(state, at)


def kernel_failed(state: GroupState, serial: int, why: str, at: Situation) -> Decision:
    """An installation that failed means giving up; a removal that failed is tried until it succeeds."""
    match state:
        case Owning() if state.serial == serial:
            return leave(state.serial, state.epoch, at, f"kernel: {why}", release=True)
        case Leaving() if state.serial == serial and not state.removed:
            return replace(state, retry_at=at.now + RETRY), ()
        case _:
            return decide(state, at)


def _leave(state: Leaving, at: Situation) -> Decision:
    if not state.removed:
        if at.now < state.retry_at:
            return state, ()
        serial = state.serial + 1
        return replace(state, serial=serial, retry_at=at.now + KERNEL_PATIENCE), (
            RemoveAddresses(at.group.name, serial),
        )
    if state.ask is not None and at.now < state.retry_at:
        return state, ()
    if not _owes_a_record(state, at):
        # A kernel that just refused the addresses is given a moment, and others their chance.
        pause = 10 * RETRY if state.release and state.to is None else 0
        return _follow(Following(state.serial, not_before=at.now + pause), at)
    if at.now < state.retry_at:
        return state, ()
    return _give_up(state, at)


def _owes_a_record(state: Leaving, at: Situation) -> bool:
    """Whether the record still names us and should not: we can not, or will not, own by it again."""
    return claims.named(at.view, at.rules, at.group.name) and (state.release or state.asked or bool(at.faults))


def _give_up(state: Leaving, at: Situation) -> Decision:
    """Write the clean release, or the target's name; the target acts on it when its watch shows it."""
    serial = state.serial + 1
    ask = Ask(Asking.RELEASE, at.group.name, serial)
    to = policy.still_wanted(at, state.to)
    written = claims.handover(at, ask, to) if to is not None else None
    written = written or claims.release(at, ask, state.why)
    if written is None:
        return Following(serial), ()
    commit, record = written
    retry_at = at.now + 2 * at.rules.ttl
    return replace(state, serial=serial, asked=True, ask=ask, record=record, retry_at=retry_at), (commit,)


def written(state: GroupState, ask: Ask) -> OwnerRecord | None:
    """What the transaction that `ask` named wrote, if the group still waits for its answer."""
    return state.record if isinstance(state, Claiming | Leaving) and state.ask == ask else None
