"""What a node may conclude from etcd: news by revision, evidence by incarnation, and from when a claim is safe.

Ordinary numbers: a ttl of 1 s is waited for 1030 ms (1 % for the clocks, 20 ms for the kernel).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core.candidates import candidates
from haagent.core.heartbeat import Tenure
from haagent.core.model import Ask, Asking, Refused
from haagent.core.records import Garbage, HistoryEntry, Key, Kind, OwnerRecord, Seen, Standing
from haagent.core.units import MS, NEVER, S
from haagent.core.view import View, patience
from tests.unit.core.values import (
    OWNERS,
    PATIENCE,
    TTL,
    A,
    B,
    C,
    intents,
    leases,
    listed,
    members,
    owner,
    owners,
    rules,
    seen,
    show,
    view,
    watched,
)

RULES = rules()


def take(to: View, *news: Seen, revision: int, now: int, cluster: str = "etcd") -> list[Seen]:
    return list(to.list(listed(revision, *news, cluster=cluster), RULES, now))


def claimable(known: View) -> int:
    return known.claimable_at("web", RULES)


# --- news, by revision


def test_older_news_never_overrides_newer():
    known = view(owners(5, owner(epoch=2)))
    assert show(known, owners(4, owner("c", epoch=1)), now=1 * S) == []
    assert known.record("web") == owner(epoch=2)


def test_the_same_revision_is_no_news_and_keeps_the_time_at_which_it_was_first_seen():
    known = view(leases(4), owners(5, owner()), now=0)
    assert take(known, leases(4), owners(5, owner()), revision=9, now=900 * MS) == []
    assert claimable(known) == PATIENCE
    assert known.observed_since == 900 * MS, "without a gap"


def test_a_renewal_is_new_evidence():
    known = view(leases(4), owners(5, owner()), now=0)
    assert show(known, leases(6, round=2), now=250 * MS) == [leases(6, round=2)]
    assert claimable(known) == 250 * MS + PATIENCE


def test_a_node_is_always_shown_its_own_lease_key_again():
    # An answer showed it first; only the stream makes it count, so the stream must pass it on.
    known = view()
    mine = leases(4, "a")
    assert known.answer(mine, RULES, 1)
    assert show(known, mine, now=2) == [mine]
    assert take(known, mine, revision=5, now=3) == [mine]
    assert show(known, leases(4, "b"), now=4) == [leases(4, "b")]
    assert show(known, leases(4, "b"), now=5) == []


def test_what_a_later_list_does_not_show_is_gone():
    known = view(leases(2), owners(3, owner()), members(4), intents(5, "a"))
    news = take(known, leases(2), revision=9, now=1 * S)
    assert {one.key for one in news} == {OWNERS, Key(Kind.MEMBERS, "b"), Key(Kind.INTENTS, "web")}
    assert all(one.value is None and one.revision == 9 for one in news)
    assert known.record("web") is None
    assert known.members == {}
    assert known.intents == {}
    assert known.by_source == {}


def test_a_list_does_not_remove_what_an_answer_showed_later():
    known = view()
    assert known.answer(owners(9, owner()), RULES, 1)
    assert take(known, revision=7, now=2) == []
    assert known.record("web") == owner()


def test_a_watch_passes_over_what_it_does_not_show():
    known = view(owners(3, owner()))
    assert show(known, now=1) == []
    list(known.watch(watched(revision=8), RULES, 2))
    assert (known.revision, known.record("web")) == (8, owner())
    list(known.watch(watched(revision=5), RULES, 3))
    assert known.revision == 8, "the stream does not go back"


# --- answers


@pytest.mark.parametrize("revision, news", [(3, False), (5, False), (6, True)])
def test_an_answer_counts_if_it_is_ahead_of_what_is_known_of_the_key(revision: int, news: bool):
    known = view(owners(5, owner()))
    assert known.answer(owners(revision, owner("c", epoch=9)), RULES, 1 * S) is news
    record = known.record("web")
    assert record is not None
    assert record.node == ("c" if news else "b")


@pytest.mark.parametrize("revision, news", [(4, False), (7, False), (8, True)])
def test_an_answer_about_an_absent_key_counts_if_it_is_ahead_of_the_stream(revision: int, news: bool):
    # The stream is complete up to 7: what existed at 4 has been removed since.
    known = view()
    list(known.watch(watched(revision=7), RULES, 0))
    assert known.answer(owners(revision, owner()), RULES, 1 * S) is news
    assert (known.record("web") is None) is not news


def test_a_late_answer_does_not_bring_back_what_was_removed():
    known = view(owners(5, owner()))
    show(known, owners(8, None), now=1)
    assert not known.answer(owners(5, owner()), RULES, 2)
    assert not known.answer(owners(8, owner()), RULES, 2)
    assert known.record_revision("web") == 0


def test_an_answer_that_shows_a_removal_counts():
    known = view(owners(5, owner()))
    assert known.answer(owners(9, None), RULES, 1 * S)
    assert known.record("web") is None
    assert show(known, owners(7, owner("c")), now=2 * S) == [], "the stream is still behind"


# --- evidence, by incarnation


def test_evidence_is_the_later_of_lease_and_record():
    known = view(leases(4), now=0)
    show(known, owners(5, owner()), now=400 * MS)
    assert claimable(known) == 400 * MS + PATIENCE
    show(known, leases(6), now=700 * MS)
    assert claimable(known) == 700 * MS + PATIENCE


def test_a_restarted_agent_does_not_keep_the_dead_ones_record_alive():
    known = view(leases(4), owners(5, owner()), now=0)
    for turn in range(1, 9):
        show(known, leases(5 + turn, "b", 2, round=turn), now=turn * 250 * MS)
    assert claimable(known) == PATIENCE
    assert known.alive("b2", 2 * S)
    assert not known.alive("b1", 2 * S)


def test_evidence_of_an_incarnation_stays_when_its_key_is_removed():
    known = view(leases(4), owners(5, owner()), now=0)
    show(known, seen(Kind.LEASES, "b", None, 6), now=100 * MS)
    assert known.lease_revision("b") == 0
    assert known.alive("b1", PATIENCE - 1)
    assert claimable(known) == PATIENCE


@pytest.mark.parametrize("now, alive", [(PATIENCE - 1, True), (PATIENCE, False)])
def test_an_incarnation_is_alive_until_its_evidence_expires(now: int, alive: bool):
    assert view(leases(4)).alive("b1", now) is alive
    assert not view(leases(4)).alive("unheard-of", now)


@pytest.mark.parametrize("ttl", [300 * MS, 1 * S, 60 * S])
def test_the_holders_own_ttl_is_waited_for(ttl: int):
    known = view(leases(4, ttl=ttl), owners(5, owner(ttl=ttl)), now=0)
    assert claimable(known) == ttl * 101 // 100 + 20 * MS == patience(ttl, 20 * MS)


def test_evidence_that_expired_is_forgotten_once_there_is_much_of_it():
    known = view(leases(2))
    for turn in range(2, 40):
        show(known, leases(turn + 1, "b", turn), now=turn * 10 * S)
        known.drop_expired(turn * 10 * S)
        assert len(known.evidence) <= 11
    assert known.alive("b39", 390 * S)


def test_evidence_that_still_counts_is_kept_however_much_there_is():
    known = view()
    for turn in range(40):
        show(known, leases(turn + 2, "b", turn), now=turn * MS)
    known.drop_expired(40 * MS)
    assert len(known.evidence) == 40


# --- from when a claim is safe


def test_nothing_is_claimable_before_the_first_list():
    assert View("a").claimable_at("web", RULES) == NEVER


@pytest.mark.parametrize(
    "record, expected",
    [
        pytest.param(None, 100 * MS + PATIENCE, id="absent: from when observing began"),
        pytest.param(Garbage("what is this"), 100 * MS + PATIENCE, id="unreadable: from when it was seen"),
        pytest.param(owner(), 100 * MS + PATIENCE, id="another's"),
        pytest.param(owner(clean=True), 100 * MS, id="clean"),
        pytest.param(owner("a", 1), 100 * MS, id="our own, in name only"),
        pytest.param(owner("a", 0), 100 * MS, id="our predecessor's on this host"),
        pytest.param(owner("a", 0, host="host-z"), 100 * MS + PATIENCE, id="our name on another host"),
        pytest.param(owner("a", 0, host="host-z", clean=True), 100 * MS, id="our name on another host, clean"),
    ],
)
def test_claimable_at(record: object, expected: int):
    news = () if record is None else (seen(Kind.OWNERS, "web", record, 3),)  # type: ignore[arg-type]
    assert claimable(view(*news, now=100 * MS)) == expected


@pytest.mark.parametrize(
    "record", [None, owner(), owner(clean=True), owner("a", 1), owner("a", 0), owner("a", 0, host="host-z", clean=True)]
)
def test_who_begins_to_observe_believes_no_record(record: OwnerRecord | None):
    """It may be a restored one, while somebody owns by the history that was lost; he can renew no more."""
    assert claimable(view(owners(3, record), now=100 * MS, new=True)) == 100 * MS + PATIENCE


def test_who_begins_to_observe_waits_by_the_longest_ttl_that_is_listed():
    """The file may have a shorter one by now, and whoever held by the lost history the longer one that stands here."""
    known = view(owners(3, owner(clean=True)), leases(4, "c", ttl=9 * S), now=0, new=True)
    assert claimable(known) == patience(9 * S, 20 * MS)


def test_a_second_list_settles_nothing_anew():
    known = view(owners(3, owner(clean=True)), now=0, new=True)
    known.list(listed(9, owners(3, owner(clean=True))), RULES, 5 * S)
    assert claimable(known) == PATIENCE


def test_a_record_that_vanishes_is_waited_for_from_its_vanishing():
    known = view(leases(4), owners(5, owner()), now=0)
    show(known, owners(6, None), now=5 * S)
    assert claimable(known) == 5 * S + PATIENCE
    show(known, owners(10, None), now=6 * S)
    assert claimable(known) == 5 * S + PATIENCE, "it does not vanish twice"


def test_what_is_absent_before_and_after_a_gap_may_have_come_and_gone():
    known = view(now=0)
    take(known, revision=9, now=6 * S)
    assert claimable(known) == 6 * S + PATIENCE, "a record may have named an owner, who did not see its end"
    known = view(leases(4), owners(5, owner()), now=0)
    show(known, seen(Kind.LEASES, "b", None, 6), now=0)
    assert claimable(known) == PATIENCE
    take(known, owners(5, owner()), revision=9, now=6 * S)
    assert claimable(known) == 6 * S + PATIENCE, "a lease key may have been written, and a renewal seen"


def test_a_record_that_vanished_before_a_gap_may_have_come_and_gone_in_it():
    known = view(leases(4), owners(5, owner()), now=0)
    show(known, owners(6, None), now=1 * S)
    take(known, leases(4), revision=9, now=6 * S)
    assert claimable(known) == 6 * S + PATIENCE


@pytest.mark.parametrize("news", [seen(Kind.LEASES, "b", None, 9), leases(9, "b", 2), leases(9, turn=1)])
@pytest.mark.parametrize("how", ["list", "answer"])
def test_a_lease_key_that_changed_unseen_may_have_been_renewed_just_before(how: str, news: Seen):
    known = view(leases(4), owners(5, owner()), now=0)
    if how == "list":
        take(known, owners(5, owner()), *([news] if news.value else []), revision=9, now=900 * MS)
    else:
        assert known.answer(news, RULES, 900 * MS)
    assert claimable(known) == 900 * MS + PATIENCE


def test_what_was_released_is_not_doubted():
    known = view(leases(4), owners(5, owner(clean=True)), now=0)
    take(known, owners(5, owner(clean=True)), revision=9, now=900 * MS)
    assert claimable(known) == 0


def test_an_epoch_that_the_stream_has_not_shown_may_have_an_owner():
    known = view(now=0)
    assert not known.answer(owners(9, None), RULES, 5 * S), "absent as before"
    assert claimable(known) == PATIENCE
    known.answer(Seen(Key(Kind.HISTORY, "web/1"), 7, 7, HistoryEntry("b", 1, "because")), RULES, 5 * S)
    assert claimable(known) == 5 * S + PATIENCE


def test_a_record_that_turns_to_garbage_is_waited_for_from_then():
    known = view(leases(4), owners(5, owner()), now=0)
    show(known, owners(6, Garbage("not JSON")), now=5 * S)
    assert claimable(known) == 5 * S + PATIENCE
    assert known.record("web") is None
    assert known.record_revision("web") == 6, "a claim is still guarded by it"


def test_a_record_that_vanishes_is_waited_for_as_long_as_the_longest_lease_known():
    known = view(leases(4, ttl=3 * S), owners(5, owner(ttl=3 * S)), now=0)
    show(known, owners(6, None), now=5 * S)
    assert claimable(known) == 5 * S + patience(3 * S, 20 * MS)


def test_a_record_of_an_incarnation_that_is_forgotten_is_claimable():
    known = view(owners(5, owner()), now=0)
    known.evidence.clear()
    assert claimable(known) == 0


def test_the_epoch_is_the_highest_ever_seen():
    known = view(owners(5, owner(epoch=7)))
    show(known, owners(6, None), now=1)
    show(known, owners(7, owner("c", epoch=3)), now=2)
    assert known.epochs["web"] == 7


# --- another history


@pytest.mark.parametrize(
    "cluster, revision, rewound", [("etcd", 9, False), ("etcd", 10, False), ("etcd", 8, True), ("other", 99, True)]
)
def test_a_list_of_another_history_is_noticed(cluster: str, revision: int, rewound: bool):
    known = view(owners(9, owner()))
    assert known.rewound(listed(revision, cluster=cluster)) is rewound
    assert not View("a").rewound(listed(revision, cluster=cluster))


@pytest.mark.parametrize(
    "shown, revision, another",
    [
        pytest.param(owners(5, owner()), 30, True, id="as it was before what we know"),
        pytest.param(owners(5, owner()), 19, False, id="a late answer, older than what we know"),
        pytest.param(owners(20, owner()), 30, False, id="as we know it"),
        pytest.param(owners(25, owner()), 30, False, id="newer"),
        pytest.param(owners(30, None), 30, False, id="deleted since"),
        pytest.param(leases(21, "c"), 30, True, id="absent by a stream that is past this"),
        pytest.param(leases(23, "c"), 30, False, id="not shown by the stream yet"),
        pytest.param(seen(Kind.HISTORY, "web/1", HistoryEntry("b", 1, ""), 3), 30, False, id="history is not watched"),
    ],
)
def test_an_answer_as_new_as_what_we_know_that_shows_older_keys_is_of_another_history(
    shown: Seen, revision: int, another: bool
):
    known = view(owners(20, owner()))
    show(known, leases(22), now=0)
    assert known.contradicted(Refused(Ask(Asking.RENEW, "a", 1), revision, (shown,))) is another


def test_a_list_ahead_of_us_that_shows_older_keys_is_of_another_history():
    known = view(owners(20, owner()))
    assert known.rewound(listed(30, owners(5, owner())))
    assert not known.rewound(listed(30, owners(20, owner())))
    assert not known.rewound(listed(30))


def test_a_key_that_is_made_again_unseen_says_that_the_stream_lost_news():
    known = view(owners(5, owner()))
    show(known, seen(Kind.OWNERS, "web", owner(), 6, created=5), now=0)
    show(known, owners(7, None), owners(8, owner()), now=0)
    assert not known.gap
    show(known, owners(9, owner()), now=0)
    assert known.gap


def test_who_owned_to_the_end_waits_for_no_promises_about_a_record_that_vanished():
    of = rules(failsafe=60 * S)
    known = view(owners(5, owner("a", failsafe=60 * S)), of=of)
    take(known, revision=9, now=5 * S)
    assert claimable(known) == 5 * S + 60 * S
    known.let_go("web")
    assert claimable(known) == 5 * S + PATIENCE


def test_forgetting_begins_anew_but_keeps_what_may_still_hold():
    known = view(leases(4), owners(5, owner(epoch=3)), members(6), intents(7, "a"), now=0)
    known.forget(frozenset())
    assert claimable(known) == NEVER
    assert (known.records, known.leases, known.members, known.intents, known.by_source) == ({}, {}, {}, {}, {})
    take(known, owners(2, owner()), revision=3, now=500 * MS, cluster="other")
    assert known.alive("b1", 500 * MS + PATIENCE - 1)
    assert known.record_revision("web") == 2, "a lower revision of another history is news"
    assert known.epochs["web"] == 3, "the epoch only grows"


def test_after_a_wipe_one_more_ttl_is_waited():
    known = view(leases(4), owners(5, owner()), now=0)
    known.forget(frozenset())
    take(known, revision=1, now=5 * S, cluster="other")
    assert claimable(known) == 5 * S + PATIENCE


@pytest.mark.parametrize("record", [owner(clean=True), owner("a", 0), owner("a")])
def test_what_a_restored_record_says_is_not_acted_on_before_the_old_leases_ran_out(record: OwnerRecord):
    known = view(leases(4), owners(5, owner()), now=0)
    known.forget(frozenset())
    take(known, owners(2, record), revision=3, now=5 * S, cluster="other")
    assert claimable(known) >= 5 * S + PATIENCE


def test_a_refused_claim_shows_the_epoch_that_its_deleted_record_had():
    known = view(owners(9, None))
    entry = Seen(Key(Kind.HISTORY, "web/7"), 4, 4, HistoryEntry("b", 7, "because"))
    assert not known.answer(entry, RULES, 0), "no decision waits for it"
    assert known.epochs["web"] == 7


# --- who goes first


@pytest.mark.parametrize(
    "others, rank",
    [
        ((), 0),
        ((members(2, priority=101),), 1),
        ((members(2, priority=100, address=B),), 1),  # RFC 9568 6.4.3: the greater address goes first
        ((members(2, priority=100, address=bytes([9, 9, 9, 9])),), 0),
        ((members(2, priority=99),), 0),
        ((members(2, priority=0),), 0),
        ((members(2, priority=200, groups=("other",)),), 0),
        ((members(2, priority=200), members(3, "c", priority=150, address=C)), 2),
        ((members(2, priority=200), members(3, "c", priority=50, address=C)), 1),
        ((members(2, "a", priority=255),), 0),
    ],
)
def test_rank(others: tuple[Seen, ...], rank: int):
    known = view(leases(10), leases(11, "c"), *others)
    assert known.rank("web", RULES, Standing(100, A), 0) == rank


def test_the_dead_have_no_rank():
    known = view(leases(10), members(2, priority=200), now=0)
    assert known.rank("web", RULES, Standing(100, A), PATIENCE - 1) == 1
    assert known.rank("web", RULES, Standing(100, A), PATIENCE) == 0


def test_whoever_just_released_goes_last():
    known = view(leases(10), members(2, priority=200), owners(3, owner(clean=True)))
    assert known.rank("web", RULES, Standing(100, A), 0) == 0


def test_candidates_are_who_lists_the_group_and_ourselves():
    known = view(members(2, "c"), members(3), members(4, "d", groups=("other",)))
    assert [one.node for one in candidates(known, "web", RULES)] == ["a", "b", "c"]
    assert [one.node for one in candidates(view(), "web", RULES)] == ["a"]


# --- members


def test_a_member_whose_key_is_gone_is_known_for_a_while():
    known = view(members(2))
    show(known, seen(Kind.MEMBERS, "b", None, 3), now=1 * S)
    assert known.source(B, 5 * S - 1) == "b"
    assert known.source(B, 5 * S) is None


def test_the_members_of_a_history_that_was_lost_are_known_for_a_while_in_the_next():
    known = view(members(2))
    known.forget(frozenset())
    assert known.source(B, 9 * S) == "b"
    take(known, revision=1, now=9 * S, cluster="other")
    assert known.source(B, 13 * S - 1) == "b"
    assert known.source(B, 13 * S) is None


def test_members_are_known_by_their_sources_as_they_are_now():
    known = view(members(2, address=B), members(3, "c", address=C))
    assert known.by_source == {B: "b", C: "c"}
    show(known, members(4, address=A), now=1)
    assert known.by_source == {A: "b", C: "c"}
    show(known, seen(Kind.MEMBERS, "c", None, 5), now=2)
    assert known.by_source == {A: "b"}
    show(known, seen(Kind.MEMBERS, "b", Garbage("?"), 6), now=3)
    assert (known.by_source, known.members) == ({}, {})


def test_an_address_that_moved_to_another_member_stays_with_it():
    known = view(members(2, address=B), members(3, "c", address=B))
    assert known.by_source == {B: "c"}
    show(known, members(4, address=A), now=1)
    assert known.by_source == {A: "b", B: "c"}


def test_an_intent_that_is_garbage_is_none():
    known = view(intents(2, "c"))
    show(known, seen(Kind.INTENTS, "web", Garbage("?"), 3), now=1)
    assert known.intents == {}


def test_history_is_never_read():
    before = view()
    assert show(before, seen(Kind.HISTORY, "web/1", Garbage("whatever"), 3), now=1)
    assert before.records == {}


# --- failsafe: who waits for how long


CARRIED = rules(machine="m-a")
RECORD = replace(owner("b", 1), candidates=("a", "b"), machines=("m-a", "m-b"), failsafe=60 * S)


@pytest.mark.parametrize(
    "record, waits",
    [
        pytest.param(RECORD, PATIENCE, id="a candidate"),
        pytest.param(replace(RECORD, candidates=("b",), machines=("m-b",)), 60 * S, id="none"),
        pytest.param(replace(RECORD, machines=("m-old", "m-b")), 60 * S, id="a machine of that name was one"),
        pytest.param(replace(RECORD, candidates=("b",), machines=("m-b",), failsafe=0), PATIENCE, id="no failsafe"),
    ],
)
def test_who_may_be_asked_for_a_promise_waits_a_ttl_and_others_as_long_as_promises_last(
    record: OwnerRecord, waits: int
):
    known = view(leases(3), owners(5, record), now=7 * S, of=CARRIED)
    assert known.claimable_at("web", CARRIED) == 7 * S + waits


def test_a_promise_binds_until_its_end_or_a_release_or_a_later_epoch():
    known = view(leases(3), owners(5, RECORD), of=CARRIED)
    known.promise(Tenure("web", 1), TTL, CARRIED, 9 * S)
    assert known.claimable_at("web", CARRIED) == 9 * S + PATIENCE
    show(known, owners(6, None), now=9 * S, of=CARRIED)
    assert known.claimable_at("web", CARRIED) >= 9 * S + PATIENCE
    show(known, owners(7, replace(RECORD, clean=True)), now=9 * S, of=CARRIED)
    assert known.claimable_at("web", CARRIED) == 9 * S
    show(known, owners(8, replace(RECORD, node="c", incarnation="c1", epoch=2)), now=9 * S, of=CARRIED)
    assert known.claimable_at("web", CARRIED) == 9 * S + PATIENCE, "by the evidence of c, not by what b was promised"


@pytest.mark.parametrize(
    "record, followed, waits",
    [
        pytest.param(RECORD, True, PATIENCE, id="a candidate that saw it happen"),
        pytest.param(RECORD, False, 60 * S, id="a candidate that may have missed a record"),
        pytest.param(replace(RECORD, candidates=("b",), machines=("m-b",)), True, 60 * S, id="no candidate"),
    ],
)
def test_a_record_that_vanished_may_still_be_owned_by(record: OwnerRecord, followed: bool, waits: int):
    known = view(owners(5, record), of=CARRIED)
    if followed:
        show(known, owners(6, None), now=7 * S, of=CARRIED)
    else:
        known.list(listed(6), CARRIED, 7 * S)
    assert known.claimable_at("web", CARRIED) == 7 * S + waits


@pytest.mark.parametrize("owned, waits", [(frozenset[str](), 60 * S), (frozenset({"web"}), PATIENCE)])
def test_after_a_wipe_only_who_owned_the_group_knows_that_nobody_else_does(owned: frozenset[str], waits: int):
    known = view(owners(5, RECORD), of=CARRIED)
    known.forget(owned)
    known.list(listed(1, cluster="another"), CARRIED, 7 * S)
    assert known.claimable_at("web", CARRIED) == 7 * S + waits
