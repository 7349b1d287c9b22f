"""The machine of one virtual router, clause by clause: RFC 9568 (v3), RFC 3768 (v2), and what is ours.

Clauses are cited by section. Where we go another way, the test says so: the lease elects, so no timer and no advert
makes a MASTER, and only those whom `strangers: yield` names may depose one.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest

from haagent.core import vrrp
from haagent.core.model import Announce, Resolve, SendAdvert, Strangers
from haagent.core.units import MS, NEVER, S
from haagent.core.vrrp import Backup, By, Initialize, Master, Router, Signal, Stranger
from tests.unit.core.values import STRANGER, A, B, advert, router

YIELD = router(strangers=Strangers.YIELD)
LOW, HIGH = bytes([10, 0, 0, 0]), STRANGER
MASTER = Router(
    Master(advertise_at=11 * S, announce_at=15 * S, advertised_at=10 * S, announced_at=10 * S, since=10 * S)
)
SAY, TELL = SendAdvert("vr", 100), Announce("vr")


# --- 6.1: the parameters


@pytest.mark.parametrize(
    "version, priority, interval, expected",
    [
        # RFC 9568 6.1: Skew_Time is (256 - Priority) * Active_Adver_Interval / 256.
        (3, 1, 1 * S, 255 * S // 256),
        (3, 100, 1 * S, 156 * S // 256),
        (3, 254, 1 * S, 2 * S // 256),
        (3, 255, 1 * S, 1 * S // 256),
        (3, 100, 10 * MS, 156 * 10 * MS // 256),
        (3, 100, 4 * S, 156 * 4 * S // 256),
        # RFC 3768 6.1: Skew_Time is (256 - Priority) / 256 seconds, whatever the interval.
        (2, 1, 1 * S, 255 * S // 256),
        (2, 100, 1 * S, 156 * S // 256),
        (2, 100, 255 * S, 156 * S // 256),
        (2, 255, 1 * S, 1 * S // 256),
    ],
)
def test_skew_and_down_interval(version: int, priority: int, interval: int, expected: int):
    assert vrrp.skew(priority, version, interval) == expected
    # RFC 9568 6.1 (Active_Down_Interval), RFC 3768 6.1 (Master_Down_Interval): three intervals and the skew.
    assert vrrp.master_down_interval(priority, version, interval) == 3 * interval + expected


@pytest.mark.parametrize("version", [2, 3])
def test_a_higher_priority_has_the_shorter_skew(version: int):
    skews = [vrrp.skew(priority, version, 1 * S) for priority in range(1, 256)]
    assert skews == sorted(skews, reverse=True)
    assert len(set(skews)) == 255


# --- 6.4.1: Initialize


def test_initialize_to_backup_whatever_the_priority():
    # RFC 9568 6.4.1, RFC 3768 6.4.1: priority 255 would begin as MASTER. Here it waits for the lease like all others.
    assert vrrp.fit(router(), Router(), 0) == Router(Backup())
    assert vrrp.due(Router()) == NEVER
    assert vrrp.due(Router(Backup())) == NEVER  # no owner was heard yet: the timer is armed by its adverts only


@pytest.mark.parametrize("before", [Router(Backup(5 * S)), MASTER], ids=["backup", "master"])
def test_a_router_that_takes_part_is_not_begun_again(before: Router):
    assert vrrp.fit(YIELD, before, 0) == before


@pytest.mark.parametrize("priority, listens", [(200, False), (100, False), (99, True), (0, True)])
def test_a_master_that_is_to_be_followed_ends_the_listening_for_one(priority: int, listens: bool):
    """When it then stops, its successor waits its skew, and not until the end of a time for what has come."""
    rules = router(strangers=Strangers.YIELD, unicast=True)
    heard, _, _ = vrrp.heard(rules, vrrp.fit(rules, Router(), 1 * S), advert(B, priority), By.STRANGER, A, 2 * S)
    assert (heard.listens_until != NEVER) is listens


def test_who_begins_resolves_its_unicast_peers_and_listens_for_as_long_as_that_may_take():
    """A master's adverts wait until its kernel knows our MAC address, and its first question may have been lost."""
    rules = router(strangers=Strangers.YIELD, unicast=True, advert_interval=100 * MS)
    listening = vrrp.fit(rules, Router(), 1 * S)
    down = vrrp.master_down_interval(100, 3, 100 * MS)
    assert listening.listens_until == 1 * S + down + vrrp.RESOLUTION
    assert vrrp.RESOLUTION > 1 * S, "when the kernel asks again"
    told: list[tuple[int, vrrp.Said, tuple[Signal, ...]]] = []
    while (at := vrrp.due(listening)) != NEVER:
        listening, said, signals = vrrp.tick(rules, listening, at)
        told.append((at, said, signals))
    resolve = (Resolve("vr"),)
    assert told == [
        (1 * S, resolve, ()),
        (1500 * MS, resolve, ()),
        (2 * S, resolve, ()),
        (2500 * MS + down, (), (Signal.LISTENED,)),
    ]


