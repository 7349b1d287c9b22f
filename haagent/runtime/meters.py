"""What of a node's events and effects is counted: plain numbers, in nanoseconds, for whoever renders them.

Everything is bounded: what is counted by is a group or a virtual router of the configuration, or one of a few words.
Nothing that comes from outside (a reason, an address, a node's name) is ever a key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from haagent.core.asking import Ask, Asking
from haagent.core.lease import ASKED_KEPT
from haagent.core.model import (
    AddressesRepaired,
    AddressSeenElsewhere,
    AdvertReceived,
    Alarm,
    Commit,
    Committed,
    Effect,
    Event,
    Fence,
    FenceConfirmed,
    FenceRefused,
    FenceTimedOut,
    GateClosed,
    HeartbeatReceived,
    KernelFailed,
    LeaseChanged,
    Listed,
    Look,
    PromiseReceived,
    Refused,
    RoleChanged,
    Rules,
    RulesChanged,
    SendAdvert,
    SendHeartbeat,
    SendPromise,
    Unanswered,
    Watched,
)
from haagent.core.records import Kind, LeaseValue, Seen
from haagent.core.units import MS, Duration, Instant, S
from haagent.runtime.causes import cause
from haagent.runtime.vacancies import Vacancies

QUICK: Final = tuple(MS * n // 2 for n in (1, 2, 4, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000))
"""Bounds for what takes half a millisecond to ten seconds: an answer of etcd."""
LONG: Final = (*(MS * n for n in (10, 20, 50, 100, 200, 500)), *(S * n for n in (1, 2, 5, 10, 60, 600)))
"""Bounds for what takes ten milliseconds to ten minutes: a lease's age, a group without an owner."""
ASKS_MOST: Final = 1024
"""Questions under way that are timed; every one is answered, so there are never as many."""


class Histogram:
    """How often something took how long: `counts` for each of `bounds` (inclusive), then for all that took longer."""

    def __init__(self, bounds: Sequence[Duration]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum: Duration = 0
        self.longest: Duration = 0

    def add(self, span: Duration) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, span)] += 1
        self.sum += span
        self.longest = max(self.longest, span)


