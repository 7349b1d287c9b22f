"""What is counted of each event and effect, by which few words, and how long renewals and vacancies are found to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core import claims
from haagent.core.model import (
    AddressesRepaired,
    AddressSeenElsewhere,
    AdvertReceived,
    Alarm,
    Ask,
    Asking,
    Commit,
    Committed,
    Effect,
    Event,
    Fence,
    FenceConfirmed,
    FenceRefused,
    FenceTimedOut,
    GateClosed,
    GroupRules,
    HeartbeatReceived,
    KernelFailed,
    LeaseChanged,
    Listed,
    Look,
    PromiseReceived,
    Refused,
    Role,
    RoleChanged,
    Rules,
    RulesChanged,
    SendAdvert,
    SendHeartbeat,
    SendPromise,
    Unanswered,
    Watched,
)
from haagent.core.records import Key, Kind, LeaseValue, OwnerRecord, Seen, Value
from haagent.core.units import MS, Instant, S
from haagent.runtime.causes import Cause, cause
from haagent.runtime.meters import Histogram, Meters
from tests.unit.core.values import ADDRESS, router

RULES = Rules(
    node="a", incarnation="a1", host="h", version="0", groups={"web": GroupRules("web", (router("vr"),))}, ttl=1 * S
)
RENEW = Ask(Asking.RENEW, "a", 1)
CLAIM = Ask(Asking.CLAIM, "web", 1)
LOOK = Ask(Asking.LOOK, "web", 1)
FENCE = Ask(Asking.FENCE, "b1", 1)
MAC = bytes(6)


def commit(ask: Ask) -> Commit:
    return Commit(ask, (), (), (), patience=1 * S)


def watched(revision: int, kind: Kind, name: str, value: Value | None) -> Watched:
    return Watched(revision, (Seen(Key(kind, name), 1, revision, value),))


def lease(node: str, incarnation: str, round: int = 1) -> LeaseValue:  # noqa: A002 - the field's name
    return LeaseValue(incarnation, "h", 1 * S, round)


def record(node: str, epoch: int, clean: bool = False) -> OwnerRecord:
    return OwnerRecord(node, f"{node}1", "h", 1 * S, epoch, clean, (), "")


@pytest.fixture
def meters() -> Meters:
    return Meters(RULES)


@pytest.mark.parametrize(
    "event, counter, key, count",
    [
        (AdvertReceived("vr", b"", 100, S, ()), "adverts", ("vr", "received"), 1),
        (HeartbeatReceived("b", "b1", 1, S, ()), "peers", ("heartbeat", "received"), 1),
        (PromiseReceived("b", "m", "a1", 1, ()), "peers", ("promise", "received"), 1),
        (AddressesRepaired("web", (ADDRESS, ADDRESS)), "repairs", "web", 2),
        (AddressSeenElsewhere("web", ADDRESS, MAC), "disputes", "web", 1),
        (KernelFailed("web", 1, "no"), "kernel_failures", "web", 1),
        (FenceConfirmed(FENCE), "fences", "confirmed", 1),
        (FenceRefused(FENCE, "no"), "fences", "refused", 1),
        (FenceTimedOut(FENCE), "fences", "timed_out", 1),
        (Committed(CLAIM, 1), "requests", ("claim", "committed"), 1),
        (Refused(CLAIM, 1, ()), "requests", ("claim", "refused"), 1),
        (Refused(LOOK, 1, ()), "requests", ("look", "committed"), 1),
        (Unanswered(LOOK, "timeout"), "requests", ("look", "unanswered"), 1),
    ],
)
def test_what_is_counted_of_an_event(meters: Meters, event: Event, counter: str, key: object, count: int):
    meters.heard(event, 1 * S)
    assert getattr(meters, counter) == {key: count}


@pytest.mark.parametrize(
    "effect, counter, key, count",
    [
        (SendAdvert("vr", 100), "adverts", ("vr", "sent"), 1),
        (SendHeartbeat(("b", "c"), "a1", 1, S, ()), "peers", ("heartbeat", "sent"), 2),
        (SendPromise("b", "m", "b1", 1, ()), "peers", ("promise", "sent"), 1),
        (Fence(FENCE, "web", "b", "b1", 1, S), "fences", "asked", 1),
        (commit(CLAIM), "requests", ("claim", "asked"), 1),
        (Look(LOOK, (), S), "requests", ("look", "asked"), 1),
        (Alarm("stranger", "vr", "10.0.0.9 ...", True), "raised", "stranger", 1),
        (
            RoleChanged("web", Role.BACKUP, Role.MASTER, "the lease of b lapsed", 3),
            "transitions",
            ("web", "MASTER", "lease_lapsed"),
            1,
        ),
    ],
)
def test_what_is_counted_of_an_effect(meters: Meters, effect: Effect, counter: str, key: object, count: int):
    meters.done(effect, 1 * S)
    assert getattr(meters, counter) == {key: count}


def test_alarms_that_are_over_are_raised_no_more(meters: Meters):
    for subject, raised in (("vr", True), ("vs", True), ("vr", False)):
        meters.done(Alarm("stranger", subject, "", raised), 1 * S)
    assert (meters.alarms["stranger"], meters.raised["stranger"]) == (1, 2)


def test_a_closed_gate(meters: Meters):
    meters.heard(GateClosed("too late"), 1 * S)
    assert meters.gate_closed == 1


@pytest.mark.parametrize(
    "why, expected",
    [
        ("started", Cause.STARTED),
        ("fit again", Cause.FIT_AGAIN),
        ("there was no owner", Cause.NO_OWNER),
        ("claimed again", Cause.CLAIMED_AGAIN),
        ("released by n2", Cause.RELEASED),
        ("the lease of n2 lapsed", Cause.LEASE_LAPSED),
        ("the lease lapsed", Cause.LEASE_LAPSED),
        ("handover from n2", Cause.HANDOVER),
        ("handover to n2 (anna)", Cause.HANDOVER),
        ("the record names n2", Cause.RECORD_LOST),
        ("the record is older than the lease", Cause.RECORD_LOST),
        ("the ownership record is gone or unreadable", Cause.RECORD_LOST),
        ("interface eth0 is down or absent", Cause.INTERFACE),
        ("interface eth0 has no IPv4 address; the agent stops", Cause.INTERFACE),
        ("a stranger is master of vr", Cause.STRANGER),
        ("listening for strangers on vr", Cause.STRANGER),
        ("kernel: gate: closed", Cause.KERNEL),
        ("removed from the configuration", Cause.CONFIGURATION),
        ("group web is given up first", Cause.CONFIGURATION),
        ("the agent stops", Cause.STOPPING),
        ("drained", Cause.DRAINED),
        ("paused by anna", Cause.PAUSED),
        ("", Cause.OTHER),
        ("said by somebody\nelse", Cause.OTHER),
    ],
)
def test_a_reason_has_a_class(why: str, expected: Cause):
    assert cause(why) is expected


def test_a_renewal_is_timed_from_its_question_until_it_is_shown(meters: Meters):
    for number, at in enumerate((0, 250 * MS, 500 * MS), start=1):
        meters.done(commit(Ask(Asking.RENEW, "a", number)), at)
    meters.heard(watched(5, Kind.LEASES, "a", lease("a", "a1", round=1)), 3 * MS)
    meters.heard(watched(6, Kind.LEASES, "b", lease("b", "b1", round=2)), 252 * MS)
    meters.heard(watched(7, Kind.LEASES, "a", lease("a", "a0", round=2)), 253 * MS)
    assert meters.renewals.sum == 3 * MS
    meters.heard(watched(8, Kind.LEASES, "a", lease("a", "a1", round=3)), 504 * MS)
    assert meters.renewals.sum == 3 * MS + 4 * MS
    assert meters.ages.sum == 504 * MS, "the lease was counted from its first renewal until the third was shown"
    meters.done(LeaseChanged(False, "it ran out", late=2 * MS), 1500 * MS)
    assert (meters.lapses, meters.lateness.sum, meters.lapsed_at) == (1, 2 * MS, 1500 * MS)
    assert meters.ages.sum == 504 * MS + 1000 * MS


def test_questions_are_timed_until_answered(meters: Meters):
    meters.done(commit(CLAIM), 0)
    meters.done(Look(LOOK, (), S), 0)
    meters.heard(Committed(CLAIM, 3), 7 * MS)
    meters.heard(Unanswered(LOOK, ""), 9 * MS)
    meters.heard(Committed(CLAIM, 3), 11 * MS)  # of a question that was never seen
    assert (meters.answers["claim"].sum, sum(meters.answers["claim"].counts)) == (7 * MS, 1)
    assert sum(meters.answers["look"].counts) == 0


def test_nothing_grows_with_renewals_that_are_never_shown(meters: Meters):
    for number in range(1000):
        meters.done(commit(Ask(Asking.RENEW, "a", number)), number)
        meters.heard(Unanswered(Ask(Asking.RENEW, "a", number), ""), number)
    assert len(meters._rounds) < 10
    assert meters._asked == {}


def test_what_a_reload_removes_is_counted_no_more(meters: Meters):
    meters.done(RoleChanged("web", Role.INIT, Role.BACKUP, "started", 0), 0)
    meters.done(SendAdvert("vr", 100), 0)
    meters.heard(AddressesRepaired("web", (ADDRESS,)), 0)
    meters.heard(RulesChanged(replace(RULES, groups={"db": GroupRules("db", (router("vs"),))})), 0)
    assert (meters.transitions, meters.adverts, meters.repairs) == ({}, {}, {})
    assert meters.vacant.keys() == meters.vacancies.now(0).keys() == {"db"}


def test_a_histogram_counts_up_to_each_bound():
    histogram = Histogram((10, 20))
    for span in (0, 10, 11, 20, 21):
        histogram.add(span)
    assert histogram.counts == [2, 2, 1]


# --- time without an owner


def owner(meters: Meters, revision: int, value: OwnerRecord | None, at: Instant) -> None:
    meters.heard(watched(revision, Kind.OWNERS, "web", value), at)


def vacancies(meters: Meters) -> tuple[int, int]:
    """How many there were, and their sum."""
    return sum(meters.vacant["web"].counts), meters.vacant["web"].sum


def test_from_a_release_to_the_next_owner(meters: Meters):
    owner(meters, 1, record("a", 1), 0)
    owner(meters, 2, record("a", 1, clean=True), 10 * MS)
    assert meters.vacancies.now(30 * MS) == {"web": 20 * MS}
    owner(meters, 3, record("b", 2), 40 * MS)
    assert vacancies(meters) == (1, 30 * MS)
    assert meters.vacancies.now(50 * MS) == {"web": 0}


def test_from_the_end_of_the_owners_lease(meters: Meters):
    owner(meters, 1, record("b", 1), 0)
    meters.heard(watched(2, Kind.LEASES, "b", lease("b", "b1")), 500 * MS)
    meters.heard(watched(3, Kind.LEASES, "b", lease("b", "b2")), 900 * MS)  # another incarnation's says nothing
    assert meters.vacancies.now(1490 * MS) == {"web": 0}
    owner(meters, 4, record("c", 2), 1560 * MS)
    assert vacancies(meters) == (1, 60 * MS)


def test_a_handover_is_no_vacancy(meters: Meters):
    owner(meters, 1, record("b", 1), 0)
    owner(meters, 2, record("c", 2), 100 * MS)
    assert vacancies(meters) == (0, 0)


def test_heartbeats_keep_an_owner_while_etcd_is_away(meters: Meters):
    owner(meters, 1, record("b", 1), 0)
    meters.heard(HeartbeatReceived("b", "b1", 7, S, ()), 900 * MS)
    assert meters.vacancies.now(1800 * MS) == {"web": 0}
    assert meters.vacancies.now(2000 * MS) == {"web": 100 * MS}


def test_a_record_that_vanishes(meters: Meters):
    assert meters.vacancies.now(5 * S) == {"web": 0}, "nothing was ever known"
    owner(meters, 1, record("b", 1), 5 * S)
    owner(meters, 2, None, 5 * S + 100 * MS)
    owner(meters, 3, record("c", 2), 5 * S + 400 * MS)
    assert vacancies(meters) == (1, 300 * MS)


def test_a_list_shows_what_is_gone_and_another_history_begins_anew(meters: Meters):
    meters.heard(Listed("x", 10, (Seen(Key(Kind.OWNERS, "web"), 1, 10, record("b", 1)),)), 0)
    meters.heard(Listed("x", 20, ()), 100 * MS)
    assert meters.vacancies.now(200 * MS) == {"web": 100 * MS}
    seen = Seen(Key(Kind.OWNERS, "web"), 1, 3, record("c", 1))
    meters.heard(Listed("x", 4, (seen,)), 300 * MS)
    assert meters.vacancies.now(300 * MS) == {"web": 0}
    owner(meters, 5, record("c", 1, clean=True), 400 * MS)
    assert meters.vacancies.now(500 * MS) == {"web": 100 * MS}


def test_groups_of_others_are_not_followed(meters: Meters):
    meters.heard(watched(1, Kind.OWNERS, "theirs", record("b", 1)), 0)
    meters.heard(watched(2, Kind.LEASES, "z", lease("z", "z1")), 0)
    assert meters.vacancies.now(1 * S).keys() == {"web"}
    assert meters.vacancies._signs == {}


def test_no_claim_has_a_reason_without_a_class():
    befores = (None, record("a", 1), record("b", 1), record("b", 1, clean=True))
    assert Cause.OTHER not in {cause(claims._claim_reason(before, RULES)) for before in befores}
