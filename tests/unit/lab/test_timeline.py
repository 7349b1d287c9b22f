"""From answers to ownership: runs, overlaps, gaps. Times are in milliseconds here."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haagent.core.units import MS
from haagent.lab.probes import Kind
from haagent.lab.timeline import Answer, Blind, Overlap, Run, Timeline

VIP = "10.77.0.101"


def answers(node: str, *at_ms: float, vip: str = VIP) -> list[Answer]:
    return [Answer(int(at * MS), vip, node, Kind.ARP) for at in at_ms]


def every(step: int, start: int, end: int) -> range:
    return range(start, end + 1, step)


def test_answers_close_together_are_one_run() -> None:
    timeline = Timeline(answers("n1", 0, 2, 12, 23), join=10 * MS)
    assert timeline.runs(VIP) == (
        Run(VIP, "n1", 0, 12 * MS, 3),
        Run(VIP, "n1", 23 * MS, 23 * MS, 1),
    )


def test_a_handover_is_a_gap_and_no_overlap() -> None:
    timeline = Timeline([*answers("n1", *every(2, 0, 100)), *answers("n2", *every(2, 140, 200))])
    assert timeline.most_at_once(VIP) == 1
    assert timeline.overlaps() == ()
    gap = timeline.gap(VIP, 101 * MS)
    assert (gap.length, gap.before, gap.after) == (40 * MS, "n1", "n2")
    assert timeline.gaps(VIP) == (gap,)
    assert timeline.owners_at(VIP, 100 * MS) == {"n1"}
    assert timeline.owners_at(VIP, 120 * MS) == frozenset()
    assert timeline.owners_at(VIP, 140 * MS) == {"n2"}


def test_one_answer_of_the_old_owner_after_the_first_of_the_new_is_an_overlap() -> None:
    timeline = Timeline([*answers("n1", 0, 2, 4), *answers("n2", 3, 5, 7)])
    assert timeline.most_at_once() == 2
    assert timeline.overlaps(VIP) == (Overlap(VIP, ("n1", "n2"), 3 * MS, 4 * MS),)


def test_a_single_stray_answer_within_a_run_is_an_overlap_of_no_length() -> None:
    timeline = Timeline([*answers("n1", 0, 2, 4), *answers("n2", 3)])
    (overlap,) = timeline.overlaps()
    assert (overlap.start, overlap.length) == (3 * MS, 0)


def test_gaps_are_the_clients_and_overlaps_are_of_all_paths() -> None:
    side = [Answer(at * MS, VIP, "n1", Kind.TCP, "n1 eth2") for at in range(0, 100, 16)]
    timeline = Timeline([*answers("n1", 0, 2, 4), *answers("n2", *every(2, 50, 100)), *side], join_paths=48 * MS)
    assert timeline.gap(VIP, 5 * MS).length == 46 * MS
    (overlap,) = timeline.overlaps()
    assert (overlap.nodes, overlap.start, overlap.end) == (("n1", "n2"), 50 * MS, 96 * MS)
    assert timeline.ways(overlap) == {"n1": ("n1 eth2 TCP",), "n2": ("wire ARP",)}


def test_coming_back_later_is_no_overlap() -> None:
    timeline = Timeline([*answers("n1", 0, 2, 100, 102), *answers("n2", 50, 52)])
    assert [run.node for run in timeline.runs(VIP)] == ["n1", "n2", "n1"]
    assert timeline.most_at_once() == 1


def test_three_at_once_are_counted_as_three() -> None:
    three = [*answers("n1", 0, 9), *answers("n2", 1, 8), *answers("n3", 2, 7)]
    timeline = Timeline(three)
    assert timeline.most_at_once() == 3
    assert len(timeline.overlaps()) == 3


def test_owners_of_different_addresses_do_not_overlap() -> None:
    timeline = Timeline([*answers("n1", 0, 2, 4), *answers("n2", 1, 3, vip="fd77::101")])
    assert timeline.most_at_once() == 1
    assert timeline.vips == (VIP, "fd77::101")


def test_the_gap_of_an_event_begins_with_the_last_answer_before_it() -> None:
    # Shorter than `join`, and still measured.
    timeline = Timeline(answers("n1", 0, 2, 4, 11, 13, 15))
    assert timeline.gap(VIP, 6 * MS).length == 7 * MS
    assert timeline.gap(VIP, 12 * MS).length == 2 * MS
    assert timeline.gap(VIP, 0, 3 * MS).length == 2 * MS


def test_never_answered_and_never_again() -> None:
    empty = Timeline([], watched=(0, 100 * MS)).gap(VIP, 0)
    assert (empty.start, empty.end, empty.length) == (None, None, None)
    lost = Timeline(answers("n1", 0, 2, 4), watched=(0, 100 * MS)).gap(VIP, 3 * MS)
    assert (lost.start, lost.end, lost.before) == (4 * MS, None, "n1")
    cold = Timeline(answers("n1", 50, 52, 54), watched=(0, 54 * MS)).gap(VIP, 0)
    assert (cold.start, cold.end, cold.after) == (None, 50 * MS, "n1")


def test_the_ends_of_what_was_watched_are_no_gaps() -> None:
    timeline = Timeline(answers("n1", *every(2, 0, 100)), watched=(0, 101 * MS))
    assert timeline.gap(VIP, 1 * MS).length == 2 * MS
    assert timeline.between(21 * MS, 51 * MS).gap(VIP, 21 * MS, 51 * MS).length == 2 * MS


def test_blindness_of_the_prober_is_told_apart() -> None:
    blind = [Blind(6 * MS, 30 * MS), Blind(90 * MS, 95 * MS)]
    timeline = Timeline(answers("n1", 0, 2, 4, 40), blind=blind)
    (gap,) = timeline.gaps(VIP)
    assert (gap.length, gap.blind) == (36 * MS, 24 * MS)


def test_first_and_last_answers_around_an_instant() -> None:
    timeline = Timeline([*answers("n1", 0, 2), *answers("n2", 10, 12)])
    after = timeline.first_answer_after(VIP, 1 * MS)
    assert after is not None
    assert (after.at, after.node) == (2 * MS, "n1")
    assert timeline.first_answer_after(VIP, 1 * MS, "n2") == answers("n2", 10)[0]
    assert timeline.first_answer_after(VIP, 13 * MS) is None
    assert timeline.last_answer_before(VIP, 12 * MS) == answers("n2", 10)[0]
    assert timeline.last_answer_before(VIP, 12 * MS, "n1") == answers("n1", 2)[0]
    assert timeline.last_answer_before("10.77.0.102", 12 * MS) is None


some_answers = st.lists(
    st.builds(
        Answer,
        at=st.integers(0, 200),
        vip=st.sampled_from([VIP, "fd77::101"]),
        node=st.sampled_from(["n1", "n2", "n3"]),
        kind=st.sampled_from(Kind),
    ),
    max_size=60,
)
joins = st.integers(1, 40)


@given(some_answers, joins)
def test_every_answer_is_in_exactly_one_run_of_its_node(given_answers: list[Answer], join: int) -> None:
    timeline = Timeline(given_answers, join=join)
    for answer in given_answers:
        own = [run for run in timeline.runs(answer.vip) if run.node == answer.node]
        assert sum(run.first <= answer.at <= run.last for run in own) == 1
        assert answer.node in timeline.owners_at(answer.vip, answer.at)
    assert sum(run.answers for run in timeline.runs()) == len(given_answers)


@given(some_answers, joins)
def test_runs_of_a_node_are_apart_by_more_than_join(given_answers: list[Answer], join: int) -> None:
    timeline = Timeline(given_answers, join=join)
    for vip in timeline.vips:
        for node in timeline.nodes:
            own = [run for run in timeline.runs(vip) if run.node == node]
            assert all(b.first - a.last > join for a, b in pairwise(own))


@given(some_answers, joins)
def test_overlaps_are_what_comparing_all_pairs_finds(given_answers: list[Answer], join: int) -> None:
    timeline = Timeline(given_answers, join=join)
    expected = {
        (a.vip, max(a.first, b.first), min(a.last, b.last), frozenset((a.node, b.node)))
        for a, b in combinations(timeline.runs(), 2)
        if a.vip == b.vip and a.node != b.node and max(a.first, b.first) <= min(a.last, b.last)
    }
    assert {(o.vip, o.start, o.end, frozenset(o.nodes)) for o in timeline.overlaps()} == expected
    assert (timeline.most_at_once() > 1) == bool(expected)


@given(some_answers, joins)
def test_most_at_once_is_reached_at_some_answer(given_answers: list[Answer], join: int) -> None:
    timeline = Timeline(given_answers, join=join)
    counts = [len(timeline.owners_at(answer.vip, answer.at)) for answer in given_answers]
    assert timeline.most_at_once() == max(counts, default=0)


@given(some_answers, joins)
def test_interleaved_answers_are_never_missed(given_answers: list[Answer], join: int) -> None:
    """The definition: A at t1 and t3, no more than `join` apart, and B at t2 between."""
    timeline = Timeline(given_answers, join=join)
    for a, b in combinations(given_answers, 2):
        if (a.vip, a.node) == (b.vip, b.node) and abs(a.at - b.at) <= join:
            low, high = sorted((a.at, b.at))
            if any(c.vip == a.vip and c.node != a.node and low < c.at < high for c in given_answers):
                assert timeline.most_at_once(a.vip) >= 2


@given(some_answers, st.integers(0, 200), st.integers(0, 200))
def test_the_gap_is_no_shorter_than_any_between_two_answers(
    given_answers: list[Answer], since: int, until: int
) -> None:
    timeline = Timeline(given_answers, join=5)
    gap = timeline.gap(VIP, since, until)
    between = [
        b.at - a.at for a, b in pairwise(timeline.answers(VIP)) if b.at >= since and a.at <= until and since <= until
    ]
    assert gap.length is None or gap.length >= max(between, default=0)


@given(some_answers, st.integers(0, 200), st.integers(0, 200))
def test_a_part_has_just_the_answers_of_its_time(given_answers: list[Answer], a: int, b: int) -> None:
    since, until = sorted((a, b))
    part = Timeline(given_answers, join=5).between(since, until)
    kept = [answer for vip in part.vips for answer in part.answers(vip)]
    assert sorted(kept) == sorted(answer for answer in given_answers if since <= answer.at <= until)


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_in_which_answers_come_does_not_matter(order: int) -> None:
    given_answers = [*answers("n1", 0, 2, 4), *answers("n2", 3, 5)]
    assert Timeline(given_answers[::order]).runs() == Timeline(given_answers).runs()
