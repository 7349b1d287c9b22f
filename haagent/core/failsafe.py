"""Failsafe, the owner's side: what is owned outlives etcd, carried by the promises of all who might claim it.

With each renewal the owner also asks every candidate that its ownership records name not to claim for a while. If all
of them promised for the same round, nobody can claim before `asked_at + ttl`, as after a renewal that etcd shows: so
what is owned then may be held until `asked_at + ttl - margin`, counted from the question as ever. Who is no candidate
waits `failsafe` from the last sign of the owner in etcd, and that long, less the clocks' drift, promises count.

It goes on with what is owned, by the epoch by which it is owned, and with nothing else: no group begins to be owned
on promises. It is in force only while etcd is late: from two renewals that were not shown until one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from haagent.core.context import FAILSAFE, Context
from haagent.core.heartbeat import PromiseReceived, SendHeartbeat, Tenure
from haagent.core.lease import count
from haagent.core.model import ExtendAddresses
from haagent.core.records import Candidate
from haagent.core.units import NEVER, Duration, Instant

ALARM, MISSING = "failsafe", "failsafe-missing"
ROUNDS_KEPT = 8
"""Rounds whose promises are waited for: at four a ttl, what is older can no longer extend anything."""


@dataclass(frozen=True, slots=True)
class Promised:
    """All candidates of these tenures have promised: they may be held until then."""

    until: Instant
    tenures: frozenset[Tenure]


NOTHING = Promised(0, frozenset())


@dataclass(slots=True)
class _Round:
    """One heartbeat: when it was asked, for what, and whose promise of what is still missing."""

    asked_at: Instant
    ttl: Duration
    tenures: frozenset[Tenure]
    missing: dict[Candidate, set[Tenure]] = field(default_factory=dict[Candidate, set[Tenure]])


class Failsafe:
    """Keeps the newest promises, and whether what is owned rests on them (`since` when; 0: it does not)."""

    def __init__(self, context: Context) -> None:
        self.since: Instant = 0
        self.missing: tuple[str, ...] = ()
        self._context = context
        self._promised = NOTHING
        self._rounds: dict[int, _Round] = {}
        self._shown_at: Instant = 0

    @property
    def until(self) -> Instant:
        """Until when promises carry what is owned; 0 when they do not have to."""
        return self._promised.until if self.since else 0

    @property
    def ends(self) -> Instant:
        """Until when promises may carry what they carry now, at the most."""
        return self._latest(self._promised.tenures)

    def carries(self, tenure: Tenure) -> bool:
        """Whether this is owned now, whatever etcd has shown of the lease."""
        return bool(self.since) and self._context.now < self._promised.until and tenure in self._promised.tenures

    # --- the rounds

    def shown(self, *asked_at: Instant) -> None:
        """etcd showed a renewal that was asked for then: who is no candidate counts from it, or from later."""
        self._shown_at = max((self._shown_at, *asked_at))

    def ask(self, number: int, ttl: Duration, candidates: Mapping[Tenure, frozenset[Candidate]]) -> None:
        """With renewal `number`: ask for promises about what is owned. `candidates`: who may claim it, by tenure."""
        context = self._context
        rules = context.rules
        if not rules.failsafe or not candidates:
            self._rounds.clear()
            self._tell_missing(())
            return
        self._tell_missing(self._behind())
        one = _Round(context.now, ttl, frozenset(candidates))
        for tenure, who in candidates.items():
            for candidate in who:
                if candidate.node != rules.node:
                    one.missing.setdefault(candidate, set()).add(tenure)
        self._rounds[number] = one
        for old in [known for known in self._rounds if known <= number - ROUNDS_KEPT]:
            del self._rounds[old]
        if one.missing:
            to, tenures = _names(one), tuple(sorted(one.tenures))
            context.out.append(SendHeartbeat(to, rules.incarnation, number, ttl, tenures))
        else:
            self._complete(number, one)

    def promised(self, event: PromiseReceived) -> None:
        """A candidate promised. One to an older question than the newest that is complete says nothing new."""
        one = self._rounds.get(event.round)
        if one is None or event.incarnation != self._context.rules.incarnation:
            return
        candidate = Candidate(event.node, event.machine)
        missing = one.missing.get(candidate)
        if missing is None:
            return
        missing.difference_update(event.tenures)
        if not missing:
            del one.missing[candidate]
        if not one.missing:
            self._complete(event.round, one)

    def _complete(self, number: int, one: _Round) -> None:
        until = min(count(one.asked_at, one.ttl, self._context.rules.margin), self._latest(one.tenures))
        if until > self.until:
            self._promised = Promised(until, one.tenures)
        for old in [known for known in self._rounds if known <= number]:
            del self._rounds[old]

    def _latest(self, tenures: Iterable[Tenure]) -> Instant:
        """Until when promises may carry these at most: whoever promised nothing claims from then on."""
        context = self._context
        limits = [context.rules.failsafe]
        for tenure in tenures:
            record = context.view.record(tenure.group)
            limits.append(record.failsafe if record is not None else 0)
        return self._shown_at + min(limits) * 100 // 101 - context.rules.margin

    def _behind(self) -> tuple[str, ...]:
        """Who did not promise in the last round, which is over."""
        newest = max(self._rounds, default=None)
        return _names(self._rounds[newest]) if newest is not None else ()

    def _tell_missing(self, missing: tuple[str, ...]) -> None:
        context = self._context
        for name in set(self.missing) - set(missing):
            context.calm(MISSING, name)
        for name in set(missing) & set(self.missing):  # twice in a row: a stream that was just made anew is no alarm
            context.alarm(MISSING, name, "does not promise: without etcd, nothing would carry what is owned")
        self.missing = missing

    # --- in force, or not

    def wanted(self, held_until: Instant) -> bool:
        """Whether anything has to rest on promises: it does, or the lease is near its end."""
        late = held_until - self._context.now < self._context.rules.ttl * 3 // 8  # two renewals were not shown
        return bool(self.since) or late

    def enter(self, owned: frozenset[Tenure], held_until: Instant) -> None:
        """Rest on promises if they carry all that is `owned`, and further than the lease that etcd has shown."""
        context, promised = self._context, self._promised
        if not owned or not owned <= promised.tenures:
            return
        if promised.until <= max(held_until, context.now):
            return
        if not self.since:
            self.since = context.now
            context.alarm(ALARM, "etcd", "does not show our renewals: promises of the candidates carry what is owned")
        context.timers.set(FAILSAFE, promised.until)
        context.out.append(ExtendAddresses(promised.until))

    def leave(self) -> None:
        """The lease that etcd has shown carries everything again, or nothing is owned."""
        if self.since:
            self.since = 0
            self._context.timers.set(FAILSAFE, NEVER)
            self._context.calm(ALARM, "etcd")

    def lapse_if_over(self) -> bool:
        """True when what is owned rested on promises, and their time is over."""
        if not self.since or self._context.now < self._promised.until:
            return False
        self.give_up()
        return True

    def give_up(self) -> None:
        """Nothing promised counts any more."""
        self.leave()
        self._promised = NOTHING
        self._rounds.clear()


def _names(one: _Round) -> tuple[str, ...]:
    return tuple(sorted({candidate.node for candidate in one.missing}))
