"""Who an ownership record names as candidates, kept right by the owner while nodes come and go.

A candidate may claim a `ttl` after the owner's last sign of life, and so failsafe needs its promise; who is none waits
for as long as promises may carry the owner. A node that comes is added at once, one that is drained is dropped at once.
One that goes is dropped once it has been away for a while: an etcd session that ends early shall not have the record
written twice.

Until the stream shows what became of a write, it may be done or not: whoever it names must promise, too.

An owner that knows of no other candidate needs no promises, so whoever comes later must wait for `failsafe`. At a cold
start those who start a moment later would wait for it, should the first owner die at once. So such a record carries no
failsafe until its owner has been alone for as long.
"""

from __future__ import annotations

from dataclasses import replace

from haagent.core.asking import Ask, Asking
from haagent.core.candidates import candidates
from haagent.core.claims import Situation, record_unchanged
from haagent.core.heartbeat import NO_OFFER, Offer
from haagent.core.model import Commit, Effect
from haagent.core.records import Key, Kind, Put
from haagent.core.units import NEVER
from haagent.core.view import MEMBER_AWAY


def keep(offer: Offer, at: Situation) -> tuple[Offer, tuple[Effect, ...]]:
    """Have the record of a group that we own name its candidates, and how long promises may carry us."""
    group, now = at.group.name, at.now
    record, revision = at.view.record(group), at.view.record_revision(group)
    assert record is not None, "owned by a record"
    if not record.failsafe and not at.rules.failsafe:
        return NO_OFFER, ()
    if offer.revision != revision:
        offer = Offer(away_since=offer.away_since, alone_since=offer.alone_since)
    named = record.named
    wanted = frozenset(candidates(at.view, group, at.rules))
    expected = {*(one.node for one in wanted), *at.view.orders.drained}
    gone = frozenset(one for one in named if one.node not in expected)
    since = (now if offer.away_since is None else offer.away_since) if gone else None
    drop_at = NEVER if since is None else since + MEMBER_AWAY * at.rules.ttl
    names = wanted if now >= drop_at else wanted | gone
    alone = not record.failsafe and all(one.node == at.rules.node for one in names)
    alone_since = (now if offer.alone_since is None else offer.alone_since) if alone else None
    carries_at = 0 if alone_since is None else alone_since + MEMBER_AWAY * at.rules.ttl
    failsafe = at.rules.failsafe if now >= carries_at else 0
    offer = replace(offer, away_since=since, alone_since=alone_since)
    if names == named and record.failsafe == failsafe:
        return replace(offer, again_at=min(drop_at, carries_at if now < carries_at else NEVER)), ()
    if offer.names and now < offer.again_at:
        return offer, ()
    # Numbered by the revision: of all that is written over one, one at most is done, and an answer is about them all.
    ask = Ask(Asking.OFFER, group, revision)
    after = replace(record, failsafe=failsafe).naming(sorted(names))
    commit = Commit(ask, (record_unchanged(at),), (Put(Key(Kind.OWNERS, group), after),), (), patience=at.rules.ttl)
    return Offer(offer.names | names, revision, now + at.rules.ttl, since, alone_since), (commit,)
