"""The node's renewals: when to ask, guarded by what, and what the stream says of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from haagent.core import lease
from haagent.core.context import LAPSE, RENEW, WATCH, Context
from haagent.core.failsafe import Failsafe
from haagent.core.lease import Held, Lease
from haagent.core.model import Ask, Asking, Commit, ExtendAddresses, LeaseChanged, Resync
from haagent.core.records import Guard, Key, Kind, LeaseValue, Put, Revision, Seen
from haagent.core.units import NEVER, Duration, Instant

REWRITTEN_AT_MOST = 99
"""Ownership records that one renewal can write anew: etcd takes 128 operations a transaction."""
LOOKED_AT = 28
"""Ownership records that one renewal only looks at, in turn if there are more: with the others, etcd takes as many."""
SILENT_AFTER = 2
"""Renewals in a row without an answer that make an alarm."""


class Renewals:
    """Keeps `lease`, the node's lease. `owned` names the groups that the node owns now.

    While promises carry what is owned (`failsafe`), that the lease lapses or runs again is not told: nothing changes.
    """

    def __init__(self, context: Context, failsafe: Failsafe) -> None:
        self.lease: Lease = lease.start(0)
        self._context = context
        self._failsafe = failsafe
        self._told = False
        self._unseen: tuple[Revision, Instant] | None = None
        self._unanswered = 0

    def now(self) -> None:
        """Ask for a renewal at once: something about the lease key, or the ttl, has changed."""
        self.lease = lease.delay(self.lease, self._context.now)
        self._context.timers.set(RENEW, self._context.now)

    def lapse_if_over(self) -> bool:
        """The first check of every event: True when the lease ran and is over."""
        if not lease.lapsed(self.lease, self._context.now):
            return False
        self.give_up("it ran out")
        return True

    def give_up(self, why: str) -> None:
        """Hold nothing from now on."""
        if isinstance(self.lease, Held):
            late = max(0, self._context.now - self.lease.held_until)
            self.lease = lease.lapse(self.lease)
            self.tell(why, late)

    def tell(self, why: str, late: Duration = 0) -> None:
        """Say whether anything is held now, if that is news."""
        held = isinstance(self.lease, Held) or self._failsafe.since > 0
        if held is not self._told:
            self._told = held
            self._context.out.append(LeaseChanged(held, why, late))

    def start_over(self, why: str) -> None:
        """Another history of etcd begins: revisions of the old one will never be shown."""
        self._unseen = None
        self.give_up(why)

    def own_key(self, seen: Seen, streamed: bool) -> bool:
        """News of the node's own lease key; True when the lease runs and did not before, or not on the same terms.

        Only the stream makes a renewal count: it has shown everything about our ownership that came before.
        """
        value, context = seen.value, self._context
        if not isinstance(value, LeaseValue) or value.incarnation != context.rules.incarnation:
            self.now()  # it must be written anew
            return False
        if not streamed:
            return False
        before = self.lease
        self._failsafe.shown(*(one.asked_at for one in before.questions.asked if one.round == value.round))
        self.lease = lease.shown(before, value, seen.created, seen.revision, context.rules.margin, context.now)
        if not isinstance(self.lease, Held):
            return False
        context.timers.set(LAPSE, self.lease.held_until)
        self._unanswered = 0
        context.calm("etcd-silent", "etcd")
        if isinstance(before, Held):
            if self.lease.held_until > before.held_until and not self._failsafe.since:
                context.out.append(ExtendAddresses(self.lease.held_until))
            # By another ttl, or by a key made anew, a record may no longer be ours.
            return (self.lease.ttl, self.lease.created) != (before.ttl, before.created)
        self.tell("renewals are seen")
        if self.lease.held_until - context.now < context.rules.ttl // 2:
            # It was asked while etcd did not answer. A claim on what is left of it would lapse before the next one.
            self.now()
        context.calm("etcd-rewound", "etcd")
        return True

    def committed(self, revision: Revision) -> None:
        """A renewal is done at `revision`, which the stream should show soon."""
        if self._unseen is None and revision > self._context.view.revision:
            self._unseen = (revision, self._context.now)
        if self._unseen is not None and isinstance(self.lease, Held):
            # Renewals were lost before this one. The next may come after the lease's end: that is too late to look.
            now, ttl = self._context.now, self._context.rules.ttl
            if self.lease.held_until - now < ttl // 2:
                self._context.timers.set(WATCH, self._unseen[1] + ttl // 8)

    def unanswered(self, why: str) -> None:
        """A renewal has no answer. The next one is on its way anyway."""
        self._unanswered += 1
        if self._unanswered >= SILENT_AFTER:
            self._context.alarm("etcd-silent", "etcd", why)

    def watch_the_watch(self) -> None:
        """Renewals that are done but not shown: the watch hangs, and without it the lease can not be extended.

        An etcd member that falls silent costs the renewals that it gets. That the next is done elsewhere helps only if
        the watch is found behind, too, while there is time for a new one: half a renewal's interval after it, at most.
        """
        if self._unseen is None:
            return
        context = self._context
        revision, since = self._unseen
        if context.view.revision >= revision:
            self._unseen = None
        elif context.now - since >= context.rules.ttl // 8:
            # The new list and watch have a quarter of a ttl.
            self._unseen = (revision, context.now + context.rules.ttl // 8)
            context.out.append(Resync())

    def ask(self, owned: Iterable[str]) -> None:
        """Ask for the next renewal, guarded by the lease key as it was last seen."""
        context = self._context
        rules, view = context.rules, context.view
        if view.observed_since == NEVER:
            return
        self.watch_the_watch()
        if self._name_in_use():
            return
        names = tuple(owned)
        if len(names) > REWRITTEN_AT_MOST and self._key_is_gone():
            self.give_up("the lease key vanished, and with it go too many groups to be written anew")
            names = ()
        ttl, records = self._rewritten(names)
        guards = (
            Guard(Key(Kind.LEASES, rules.node), view.lease_revision(rules.node)),
            *(Guard(put.key, view.record_revision(put.key.name)) for put in records),
            *self._looks(tuple(name for name in names if Key(Kind.OWNERS, name) not in {put.key for put in records})),
        )
        self._ask_lease(ttl)
        questions = self.lease.questions
        value = LeaseValue(rules.incarnation, rules.host, ttl, questions.round)
        put = Put(Key(Kind.LEASES, rules.node), value, session=True)
        ask = Ask(Asking.RENEW, rules.node, questions.round)
        context.out.append(Commit(ask, guards, (put, *records), (), patience=ttl))
        context.timers.set(RENEW, questions.next_at)
        if isinstance(self.lease, Held):
            context.timers.set(LAPSE, self.lease.held_until)

    def _looks(self, owned: tuple[str, ...]) -> tuple[Guard, ...]:
        """Guards by which a renewal is refused if a record was deleted, or deleted and made again, and no stream told.

        By its `create_revision`: what the node itself writes over its records at the time does not refuse it.
        """
        if len(owned) > LOOKED_AT:
            turn = self.lease.questions.round * LOOKED_AT % len(owned)
            owned = (owned[turn:] + owned[:turn])[:LOOKED_AT]
        view = self._context.view
        return tuple(Guard(Key(Kind.OWNERS, name), at, created=True) for name in owned if (at := view.created(name)))

    def _ask_lease(self, ttl: Duration) -> None:
        before, context = self.lease, self._context
        self.lease = lease.ask(before, ttl, context.rules.margin, context.now)
        if isinstance(before, Held) and isinstance(self.lease, Held) and self.lease.held_until < before.held_until:
            # The ttl got shorter. The kernel must know before others can: we may not be there to close it.
            context.out.append(ExtendAddresses(self.lease.held_until))

    def _rewritten(self, owned: tuple[str, ...]) -> tuple[Duration, tuple[Put, ...]]:
        """The ttl to ask with, and the ownership records to be written with it, each guarded by being unchanged.

        All of them when the lease key is gone: who saw it gone, and later finds it gone again, must not take that for
        silence in between. Else those that allow for less than a ttl that got longer, for whoever knows only the
        record waits by it; what does not fit in one transaction keeps the shorter ttl until the next. And those that
        are older than the lease, which lapsed while promises carried them.
        """
        view, ttl = self._context.view, self._context.rules.ttl
        records = [(name, record) for name in owned if (record := view.record(name)) is not None]
        if not self._key_is_gone():
            records = [(name, record) for name, record in records if record.ttl < ttl or self._is_older(name)]
        later = records[REWRITTEN_AT_MOST:]
        puts = [
            Put(Key(Kind.OWNERS, name), replace(record, ttl=max(ttl, record.ttl)))
            for name, record in records[:REWRITTEN_AT_MOST]
        ]
        return min([ttl, *(record.ttl for _, record in later)]), tuple(puts)

    def _is_older(self, group: str) -> bool:
        """Whether the group's record was written before this lease began."""
        return not isinstance(self.lease, Held) or self._context.view.record_revision(group) < self.lease.since

    def _key_is_gone(self) -> bool:
        """Whether the lease key does not show this incarnation: gone, rubbish, or another's."""
        view, rules = self._context.view, self._context.rules
        seen = view.leases.get(rules.node)
        value = seen.value if seen is not None else None
        return not (isinstance(value, LeaseValue) and value.incarnation == rules.incarnation)

    def _name_in_use(self) -> bool:
        """Another living host goes by our name: it was first, so we wait."""
        context = self._context
        rules = context.rules
        seen = context.view.leases.get(rules.node)
        value = seen.value if seen is not None else None
        if (
            isinstance(value, LeaseValue)
            and value.host != rules.host
            and value.incarnation != rules.incarnation
            and context.view.alive(value.incarnation, context.now)
        ):
            until = context.view.evidence[value.incarnation].expires_at
            self.lease = lease.delay(self.lease, until)
            context.timers.set(RENEW, until)
            context.alarm("name-in-use", rules.node, f"by incarnation {value.incarnation} on host {value.host}")
            return True
        context.calm("name-in-use", rules.node)
        return False
