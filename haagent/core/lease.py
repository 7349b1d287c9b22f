"""The node's lease: its time-bounded right to own anything.

The lease counts from the question, never from the answer: a renewal that was asked for at `asked_at` lets the node
hold until `asked_at + ttl - margin`. It counts only once the node's own *view* of etcd (its watch, or a list) shows
the renewal: the watch shows every earlier change of the prefix first, so a node never extends its lease while news
about its ownership is still on the way to it.

Lapse is final: from `held_until` on nothing is held, whatever arrives later. A renewal that shows up afterwards
begins a new chain, whose `since` is the revision of its first renewal; only ownership records written after `since`
are the node's to act on (docs/SAFETY.md, "the chain").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from haagent.core.records import LeaseValue, Revision
from haagent.core.units import NEVER, Duration, Instant

ASKED_KEPT = 8
"""Renewals remembered: at four a ttl, what is older can no longer extend anything."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A renewal that was asked for: the how-manieth, when, and with which ttl."""

    round: int
    asked_at: Instant
    ttl: Duration


@dataclass(frozen=True, slots=True)
class Questions:
    """What was asked and not yet seen.

    `shortest` is the shortest ttl asked for that may stand in etcd, `shortest_round` the last round that asked for it:
    a ttl that gets shorter counts from when it is asked, one that gets longer from when it is seen.
    """

    asked: tuple[Asked, ...]
    round: int
    next_at: Instant
    shortest: Duration
    shortest_round: int


@dataclass(frozen=True, slots=True)
class Unheld:
    """The node holds nothing."""

    questions: Questions


@dataclass(frozen=True, slots=True)
class Held:
    """The node's lease runs. `created`: the lease key's `create_revision`; `since`: where this chain began.

    `ttl` is the one that `held_until` counts with: an ownership record must allow for as much (`claims.is_ours`).
    """

    questions: Questions
    since: Revision
    created: Revision
    held_until: Instant
    ttl: Duration


Lease = Unheld | Held


def start(now: Instant) -> Unheld:
    """Nothing held, nothing asked; the first renewal is due at once."""
    return Unheld(Questions(asked=(), round=0, next_at=now, shortest=NEVER, shortest_round=0))


def ask(lease: Lease, ttl: Duration, margin: Duration, now: Instant) -> Lease:
    """Note that a renewal with `ttl` is asked for at `now`: its round is `questions.round` of what is returned."""
    before = lease.questions
    number = before.round + 1
    shorter = ttl <= before.shortest
    questions = Questions(
        asked=(*before.asked[-ASKED_KEPT + 1 :], Asked(number, now, ttl)),
        round=number,
        next_at=now + ttl // 4,
        shortest=ttl if shorter else before.shortest,
        shortest_round=number if shorter else before.shortest_round,
    )
    match lease:
        case Unheld():
            return Unheld(questions)
        case Held():
            # The answer to a shorter ttl may be lost after its commit: observers may count by it from now on.
            until = count(now, ttl, margin)
            if until < lease.held_until:
                return replace(lease, questions=questions, held_until=until, ttl=ttl)
            return replace(lease, questions=questions)


def count(asked_at: Instant, ttl: Duration, margin: Duration) -> Instant:
    """Until when a renewal asked for at `asked_at` lets its node hold."""
    return asked_at + ttl - margin


def shown(
    lease: Lease, value: LeaseValue, created: Revision, revision: Revision, margin: Duration, now: Instant
) -> Lease:
    """The view shows the node's own lease key, as one of its renewals left it."""
    asked = next((one for one in lease.questions.asked if one.round == value.round), None)
    if asked is None:
        return lease
    questions = _answered(lease.questions, asked)
    ttl = min(asked.ttl, questions.shortest)
    until = count(asked.asked_at, ttl, margin)
    match lease:
        case Held():
            # Another revision of the same key is the same chain: the old deadline has not come yet.
            if until <= lease.held_until:
                return replace(lease, questions=questions, created=created)
            return replace(lease, questions=questions, created=created, held_until=until, ttl=ttl)
        case Unheld() if until > now:
            return Held(questions, since=revision, created=created, held_until=until, ttl=ttl)
        case Unheld():
            return Unheld(questions)


def _answered(questions: Questions, asked: Asked) -> Questions:
    """Only one renewal of several with the same guard is ever done: earlier rounds no longer matter."""
    later = asked.round > questions.shortest_round
    return replace(
        questions,
        asked=tuple(one for one in questions.asked if one.round > asked.round),
        shortest=asked.ttl if later else questions.shortest,
        shortest_round=asked.round if later else questions.shortest_round,
    )


def lapsed(lease: Lease, now: Instant) -> bool:
    """Whether the lease ran and no longer does. Asked before anything else, at every event."""
    return isinstance(lease, Held) and now >= lease.held_until


def lapse(lease: Held) -> Unheld:
    """The lease is over. What was asked may still begin a new chain."""
    return Unheld(lease.questions)


def delay(lease: Lease, until: Instant) -> Lease:
    """Ask for no renewal before `until`."""
    return replace(lease, questions=replace(lease.questions, next_at=until))
