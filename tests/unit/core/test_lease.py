"""The lease: it counts from the question, what gets shorter counts at once, and lapse is final.

The properties at the end play renewals against a small etcd: whatever is asked, lost, done, shown late or in which
order, a node never holds longer than the newest renewal that may stand in etcd allows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haagent.core import lease
from haagent.core.lease import ASKED_KEPT, Held, Lease, Unheld
from haagent.core.records import LeaseValue
from haagent.core.units import MS, S
from tests.unit.core.values import MARGIN, TTL


def ask(before: Lease, now: int, ttl: int = TTL) -> Lease:
    return lease.ask(before, ttl, MARGIN, now)


def shown(before: Lease, turn: int, now: int, revision: int = 5, ttl: int = TTL) -> Lease:
    return lease.shown(before, LeaseValue("a1", "host-a", ttl, turn), 1, revision, MARGIN, now)


def holding(now: int = 0, ttl: int = TTL) -> Held:
    after = shown(ask(lease.start(now), now, ttl), 1, now + 1, ttl=ttl)
    assert isinstance(after, Held)
    return after


# --- asked, held, lapsed


def test_nothing_is_held_at_first_and_a_renewal_is_due_at_once():
    first = lease.start(7 * S)
    assert isinstance(first, Unheld)
    assert first.questions.next_at == 7 * S
    assert not lease.lapsed(first, 9 * S)


def test_asking_holds_nothing_and_the_next_renewal_is_due_in_a_quarter_of_the_ttl():
    asked = ask(lease.start(0), 100 * MS)
    assert isinstance(asked, Unheld)
    assert asked.questions.round == 1
    assert asked.questions.next_at == 350 * MS


def test_the_lease_counts_from_the_question_not_from_the_answer():
    after = shown(ask(lease.start(0), 100 * MS), 1, now=600 * MS, revision=5)
    assert isinstance(after, Held)
    assert after.held_until == 100 * MS + TTL - MARGIN
    assert (after.since, after.created) == (5, 1)


@pytest.mark.parametrize("now, over", [(970 * MS - 1, False), (970 * MS, True), (9 * S, True)])
def test_the_lease_is_over_at_held_until_and_not_before(now: int, over: bool):
    assert lease.lapsed(holding(), now) is over


def test_the_chain_goes_on_while_renewals_are_shown_in_time():
    after = shown(ask(holding(), 250 * MS), 2, now=800 * MS, revision=9)
    assert isinstance(after, Held)
    assert after.held_until == 250 * MS + TTL - MARGIN
    assert after.since == 5, "records written since the first renewal stay ours"


def test_a_key_made_anew_in_time_is_the_same_chain():
    asked = ask(holding(), 250 * MS)
    after = lease.shown(asked, LeaseValue("a1", "host-a", TTL, 2), 8, 8, MARGIN, 300 * MS)
    assert isinstance(after, Held)
    assert (after.since, after.created) == (5, 8)


def test_lapse_is_final_and_a_late_renewal_begins_a_new_chain():
    asked = ask(holding(), 250 * MS)
    assert isinstance(asked, Held)
    over = lease.lapse(asked)
    assert isinstance(over, Unheld)
    after = shown(over, 2, now=980 * MS, revision=9)
    assert isinstance(after, Held)
    assert after.since == 9, "what was ours before the lapse is not ours after it"
    assert after.held_until == 250 * MS + TTL - MARGIN


@pytest.mark.parametrize("now", [970 * MS, 971 * MS, 9 * S])
def test_a_renewal_that_is_shown_after_its_own_end_begins_nothing(now: int):
    assert isinstance(shown(ask(lease.start(0), 0), 1, now), Unheld)


@pytest.mark.parametrize("turn", [0, 2, 99, -1])
def test_a_round_that_was_never_asked_changes_nothing(turn: int):
    asked = ask(lease.start(0), 0)
    assert shown(asked, turn, 10 * MS) is asked


def test_a_round_counts_once():
    held = holding()
    assert shown(held, 1, 500 * MS, revision=7) is held


def test_renewals_can_be_put_off():
    held = holding()
    after = lease.delay(held, 800 * MS)
    assert after == replace(held, questions=replace(held.questions, next_at=800 * MS))


# --- several rounds in flight


def test_of_several_rounds_with_the_same_guard_the_one_shown_counts():
    asked = ask(ask(ask(lease.start(0), 0), 250 * MS), 500 * MS)
    after = shown(asked, 2, 600 * MS)
    assert isinstance(after, Held)
    assert after.held_until == 250 * MS + TTL - MARGIN
    assert [one.round for one in after.questions.asked] == [3], "the first can never be done any more"
    assert shown(after, 1, 610 * MS) is after
    last = shown(after, 3, 620 * MS)
    assert isinstance(last, Held)
    assert last.held_until == 500 * MS + TTL - MARGIN


def test_memory_is_bounded_however_long_nothing_is_answered():
    state: Lease = lease.start(0)
    for turn in range(1000):
        state = ask(state, turn * 250 * MS)
    assert len(state.questions.asked) == ASKED_KEPT
    assert [one.round for one in state.questions.asked] == list(range(1001 - ASKED_KEPT, 1001))
    forgotten = shown(state, 1000 - ASKED_KEPT, 250 * S)
    assert forgotten is state


# --- the ttl changes


def test_a_shorter_ttl_counts_from_when_it_is_asked():
    after = ask(holding(), 250 * MS, ttl=300 * MS)
    assert isinstance(after, Held)
    assert after.held_until == 250 * MS + 300 * MS - MARGIN
    assert after.ttl == 300 * MS, "what it counts by, and so what the ownership records must allow for"
    assert after.questions.next_at == 250 * MS + 75 * MS


def test_a_shorter_ttl_never_prolongs():
    after = ask(holding(), 900 * MS, ttl=900 * MS)
    assert isinstance(after, Held)
    assert after.held_until == 970 * MS


def test_an_older_round_that_is_shown_after_a_shorter_ask_counts_by_the_shorter_ttl():
    asked = ask(ask(holding(), 250 * MS), 300 * MS, ttl=300 * MS)
    after = shown(asked, 2, 310 * MS)
    assert isinstance(after, Held)
    assert after.held_until == 300 * MS + 300 * MS - MARGIN, "round 2 ended at 250 + 300 ms: nothing is gained"
    assert after.questions.shortest == 300 * MS


def test_a_longer_ttl_counts_from_when_it_is_shown():
    before = holding(ttl=300 * MS)
    asked = ask(before, 75 * MS, ttl=1 * S)
    assert isinstance(asked, Held)
    assert asked.held_until == 270 * MS
    after = shown(asked, 2, 100 * MS, ttl=1 * S)
    assert isinstance(after, Held)
    assert after.held_until == 75 * MS + 1 * S - MARGIN
    assert (asked.ttl, after.ttl) == (300 * MS, 1 * S)
    assert after.questions.shortest == 1 * S


def test_a_shorter_ttl_that_was_asked_in_between_binds_until_a_later_one_is_shown():
    asked = ask(ask(ask(holding(), 250 * MS), 300 * MS, ttl=400 * MS), 320 * MS, ttl=2 * S)
    assert asked.questions.shortest == 400 * MS
    middle = shown(asked, 2, 330 * MS)
    assert middle.questions.shortest == 400 * MS
    assert isinstance(middle, Held)
    assert middle.held_until == 300 * MS + 400 * MS - MARGIN
    after = shown(middle, 4, 340 * MS, ttl=2 * S)
    assert isinstance(after, Held)
    assert after.held_until == 320 * MS + 2 * S - MARGIN


def test_a_round_with_a_longer_ttl_than_the_shortest_asked_since_counts_by_the_shortest():
    asked = ask(ask(lease.start(0), 0, ttl=2 * S), 10 * MS, ttl=300 * MS)
    after = shown(asked, 1, 20 * MS, ttl=2 * S)
    assert isinstance(after, Held)
    assert after.held_until == 300 * MS - MARGIN


# --- properties

TTLS = st.sampled_from([300 * MS, 1 * S, 2 * S])


@dataclass
class World:
    """A node and an etcd. Each ask is guarded by what the node has seen; etcd does at most one of those in flight."""

    now: int = 0
    lease: Lease = field(default_factory=lambda: lease.start(0))
    asked: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # round -> (asked_at, ttl, guard)
    last_shorter: tuple[int, int, int] | None = None  # round, asked_at, ttl
    done: list[tuple[int, int, int]] = field(default_factory=list)  # round, ttl, when
    revealed: int = 0  # how many of `done` the stream has shown

    def go(self, step: int) -> None:
        self.now += step
        if lease.lapsed(self.lease, self.now):
            assert isinstance(self.lease, Held)
            self.lease = lease.lapse(self.lease)

    def ask(self, ttl: int) -> None:
        before = self.lease.questions.shortest
        self.lease = lease.ask(self.lease, ttl, MARGIN, self.now)
        number = self.lease.questions.round
        self.asked[number] = (self.now, ttl, self.revealed)
        if ttl <= before:
            self.last_shorter = (number, self.now, ttl)
        self.go(0)

    def commit(self, choice: int) -> None:
        """etcd does one of those whose guard holds, however old; the others of that guard are refused for ever."""
        able = [one for one, (_, _, guard) in self.asked.items() if guard == len(self.done)]
        if able:
            number = able[choice % len(able)]
            self.done.append((number, self.asked[number][1], self.now))

    def show(self) -> None:
        if self.revealed < len(self.done):
            number, ttl, _ = self.done[self.revealed]
            self.revealed += 1
            value = LeaseValue("a1", "host-a", ttl, number)
            self.lease = lease.shown(self.lease, value, 1, self.revealed + 1, MARGIN, self.now)
            if self.last_shorter is not None and number >= self.last_shorter[0]:
                self.last_shorter = None

    def check(self) -> None:
        held = self.lease
        if not isinstance(held, Held):
            return
        assert self.now < held.held_until
        rounds = [number for number, _, _ in self.done[: self.revealed]]
        assert held.held_until <= max(self.asked[one][0] + self.asked[one][1] - MARGIN for one in rounds)
        if self.last_shorter is not None:
            _, asked_at, ttl = self.last_shorter
            assert held.held_until <= asked_at + ttl - MARGIN
        # Whoever watches etcd may count from when the newest renewal was done, by the ttl that it carries.
        _, ttl, when = self.done[-1]
        assert held.held_until <= when + ttl - MARGIN
        assert len(held.questions.asked) <= ASKED_KEPT


STEPS = st.one_of(
    st.tuples(st.just("go"), st.integers(0, 400).map(lambda ms: ms * MS)),
    st.tuples(st.just("ask"), TTLS),
    st.tuples(st.just("commit"), st.integers(0, 9)),
    st.tuples(st.just("show"), st.just(0)),
)


@given(st.lists(STEPS, max_size=60))
def test_no_order_of_asks_answers_and_delays_holds_longer_than_etcd_shows(steps: list[tuple[str, int]]):
    world = World()
    for what, value in steps:
        match what:
            case "go":
                world.go(value)
            case "ask":
                world.ask(value)
            case "commit":
                world.commit(value)
            case _:
                world.show()
        world.check()


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20)), min_size=1, max_size=40))
def test_renewals_that_are_shown_in_time_keep_one_chain(rounds: list[tuple[int, int]]):
    world = World()
    world.ask(TTL)
    world.commit(0)
    world.show()
    assert isinstance(world.lease, Held)
    since = world.lease.since
    for wait, latency in rounds:
        world.go(wait * MS)
        world.ask(TTL)
        world.go(latency * MS)
        world.commit(-1)
        world.show()
        world.check()
        assert isinstance(world.lease, Held)
        assert world.lease.since == since
        assert world.lease.held_until - world.now >= TTL - MARGIN - 20 * MS
