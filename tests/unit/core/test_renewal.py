"""The node's renewals: when it asks, under which guards, what makes them count, and what it does when none does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from haagent.core.context import LAPSE, RENEW, WATCH, Context
from haagent.core.failsafe import Failsafe
from haagent.core.lease import Held, Unheld
from haagent.core.model import Alarm, Ask, Asking, Commit, Effect, ExtendAddresses, LeaseChanged, Resync
from haagent.core.records import Garbage, Guard, Kind, LeaseValue, Put, Seen
from haagent.core.renewal import LOOKED_AT, REWRITTEN_AT_MOST, Renewals
from haagent.core.units import MS, S
from tests.unit.core.values import LEASES, OWNERS, PATIENCE, leases, listed, owner, owners, rules, seen, watched

GONE = seen(Kind.LEASES, "a", None, 9)


def mine(turn: int, revision: int, created: int = 2) -> Seen:
    return seen(Kind.LEASES, "a", LeaseValue("a1", "host-a", 1 * S, turn), revision, created)


@dataclass
class Desk:
    """Renewals, with what a node does around them: the view first, then the news."""

    context: Context = field(default_factory=lambda: Context(rules()))

    def __post_init__(self) -> None:
        self.renewals = Renewals(self.context, Failsafe(self.context))
        list(self.context.view.list(listed(1), self.context.rules, 0))

    def ask(self, now: int, *owned: str) -> tuple[Effect, ...]:
        self.context.now = now
        self.renewals.ask(owned)
        return self.said()

    def show(self, now: int, *news: Seen) -> tuple[Effect, ...]:
        self.context.now = now
        for one in self.context.view.watch(watched(*news), self.context.rules, now):
            if one.key == LEASES:
                self.renewals.own_key(one, streamed=True)
        return self.said()

    def said(self) -> tuple[Effect, ...]:
        said = tuple(self.context.out)
        self.context.out.clear()
        return said

    def due(self) -> int:
        return self.context.timers.next()

    @property
    def lease(self) -> Held | Unheld:
        return self.renewals.lease


def holding() -> Desk:
    desk = Desk()
    desk.ask(0)
    desk.show(10 * MS, mine(1, 2))
    assert isinstance(desk.lease, Held)
    return desk


def guards(said: tuple[Effect, ...]) -> tuple[Guard, ...]:
    (commit,) = said
    assert isinstance(commit, Commit)
    return commit.guards


# --- asking


def test_the_first_renewal_is_guarded_by_there_being_no_key():
    desk = Desk()
    put = Put(LEASES, LeaseValue("a1", "host-a", 1 * S, 1), session=True)
    ask = Ask(Asking.RENEW, "a", 1)
    assert desk.ask(0) == (Commit(ask, (Guard(LEASES, 0),), (put,), (), 1 * S),)
    assert desk.due() == 250 * MS


def test_nothing_is_asked_before_etcd_was_listed():
    desk = Desk(Context(rules()))
    desk.context.view.forget(frozenset())
    assert desk.ask(0) == ()


def test_each_renewal_is_guarded_by_the_one_before_and_numbered():
    desk = holding()
    said = desk.ask(250 * MS)
    assert guards(said) == (Guard(LEASES, 2),)
    assert isinstance(said[0], Commit)
    assert said[0].ask.number == 2
    assert desk.due() == 500 * MS


def test_a_lease_key_of_our_predecessor_is_taken_over():
    desk = Desk()
    desk.show(0, leases(7, "a", 0))
    assert guards(desk.ask(0)) == (Guard(LEASES, 7),)


def test_something_new_is_asked_at_once():
    desk = holding()
    desk.context.now = 100 * MS
    desk.renewals.now()
    assert desk.due() == 100 * MS
    assert desk.lease.questions.next_at == 100 * MS


def test_a_longer_ttl_is_written_into_the_records_of_what_we_own_by_the_same_transaction():
    desk = holding()
    ours = owner("a", ttl=1 * S)
    desk.show(20 * MS, owners(5, ours))
    desk.context.rules = replace(desk.context.rules, ttl=3 * S)
    (commit,) = desk.ask(250 * MS, "web")
    assert isinstance(commit, Commit)
    assert commit.guards == (Guard(LEASES, 2), Guard(OWNERS, 5))
    assert [put.value for put in commit.puts] == [
        LeaseValue("a1", "host-a", 3 * S, 2),
        replace(ours, ttl=3 * S),
    ]
    desk.show(260 * MS, owners(6, replace(ours, ttl=3 * S)))
    assert guards(desk.ask(1 * S, "web")) == (Guard(LEASES, 2), Guard(OWNERS, 6, created=True)), "once"


def test_a_longer_ttl_waits_for_records_that_do_not_fit_in_one_transaction():
    desk = holding()
    names = [f"group-{number}" for number in range(REWRITTEN_AT_MOST + 1)]
    desk.show(20 * MS, *(owners(5, owner("a", ttl=1 * S), name) for name in names))
    desk.context.rules = replace(desk.context.rules, ttl=3 * S)
    (commit,) = desk.ask(250 * MS, *names)
    assert isinstance(commit, Commit)
    assert len(commit.puts) == 1 + REWRITTEN_AT_MOST
    assert isinstance(commit.puts[0].value, LeaseValue)
    assert commit.puts[0].value.ttl == 1 * S


# --- what counts


def test_the_lease_begins_when_the_stream_shows_a_renewal():
    desk = Desk()
    desk.ask(0)
    assert desk.show(10 * MS, mine(1, 2)) == (LeaseChanged(True, "renewals are seen"),)
    assert isinstance(desk.lease, Held)
    assert desk.lease.held_until == 970 * MS
    desk.context.timers.set(RENEW, 9 * S)
    assert desk.due() == 970 * MS
    assert desk.context.timers.pop(970 * MS) == LAPSE


def test_a_lease_on_other_terms_is_decided_upon():
    desk = holding()
    again = desk.renewals.own_key
    desk.ask(250 * MS)
    assert not again(mine(2, 3), streamed=True), "the same terms"
    desk.ask(500 * MS)
    assert again(mine(3, 5, created=5), streamed=True), "the key was made anew: records before it are void"
    desk.context.rules = replace(desk.context.rules, ttl=3 * S)
    desk.ask(750 * MS)
    longer = seen(Kind.LEASES, "a", LeaseValue("a1", "host-a", 3 * S, 4), 6, 5)
    assert again(longer, streamed=True), "records that allow for less are void"


def test_a_renewal_that_only_an_answer_shows_does_not_count_until_the_stream_does():
    desk = Desk()
    desk.ask(0)
    assert not desk.renewals.own_key(mine(1, 2), streamed=False)
    assert isinstance(desk.lease, Unheld)
    assert desk.show(10 * MS, mine(1, 2)) == (LeaseChanged(True, "renewals are seen"),)


@pytest.mark.parametrize("shown_at, next_at", [(400, 250), (600, 600)])
def test_a_lease_that_begins_with_an_old_question_is_renewed_at_once(shown_at: int, next_at: int):
    """etcd was away: what waited for it counts from when it was asked, and has little time left."""
    desk = Desk()
    desk.ask(0)
    desk.show(shown_at * MS, mine(1, 2))
    assert isinstance(desk.lease, Held)
    assert desk.lease.held_until == 970 * MS
    assert desk.due() == next_at * MS


def test_each_further_renewal_lets_the_kernel_extend():
    desk = holding()
    desk.ask(250 * MS)
    assert desk.show(260 * MS, mine(2, 3)) == (ExtendAddresses(1220 * MS),)
    assert desk.show(270 * MS, mine(2, 3)) == (), "once"


@pytest.mark.parametrize(
    "news", [GONE, leases(9, "a", 0), leases(9, "a", 2, host="host-z"), seen(Kind.LEASES, "a", Garbage("?"), 9)]
)
def test_a_lease_key_that_is_not_ours_any_more_is_written_anew_at_once_and_what_is_held_stays(news: Seen):
    desk = holding()
    desk.show(100 * MS, news)
    assert desk.due() == 100 * MS
    assert isinstance(desk.lease, Held)
    assert desk.lease.held_until == 970 * MS


def test_lapse_is_noticed_first_and_said_once():
    desk = holding()
    desk.context.now = 970 * MS - 1
    assert not desk.renewals.lapse_if_over()
    desk.context.now = 970 * MS
    assert desk.renewals.lapse_if_over()
    assert desk.said() == (LeaseChanged(False, "it ran out"),)
    assert not desk.renewals.lapse_if_over()
    desk.renewals.give_up("again")
    assert desk.said() == ()


def test_a_shorter_ttl_moves_the_lapse_when_it_is_asked():
    desk = holding()
    desk.context.rules = replace(desk.context.rules, ttl=300 * MS)
    desk.ask(100 * MS)
    desk.context.timers.set(RENEW, 9 * S)
    assert desk.due() == 370 * MS


# --- the key vanished while we own


def test_a_key_that_vanished_is_written_anew_together_with_the_records_of_what_we_own():
    desk = holding()
    desk.show(20 * MS, owners(3, owner("a")))
    assert guards(desk.ask(30 * MS, "web")) == (Guard(LEASES, 2), Guard(OWNERS, 3, created=True)), "only looked at"
    desk.show(100 * MS, GONE)
    (commit,) = desk.ask(100 * MS, "web")
    assert isinstance(commit, Commit)
    assert commit.guards == (Guard(LEASES, 0), Guard(OWNERS, 3))
    assert [put.key for put in commit.puts] == [LEASES, OWNERS]
    assert commit.puts[1] == Put(OWNERS, owner("a")), "another revision of the same record"


def test_a_renewal_looks_whether_our_records_are_there_in_turn_if_they_are_many():
    """By when they were made: what we write over them meanwhile does not refuse it."""
    desk = holding()
    names = [f"g{number}" for number in range(2 * LOOKED_AT)]
    desk.show(20 * MS, *(seen(Kind.OWNERS, name, owner("a"), 9, created=4) for name in names))
    seen_to: set[str] = set()
    for at in (30, 280):
        looked = [one for one in guards(desk.ask(at * MS, *names)) if one.created]
        assert len(looked) == LOOKED_AT
        assert all(one.revision == 4 for one in looked)
        seen_to |= {one.key.name for one in looked}
    assert seen_to == set(names)


def test_ninety_nine_records_are_written():
    desk = holding()
    names = [f"g{number}" for number in range(REWRITTEN_AT_MOST)]
    desk.show(100 * MS, GONE, *(owners(10, owner("a"), name) for name in names))
    assert len(guards(desk.ask(100 * MS, *names))) == 1 + REWRITTEN_AT_MOST
    assert isinstance(desk.lease, Held)


def test_more_groups_than_a_transaction_can_write_are_let_go_first():
    desk = holding()
    desk.show(100 * MS, GONE)
    names = [f"g{number}" for number in range(REWRITTEN_AT_MOST + 1)]
    lost, commit = desk.ask(100 * MS, *names)
    assert isinstance(lost, LeaseChanged)
    assert not lost.held
    assert isinstance(desk.lease, Unheld)
    assert guards((commit,)) == (Guard(LEASES, 0),)
    # And what is shown then is a new chain.
    assert desk.show(110 * MS, mine(2, 10, 10)) == (LeaseChanged(True, "renewals are seen"),)
    assert isinstance(desk.lease, Held)
    assert desk.lease.since == 10


# --- our name on another host


def test_another_living_host_with_our_name_is_waited_for_and_told_once():
    desk = Desk()
    desk.show(0, leases(7, "a", 2, host="host-z"))
    (alarm,) = desk.ask(10 * MS)
    assert alarm == Alarm("name-in-use", "a", "by incarnation a2 on host host-z", raised=True)
    assert desk.due() == PATIENCE
    assert desk.lease.questions.round == 0
    desk.show(250 * MS, leases(8, "a", 2, host="host-z", round=2))
    assert desk.ask(250 * MS) == ()
    assert desk.due() == 250 * MS + PATIENCE
    calm, commit = desk.ask(250 * MS + PATIENCE)
    assert calm == replace(alarm, raised=False)
    assert guards((commit,)) == (Guard(LEASES, 8),)


@pytest.mark.parametrize("news", [leases(7, "a", 0), leases(7, "a", 1, host="host-z")])
def test_our_predecessor_and_our_own_key_are_not_waited_for(news: Seen):
    desk = Desk()
    desk.show(0, news)
    assert guards(desk.ask(10 * MS)) == (Guard(LEASES, 7),)


# --- silence


def test_two_renewals_in_a_row_without_an_answer_are_an_alarm_until_one_is_shown():
    desk = holding()
    desk.renewals.unanswered("no answer in time")
    assert desk.said() == ()
    desk.renewals.unanswered("no answer in time")
    desk.renewals.unanswered("refused")
    assert desk.said() == (Alarm("etcd-silent", "etcd", "no answer in time", raised=True),)
    desk.ask(250 * MS)
    assert desk.show(260 * MS, mine(2, 3)) == (
        Alarm("etcd-silent", "etcd", "no answer in time", raised=False),
        ExtendAddresses(1220 * MS),
    )
    desk.renewals.unanswered("one")
    assert desk.said() == ()


def test_a_watch_that_hangs_is_begun_anew_and_not_more_often_than_renewals_are():
    desk = holding()
    desk.renewals.committed(5)
    assert Resync() not in desk.ask(100 * MS), "the stream may be a little behind"
    desk.renewals.committed(6)
    resyncs = [now for now in range(130, 1010, 10) if Resync() in desk.ask(now * MS)]
    assert resyncs == [140, 390, 640, 890]


def test_a_watch_that_hangs_is_found_by_the_renewal_after_the_one_that_was_not_shown():
    """One renewal is lost with the etcd member that hangs, the next done by another one: the third is not too late."""
    desk = holding()
    desk.ask(250 * MS)
    desk.ask(500 * MS)
    desk.context.now = 520 * MS
    desk.renewals.committed(5)
    assert Resync() in desk.ask(750 * MS)
    assert isinstance(desk.lease, Held)


def test_a_watch_that_hangs_is_found_before_the_lease_ends_when_two_renewals_were_lost():
    """Two members fell silent for the third renewal to be done elsewhere. A fourth would come after the lease's end."""
    desk = holding()
    for lost in (250, 500):
        desk.ask(lost * MS)
    desk.ask(750 * MS)
    desk.context.now = 760 * MS
    desk.renewals.committed(5)
    assert desk.due() == 885 * MS
    assert desk.context.timers.pop(885 * MS) == WATCH
    desk.context.now = 885 * MS
    desk.renewals.watch_the_watch()
    assert desk.said() == (Resync(),)
    assert isinstance(desk.lease, Held)


def test_a_watch_that_is_only_a_little_late_arms_no_timer():
    desk = holding()
    desk.ask(250 * MS)
    desk.context.now = 300 * MS
    desk.renewals.committed(5)
    assert desk.due() == 500 * MS


def test_a_watch_that_shows_what_was_done_is_left_alone():
    desk = holding()
    desk.renewals.committed(5)
    list(desk.context.view.watch(watched(revision=5), desk.context.rules, 100 * MS))
    assert Resync() not in desk.ask(900 * MS)
    desk.renewals.committed(5)
    assert Resync() not in desk.ask(1900 * MS), "it was shown before it was answered"