class Meters:
    """An observer of the pump. All of it belongs to the event loop's thread; read it there.

    `transitions` by group, role after, and cause; `requests` by kind and outcome (asked, committed, refused,
    unanswered); `alarms` are those raised now, `raised` all there were, both by kind; `fences` by outcome; `said` and
    `heard_of` count heartbeats and promises, and adverts by virtual router. `lapsed_at`: when the node's lease last
    lapsed, None if it never did.
    """

    def __init__(self, rules: Rules, turns: Histogram | None = None) -> None:
        """`turns`: how long those of the event loop took."""
        self.turns = turns or Histogram(QUICK)
        self.transitions: Counter[tuple[str, str, str]] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.answers: dict[str, Histogram] = {kind: Histogram(QUICK) for kind in _TIMED}
        self.renewals = Histogram(QUICK)
        self.ages = Histogram(LONG)
        self.lapses = 0
        self.lateness = Histogram(QUICK)
        self.lapsed_at: Instant | None = None
        self.gate_closed = 0
        self.alarms: Counter[str] = Counter()
        self.raised: Counter[str] = Counter()
        self.fences: Counter[str] = Counter()
        self.peers: Counter[tuple[str, str]] = Counter()
        self.adverts: Counter[tuple[str, str]] = Counter()
        self.repairs: Counter[str] = Counter()
        self.disputes: Counter[str] = Counter()
        self.kernel_failures: Counter[str] = Counter()
        self.vacant: dict[str, Histogram] = {}
        self.vacancies = Vacancies(rules.groups)
        self._node = rules.node
        self._incarnation = rules.incarnation
        self._asked: dict[Ask, Instant] = {}
        self._rounds: dict[int, Instant] = {}
        self._counted_from: Instant | None = None
        self._configure(rules)

    def heard(self, event: Event, now: Instant) -> None:  # noqa: C901, PLR0912 - one case an event
        """An event is about to be fed."""
        match event:
            case Watched(seen=seen) | Listed(seen=seen):
                self._shown(seen, now)
            case Committed(ask) | Refused(ask) | Unanswered(ask):
                self._answered(event, ask, now)
            case AdvertReceived(router=router):
                self.adverts[router, "received"] += 1
            case HeartbeatReceived():
                self.peers["heartbeat", "received"] += 1
            case PromiseReceived():
                self.peers["promise", "received"] += 1
            case AddressesRepaired(group, addresses):
                self.repairs[group] += len(addresses)
            case AddressSeenElsewhere(group):
                self.disputes[group] += 1
            case KernelFailed(group):
                self.kernel_failures[group] += 1
            case GateClosed():
                self.gate_closed += 1
            case FenceConfirmed():
                self.fences["confirmed"] += 1
            case FenceRefused():
                self.fences["refused"] += 1
            case FenceTimedOut():
                self.fences["timed_out"] += 1
            case RulesChanged(rules):
                self._configure(rules)
            case _:
                pass
        for group, vacancy in self.vacancies.heard(event, now):
            self.vacant.setdefault(group, Histogram(LONG)).add(vacancy)

    def done(self, effect: Effect, now: Instant) -> None:
        """An effect is about to be performed."""
        match effect:
            case Commit(ask) | Look(ask):
                self._ask(ask, now)
            case RoleChanged(group, _, after, why):
                self.transitions[group, after, cause(why)] += 1
            case LeaseChanged():
                self._lease(effect, now)
            case Alarm(kind=kind, raised=raised):
                self.raised[kind] += raised
                self.alarms[kind] += 1 if raised else -1
            case SendAdvert(router=router):
                self.adverts[router, "sent"] += 1
            case SendHeartbeat(to=to):
                self.peers["heartbeat", "sent"] += len(to)
            case SendPromise():
                self.peers["promise", "sent"] += 1
            case Fence():
                self.fences["asked"] += 1
            case _:
                pass

    def _ask(self, ask: Ask, now: Instant) -> None:
        self.requests[ask.kind, "asked"] += 1
        if len(self._asked) < ASKS_MOST:
            self._asked[ask] = now
        if ask.kind is Asking.RENEW:
            self._rounds[ask.number] = now
            if len(self._rounds) > ASKED_KEPT:
                del self._rounds[min(self._rounds)]

    def _answered(self, event: Committed | Refused | Unanswered, ask: Ask, now: Instant) -> None:
        # A look is a transaction that only reads: it has no other answer than the one that refused ones have.
        shows = isinstance(event, Committed) or (isinstance(event, Refused) and ask.kind is Asking.LOOK)
        outcome = "committed" if shows else "refused" if isinstance(event, Refused) else "unanswered"
        self.requests[ask.kind, outcome] += 1
        asked_at = self._asked.pop(ask, None)
        if asked_at is not None and not isinstance(event, Unanswered):
            self.answers[ask.kind].add(now - asked_at)

    def _shown(self, news: Iterable[Seen], now: Instant) -> None:
        """The stream shows a renewal of ours: it counts from when it was asked for."""
        for seen in news:
            value = seen.value
            if seen.key != (Kind.LEASES, self._node) or not isinstance(value, LeaseValue):
                continue
            asked_at = self._rounds.get(value.round)
            if value.incarnation != self._incarnation or asked_at is None:
                continue
            self.renewals.add(now - asked_at)
            if self._counted_from is not None:
                self.ages.add(now - self._counted_from)
            self._counted_from = asked_at
            self._rounds = {number: at for number, at in self._rounds.items() if number > value.round}

    def _lease(self, change: LeaseChanged, now: Instant) -> None:
        if not change.held:
            self.lapsed_at = now
            self.lapses += 1
            self.lateness.add(change.late)
            if self._counted_from is not None:
                self.ages.add(now - self._counted_from)
            self._counted_from = None

    def _configure(self, rules: Rules) -> None:
        """Count for these groups and routers; what was counted of others goes once they are not configured."""
        groups = set(rules.groups)
        routers = {router.name for group in rules.groups.values() for router in group.routers}
        self.vacancies.follow(groups)
        self.transitions = Counter({key: n for key, n in self.transitions.items() if key[0] in groups})
        self.adverts = Counter({key: n for key, n in self.adverts.items() if key[0] in routers})
        for counter in (self.repairs, self.disputes, self.kernel_failures):
            for gone in counter.keys() - groups:
                del counter[gone]
        self.vacant = {group: self.vacant.get(group) or Histogram(LONG) for group in rules.groups}


_TIMED: Final = tuple(kind.value for kind in Asking if kind is not Asking.FENCE)
