"""What goes wrong in the rules when one of them is forgotten: the mutants of the core, added to those of the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from haagent.core import claims, lease, ownership, view, vrrp
from haagent.core.claims import Situation
from haagent.core.context import LAPSE, Context
from haagent.core.fencing import CLEAR, Fences
from haagent.core.lease import Asked, Held, Lease
from haagent.core.model import (
    Ask,
    Asking,
    Commit,
    Committed,
    Event,
    FenceConfirmed,
    FenceRefused,
    FenceTimedOut,
    GroupRules,
    RouterRules,
    Rules,
    Strangers,
)
from haagent.core.node import Node
from haagent.core.records import Guard, Key, Kind, LeaseValue, OwnerRecord, Put, Seen
from haagent.core.renewal import Renewals
from haagent.core.speech import Speech
from haagent.core.states import Claiming, Decision, GroupState, Leaving
from haagent.core.timers import Timers
from haagent.core.units import NEVER, Duration, Instant, S
from haagent.core.view import View
from haagent.core.vrrp import Router, Signal
from tests.sim import failsafe_mutants, gate_mutants, policy_mutants
from tests.sim.planting import MUTANTS, mutant

__all__ = ["MUTANTS", "failsafe_mutants", "gate_mutants", "policy_mutants"]

# --- the lease

_shown, _ask, _count = lease.shown, lease.ask, lease.count


def _shown_from_answer(
    held: Lease, value: LeaseValue, created: int, revision: int, margin: Duration, now: Instant
) -> Lease:
    asked = tuple(Asked(one.round, now, one.ttl) for one in held.questions.asked)
    return _shown(replace(held, questions=replace(held.questions, asked=asked)), value, created, revision, margin, now)


mutant("counted-from-answer", "the lease counts from the answer", (lease, "shown", _shown_from_answer))

_answer = Node._answer


def _grant_by_answer(node: Node, event: Any) -> None:
    if isinstance(event, Committed) and event.ask.kind is Asking.RENEW:
        rules = node.rules
        before = node.view.leases.get(rules.node)
        created = before.created if before is not None else event.revision
        value = LeaseValue(rules.incarnation, rules.host, rules.ttl, event.ask.number)
        if node._renewals.own_key(Seen(Key(Kind.LEASES, rules.node), created, event.revision, value), streamed=True):
            node._groups.decide_all()
    _answer(node, event)


mutant(
    "granted-by-answer",
    "a renewal counts by its answer, ahead of the stream, and looks at no record",
    (Node, "_answer", _grant_by_answer),
    (Renewals, "_looks", lambda renewals, owned: ()),
    seeds=120,
)


_take, _lapse_if_over = Node._take, Renewals.lapse_if_over


def _take_before_lapse(node: Node, event: Event) -> None:
    _take(node, event)
    if _lapse_if_over(node._renewals):
        node._groups.decide_all()


mutant(
    "lapse-not-final",
    "a renewal that is shown after the lapse goes on with the lease",
    (Renewals, "lapse_if_over", lambda renewals: False),
    (Node, "_take", _take_before_lapse),
    redundant="a renewal counts only in the stream, which has then shown every claim before it; and a claim after it "
    "waits for it",
)


def _ours_without_since(known: View, rules: Rules, held: Lease, group: str) -> bool:
    record = known.record(group)
    return (
        record is not None and isinstance(held, Held) and claims.named(known, rules, group) and held.ttl <= record.ttl
    )


mutant(
    "since-ignored",
    "a record from before the lapse still makes an owner",
    (claims, "is_ours", _ours_without_since),
    seeds=120,
)

_set_timer = Timers.set


def _set_no_lapse(timers: Timers[Any], key: Any, due: Instant) -> None:
    if key != LAPSE:
        _set_timer(timers, key, due)


mutant(
    "no-lapse-timer", "nothing wakes the node when its lease ends", (Timers, "set", _set_no_lapse), story="name_taken"
)


def _ask_shorter_late(held: Lease, ttl: Duration, margin: Duration, now: Instant) -> Lease:
    after = _ask(held, ttl, margin, now)
    after = replace(after, questions=replace(after.questions, shortest=NEVER))
    if isinstance(held, Held) and isinstance(after, Held):
        return replace(after, held_until=held.held_until, ttl=held.ttl)
    return after


mutant(
    "shorter-ttl-late",
    "a shorter ttl counts from when it is shown",
    (lease, "ask", _ask_shorter_late),
    story="shorter_ttl_unseen",
)


def _ask_longer_early(held: Lease, ttl: Duration, margin: Duration, now: Instant) -> Lease:
    after = _ask(held, ttl, margin, now)
    if isinstance(held, Held) and isinstance(after, Held) and ttl > held.ttl:
        return replace(after, held_until=max(held.held_until, _count(now - held.ttl // 4, ttl, margin)))
    return after


mutant(
    "longer-ttl-early",
    "a longer ttl counts from when it is asked",
    (lease, "ask", _ask_longer_early),
    story="longer_ttl_unwritten",
)


def _ours_beyond_record(known: View, rules: Rules, held: Lease, group: str) -> bool:
    return claims.named(known, rules, group) and isinstance(held, Held) and known.record_revision(group) > held.since


_rewritten = Renewals._rewritten


def _no_longer_records(renewals: Renewals, owned: tuple[str, ...]) -> tuple[Duration, tuple[Put, ...]]:
    return _rewritten(renewals, owned) if renewals._key_is_gone() else (renewals._context.rules.ttl, ())


mutant(
    "ttl-beyond-record",
    "a longer ttl is not written into the records",
    (claims, "is_ours", _ours_beyond_record),
    (Renewals, "_rewritten", _no_longer_records),
    story="longer_ttl",
)

# --- the guards

_claim_guards, _change_owner, _ask_renewal = claims.claim_guards, claims._change_owner, Renewals.ask


def _without(unwanted: Callable[[Situation, Guard], bool]) -> Callable[[Situation, Held], tuple[Guard, ...]]:
    def guards(at: Situation, held: Held) -> tuple[Guard, ...]:
        return tuple(guard for guard in _claim_guards(at, held) if not unwanted(at, guard))

    return guards


mutant(
    "record-unguarded",
    "a claim does not guard the record",
    (claims, "claim_guards", _without(lambda at, guard: guard.key.kind is Kind.OWNERS)),
    (
        claims,
        "_change_owner",
        lambda ask, guards, record, at: replace(_change_owner(ask, guards, record, at), guards=guards),
    ),
)
mutant(
    "holder-unguarded",
    "a claim does not guard the old holder's lease key",
    (
        claims,
        "claim_guards",
        _without(lambda at, guard: guard.key.kind is Kind.LEASES and guard.key.name != at.rules.node),
    ),
    story="behind_the_stream",
)
mutant(
    "own-lease-unguarded",
    "a claim does not guard our own lease key",
    (
        claims,
        "claim_guards",
        _without(lambda at, guard: guard.key == Key(Kind.LEASES, at.rules.node) and guard.created),
    ),
    redundant="a record makes an owner only while the lease runs and the lease key is not younger than the record; and "
    "others wait for whoever a record names from when they see it",
)
mutant(
    "own-renewal-unguarded",
    "a claim does not look whether etcd has the claimant's last renewal",
    (claims, "claim_guards", _without(lambda at, guard: guard.least)),
    story="claimed_in_a_lost_history",
)
mutant(
    "epoch-unguarded",
    "an epoch may be given twice",
    (
        claims,
        "_change_owner",
        lambda ask, guards, record, at: replace(_change_owner(ask, guards, record, at), guards=guards),
    ),
)


def _renew_unguarded(renewals: Renewals, owned: Any) -> None:
    out = renewals._context.out
    before = len(out)
    _ask_renewal(renewals, owned)
    out[before:] = [replace(one, guards=()) if isinstance(one, Commit) else one for one in out[before:]]


mutant("renewal-unguarded", "a renewal guards nothing", (Renewals, "ask", _renew_unguarded))


def _key_alone(renewals: Renewals, owned: tuple[str, ...]) -> tuple[Duration, tuple[Put, ...]]:
    return (renewals._context.rules.ttl, ()) if renewals._key_is_gone() else _rewritten(renewals, owned)


def _ours_before_key(known: View, rules: Rules, held: Lease, group: str) -> bool:
    return _is_ours(known, rules, replace(held, created=0) if isinstance(held, Held) else held, group)


_is_ours = claims.is_ours
mutant(
    "key-alone",
    "a lease key that vanished is written anew without the records",
    (claims, "is_ours", _ours_before_key),
    (Renewals, "_rewritten", _key_alone),
    story="key_gone_twice",
)

mutant(
    "wish-once",
    "a wish that the owner's own rewriting of its record overtook is not asked again",
    (claims, "wished", lambda at: True),
    story="overtaken_wish",
)

# --- the challenger's patience

_claimable, _note_lease, _note_record, _rewound = (
    View._claimable_at,
    View._note_lease,
    View._note_record,
    View.rewound,
)

mutant(
    "no-drift",
    "clocks are taken to run at the same rate",
    (view, "patience", lambda ttl, guard: ttl + guard),
    story="drift",
)
mutant(
    "no-margin",
    "neither margin nor guard: the kernel is taken to be instant",
    (view, "patience", lambda ttl, guard: ttl + ttl // 100),
    (lease, "count", lambda asked_at, ttl, margin: asked_at + ttl),
)


def _vanished_at_once(known: View, group: str, rules: Rules) -> Instant:
    if known.record(group) is None:
        return known.record_seen_at.get(group, known.observed_since)
    return _claimable(known, group, rules)


mutant("vanished-at-once", "a record that is gone is claimed at once", (View, "_claimable_at", _vanished_at_once))


def _name_is_enough(known: View, group: str, rules: Rules) -> Instant:
    record = known.record(group)
    if record is not None and record.node == rules.node:
        return known.record_seen_at.get(group, known.observed_since)
    return _claimable(known, group, rules)


mutant(
    "name-is-enough",
    "a predecessor of the same name on another host is not waited for",
    (View, "_claimable_at", _name_is_enough),
    redundant="whoever starts waits a patience from its first list, whatever the record says",
)


def _own_kept(known: View, group: str, rules: Rules) -> Instant:
    record = known.record(group)
    if record is not None and record.incarnation == rules.incarnation and not record.clean:
        return NEVER
    return _claimable(known, group, rules)


mutant("name-only", "a node that lapsed keeps its name in the record", (View, "_claimable_at", _own_kept))


def _note_node(known: View, node: str, seen: Seen, rules: Rules, now: Instant) -> None:
    _note_lease(known, node, seen, rules, now)
    if isinstance(seen.value, LeaseValue):
        until = now + view.patience(seen.value.ttl, rules.guard)
        for incarnation, known_of in list(known.evidence.items()):
            if known_of.node == node:
                known.evidence[incarnation] = replace(known_of, by_lease=until)


mutant(
    "nodes-not-incarnations",
    "a restarted agent's renewals keep its predecessor's record alive",
    (View, "_note_lease", _note_node),
    seeds=200,
)

_list = View.list


def _list_all_anew(known: View, listed: Any, rules: Rules, now: Instant) -> list[Seen]:
    news = _list(known, listed, rules, now)
    for seen in listed.seen:
        if seen.key.kind is Kind.LEASES:
            _note_lease(known, seen.key.name, seen, rules, now)
        elif isinstance(seen.value, OwnerRecord):
            _note_record(known, seen.value, rules, now)
    return news


mutant(
    "list-renews",
    "an unchanged revision counts as newly seen when it is listed again",
    (View, "list", _list_all_anew),
    story="restless_watch",
)

_view_answer = View.answer


def _answer_overrides(known: View, seen: Seen, rules: Rules, now: Instant) -> bool:
    if seen.key.kind is Kind.HISTORY or seen.value is None:
        return _view_answer(known, seen, rules, now)
    known._take(seen, rules, now, followed=False)
    return True


mutant("older-overrides", "an answer's older news overrides newer", (View, "answer", _answer_overrides), seeds=300)
mutant(
    "rewound-ignored",
    "nobody notices another history",
    (View, "rewound", lambda known, listed: False),
    seeds=150,
)


mutant(
    "record-unlooked-at",
    "a renewal does not look whether the records of what is owned are there",
    (Renewals, "_looks", lambda renewals, owned: ()),
    story="lost_deletion",
)
mutant(
    "ahead-is-the-same",
    "a restored etcd that has the same cluster id and is ahead is taken for the one before",
    (View, "contradicted", lambda known, refused: False),
    story="restored_ahead",
)
mutant(
    "loss-unseen",
    "nobody notices that the stream did not show a deletion",
    (View, "_follow", lambda known, seen: None),
    story="wiped_ahead",
)
mutant(
    "last-owner-waits",
    "who owned until the record vanished waits for promises that nobody else can have",
    (View, "let_go", lambda known, group: None),
    story="wiped_ahead",
)


def _claimable_unsettled(known: View, group: str, rules: Rules) -> Instant:
    return NEVER if known.observed_since == NEVER else known._claimable_at(group, rules)


mutant(
    "restored-believed",
    "what a restored record says is acted on at once",
    (View, "claimable_at", _claimable_unsettled),
    seeds=150,
)


def _listed_without_a_wait(known: View, listed: Any, rules: Rules, now: Instant) -> list[Seen]:
    first, survivor = known.observed_since == NEVER, bool(known.evidence)
    news = _list(known, listed, rules, now)
    if first and not survivor:
        known.settled_at = 0
    return news


mutant(
    "first-list-believed",
    "a new incarnation acts on what its first list shows, which may be a restored history, at once",
    (View, "list", _listed_without_a_wait),
    story="restored_clean_and_restarted",
)


def _adopts_what_was_closed(group: GroupRules, open_until: Instant, now: Instant) -> Decision:
    return _start(group, max(open_until, now + 1 * S), now)


_start = ownership.start
mutant(
    "closed-is-adopted",
    "a record of this host is claimed at once although its gate has closed",
    (ownership, "start", _adopts_what_was_closed),
    story="restored_and_restarted",
)


def _absent_since_ever(known: View, group: str, rules: Rules) -> Instant:
    if known.record(group) is None and group in known.record_seen_at:
        return known.record_seen_at[group] + known._longest_patience(rules)
    return _claimable(known, group, rules)


mutant(
    "gap-ignored",
    "absent before and after a gap is absent in between",
    (View, "_claimable_at", _absent_since_ever),
    (View, "_doubt", lambda known, seen, rules, now: None),
    (View, "_doubt_absent", lambda known, rules, now: None),
    seeds=600,
)

# --- owning and leaving

_leave, _removed, _kernel_failed, _owes, _answered, _epoch = (
    ownership.leave,
    ownership.removed,
    ownership.kernel_failed,
    ownership._owes_a_record,
    ownership.answered,
    claims.epoch,
)


def _leave_unconfirmed(
    serial: int, epoch: int, at: Situation, why: str, to: str | None = None, release: bool = False
) -> Decision:
    state, effects = _leave(serial, epoch, at, why, to, release)
    assert isinstance(state, Leaving)
    if to is not None:
        return state, effects
    state, more = ownership._leave(replace(state, removed=True, retry_at=at.now), at)
    return state, (*effects, *more)


def _hand_over_unconfirmed(
    serial: int, epoch: int, at: Situation, why: str, to: str | None = None, release: bool = False
) -> Decision:
    state, effects = _leave(serial, epoch, at, why, to, release)
    assert isinstance(state, Leaving)
    if to is None:
        return state, effects
    state, more = ownership._leave(replace(state, removed=True, retry_at=at.now), at)
    return state, (*effects, *more)


mutant("clean-unconfirmed", "clean is written before the kernel confirmed", (ownership, "leave", _leave_unconfirmed))
mutant(
    "handover-unconfirmed",
    "the next owner is named before the kernel confirmed",
    (ownership, "leave", _hand_over_unconfirmed),
)


def _failed_is_removed(state: GroupState, serial: int, why: str, at: Situation) -> Decision:
    if isinstance(state, Leaving) and state.serial == serial:
        return _removed(state, serial, at)
    return _kernel_failed(state, serial, why, at)


mutant(
    "failed-is-removed",
    "a removal that the kernel refused is taken for done",
    (ownership, "kernel_failed", _failed_is_removed),
    seeds=150,
)
mutant(
    "release-forgotten",
    "a release without an answer is taken for not done",
    (ownership, "_owes_a_record", lambda state, at: _owes(replace(state, asked=False), at)),
    seeds=300,
)


def _late_answer_makes_owner(state: GroupState, ask: Ask, done: bool, at: Situation) -> Decision:
    if isinstance(state, Claiming) and state.ask == ask and done and isinstance(at.lease, Held) and not at.faults:
        return ownership._begin_to_own(state.serial, at)
    return _answered(state, ask, done, at)


mutant(
    "late-answer-owns",
    "the answer to a claim makes an owner, whatever happened since",
    (ownership, "answered", _late_answer_makes_owner),
    (Node, "check", lambda node: None),
    (claims, "is_ours", _ours_without_since),
    seeds=120,
)
mutant("epoch-kept", "a claim does not raise the epoch", (claims, "epoch", lambda at: _epoch(at) - 1))

# --- fencing

mutant("unfenced", "a claim does not wait for the fencing", (Fences, "verdict", lambda fences, group: CLEAR))


def _refused_is_confirmed(fences: Fences, event: FenceConfirmed | FenceRefused | FenceTimedOut) -> None:
    _fence_answered(fences, FenceConfirmed(event.ask))


_fence_answered = Fences.answered
mutant("refused-is-fenced", "any answer confirms the fencing", (Fences, "answered", _refused_is_confirmed))

# --- adverts

_note = Speech._note


def _believing(*believed: Signal) -> Callable[[Speech, str, Signal], None]:
    def note(speech: Speech, name: str, signal: Signal) -> None:
        context: Context = speech._context
        record = context.view.record(speech.group_of[name])
        if signal in believed and record is not None:
            context.view.evidence.pop(record.incarnation, None)
        _note(speech, name, signal)

    return note


mutant("silence-believed", "lost adverts make a claim", (Speech, "_note", _believing(Signal.OWNER_SILENT)))
mutant("stop-believed", "a priority-0 advert makes a claim", (Speech, "_note", _believing(Signal.OWNER_STOPPED)))


def _held_off_always(rules: RouterRules, router: Router, own: bytes, preempt: bool, owning: bool) -> bool:
    return _held_off(replace(rules, strangers=Strangers.YIELD), router, own, preempt, owning)


_held_off = vrrp.held_off
mutant("stranger-deposes", "a stranger deposes an owner under alarm", (vrrp, "held_off", _held_off_always))


def _speaks_on(speech: Speech, group: GroupRules) -> None:
    pass


mutant("speaks-on", "who no longer owns goes on advertising", (Speech, "demote", _speaks_on))
