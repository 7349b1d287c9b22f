"""What a node has learned of etcd, and when: the evidence on which a challenger waits.

Two sources. The *stream* (a list, then a watch without gaps) is complete up to `revision`. *Answers* (a refused
transaction shows the keys it was guarded by) may run ahead of the stream, or come late. Everything about a key is
ordered by the key's own `mod_revision`; an unchanged revision keeps the time at which it was first seen.

Evidence is about incarnations, not nodes: a lease key rewritten by a restarted agent says nothing of its
predecessor, whose ownership records lapse as if it had fallen silent.
"""

from __future__ import annotations

from haagent.core.evidence import Evidence, Given, Lost, patience
from haagent.core.heartbeat import Tenure
from haagent.core.model import Listed, Refused, Rules, Watched
from haagent.core.records import (
    Candidate,
    Intent,
    Key,
    Kind,
    LeaseValue,
    MemberValue,
    Orders,
    OwnerRecord,
    Revision,
    Seen,
    Standing,
)
from haagent.core.units import NEVER, Duration, Instant

MEMBER_AWAY = 4
"""So many ttls a member whose key is gone is still taken for one: it is written again within one."""


class View:
    """The newest news by key, and the evidence drawn from it. Only `haagent.core.node` changes it."""

    def __init__(self, node: str) -> None:
        self._own = Key(Kind.LEASES, node)
        self.cluster: str | None = None
        self.revision: Revision = 0
        self.observed_since: Instant = NEVER
        self.settled_at: Instant = 0
        self.evidence: dict[str, Evidence] = {}
        self.records: dict[str, Seen] = {}
        self.record_seen_at: dict[str, Instant] = {}
        self.epochs: dict[str, int] = {}
        self.leases: dict[str, Seen] = {}
        self.members: dict[str, MemberValue] = {}
        self.intents: dict[str, Intent] = {}
        self.orders = Orders()
        self.by_source: dict[bytes, str] = {}
        self._departed: dict[bytes, tuple[str, Instant]] = {}
        self.given: dict[str, Given] = {}
        self.lost: dict[str, Lost] = {}
        self.last_owned: frozenset[str] = frozenset()
        self._sightings: dict[Key, Revision] = {}
        self._created: dict[Key, Revision] = {}
        self.gap = False

    # --- learning

    def rewound(self, listed: Listed) -> bool:
        """Whether this list is of another history than the one observed so far: etcd was wiped or restored.

        Its revision alone need not tell: a restored etcd may have the same cluster id, and be ahead.
        """
        if self.cluster is None:
            return False
        if listed.cluster != self.cluster or listed.revision < self.revision:
            return True
        known = self._sightings
        return any(seen.revision < known.get(seen.key, 0) <= listed.revision for seen in listed.seen)

    def contradicted(self, refused: Refused) -> bool:
        """Whether an answer is of another history: as new as what we know, it shows a key as it was before that."""
        if self.observed_since == NEVER:
            return False
        return any(self._is_past(seen, refused.revision) for seen in refused.seen)

    def _is_past(self, seen: Seen, revision: Revision) -> bool:
        if seen.value is None or seen.key.kind is Kind.HISTORY:
            return False  # what is absent may have been deleted since
        known = self._sightings.get(seen.key)
        if known is None:  # absent: the stream is complete up to `self.revision`
            return seen.revision <= self.revision <= revision
        return seen.revision < known <= revision

    def forget(self, owned: frozenset[str]) -> None:
        """Begin to observe anew. Evidence stays: who held may still hold. `owned`: what we owned by the old history."""
        self.cluster, self.revision, self.observed_since = None, 0, NEVER
        self.last_owned = owned
        for group, seen in self.records.items():
            if group in owned:
                self.lost.pop(group, None)  # nobody else holds by it
            elif isinstance(seen.value, OwnerRecord):
                self.lost[group] = Lost(seen.value, followed=False)
        self.records.clear()
        self.record_seen_at.clear()
        self.leases.clear()
        self.members.clear()
        self.intents.clear()
        self.orders = Orders()
        self._departed.update({address: (node, NEVER) for address, node in self.by_source.items()})
        self.by_source.clear()
        self._sightings.clear()
        self._created.clear()

    def list(self, listed: Listed, rules: Rules, now: Instant) -> list[Seen]:
        """Take in a list, whole; returns what is news, removals included, and always the node's own lease key."""
        first = self.observed_since == NEVER
        promised = max((one.record.failsafe for one in self.lost.values()), default=0)
        self.observed_since = now
        self.cluster = listed.cluster
        self.revision = listed.revision
        self._created = {seen.key: seen.created for seen in listed.seen}
        shown = {seen.key for seen in listed.seen}
        gone = [key for key, known in self._sightings.items() if key not in shown and known <= listed.revision]
        news = [Seen(key, 0, listed.revision, None) for key in gone]
        news += [seen for seen in listed.seen if self._sightings.get(seen.key, 0) < seen.revision]
        for seen in news:
            self._doubt(seen, rules, now)
            self._take(seen, rules, now, followed=False)
        for key in gone:
            del self._sightings[key]
        self._doubt_absent(rules, now)
        if first:
            # This may be another history than the last one: what a restored record says of its owner says nothing of
            # who holds by a history that was lost. Nobody who holds by that one can renew any more.
            self.settled_at = now + max(self._longest_patience(rules), promised)
            until = now + MEMBER_AWAY * rules.ttl
            self._departed = {address: (node, min(to, until)) for address, (node, to) in self._departed.items()}
        return news + [seen for seen in listed.seen if seen.key == self._own and seen not in news]

    def watch(self, watched: Watched, rules: Rules, now: Instant) -> list[Seen]:
        """Take in what the watch shows next; returns what is news, and always the node's own lease key.

        An answer may have shown the own lease key before, but only the stream makes a renewal count.
        """
        self.revision = max(self.revision, watched.revision)
        news: list[Seen] = []
        for seen in watched.seen:
            self._follow(seen)
            if self._sightings.get(seen.key, 0) < seen.revision:
                self._take(seen, rules, now, followed=True)
                news.append(seen)
            elif seen.key == self._own:
                news.append(seen)
            if seen.value is None and self._sightings.get(seen.key) == seen.revision:
                del self._sightings[seen.key]  # the stream is past it: what is older is known to be
        return news

    def _follow(self, seen: Seen) -> None:
        """A key that was made again was deleted before. `gap`: the stream has not shown that: it has lost news."""
        if seen.value is None:
            self._created.pop(seen.key, None)
        elif self._created.setdefault(seen.key, seen.created) != seen.created:
            self._created[seen.key] = seen.created
            self.gap = True

    def created(self, group: str) -> Revision:
        """The `create_revision` of the group's record, as the stream has shown it; 0 when it has not."""
        return self._created.get(Key(Kind.OWNERS, group), 0)

    def let_go(self, group: str) -> None:
        """The record vanished while we owned by it: nobody else holds by that record."""
        self.lost.pop(group, None)

    def answer(self, seen: Seen, rules: Rules, now: Instant) -> bool:
        """Take in what an answer shows of a key; False when the view knows as much or more."""
        kind, name = seen.key
        if kind is Kind.HISTORY:
            self._note_history(seen, now)
            return False
        if kind is Kind.OWNERS and seen.value is None and self.record_revision(name) == 0:
            return False  # absent as before; if it came and went unseen, the stream will tell, or its history
        known = self._sightings.get(seen.key, self.revision)
        if seen.revision <= known:
            return False
        self._doubt(seen, rules, now)
        self._take(seen, rules, now, followed=False)
        return True

    def _note_history(self, seen: Seen, now: Instant) -> None:
        """An answer shows that an epoch is taken, whoever deleted or overwrote the record that had it."""
        if seen.value is None:
            return
        group, _, epoch = seen.key.name.rpartition("/")
        self._note_epoch(group, int(epoch))
        if seen.revision > self.revision:
            self.record_seen_at[group] = now  # ahead of the stream: its owner may hold

    def _doubt(self, seen: Seen, rules: Rules, now: Instant) -> None:
        """A lease key is gone, or another's, and the stream has not shown what came before that.

        Its incarnation may have renewed in between: whoever is recorded by that name may hold as if from now.
        """
        kind, name = seen.key
        if kind is not Kind.LEASES:
            return
        incarnation = seen.value.incarnation if isinstance(seen.value, LeaseValue) else None
        for group in self.records:
            record = self.record(group)
            if record is not None and record.node == name and record.incarnation != incarnation and not record.clean:
                self._note_record(record, rules, now)

    def _doubt_absent(self, rules: Rules, now: Instant) -> None:
        """After a gap, a lease key that is absent as before may have come and gone: as if renewed just now."""
        for group in self.records:
            record = self.record(group)
            if record is not None and not record.clean and record.node not in self.leases:
                self._note_record(record, rules, now)

    def _take(self, seen: Seen, rules: Rules, now: Instant, followed: bool) -> None:
        """Newer news of one key; `followed` if nothing about it was missed in between."""
        self._sightings[seen.key] = seen.revision
        kind, name = seen.key
        match kind:
            case Kind.LEASES:
                self._note_lease(name, seen, rules, now)
            case Kind.OWNERS:
                self._note_owner(seen, rules, now, followed)
            case Kind.MEMBERS:
                member = seen.value if isinstance(seen.value, MemberValue) else None
                self._note_member(name, member, now + MEMBER_AWAY * rules.ttl)
            case Kind.INTENTS:
                if isinstance(seen.value, Intent):
                    self.intents[name] = seen.value
                else:
                    self.intents.pop(name, None)
            case Kind.ORDERS:
                self.orders = seen.value if isinstance(seen.value, Orders) else Orders()
            case Kind.HISTORY:
                pass  # for people; what a refused claim shows of it is taken in by `answer`

    def _note_owner(self, seen: Seen, rules: Rules, now: Instant, followed: bool) -> None:
        group = seen.key.name
        before = self.records.get(group)
        self.records[group] = seen
        self._note_loss(group, before, seen, followed)
        if seen.value is None and (before is None or before.value is None):
            return  # still absent: it is not vanishing again
        self.record_seen_at[group] = now
        if isinstance(seen.value, OwnerRecord):
            self._note_epoch(group, seen.value.epoch)
            if not seen.value.clean:
                self._note_record(seen.value, rules, now)

    def _note_loss(self, group: str, before: Seen | None, seen: Seen, followed: bool) -> None:
        known = self.lost.get(group)
        if isinstance(seen.value, OwnerRecord):
            self.lost.pop(group, None)
        elif before is not None and isinstance(before.value, OwnerRecord):
            self.lost[group] = Lost(before.value, followed)
        elif known is not None:
            self.lost[group] = Lost(known.record, known.followed and followed)

    def _note_epoch(self, group: str, epoch: int) -> None:
        self.epochs[group] = max(epoch, self.epochs.get(group, 0))

    def _note_lease(self, node: str, seen: Seen, rules: Rules, now: Instant) -> None:
        if seen.value is None:
            self.leases.pop(node, None)
            return
        self.leases[node] = seen
        if isinstance(seen.value, LeaseValue):
            ttl, before = seen.value.ttl, self.evidence.get(seen.value.incarnation)
            until = now + patience(ttl, rules.guard)
            self.evidence[seen.value.incarnation] = Evidence(node, until, before.by_record if before else 0, ttl, now)

    def _note_record(self, record: OwnerRecord, rules: Rules, now: Instant) -> None:
        before = self.evidence.get(record.incarnation)
        until = now + patience(record.ttl, rules.guard)
        by_lease, ttl = (before.by_lease, before.ttl) if before is not None else (0, 0)
        self.evidence[record.incarnation] = Evidence(record.node, by_lease, until, max(ttl, record.ttl), now)

    def _note_member(self, node: str, member: MemberValue | None, known_until: Instant) -> None:
        before = self.members.pop(node, None)
        for address in before.addresses if before else ():
            if self.by_source.get(address) == node:
                del self.by_source[address]
                self._departed[address] = node, known_until
        if member is not None:
            self.members[node] = member
            for address in member.addresses:
                self.by_source[address] = node

    def source(self, address: bytes, now: Instant) -> str | None:
        """The member whose adverts come from there; one whose key is gone is known for a while yet."""
        node, until = self._departed.get(address, ("", 0))
        return self.by_source.get(address) or (node if now < until else None)

    def drop_expired(self, now: Instant) -> None:
        """Forget incarnations whose evidence has expired: what is not known has expired as well."""
        if self._departed:
            self._departed = {address: one for address, one in self._departed.items() if now < one[1]}
        if len(self.evidence) > 2 * len(self.leases) + 8:
            named = {record.incarnation for group in self.records if (record := self.record(group)) is not None}
            self.evidence = {name: one for name, one in self.evidence.items() if one.expires_at > now or name in named}

    def promise(self, tenure: Tenure, ttl: Duration, rules: Rules, now: Instant) -> None:
        """We promise an owner to claim the group from it no earlier than by a renewal that etcd had shown just now."""
        before, until = self.given.get(tenure.group), now + patience(ttl, rules.guard)
        if before is not None and before.epoch == tenure.epoch:
            until = max(until, before.until)
        self.given[tenure.group] = Given(tenure.epoch, until)

    # --- what follows from it

    def lease_revision(self, node: str) -> Revision:
        """The `mod_revision` of the node's lease key; 0 when there is none."""
        seen = self.leases.get(node)
        return seen.revision if seen is not None and seen.value is not None else 0

    def record(self, group: str) -> OwnerRecord | None:
        """The group's ownership record, if there is one that can be read."""
        seen = self.records.get(group)
        return seen.value if seen is not None and isinstance(seen.value, OwnerRecord) else None

    def record_revision(self, group: str) -> Revision:
        """The `mod_revision` of the group's record; 0 when there is none."""
        seen = self.records.get(group)
        return seen.revision if seen is not None and seen.value is not None else 0

    def alive(self, incarnation: str, now: Instant) -> bool:
        """Whether an incarnation may still hold its lease, for all that we know."""
        known = self.evidence.get(incarnation)
        return known is not None and known.expires_at > now

    def claimable_at(self, group: str, rules: Rules) -> Instant:
        """From when on a claim of the group can not meet an owner that still answers. NEVER before the first list."""
        if self.observed_since == NEVER:
            return NEVER
        settled_at = 0 if group in self.last_owned else self.settled_at
        return max(self._claimable_at(group, rules), settled_at, self._bound_until(group))

    def _claimable_at(self, group: str, rules: Rules) -> Instant:
        record = self.record(group)
        seen_at = self.record_seen_at.get(group, self.observed_since)
        if record is None:
            return self._unrecorded_until(group, seen_at, rules)
        if record.clean or (record.node == rules.node and record.incarnation == rules.incarnation):
            return seen_at
        if record.node == rules.node and record.host == rules.host:
            return seen_at  # our predecessor: we hold this host's lock, and swept what it left
        known = self.evidence.get(record.incarnation)
        if known is None:
            return seen_at
        if _is_candidate(rules, record):
            return known.expires_at
        return max(known.expires_at, known.seen_at + record.failsafe)  # we promised nothing: others may have

    def _unrecorded_until(self, group: str, seen_at: Instant, rules: Rules) -> Instant:
        """The record was never there, vanished, or is unreadable: whoever holds by it may be the last to see that.

        Absent before and after a gap, it may have come and gone in between. Those who were its candidates, by all that
        etcd ever had of it, have promised whatever may outlast a ttl.
        """
        wait, lost = self._longest_patience(rules), self.lost.get(group)
        if lost is not None and not (lost.followed and _is_candidate(rules, lost.record)):
            wait = max(wait, lost.record.failsafe)
        return max(seen_at, self.observed_since) + wait

    def _bound_until(self, group: str) -> Instant:
        """Our promise binds, whatever etcd shows, unless the group was released cleanly, or has a later epoch."""
        given, record = self.given.get(group), self.record(group)
        if given is None:
            return 0
        if record is not None and (record.epoch > given.epoch or (record.clean and record.epoch == given.epoch)):
            return 0
        return given.until

    def _longest_patience(self, rules: Rules) -> Duration:
        longest = max((known.ttl for known in self.evidence.values()), default=rules.ttl)
        return patience(max(longest, rules.ttl), rules.guard)

    def intent_revision(self, group: str) -> Revision:
        """The `mod_revision` of the group's intent; 0 when there is none that can be read."""
        return self._sightings.get(Key(Kind.INTENTS, group), 0) if group in self.intents else 0

    def rank(self, group: str, rules: Rules, mine: Standing, now: Instant) -> int:
        """How many live candidates go before us: higher priority, or the same and a higher address (RFC 9568 6.4.3)."""
        return sum(self.goes_before(node, group, mine, now) for node in self.members if node != rules.node)

    def goes_before(self, node: str, group: str, mine: Standing, now: Instant) -> bool:
        """Whether another node is a live candidate and better. Not who has just released the group, or is drained."""
        record, member = self.record(group), self.members[node]
        if (record is not None and record.clean and record.node == node) or node in self.orders.drained:
            return False
        standing = member.standings.get(group)
        if standing is None or standing.priority == 0 or not self.alive(member.incarnation, now):
            return False
        return (standing.priority, standing.address) > (mine.priority, mine.address)


def _is_candidate(rules: Rules, record: OwnerRecord) -> bool:
    """Whether the record counts on a promise of ours: of this machine, not of one that went by our name."""
    return Candidate(rules.node, rules.machine) in record.named
