"""What is written of ownership, and under which guards. Each guard here is one of SAFETY's premises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core import claims
from haagent.core.claims import HISTORY_KEPT
from haagent.core.lease import Lease, Questions, Unheld
from haagent.core.model import Ask, Asking, Commit
from haagent.core.records import Garbage, Guard, HistoryEntry, Intent, Key, Kind, OwnerRecord, Put, Seen
from haagent.core.units import NEVER, S
from tests.unit.core.values import (
    LEASES,
    OWNERS,
    PATIENCE,
    held,
    leases,
    members,
    owner,
    owners,
    seen,
    show,
    situation,
    view,
)

ASK = Ask(Asking.CLAIM, "web", 7)
INTENT = Key(Kind.INTENTS, "web")
MINE = (Guard(LEASES, 3, created=True), Guard(LEASES, 4, least=True))
UNHELD = Unheld(Questions((), 0, 0, NEVER, 0))


def history(epoch: int) -> Key:
    return Key(Kind.HISTORY, f"web/{epoch}")


def claim(*news: Seen) -> tuple[Commit, OwnerRecord]:
    return claims.claim(situation(view(leases(4, "a"), *news)), held(created=3), ASK)


# --- claim


@pytest.mark.parametrize(
    "news, guards",
    [
        pytest.param((), (Guard(OWNERS, 0), *MINE), id="there was no record"),
        pytest.param((owners(5, Garbage("?")),), (Guard(OWNERS, 5), *MINE), id="an unreadable record"),
        pytest.param((owners(5, owner("a")),), (Guard(OWNERS, 5), *MINE), id="our own"),
        pytest.param(
            (leases(8), owners(5, owner())),
            (Guard(OWNERS, 5), *MINE, Guard(Key(Kind.LEASES, "b"), 8)),
            id="another's: it did not renew since",
        ),
        pytest.param(
            (owners(5, owner()),),
            (Guard(OWNERS, 5), *MINE, Guard(Key(Kind.LEASES, "b"), 0)),
            id="another's, whose lease key is gone",
        ),
    ],
)
def test_a_claim_is_guarded_by_all_that_it_rests_on(news: tuple[Seen, ...], guards: tuple[Guard, ...]):
    commit, record = claim(*news)
    assert commit.guards == (*guards, Guard(history(record.epoch), 0)), "and no epoch is given twice"


def test_a_claim_writes_record_history_and_the_end_of_old_wishes():
    commit, record = claim(leases(8), owners(5, owner(epoch=4)), members(6, "c"))
    assert record == OwnerRecord(
        node="a",
        incarnation="a1",
        host="host-a",
        ttl=1 * S,
        epoch=5,
        clean=False,
        candidates=("a", "c"),
        reason="the lease of b lapsed",
        machines=("", ""),
    )
    assert commit.ask == ASK
    assert commit.puts == (
        Put(OWNERS, record),
        Put(history(5), HistoryEntry("a", 5, "the lease of b lapsed")),
    )
    assert commit.deletes == (INTENT, history(5 - HISTORY_KEPT))
    assert commit.patience == 1 * S
    assert not any(put.session for put in commit.puts), "ownership outlives the etcd session"


@pytest.mark.parametrize(
    "before, reason",
    [
        (None, "there was no owner"),
        (owner("a", 0), "claimed again"),
        (owner(clean=True), "released by b"),
        (owner(), "the lease of b lapsed"),
    ],
)
def test_a_claim_says_why(before: OwnerRecord | None, reason: str):
    _, record = claim(*([owners(5, before)] if before else []))
    assert record.reason == reason


def test_the_epoch_grows_even_over_a_record_that_was_wiped():
    known = view(owners(5, owner(epoch=41)))
    show(known, owners(6, None), now=1)
    _, record = claims.claim(situation(known), held(), ASK)
    assert record.epoch == 42


# --- release


def test_a_release_keeps_the_epoch_and_says_that_nothing_answers():
    mine = owner("a", epoch=4)
    written = claims.release(situation(view(owners(5, mine), members(6))), ASK, "the agent stops")
    assert written is not None
    commit, record = written
    assert record == replace(mine, clean=True, candidates=("a", "b"), machines=("", ""), reason="the agent stops")
    assert commit == Commit(ASK, (Guard(OWNERS, 5),), (Put(OWNERS, record),), (), 1 * S)


@pytest.mark.parametrize("record", [None, Garbage("?")])
def test_there_is_nothing_to_release_without_a_record(record: Garbage | None):
    known = view(owners(5, record)) if record else view()
    assert claims.release(situation(known), ASK, "the agent stops") is None


# --- handover


def handed(*news: Seen, lease: Lease | None = None, now: int = 0):
    known = view(owners(5, owner("a", epoch=4)), *news)
    return claims.handover(situation(known, lease=lease or held(since=2), now=now), ASK, "b")


def test_a_handover_names_the_next_owner_by_the_next_epoch():
    written = handed(leases(6, ttl=2 * S, host="there"), members(7))
    assert written is not None
    commit, record = written
    assert record == OwnerRecord("b", "b1", "there", 2 * S, 5, False, ("a", "b"), "handover from a", 0, ("", ""))
    assert commit.guards == (Guard(OWNERS, 5), Guard(history(5), 0))
    assert commit.puts == (Put(OWNERS, record), Put(history(5), HistoryEntry("b", 5, "handover from a")))
    assert commit.deletes == (INTENT, history(5 - HISTORY_KEPT))


def test_a_handover_knows_no_host_when_the_lease_key_is_not_the_members():
    # The record then can be claimed by a predecessor's rule on no host.
    written = handed(leases(5), members(7), leases(8, turn=2))
    assert written is not None
    assert written[1].incarnation == "b1"
    assert written[1].host == ""


@pytest.mark.parametrize(
    "news, now",
    [
        pytest.param((leases(6),), 0, id="no member"),
        pytest.param((leases(6), members(7, groups=("other",))), 0, id="not its group"),
        pytest.param((leases(6), members(7, priority=0)), 0, id="unfit"),
        pytest.param((members(7),), 0, id="no lease"),
        pytest.param((leases(6), members(7)), PATIENCE, id="its lease ran out"),
    ],
)
def test_nothing_is_handed_to_who_can_not_own(news: tuple[Seen, ...], now: int):
    assert handed(*news, lease=held(since=2, until=9 * S), now=now) is None
    at = situation(view(*news), now=now)
    assert claims.able(at, "b") is None


def test_who_can_own_is_named_by_its_incarnation():
    assert claims.able(situation(view(leases(6), members(7))), "b") == "b1"


@pytest.mark.parametrize("lease", [UNHELD, held(since=6), held(since=9)])
def test_nothing_is_handed_over_that_is_not_ours(lease: Lease):
    assert handed(leases(6), members(7), lease=lease) is None


# --- wishes


def test_a_wish_is_for_the_epoch_that_is_seen():
    known = view(owners(5, owner(epoch=4)))
    assert claims.wish(situation(known), ASK) == Commit(
        ASK, (Guard(OWNERS, 5), Guard(INTENT, 0)), (Put(INTENT, Intent("a", 4, "preempt")),), (), 1 * S
    )


# --- whose record it is


@pytest.mark.parametrize(
    "record, lease, named, ours",
    [
        pytest.param(owner("a"), held(since=4), True, True, id="ours"),
        pytest.param(owner("a"), held(since=6), True, False, id="older than the chain"),
        pytest.param(
            owner("a"), held(since=5), True, True, id="as old as the chain, whose first renewal wrote it anew"
        ),
        pytest.param(owner("a"), UNHELD, True, False, id="no lease"),
        pytest.param(owner("a", clean=True), held(since=4), False, False, id="released"),
        pytest.param(owner("a", 0), held(since=4), False, False, id="our predecessor's"),
        pytest.param(owner(), held(since=4), False, False, id="another's"),
        pytest.param(Garbage("?"), held(since=4), False, False, id="unreadable"),
        pytest.param(None, held(since=4), False, False, id="gone"),
    ],
)
def test_a_record_is_ours_only_within_the_running_chain(
    record: OwnerRecord | Garbage | None, lease: Lease, named: bool, ours: bool
):
    at = situation(view(owners(5, record)))
    assert claims.named(at.view, at.rules, "web") is named
    assert claims.is_ours(at.view, at.rules, lease, "web") is ours


def test_a_record_is_not_ours_once_our_lease_key_was_made_anew_without_it():
    at = situation(view(owners(5, owner("a"))))
    assert claims.is_ours(at.view, at.rules, held(since=4, created=5), "web"), "in one transaction"
    assert not claims.is_ours(at.view, at.rules, held(since=4, created=6), "web")


def test_a_record_is_not_ours_while_our_lease_runs_longer_than_it_says():
    at = situation(view(owners(5, owner("a", ttl=1 * S))))
    assert claims.is_ours(at.view, at.rules, held(since=4), "web")
    assert not claims.is_ours(at.view, at.rules, replace(held(since=4), ttl=3 * S), "web")


def test_a_handover_to_a_member_whose_lease_value_is_garbage_has_no_host():
    written = handed(leases(6), members(7), seen(Kind.LEASES, "b", Garbage("?"), 8))
    assert written is not None
    assert written[1].host == ""