def test_who_begins_resolves_also_where_nobody_is_waited_for():
    assert vrrp.tick(router(unicast=True), vrrp.fit(router(unicast=True), Router(), 0), 0)[1] == (Resolve("vr"),)


@pytest.mark.parametrize("priority, until", [(100, 4 * S + 156 * S // 256), (255, NEVER)])
def test_yield_who_begins_listens_for_a_master_first(priority: int, until: int):
    # RFC 9568 6.4.1: set the Active_Down_Timer, unless the priority is 255. Being heard by nobody, it ends by itself.
    rules = router(strangers=Strangers.YIELD, priority=priority)
    listening = vrrp.fit(rules, Router(), 1 * S)
    assert listening == Router(Backup(), listens_until=until)
    assert vrrp.due(listening) == until
    assert vrrp.held_off(rules, listening, A, preempt=True, owning=False) is (until != NEVER)
    assert not vrrp.held_off(rules, listening, A, preempt=True, owning=True)
    if until != NEVER:
        assert vrrp.tick(rules, listening, until - 1) == (listening, (), ())
        assert vrrp.tick(rules, listening, until) == (Router(Backup()), (), (Signal.LISTENED,))


@pytest.mark.parametrize("by", By)
def test_initialize_hears_nothing(by: By):
    assert vrrp.heard(YIELD, Router(), advert(HIGH, 255), by, A, 0) == (Router(), (), ())


# --- 6.4.2: Backup


@pytest.mark.parametrize("priority", [1, 99, 100, 101, 255])
def test_backup_rearms_by_the_owners_adverts_of_any_priority(priority: int):
    # RFC 9568 6.4.2: with Preempt_Mode a lower advert is discarded, and the timer runs out. The record says who owns.
    after, said, signals = vrrp.heard(router(), Router(Backup(2 * S)), advert(B, priority), By.OWNER, A, 1 * S)
    assert after == Router(Backup(1 * S + 3 * S + 156 * S // 256))
    assert (said, signals) == ((), ())


def test_backup_learns_the_owners_interval():
    # RFC 9568 6.4.2: Active_Adver_Interval is the Max Advertise Interval of the advert, and skew and timer follow it.
    after, _, _ = vrrp.heard(router(), Router(Backup()), advert(interval=40 * MS), By.OWNER, A, 1 * S)
    assert vrrp.due(after) == 1 * S + 120 * MS + 156 * 40 * MS // 256


def test_backup_v2_adds_a_skew_of_one_second():
    # RFC 3768 6.1, 6.4.2.
    after, _, _ = vrrp.heard(router(version=2), Router(Backup()), advert(interval=2 * S), By.OWNER, A, 0)
    assert vrrp.due(after) == 6 * S + 156 * S // 256


@pytest.mark.parametrize("version, interval, skew", [(3, 40 * MS, 156 * 40 * MS // 256), (2, 2 * S, 156 * S // 256)])
@pytest.mark.parametrize("silent", [False, True])
def test_backup_shortens_its_timer_to_the_skew_when_the_owner_stops(
    version: int, interval: int, skew: int, silent: bool
):
    # RFC 9568 6.4.2, RFC 3768 6.4.2: on Priority 0 the timer is set to Skew_Time.
    before = Router(Backup(9 * S, silent))
    stop = advert(priority=0, interval=interval)
    after, said, signals = vrrp.heard(router(version=version), before, stop, By.OWNER, A, 1 * S)
    assert after == Router(Backup(1 * S + skew))
    assert (said, signals) == ((), (Signal.OWNER_STOPPED,))


def test_backup_says_once_that_the_owner_is_silent_and_stays_backup():
    # RFC 9568 6.4.2: when Active_Down_Timer fires, send and become Active. Here it is a hint, and said once.
    after, said, signals = vrrp.tick(router(), Router(Backup(3 * S)), 3 * S)
    assert after == Router(Backup(silent=True))
    assert (said, signals) == ((), (Signal.OWNER_SILENT,))
    assert vrrp.due(after) == NEVER
    assert vrrp.tick(router(), after, 9 * S) == (after, (), ())


def test_backup_is_not_silent_before_the_timer():
    before = Router(Backup(3 * S))
    assert vrrp.tick(router(), before, 3 * S - 1) == (before, (), ())
    assert vrrp.due(before) == 3 * S


def test_backup_says_once_that_the_owner_is_heard_again():
    after, _, signals = vrrp.heard(router(), Router(Backup(silent=True)), advert(), By.OWNER, A, 0)
    assert signals == (Signal.OWNER_HEARD,)
    assert vrrp.heard(router(), after, advert(), By.OWNER, A, 0)[2] == ()


@pytest.mark.parametrize("before", [Router(Backup(3 * S)), MASTER], ids=["backup", "master"])
@pytest.mark.parametrize("priority", [0, 100, 255])
def test_a_member_that_is_not_the_owner_is_a_rival_and_moves_nothing(before: Router, priority: int):
    assert vrrp.heard(YIELD, before, advert(HIGH, priority), By.MEMBER, A, 1 * S) == (before, (), (Signal.RIVAL,))


# --- 6.4.3: Master (Active)


def test_master_speaks_and_announces_at_once():
    # RFC 9568 6.4.2: send an ADVERTISEMENT, then gratuitous ARP or unsolicited NA, set Adver_Timer.
    after, said, signals = vrrp.promoted(router(), Router(Backup(3 * S)), 10 * S)
    assert after == MASTER
    assert said == (SAY, TELL)
    assert signals == ()
    assert vrrp.due(after) == 11 * S


def test_master_advertises_at_every_interval():
    # RFC 9568 6.4.3, RFC 3768 6.4.3: when Adver_Timer fires, send an ADVERTISEMENT and reset it.
    assert vrrp.tick(router(), MASTER, 11 * S - 1) == (MASTER, (), ())
    after, said, _ = vrrp.tick(router(), MASTER, 11 * S)
    assert said == (SAY,)
    assert isinstance(MASTER.phase, Master)
    assert after == Router(replace(MASTER.phase, advertise_at=12 * S, advertised_at=11 * S))


def test_master_that_was_late_does_not_catch_up():
    after, said, _ = vrrp.tick(router(), MASTER, 14 * S)
    assert said == (SAY,)
    assert vrrp.due(after) == 15 * S


def test_master_refreshes_without_hurry_for_ever():
    """Who lost both announcements, or forgot them, is told within a refresh. What has a reason is told as ever."""
    rules = router(announce_refresh=10 * S, advert_interval=40 * S)
    master, _, _ = vrrp.promoted(rules, Router(), 10 * S)
    told: list[tuple[int, bool]] = []
    while len(told) < 5:
        at = vrrp.due(master)
        master, said, _ = vrrp.tick(rules, master, at)
        told += [(at, one.refresh) for one in said if isinstance(one, Announce)]
    assert told == [(15 * S, False), *((at * S, True) for at in (25, 35, 45, 55))]
    assert isinstance(master.phase, Master)
    owing = replace(master, phase=replace(master.phase, announced_at=64_950 * MS, again_at=65 * S))
    assert TELL in vrrp.tick(rules, owing, 65 * S)[1]


@pytest.mark.parametrize("refresh, again", [(0, NEVER), (60 * S, 75 * S)])
def test_master_announces_again_after_five_seconds_then_only_if_asked_to(refresh: int, again: int):
    rules = router(announce_refresh=refresh, advert_interval=40 * S)
    master, _, _ = vrrp.promoted(rules, Router(), 10 * S)
    assert vrrp.due(master) == 15 * S
    after, said, _ = vrrp.tick(rules, master, 15 * S)
    assert said == (TELL,)
    assert isinstance(after.phase, Master)
    assert after.phase.announce_at == again


def test_master_both_advertises_and_announces_when_both_are_due():
    assert vrrp.tick(router(), MASTER, 15 * S)[1] == (SAY, TELL)


def test_master_announces_again_at_once_and_then_at_most_ten_times_a_second():
    # What comes within the pause is made up for by one announcement at its end, and the five seconds stay.
    early, said, _ = vrrp.repaired(router(), MASTER, 10 * S + 30 * MS)
    assert said == ()
    assert vrrp.due(early) == 10 * S + 100 * MS
    assert vrrp.repaired(router(), early, 10 * S + 60 * MS) == (early, (), ())
    made_up, said, _ = vrrp.tick(router(), early, 10 * S + 100 * MS)
    assert said == (TELL,)
    assert vrrp.due(made_up) == 11 * S
    assert vrrp.repaired(router(), made_up, 10 * S + 200 * MS)[1] == (TELL,)
    assert isinstance(made_up.phase, Master)
    assert made_up.phase.announce_at == 15 * S


def test_master_lets_the_five_seconds_stand_for_what_is_owed():
    owing = replace(MASTER, phase=replace(MASTER.phase, announced_at=14_950 * MS, again_at=15_050 * MS))
    after, said, _ = vrrp.tick(router(), owing, 15 * S)
    assert said == (SAY, TELL)
    assert isinstance(after.phase, Master)
    assert after.phase.again_at == NEVER


def test_master_defends_its_address_at_once_then_once_a_second_until_nobody_disputes_it():
    first, said, _ = vrrp.disputed(router(), MASTER, 12 * S)
    assert said == (TELL,)
    assert isinstance(first.phase, Master)
    assert first.phase.disputed_until == 72 * S
    second, said, _ = vrrp.disputed(router(), first, 12 * S + 100 * MS)
    assert said == ()
    assert isinstance(second.phase, Master)
    assert second.phase.again_at == 13 * S
    quiet = replace(second, phase=replace(second.phase, again_at=NEVER, advertise_at=NEVER, announce_at=NEVER))
    assert vrrp.due(quiet) == 72 * S + 100 * MS
    over, said, _ = vrrp.tick(router(), quiet, 72 * S + 100 * MS)
    assert said == ()
    assert isinstance(over.phase, Master)
    assert over.phase.disputed_until == NEVER


def test_master_that_has_just_begun_takes_no_late_word_for_a_dispute():
    after, said, _ = vrrp.disputed(router(), MASTER, 11 * S - 1)
    assert said == (TELL,)
    assert isinstance(after.phase, Master)
    assert after.phase.disputed_until == NEVER


@pytest.mark.parametrize("phase", [Initialize(), Backup(12 * S)])
def test_who_is_not_master_says_nothing_of_addresses(phase: Initialize | Backup):
    assert vrrp.repaired(router(), Router(phase), 10 * S) == (Router(phase), (), ())
    assert vrrp.disputed(router(), Router(phase), 10 * S) == (Router(phase), (), ())


def test_master_hears_the_recorded_owner_as_a_rival():
    # The record already names another: a hint to look, not a reason to yield.
    assert vrrp.heard(router(), MASTER, advert(HIGH, 255), By.OWNER, A, 11 * S) == (MASTER, (), (Signal.RIVAL,))


def test_demoted_is_backup_with_no_timer_and_keeps_the_stranger():
    stranger = Stranger(HIGH, 255, 20 * S)
    assert vrrp.demoted(replace(MASTER, stranger=stranger)) == Router(Backup(), stranger)
    assert vrrp.demoted(Router()) == Router()


# --- strangers


@pytest.mark.parametrize("phase", [Backup(12 * S), MASTER.phase], ids=["backup", "master"])
@pytest.mark.parametrize("priority", [0, 1, 99, 100, 101, 255])
def test_alarm_a_stranger_is_noted_and_moves_nothing(phase: Backup | Master, priority: int):
    after, said, signals = vrrp.heard(router(), Router(phase), advert(HIGH, priority), By.STRANGER, A, 10 * S)
    assert after.phase == phase
    assert said == ()
    assert signals == (Signal.STRANGER_HEARD,)
    assert not vrrp.held_off(router(), after, A, preempt=False, owning=False)


@pytest.mark.parametrize(
    "priority, source, outranks",
    [
        # RFC 9568 6.4.3, RFC 3768 6.4.3: greater Priority, or equal and a greater primary address of the sender.
        (101, LOW, True),
        (255, LOW, True),
        (100, HIGH, True),
        (100, A, False),
        (100, LOW, False),
        (99, HIGH, False),
        (1, HIGH, False),
        (0, HIGH, False),
    ],
)
def test_yield_who_outranks_whom(priority: int, source: bytes, outranks: bool):
    after, said, signals = vrrp.heard(YIELD, MASTER, advert(source, priority), By.STRANGER, A, 10 * S + 600 * MS)
    assert signals == (Signal.STRANGER_HEARD,)
    assert after.stranger is not None
    assert vrrp.outranks(after.stranger, YIELD, A) is outranks
    assert vrrp.held_off(YIELD, after, A, preempt=False, owning=True) is outranks
    # 6.4.3: to a losing advert, and to Priority 0, the Active answers at once and resets its Adver_Timer. RFC 3768
    # 6.4.3 discards a losing one in silence; like keepalived we answer it in v2 too, so that both sides learn.
    assert said == (() if outranks else (SAY,))
    assert isinstance(after.phase, Master)
    assert after.phase.advertise_at == (11 * S if outranks else 11 * S + 600 * MS)


def test_yield_addresses_compare_as_unsigned_integers_in_network_order():
    # RFC 9568 6.4.3: 10.0.0.200 is above 10.0.0.100 although its last byte is negative as a signed one.
    assert vrrp.outranks(Stranger(bytes([10, 0, 0, 200]), 100, 0), YIELD, bytes([10, 0, 0, 100]))
    assert not vrrp.outranks(Stranger(bytes([9, 255, 255, 255]), 100, 0), YIELD, bytes([10, 0, 0, 0]))


def test_yield_nobody_makes_a_master_shout():
    # A flood of losing adverts at most doubles the master's own rate, and never silences it.
    said_at: list[int] = []
    now, state = 10 * S, MASTER
    while now < 20 * S:
        now += 10 * MS
        state, said, _ = vrrp.heard(YIELD, state, advert(LOW, 1), By.STRANGER, A, now)
        said_at += [now] * len(said)
        state, said, _ = vrrp.tick(YIELD, state, now)
        said_at += [now] * said.count(SAY)
    assert 10 <= len(said_at) <= 20
    gaps = [after - before for before, after in pairwise(said_at)]
    assert min(gaps) >= 500 * MS
    assert max(gaps) <= 1 * S


@pytest.mark.parametrize(
    "priority, preempt, owning, held_off",
    [
        # RFC 9568 6.1: Preempt_Mode False keeps a higher Backup from preempting a lower Active; 6.4.2 the rest.
        (101, False, False, True),
        (101, True, False, True),
        (101, False, True, True),
        (99, False, False, True),
        (99, True, False, False),
        (99, False, True, False),
        # 6.4.2: only a lower priority is preempted, the addresses break ties of masters; 0 sets the timer to the skew.
        (100, True, False, True),
        (0, True, False, True),
    ],
)
@pytest.mark.parametrize("source", [LOW, HIGH])
def test_yield_a_backup_waits_for_a_stranger_as_the_rfc_says(
    source: bytes, priority: int, preempt: bool, owning: bool, held_off: bool
):
    after, said, _ = vrrp.heard(YIELD, Router(Backup()), advert(source, priority), By.STRANGER, A, 0)
    assert said == ()
    assert vrrp.held_off(YIELD, after, A, preempt, owning) is held_off


def test_nobody_is_held_off_by_nobody():
    assert not vrrp.held_off(YIELD, Router(Backup()), A, preempt=False, owning=False)


@pytest.mark.parametrize("priority, lasts", [(200, 3 * S + 156 * S // 256), (0, 156 * S // 256)])
@pytest.mark.parametrize("phase", [Backup(), Backup(3 * S), MASTER.phase])
def test_a_stranger_counts_until_its_adverts_stop(priority: int, lasts: int, phase: Backup | Master):
    # 6.4.2: the timer is Active_Down_Interval, and Skew_Time after Priority 0.
    after, _, _ = vrrp.heard(YIELD, Router(phase), advert(HIGH, priority), By.STRANGER, A, 10 * S)
    assert after.stranger is not None
    until = after.stranger.until
    assert until - 10 * S == lasts
    assert vrrp.due(after) <= until
    assert vrrp.tick(YIELD, after, until - 1)[0].stranger is not None
    gone, _, signals = vrrp.tick(YIELD, after, until)
    assert gone.stranger is None
    assert Signal.STRANGER_GONE in signals


def test_a_stranger_that_goes_on_stays():
    state = Router(Backup())
    for second in range(10):
        state, _, _ = vrrp.heard(YIELD, state, advert(HIGH, 200), By.STRANGER, A, second * S)
        state, _, signals = vrrp.tick(YIELD, state, second * S)
        assert state.stranger is not None
        assert signals == ()


# --- all of it


PHASES = (Initialize(), Backup(), Backup(3 * S), Backup(silent=True), MASTER.phase)
KNOWN = (None, Stranger(HIGH, 200, 12 * S), Stranger(LOW, 1, 5 * S))


@pytest.mark.parametrize("strangers", Strangers)
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_no_advert_and_no_timer_makes_or_unmakes_a_master(
    strangers: Strangers, version: int, phase: Initialize | Backup | Master
):
    ours = router(strangers=strangers, version=version)
    for known, by, priority, source, now in product(
        KNOWN, By, (0, 1, 99, 100, 101, 254, 255), (LOW, A, HIGH), (10 * S, 30 * S)
    ):
        before = Router(phase, known)
        heard, said, _ = vrrp.heard(ours, before, advert(source, priority), by, A, now)
        assert type(heard.phase) is type(phase)
        assert Announce("vr") not in said
        assert not said or isinstance(phase, Master)
        ticked, said, _ = vrrp.tick(ours, heard, now)
        assert type(ticked.phase) is type(phase)
        assert not said or isinstance(phase, Master)
        assert vrrp.due(ticked) > now, "what was due is dealt with"
