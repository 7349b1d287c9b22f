"""Who an ownership record names as candidates, kept right by the owner while nodes come and go.

A candidate may claim a `ttl` after the owner's last sign of life, and so failsafe needs its promise; who is none waits
for as long as promises may carry the owner. A node that comes is added at once, one that is drained is dropped at once.
One that goes is dropped once it has been away for a while: an etcd session that ends early shall not have the record
written twice.

Until the stream shows what became of a write, it may be done or not: whoever it names must promise, too.
"""

from __future__ import annotations

from dataclasses import replace

from haagent.core.asking import Ask, Asking
from haagent.core.claims import Situation, record_unchanged
from haagent.core.heartbeat import NO_OFFER, Offer
from haagent.core.model import Commit, Effect
from haagent.core.records import Key, Kind, Put
from haagent.core.units import NEVER

AWAY = 4
"""So many ttls a candidate may be without a member key: it is written anew within one."""


def keep(offer: Offer, at: Situation) -> tuple[Offer, tuple[Effect, ...]]:
    """Have the record of a group that we own name its candidates, and how long promises may carry us."""
    group, now = at.group.name, at.now
    record, revision = at.view.record(group), at.view.record_revision(group)
    assert record is not None, "owned by a record"
    if not record.failsafe and not at.rules.failsafe:
        return NO_OFFER, ()
    if offer.revision != revision:
        offer = Offer(away_since=offer.away_since)
    named = record.named
    wanted = frozenset(at.view.named(group, at.rules))
    expected = {*(one.node for one in wanted), *at.view.orders.drained}
    gone = frozenset(one for one in named if one.node not in expected)
    since = (now if offer.away_since is None else offer.away_since) if gone else None
    drop_at = NEVER if since is None else since + AWAY * at.rules.ttl
    names = wanted if now >= drop_at else wanted | gone
    offer = replace(offer, away_since=since)
    if names == named and record.failsafe == at.rules.failsafe:
        return replace(offer, again_at=drop_at), ()
    if offer.names and now < offer.again_at:
        return offer, ()
    # Numbered by the revision: of all that is written over one, one at most is done, and an answer is about them all.
    ask = Ask(Asking.OFFER, group, revision)
    after = replace(record, failsafe=at.rules.failsafe).naming(sorted(names))
    commit = Commit(ask, (record_unchanged(at),), (Put(Key(Kind.OWNERS, group), after),), (), patience=at.rules.ttl)
    return Offer(offer.names | names, revision, now + at.rules.ttl, since), (commit,)
