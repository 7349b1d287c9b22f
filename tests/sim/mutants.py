"""Mistakes to plant in the real rules: a simulator that does not find them proves nothing.

Each mutant replaces functions of the rules, or of the gate, while it is planted. It says what is forgotten or believed,
and within how many seeds (from `FIRST` on) the simulator must find it; `test_mutants.py` holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    ExtendAddresses,
    FenceConfirmed,
    FenceRefused,
    FenceTimedOut,
    GroupRules,
    InstallAddresses,
    RouterRules,
    Rules,
    Strangers,
    VirtualAddress,
)
from haagent.core.node import Node
from haagent.core.ownership import Adopting, Claiming, Decision, GroupState, Leaving
from haagent.core.records import Guard, Key, Kind, LeaseValue, OwnerRecord, Put, Seen
from haagent.core.renewal import Renewals
from haagent.core.speech import Speech
from haagent.core.timers import Timers
from haagent.core.units import NEVER, Duration, Instant
from haagent.core.view import View
from haagent.core.vrrp import Router, Signal
from haagent.runtime.gated import GatedKernel
from tests.sim.gate import Deadman, GatePort, KernelGate
from tests.sim.host import Agent
from tests.sim.simulate import play, simulate
from tests.sim.stories import STORIES

FIRST = 1

Patch = tuple[Any, str, Callable[..., Any]]


@dataclass(frozen=True)
class Mutant:
    """What is done wrong, how, and how many seeds may pass before it is found; or which story finds it at once.

    `redundant`: why nothing goes wrong, for what is only a second line of defence. Nothing has to be found then.
    `gated`: it is looked for where the hosts have a gate; the others are where they have none that hides the mistake.
    """

    mistake: str
    patches: tuple[Patch, ...]
    seeds: int
    story: str
    redundant: str = ""
    gated: bool = False


MUTANTS: dict[str, Mutant] = {}


@contextmanager
def planted(name: str) -> Generator[None]:
    """While in here, the core makes this mistake; none for an empty name."""
    patches = MUTANTS[name].patches if name else ()
    kept = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    try:
        for owner, attribute, wrong in patches:
            setattr(owner, attribute, wrong)
        yield
    finally:
        for owner, attribute, right in kept:
            setattr(owner, attribute, right)


def found(name: str) -> str:
    """The first violation that the mutant causes, and where; empty if there is none."""
    mutant = MUTANTS[name]
    with planted(name):
        if mutant.story:
            violation = play(STORIES[mutant.story]).violation
            return f"{mutant.story}: {violation}" if violation else ""
        for seed in range(FIRST, FIRST + mutant.seeds):
            violation = simulate(seed, gated=mutant.gated).violation
            if violation:
                return f"seed {seed}: {violation}"
    return ""


def _mutant(
    name: str,
    mistake: str,
    *patches: Patch,
    seeds: int = 60,
    story: str = "",
    redundant: str = "",
    gated: bool = False,
) -> None:
    MUTANTS[name] = Mutant(mistake, patches, 0 if story or redundant else seeds, story, redundant, gated)


# --- the lease

_shown, _ask, _count = lease.shown, lease.ask, lease.count


def _shown_from_answer(
    held: Lease, value: LeaseValue, created: int, revision: int, margin: Duration, now: Instant
) -> Lease:
    asked = tuple(Asked(one.round, now, one.ttl) for one in held.questions.asked)
    return _shown(replace(held, questions=replace(held.questions, asked=asked)), value, created, revision, margin, now)


_mutant("counted-from-answer", "the lease counts from the answer", (lease, "shown", _shown_from_answer))

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


_mutant(
    "granted-by-answer",
    "a renewal counts by its answer, ahead of the stream",
    (Node, "_answer", _grant_by_answer),
    seeds=120,
)


_take, _lapse_if_over = Node._take, Renewals.lapse_if_over


def _take_before_lapse(node: Node, event: Event) -> None:
    _take(node, event)
    if _lapse_if_over(node._renewals):
        node._groups.decide_all()


_mutant(
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


_mutant(
    "since-ignored",
    "a record from before the lapse still makes an owner",
    (claims, "is_ours", _ours_without_since),
    seeds=120,
)

_set_timer = Timers.set


def _set_no_lapse(timers: Timers[Any], key: Any, due: Instant) -> None:
    if key != LAPSE:
        _set_timer(timers, key, due)


_mutant("no-lapse-timer", "nothing wakes the node when its lease ends", (Timers, "set", _set_no_lapse))


def _ask_shorter_late(held: Lease, ttl: Duration, margin: Duration, now: Instant) -> Lease:
    after = _ask(held, ttl, margin, now)
    after = replace(after, questions=replace(after.questions, shortest=NEVER))
    if isinstance(held, Held) and isinstance(after, Held):
        return replace(after, held_until=held.held_until, ttl=held.ttl)
    return after


_mutant("shorter-ttl-late", "a shorter ttl counts from when it is shown", (lease, "ask", _ask_shorter_late), seeds=150)


def _ask_longer_early(held: Lease, ttl: Duration, margin: Duration, now: Instant) -> Lease:
    after = _ask(held, ttl, margin, now)
    if isinstance(held, Held) and isinstance(after, Held) and ttl > held.ttl:
        return replace(after, held_until=max(held.held_until, _count(now - held.ttl // 4, ttl, margin)))
    return after


_mutant("longer-ttl-early", "a longer ttl counts from when it is asked", (lease, "ask", _ask_longer_early), seeds=150)


def _ours_beyond_record(known: View, rules: Rules, held: Lease, group: str) -> bool:
    return claims.named(known, rules, group) and isinstance(held, Held) and known.record_revision(group) > held.since


_rewritten = Renewals._rewritten


def _no_longer_records(renewals: Renewals, owned: tuple[str, ...]) -> tuple[Duration, tuple[Put, ...]]:
    return _rewritten(renewals, owned) if renewals._key_is_gone() else (renewals._context.rules.ttl, ())


_mutant(
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


_mutant(
    "record-unguarded",
    "a claim does not guard the record",
    (claims, "claim_guards", _without(lambda at, guard: guard.key.kind is Kind.OWNERS)),
    (
        claims,
        "_change_owner",
        lambda ask, guards, record, at: replace(_change_owner(ask, guards, record, at), guards=guards),
    ),
)
_mutant(
    "holder-unguarded",
    "a claim does not guard the old holder's lease key",
    (
        claims,
        "claim_guards",
        _without(lambda at, guard: guard.key.kind is Kind.LEASES and guard.key.name != at.rules.node),
    ),
    seeds=120,
)
_mutant(
    "own-lease-unguarded",
    "a claim does not guard our own lease key",
    (
        claims,
        "claim_guards",
        _without(lambda at, guard: guard.key.kind is Kind.LEASES and guard.key.name == at.rules.node),
    ),
    redundant="a record makes an owner only while the lease runs and the lease key is not younger than the record; and "
    "others wait for whoever a record names from when they see it",
)
_mutant(
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


_mutant("renewal-unguarded", "a renewal guards nothing", (Renewals, "ask", _renew_unguarded))


def _key_alone(renewals: Renewals, owned: tuple[str, ...]) -> tuple[Duration, tuple[Put, ...]]:
    return (renewals._context.rules.ttl, ()) if renewals._key_is_gone() else _rewritten(renewals, owned)


def _ours_before_key(known: View, rules: Rules, held: Lease, group: str) -> bool:
    return _is_ours(known, rules, replace(held, created=0) if isinstance(held, Held) else held, group)


_is_ours = claims.is_ours
_mutant(
    "key-alone",
    "a lease key that vanished is written anew without the records",
    (claims, "is_ours", _ours_before_key),
    (Renewals, "_rewritten", _key_alone),
    story="key_gone_twice",
)

# --- the challenger's patience

_claimable, _note_lease, _note_record, _rewound = (
    View._claimable_at,
    View._note_lease,
    View._note_record,
    View.rewound,
)

_mutant(
    "no-drift",
    "clocks are taken to run at the same rate",
    (view, "patience", lambda ttl, guard: ttl + guard),
    story="drift",
)
_mutant(
    "no-margin",
    "neither margin nor guard: the kernel is taken to be instant",
    (view, "patience", lambda ttl, guard: ttl + ttl // 100),
    (lease, "count", lambda asked_at, ttl, margin: asked_at + ttl),
)


def _vanished_at_once(known: View, group: str, rules: Rules) -> Instant:
    if known.record(group) is None:
        return known.record_seen_at.get(group, known.observed_since)
    return _claimable(known, group, rules)


_mutant("vanished-at-once", "a record that is gone is claimed at once", (View, "_claimable_at", _vanished_at_once))


def _name_is_enough(known: View, group: str, rules: Rules) -> Instant:
    record = known.record(group)
    if record is not None and record.node == rules.node:
        return known.record_seen_at.get(group, known.observed_since)
    return _claimable(known, group, rules)


_mutant(
    "name-is-enough",
    "a predecessor of the same name on another host is not waited for",
    (View, "_claimable_at", _name_is_enough),
    seeds=150,
)


def _own_kept(known: View, group: str, rules: Rules) -> Instant:
    record = known.record(group)
    if record is not None and record.incarnation == rules.incarnation and not record.clean:
        return NEVER
    return _claimable(known, group, rules)


_mutant("name-only", "a node that lapsed keeps its name in the record", (View, "_claimable_at", _own_kept))


def _note_node(known: View, node: str, seen: Seen, rules: Rules, now: Instant) -> None:
    _note_lease(known, node, seen, rules, now)
    if isinstance(seen.value, LeaseValue):
        until = now + view.patience(seen.value.ttl, rules.guard)
        for incarnation, known_of in list(known.evidence.items()):
            if known_of.node == node:
                known.evidence[incarnation] = replace(known_of, by_lease=until)


_mutant(
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


_mutant(
    "list-renews",
    "an unchanged revision counts as newly seen when it is listed again",
    (View, "list", _list_all_anew),
    story="restless_watch",
)

_view_answer = View.answer


def _answer_overrides(known: View, seen: Seen, rules: Rules, now: Instant) -> bool:
    if seen.key.kind is Kind.HISTORY or seen.value is None:
        return _view_answer(known, seen, rules, now)
    known._take(seen, rules, now)
    return True


_mutant("older-overrides", "an answer's older news overrides newer", (View, "answer", _answer_overrides))
_mutant(
    "rewound-ignored",
    "nobody notices another history",
    (View, "rewound", lambda known, listed: False),
    seeds=150,
)


def _claimable_unsettled(known: View, group: str, rules: Rules) -> Instant:
    return NEVER if known.observed_since == NEVER else known._claimable_at(group, rules)


_mutant(
    "restored-believed",
    "what a restored record says is acted on at once",
    (View, "claimable_at", _claimable_unsettled),
    seeds=150,
)


def _absent_since_ever(known: View, group: str, rules: Rules) -> Instant:
    if known.record(group) is None and group in known.record_seen_at:
        return known.record_seen_at[group] + known._longest_patience(rules)
    return _claimable(known, group, rules)


_mutant(
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


_mutant("clean-unconfirmed", "clean is written before the kernel confirmed", (ownership, "leave", _leave_unconfirmed))
_mutant(
    "handover-unconfirmed",
    "the next owner is named before the kernel confirmed",
    (ownership, "leave", _hand_over_unconfirmed),
)


def _failed_is_removed(state: GroupState, serial: int, why: str, at: Situation) -> Decision:
    if isinstance(state, Leaving) and state.serial == serial:
        return _removed(state, serial, at)
    return _kernel_failed(state, serial, why, at)


_mutant(
    "failed-is-removed",
    "a removal that the kernel refused is taken for done",
    (ownership, "kernel_failed", _failed_is_removed),
    seeds=150,
)
_mutant(
    "release-forgotten",
    "a release without an answer is taken for not done",
    (ownership, "_owes_a_record", lambda state, at: _owes(replace(state, asked=False), at)),
    seeds=300,
)


def _late_answer_makes_owner(state: GroupState, ask: Ask, done: bool, at: Situation) -> Decision:
    if isinstance(state, Claiming) and state.ask == ask and done and isinstance(at.lease, Held) and not at.faults:
        return ownership._begin_to_own(state.serial, at)
    return _answered(state, ask, done, at)


_mutant(
    "late-answer-owns",
    "the answer to a claim makes an owner, whatever happened since",
    (ownership, "answered", _late_answer_makes_owner),
    (Node, "check", lambda node: None),
    (claims, "is_ours", _ours_without_since),
    seeds=120,
)
_mutant("epoch-kept", "a claim does not raise the epoch", (claims, "epoch", lambda at: _epoch(at) - 1))

# --- fencing

_mutant("unfenced", "a claim does not wait for the fencing", (Fences, "verdict", lambda fences, group: CLEAR))


def _refused_is_confirmed(fences: Fences, event: FenceConfirmed | FenceRefused | FenceTimedOut) -> None:
    _fence_answered(fences, FenceConfirmed(event.ask))


_fence_answered = Fences.answered
_mutant("refused-is-fenced", "any answer confirms the fencing", (Fences, "answered", _refused_is_confirmed))

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


_mutant("silence-believed", "lost adverts make a claim", (Speech, "_note", _believing(Signal.OWNER_SILENT)))
_mutant("stop-believed", "a priority-0 advert makes a claim", (Speech, "_note", _believing(Signal.OWNER_STOPPED)))


def _held_off_always(rules: RouterRules, router: Router, own: bytes, preempt: bool, owning: bool) -> bool:
    return _held_off(replace(rules, strangers=Strangers.YIELD), router, own, preempt, owning)


_held_off = vrrp.held_off
_mutant("stranger-deposes", "a stranger deposes an owner under alarm", (vrrp, "held_off", _held_off_always))


def _speaks_on(speech: Speech, group: GroupRules) -> None:
    pass


_mutant("speaks-on", "who no longer owns goes on advertising", (Speech, "demote", _speaks_on))


# --- the gate

_extend, _remove, _gate_open, _gate_renew, _adopt = (
    GatedKernel.extend,
    GatedKernel.remove,
    GatePort.open,
    GatePort.renew,
    ownership._adopt,
)


def _mutant_of_gate(
    name: str, mistake: str, *patches: Patch, seeds: int = 60, story: str = "", redundant: str = ""
) -> None:
    _mutant(name, mistake, *patches, seeds=seeds, story=story, redundant=redundant, gated=True)


def _renewed_when_asked(renewals: Renewals, owned: Any) -> None:
    _ask_renewal(renewals, owned)
    context = renewals._context
    if isinstance(renewals.lease, Held):
        until = _count(context.now, renewals.lease.ttl, context.rules.margin)
        context.out.append(ExtendAddresses(until))


_mutant_of_gate(
    "gate-renewed-when-asked",
    "the gate is renewed when a renewal is asked for, not when it is seen",
    (Renewals, "ask", _renewed_when_asked),
)


def _ask_lease_quietly(renewals: Renewals, ttl: Duration) -> None:
    renewals.lease = lease.ask(renewals.lease, ttl, renewals._context.rules.margin, renewals._context.now)


def _begin_at_once(agent: Agent) -> None:
    agent._protect()
    agent._begin()


def _held_until(at: Situation) -> Instant:
    assert isinstance(at.lease, Held)
    return at.lease.held_until


def _until_later(ttls: int) -> tuple[Patch, ...]:
    def later(port: GatePort, until: Instant) -> Instant:
        return until + ttls * port._agent.node.rules.ttl

    def opens(port: GatePort, group: str, addresses: Iterable[VirtualAddress], until: Instant) -> None:
        _gate_open(port, group, addresses, later(port, until))

    def renews(port: GatePort, until: Instant) -> None:
        _gate_renew(port, later(port, until))

    return (GatePort, "open", opens), (GatePort, "renew", renews)


_mutant_of_gate("gate-a-ttl-longer", "the gate is opened for a ttl more than the lease", *_until_later(1))
_mutant_of_gate("gate-without-deadline", "the gate is opened without a deadline", *_until_later(1_000_000))
_mutant_of_gate("no-gate", "the node relies on a gate that is not there", (KernelGate, "lets_pass", lambda *_: True))
_mutant_of_gate(
    "gate-stall-unseen",
    "nobody looks at the clock again once a relative timeout is put",
    (GatePort, "_in_time", lambda port, asked_at: True),
    story="stalled_in_a_call",
)
_mutant_of_gate(
    "gate-not-shortened",
    "a ttl that gets shorter leaves the gate open by the longer one",
    (Renewals, "_ask_lease", _ask_lease_quietly),
    seeds=100,
)
_mutant_of_gate(
    "gate-let-go-early",
    "the gate lets go of what is no longer configured before that is swept",
    (Agent, "_begin_when_swept", _begin_at_once),
    story="unconfigured_meanwhile",
)


def _adopt_open(state: Adopting, at: Situation) -> Decision:
    after, effects = _adopt(state, at)
    if isinstance(after, Claiming):
        install = InstallAddresses(at.group.name, after.serial, ownership.group_addresses(at.group), _held_until(at))
        return after, (install, *effects)
    return after, effects


_mutant_of_gate(
    "adopted-before-claimed",
    "who adopts opens by its own lease before its claim is done",
    (ownership, "_adopt", _adopt_open),
    seeds=100,
)
_mutant_of_gate(
    "refusal-ignored-undead",
    "the node owns on when the kernel closed its gate, and nothing kills it",
    (GatedKernel, "closed", lambda gated, why: None),
    (Deadman, "arm", lambda deadman, until: None),
    story="refused_by_the_gate",
)
_mutant_of_gate(
    "refusal-ignored",
    "the node owns on when the kernel closed its gate",
    (GatedKernel, "closed", lambda gated, why: None),
    redundant="the dead-man timer was not put off either: the agent is killed, and its successor claims anew",
)
_mutant_of_gate(
    "no-deadman",
    "nothing kills an agent that hung beyond its lease",
    (Deadman, "arm", lambda deadman, until: None),
    redundant="safety does not need it: what resumes with old beliefs finds its gate closed, its lease lapsed at the "
    "first event, and the guards of what it writes gone; it is for an agent that never resumes, so that another starts",
)
_mutant_of_gate(
    "gate-reopened",
    "a renewal opens what had closed",
    (GatePort, "_is_closed", lambda port: False),
    redundant="the renewal was seen in time, so nobody can have claimed, however late it gets to the kernel; and its "
    "end was fixed before",
)
_mutant_of_gate(
    "gate-not-closed",
    "the addresses are removed without closing the gate",
    (GatedKernel, "remove", lambda gated, effect: gated._kernel.remove(effect)),
    redundant="a release waits until the kernel has none of the addresses, and a lapse closes the gate by itself",
)
