"""A group seen from one node: every state, every event, and what must come before what.

First the whole table of (state, event) in a calm situation; then, by state, what the situations make of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from haagent.core import ownership, states
from haagent.core.claims import Situation
from haagent.core.lease import Lease, Questions, Unheld
from haagent.core.model import Ask, Asking, Commit, Effect, InstallAddresses, RemoveAddresses, VirtualAddress
from haagent.core.records import Garbage, Intent, OwnerRecord, Seen
from haagent.core.states import KERNEL_PATIENCE, RETRY, Claiming, Decision, Following, GroupState, Leaving, Owning
from haagent.core.units import MS, NEVER, S
from tests.unit.core.values import (
    ADDRESS,
    PATIENCE,
    VIP2,
    B,
    group,
    held,
    intents,
    leases,
    members,
    owner,
    owners,
    router,
    rules,
    situation,
    view,
)

UNHELD = Unheld(Questions((), 0, 0, NEVER, 0))
MINE = owner("a", epoch=4)
CLAIM, RELEASE = Ask(Asking.CLAIM, "web", 3), Ask(Asking.RELEASE, "web", 3)
OTHER = Ask(Asking.CLAIM, "web", 2)

FOLLOWING = Following(3)
CLAIMING = Claiming(3, CLAIM, MINE, give_up_at=1 * S)
OWNING = Owning(3, 4, ready=False)
READY = replace(OWNING, ready=True)
CLOSING = Leaving(3, 4, "because", retry_at=2 * S)
OWING = replace(CLOSING, removed=True, release=True)
TELLING = replace(OWING, ask=RELEASE, record=replace(MINE, clean=True))


def at(
    *news: Seen,
    lease: Lease | None = None,
    now: int = 0,
    faults: tuple[str, ...] = (),
    preempt: bool = False,
    delay: int = 0,
    priority: int = 100,
) -> Situation:
    of = rules(group(preempt=preempt, preempt_delay=delay))
    return situation(view(*news, of=of), lease=lease or held(since=2), now=now, faults=faults, of=of, priority=priority)


def asked(decision: Decision) -> list[str]:
    """The effects in a word each."""
    return [word(effect) for effect in decision[1]]


def word(effect: Effect) -> str:
    match effect:
        case Commit(ask):
            return str(ask.kind)
        case InstallAddresses():
            return "install"
        case RemoveAddresses():
            return "remove"
        case _:
            raise AssertionError(effect)


# --- every state, every event

Event = Callable[[GroupState, Situation], Decision]

EVENTS: dict[str, Event] = {
    "decide": ownership.decide,
    "done": lambda state, at: ownership.answered(state, asking(state), True, at),
    "done, late": lambda state, at: ownership.answered(state, OTHER, True, at),
    "refused": lambda state, at: ownership.answered(state, asking(state), False, at),
    "refused, late": lambda state, at: ownership.answered(state, OTHER, False, at),
    "unanswered": lambda state, at: ownership.unanswered(state, asking(state), at),
    "unanswered, late": lambda state, at: ownership.unanswered(state, OTHER, at),
    "installed": lambda state, at: ownership.installed(state, 3, at),
    "installed, late": lambda state, at: ownership.installed(state, 2, at),
    "removed": lambda state, at: ownership.removed(state, 3, at),
    "removed, late": lambda state, at: ownership.removed(state, 2, at),
    "failed": lambda state, at: ownership.kernel_failed(state, 3, "no", at),
    "failed, late": lambda state, at: ownership.kernel_failed(state, 2, "no", at),
    "refreshed": ownership.refresh,
}


def asking(state: GroupState) -> Ask:
    return state.ask if isinstance(state, Claiming | Leaving) and state.ask is not None else CLAIM


WAITING = Following(3, claim_at=PATIENCE)
BACK = Following(3, not_before=500 * MS, claim_at=PATIENCE)
STATES: dict[str, tuple[GroupState, OwnerRecord, dict[str, GroupState | str]]] = {
    # b owns and is alive: there is nothing to do but to wait.
    "following": (
        FOLLOWING,
        owner(),
        {"*": WAITING, "unanswered": FOLLOWING, "unanswered, late": FOLLOWING},  # nothing was learned
    ),
    "claiming": (
        CLAIMING,
        owner(),
        {
            "*": CLAIMING,
            "done": BACK,  # the record is not ours after all: something newer was seen
            "refused": replace(BACK, not_before=520 * MS),
            "unanswered": replace(BACK, not_before=600 * MS),
        },
    ),
    # The record is ours.
    "owning": (
        OWNING,
        MINE,
        {
            "*": OWNING,
            "installed": READY,
            "failed": Leaving(4, 4, "kernel: no", 2500 * MS, release=True),
            "refreshed": replace(OWNING, serial=4),
        },
    ),
    "ready": (
        READY,
        MINE,
        {
            "*": READY,
            "failed": Leaving(4, 4, "kernel: no", 2500 * MS, release=True),
            "refreshed": replace(READY, serial=4),
        },
    ),
    "closing": (
        replace(CLOSING, release=True),
        MINE,
        {
            "*": replace(CLOSING, release=True),
            "removed": "release",
            "failed": replace(CLOSING, release=True, retry_at=600 * MS),
        },
    ),
    "telling": (
        TELLING,
        MINE,
        {
            "*": TELLING,
            "removed": "release",
            "done": "release",  # done, but the view still shows it as ours: tell again
            "refused": replace(OWING, retry_at=510 * MS),
            "unanswered": replace(OWING, retry_at=600 * MS),
        },
    ),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("name", STATES)
def test_every_state_takes_every_event(name: str, event: str):
    state, record, expected = STATES[name]
    # At 500 ms; the record and its owner's evidence are of 0.
    after, effects = EVENTS[event](state, at(owners(5, record), now=500 * MS))
    outcome = expected.get(event, expected["*"])
    if isinstance(outcome, str):
        assert asked((after, effects)) == [outcome]
    else:
        assert after == outcome
        assert [word(effect) for effect in effects] == (
            ["remove"] if isinstance(after, Leaving) and not isinstance(state, Leaving)
            else ["install"] if event == "refreshed" and isinstance(after, Owning)
            else []
        )  # fmt: skip


@pytest.mark.parametrize(
    "state, due",
    [
        (FOLLOWING, NEVER),
        (Following(3, claim_at=5 * S, preempt_at=4 * S), 4 * S),
        (Following(3, claim_at=3 * S, preempt_at=4 * S), 3 * S),
        (CLAIMING, 1 * S),
        (OWNING, NEVER),
        (READY, NEVER),
        (CLOSING, 2 * S),
    ],
)
def test_due(state: GroupState, due: int):
    assert states.due(state) == due


def test_a_node_begins_by_sweeping_what_it_may_have_left():
    state, effects = ownership.start(group(), 1 * S, 1 * S)
    assert effects == (RemoveAddresses("web", 1),)
    assert state == Leaving(1, 0, "start", 1 * S + KERNEL_PATIENCE)
    assert asked(ownership.decide(state, at(now=1 * S + KERNEL_PATIENCE))) == ["remove"]


def test_once_swept_it_follows():
    state, _ = ownership.start(group(), 0, 0)
    assert ownership.removed(state, 1, at(lease=UNHELD)) == (Following(1), ())


# --- following


@pytest.mark.parametrize(
    "news, now, outcome",
    [
        pytest.param((), PATIENCE - 1, "waits", id="no record: wait one ttl"),
        pytest.param((), PATIENCE, "claims", id="no record, waited"),
        pytest.param((owners(5, owner()),), PATIENCE - 1, "waits", id="an owner that may be alive"),
        pytest.param((owners(5, owner()),), PATIENCE, "claims", id="an owner that lapsed"),
        pytest.param((owners(5, owner(clean=True)),), 0, "claims", id="released"),
        pytest.param((owners(1, owner("a")),), 0, "claims", id="ours in name only: claims anew"),
        pytest.param((owners(5, owner("a", 0)),), 0, "claims", id="our predecessor's"),
        pytest.param((owners(5, Garbage("?")),), PATIENCE - 1, "waits", id="unreadable"),
        pytest.param((owners(5, owner("a")),), 0, "owns", id="ours: a handover, or a claim that was thought lost"),
    ],
)
def test_following(news: tuple[Seen, ...], now: int, outcome: str):
    after, effects = ownership.decide(FOLLOWING, at(*news, now=now))
    expected = {"waits": [], "claims": ["claim"], "owns": ["install"]}
    kinds = {"waits": Following, "claims": Claiming, "owns": Owning}
    assert asked((after, effects)) == expected[outcome]
    assert isinstance(after, kinds[outcome])
    if outcome == "waits":
        assert states.due(after) == PATIENCE


def test_a_claim_is_waited_for_by_its_number():
    after, effects = ownership.decide(FOLLOWING, at(owners(5, owner(clean=True)), now=7 * S))
    (commit,) = effects
    assert isinstance(commit, Commit)
    assert isinstance(after, Claiming)
    assert (after.serial, after.give_up_at) == (4, 8 * S)
    assert after.ask == commit.ask == Ask(Asking.CLAIM, "web", 4)
    assert ownership.written(after, commit.ask) == after.record == commit.puts[0].value


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_candidates_stagger_by_rank_after_the_record_became_claimable(rank: int):
    better = [members(10 + i, f"n{i}", priority=200, address=bytes([10, 0, 1, i])) for i in range(rank)]
    alive = [leases(20 + i, f"n{i}", ttl=60 * S) for i in range(rank)]
    known = (*better, *alive, owners(5, owner(clean=True)))
    after = ownership.decide(FOLLOWING, at(*known, now=rank * 20 * MS - 1))[0] if rank else None
    assert after is None or after == Following(3, claim_at=rank * 20 * MS)
    assert asked(ownership.decide(FOLLOWING, at(*known, now=rank * 20 * MS))) == ["claim"]


@pytest.mark.parametrize("lease, faults", [(UNHELD, ()), (held(since=2), ("eth0 is down",))])
@pytest.mark.parametrize("record", [None, owner(), owner(clean=True), owner("a", 0)])
def test_nobody_claims_without_a_lease_or_with_faults(lease: Lease, faults: tuple[str, ...], record: OwnerRecord):
    after = ownership.decide(FOLLOWING, at(owners(5, record), lease=lease, faults=faults, now=9 * S))
    assert after == (Following(3), ())


@pytest.mark.parametrize("lease", [UNHELD, held(since=9), held(since=2)])
def test_unfit_and_named_it_lets_go_rather_than_own_in_name_only(lease: Lease):
    after, effects = ownership.decide(FOLLOWING, at(owners(5, MINE), lease=lease, faults=("eth0 is down",)))
    assert effects[-1:] == (RemoveAddresses("web", after.serial),)
    assert isinstance(after, Leaving)
    assert after.why == "eth0 is down"


def test_unnamed_in_a_lapse_it_waits():
    assert ownership.decide(FOLLOWING, at(owners(5, MINE), lease=UNHELD, now=9 * S)) == (Following(3), ())


def test_what_was_refused_is_not_tried_before_its_time():
    state = Following(3, not_before=600 * MS)
    clean = owners(5, owner(clean=True))
    assert ownership.decide(state, at(clean, now=599 * MS)) == (replace(state, claim_at=600 * MS), ())
    assert asked(ownership.decide(state, at(clean, now=600 * MS))) == ["claim"]


# --- claiming


def test_a_claim_that_is_done_makes_an_owner_by_its_record():
    after, effects = ownership.answered(CLAIMING, CLAIM, True, at(owners(5, MINE), now=100 * MS))
    assert after == Owning(4, 4, ready=False, since=100 * MS)
    assert effects == (InstallAddresses("web", 4, (ADDRESS,), 970 * MS),)


def test_a_claim_is_seen_by_the_stream_before_its_answer():
    owning, effects = ownership.decide(CLAIMING, at(owners(5, MINE)))
    assert asked((owning, effects)) == ["install"]
    assert ownership.answered(owning, CLAIM, True, at(owners(5, MINE))) == (owning, ())


def test_a_late_answer_after_a_lapse_makes_no_owner():
    lapsed = ownership.decide(CLAIMING, at(owners(5, owner()), lease=UNHELD))[0]
    assert lapsed == Following(3)
    assert ownership.answered(lapsed, CLAIM, True, at(owners(6, MINE), lease=UNHELD)) == (lapsed, ())
    # And in the next chain it is claimed anew.
    assert asked(ownership.answered(lapsed, CLAIM, True, at(owners(6, MINE), lease=held(since=7)))) == ["claim"]


def test_a_claim_without_any_answer_is_given_up():
    waiting = ownership.decide(CLAIMING, at(owners(5, owner()), now=1 * S - 1))
    assert waiting == (CLAIMING, ())
    after, effects = ownership.decide(CLAIMING, at(owners(5, owner()), now=1 * S))
    assert after == Following(3, not_before=1 * S, claim_at=PATIENCE)
    assert effects == ()


def test_a_claim_that_was_refused_lets_the_winner_be():
    after = ownership.answered(CLAIMING, CLAIM, False, at(leases(8), owners(9, owner()), now=100 * MS))
    assert after == (Following(3, not_before=120 * MS, claim_at=PATIENCE), ())


# --- owning


@pytest.mark.parametrize(
    "news, lease, faults, why",
    [
        ((owners(5, MINE),), UNHELD, (), "the lease lapsed"),
        ((owners(5, MINE),), held(since=6), (), "the record is older than the lease"),
        ((owners(5, owner()),), held(since=2), (), "the record names b"),
        ((owners(5, Garbage("?")),), held(since=2), (), "the ownership record is gone or unreadable"),
        ((), held(since=2), (), "the ownership record is gone or unreadable"),
        ((owners(5, MINE),), held(since=2), ("eth0 is down", "no source"), "eth0 is down; no source"),
    ],
)
@pytest.mark.parametrize("state", [OWNING, READY])
def test_an_owner_lets_go_at_once_when_it_is_none(
    state: Owning, news: tuple[Seen, ...], lease: Lease, faults: tuple[str, ...], why: str
):
    after, effects = ownership.decide(state, at(*news, lease=lease, faults=faults, now=1 * S))
    assert after == Leaving(4, 4, why, 1 * S + KERNEL_PATIENCE)
    assert effects == (RemoveAddresses("web", 4),)


def test_nothing_begins_to_be_owned_on_promises():
    """They are about what was owned when they were asked for. When etcd shows the lease again, it begins."""
    now = at(owners(5, MINE), lease=held(since=2))
    state, effects = ownership.decide(Following(3), replace(now, failsafe=True))
    assert not isinstance(state, Owning)
    assert effects == ()
    assert isinstance(ownership.decide(Following(3), now)[0], Owning)


def test_an_owner_that_is_unfit_before_it_has_begun_installs_nothing():
    after, effects = ownership.answered(CLAIMING, CLAIM, True, at(owners(5, MINE), faults=("eth0 is down",)))
    assert isinstance(after, Leaving)
    assert asked((after, effects)) == ["remove"]


def test_new_rules_make_the_kernel_follow_without_letting_go():
    more = VirtualAddress(VIP2, 24, "eth0")
    of = rules(group("web", router(addresses=(ADDRESS, more))))
    after, effects = ownership.refresh(READY, situation(view(owners(5, MINE)), lease=held(since=2), of=of))
    assert after == replace(READY, serial=4)
    assert effects == (InstallAddresses("web", 4, (ADDRESS, more), 970 * MS),)


def test_new_rules_that_come_with_a_fault_install_nothing():
    assert asked(ownership.refresh(READY, at(owners(5, MINE), faults=("eth1 not seen yet",)))) == ["remove"]


def test_the_addresses_of_a_group_are_those_of_all_its_routers():
    other = VirtualAddress(VIP2, 24, "eth1")
    pair = group("web", router(), router("vr2", addresses=(other,)))
    assert ownership.group_addresses(pair) == (ADDRESS, other)


# --- handover


ABLE = (leases(6), members(7))


@pytest.mark.parametrize(
    "news, to",
    [
        pytest.param((*ABLE, intents(8, "b", 4)), "b", id="to who is able"),
        pytest.param((*ABLE, intents(8, "b", 3)), None, id="meant for another epoch"),
        pytest.param((*ABLE, intents(8, "a", 4)), None, id="to ourselves"),
        pytest.param((*ABLE, intents(8, "z", 4)), None, id="to who is nobody"),
        pytest.param((leases(6), members(7, priority=0), intents(8, "b", 4)), None, id="to who is unfit"),
        pytest.param((members(7), intents(8, "b", 4)), None, id="to who has no lease"),
    ],
)
def test_a_wish_is_granted_to_who_can_own(news: tuple[Seen, ...], to: str | None):
    after, effects = ownership.decide(READY, at(owners(5, MINE), *news))
    if to is None:
        assert isinstance(after, Owning)
        assert (replace(after, look_at=NEVER), effects) == (READY, ())
    else:
        why = "handover to b (operator)"
        assert after == Leaving(4, 4, why, KERNEL_PATIENCE, to="b", release=True)
        assert effects == (RemoveAddresses("web", 4),)


def test_the_record_is_handed_over_only_after_the_kernel_confirmed():
    state = Leaving(3, 4, "handover", 2 * S, to="b", release=True)
    situation = at(owners(5, MINE), *ABLE, now=100 * MS)
    assert ownership.decide(state, situation) == (state, ())
    after, effects = ownership.removed(state, 3, situation)
    (commit,) = effects
    assert isinstance(commit, Commit)
    record = commit.puts[0].value
    assert isinstance(record, OwnerRecord)
    assert (record.node, record.epoch, record.clean) == ("b", 5, False)
    assert isinstance(after, Leaving)
    assert (after.ask, after.record, after.retry_at) == (commit.ask, record, 2100 * MS)


def test_when_the_target_has_died_meanwhile_the_group_is_released():
    state = Leaving(3, 4, "handover", 2 * S, to="b", release=True)
    (commit,) = ownership.removed(state, 3, at(owners(5, MINE), members(7)))[1]
    assert isinstance(commit, Commit)
    record = commit.puts[0].value
    assert isinstance(record, OwnerRecord)
    assert (record.node, record.epoch, record.clean) == ("a", 4, True)


def test_when_the_lease_lapsed_meanwhile_the_group_is_released_not_handed_over():
    state = Leaving(3, 4, "handover", 2 * S, to="b", release=True)
    (commit,) = ownership.removed(state, 3, at(owners(5, MINE), *ABLE, lease=UNHELD))[1]
    assert isinstance(commit, Commit)
    record = commit.puts[0].value
    assert isinstance(record, OwnerRecord)
    assert (record.node, record.clean) == ("a", True)


# --- leaving


def test_a_removal_that_failed_is_tried_until_it_succeeds():
    state: GroupState = replace(CLOSING, release=True)
    now = 0
    for _ in range(5):
        state, effects = ownership.kernel_failed(state, state.serial, "busy", at(owners(5, MINE), now=now))
        assert effects == ()
        assert states.due(state) == now + RETRY
        now += RETRY
        state, effects = ownership.decide(state, at(owners(5, MINE), now=now))
        assert effects == (RemoveAddresses("web", state.serial),)
    assert asked(ownership.removed(state, state.serial, at(owners(5, MINE), now=now))) == ["release"]


def test_a_removal_that_says_nothing_is_asked_for_again_and_only_the_newest_counts():
    state = replace(CLOSING, release=True)
    assert asked(ownership.decide(state, at(owners(5, MINE), now=2 * S - 1))) == []
    again, effects = ownership.decide(state, at(owners(5, MINE), now=2 * S))
    assert effects == (RemoveAddresses("web", 4),)
    assert states.due(again) == 2 * S + KERNEL_PATIENCE
    assert ownership.removed(again, 3, at(owners(5, MINE), now=2 * S)) == (again, ())
    assert asked(ownership.removed(again, 4, at(owners(5, MINE), now=2 * S))) == ["release"]


@pytest.mark.parametrize("lease", [UNHELD, held(since=2), held(since=9)])
def test_nothing_is_written_before_the_kernel_confirmed(lease: Lease):
    for release in (False, True):
        state = replace(CLOSING, release=release)
        assert asked(ownership.decide(state, at(owners(5, MINE), lease=lease, faults=("stop",)))) == []


def test_a_release_says_why_and_is_waited_for():
    after, effects = ownership.decide(replace(OWING, retry_at=0), at(owners(5, MINE), now=100 * MS))
    (commit,) = effects
    assert isinstance(commit, Commit)
    record = replace(MINE, clean=True, candidates=("a",), machines=("",), reason="because")
    assert commit.puts[0].value == record
    assert after == replace(OWING, serial=4, asked=True, ask=commit.ask, record=record, retry_at=2100 * MS)
    assert ownership.written(after, commit.ask) == record
    assert ownership.written(after, OTHER) is None


def test_a_release_without_any_answer_is_written_again():
    assert asked(ownership.decide(TELLING, at(owners(5, MINE), now=2 * S - 1))) == []
    assert asked(ownership.decide(TELLING, at(owners(5, MINE), now=2 * S))) == ["release"]


def test_a_release_without_an_answer_may_still_be_done_so_the_record_is_not_owned_by_again():
    state = replace(CLOSING, removed=True, asked=True, retry_at=0)
    fit_again = at(owners(5, MINE), now=100 * MS)
    assert asked(ownership.decide(state, fit_again)) == ["release"]
    assert asked(ownership.decide(replace(state, asked=False), fit_again)) != ["release"]


@pytest.mark.parametrize("record", [None, Garbage("?"), owner(), owner("a", clean=True), owner("a", 0)])
@pytest.mark.parametrize("state", [OWING, TELLING])
def test_nothing_is_owed_once_the_record_does_not_name_us(state: Leaving, record: OwnerRecord | Garbage | None):
    after, effects = ownership.decide(state, at(owners(5, record), lease=UNHELD, now=100 * MS))
    if state is TELLING:
        assert (after, effects) == (TELLING, ()), "its answer is on the way"
        after, effects = ownership.answered(TELLING, RELEASE, True, at(owners(5, record), lease=UNHELD, now=100 * MS))
    assert (after, effects) == (Following(3, not_before=1100 * MS), ())


def test_after_a_lapse_a_fit_node_owes_nothing_it_claims_again():
    state = replace(CLOSING, removed=True)
    assert asked(ownership.decide(state, at(owners(5, MINE), lease=held(since=9)))) == ["claim"]


def test_after_a_lapse_an_unfit_node_releases_what_names_it():
    state = replace(CLOSING, removed=True, retry_at=0)
    assert asked(ownership.decide(state, at(owners(5, MINE), lease=UNHELD, faults=("stop",)))) == ["release"]


def test_whose_kernel_refused_lets_the_others_go_first():
    after, _ = ownership.decide(OWING, at(owners(5, replace(MINE, clean=True)), now=100 * MS))
    assert after == Following(3, not_before=100 * MS + 1 * S, claim_at=100 * MS + 1 * S)


def test_whose_handover_became_a_release_may_claim_at_once():
    state = replace(OWING, to="b")
    assert asked(ownership.decide(state, at(owners(5, replace(MINE, clean=True))))) == ["claim"]


def test_fit_again_before_the_record_changed_it_owns_again_but_only_through_the_kernel():
    state = replace(CLOSING, removed=True)
    after, effects = ownership.decide(state, at(owners(5, MINE)))
    assert asked((after, effects)) == ["install"]
    assert isinstance(after, Owning)
    assert not after.ready


# --- preemption


OTHERS = (leases(6, ttl=60 * S), owners(5, owner(epoch=4, ttl=60 * S)))


@pytest.mark.parametrize(
    "preempt, ours, theirs, wishes",
    [
        (True, 101, 100, True),
        (True, 100, 100, False),  # an equal one is never preempted, whatever the addresses
        (True, 99, 100, False),
        (True, 1, 0, True),
        (False, 254, 1, False),
    ],
)
def test_who_wishes(preempt: bool, ours: int, theirs: int, wishes: bool):
    known = (*OTHERS, members(7, priority=theirs, address=B))
    after, effects = ownership.decide(FOLLOWING, at(*known, preempt=preempt, priority=ours))
    assert isinstance(after, Following)
    if not wishes:
        assert (after.preempt_at, effects) == (NEVER, ())
        return
    (commit,) = effects
    assert isinstance(commit, Commit)
    assert commit.puts[0].value == Intent("a", 4, "preempt")


@pytest.mark.parametrize("record", [None, owner("a", 0, host="z", ttl=60 * S), Garbage("?")])
def test_there_is_nobody_to_preempt(record: OwnerRecord | Garbage | None):
    known = (owners(5, record), members(7, priority=1))
    assert asked(ownership.decide(FOLLOWING, at(*known, preempt=True, priority=200))) == []


def test_an_owner_that_is_no_member_is_not_preempted():
    assert asked(ownership.decide(FOLLOWING, at(*OTHERS, preempt=True, priority=200))) == []


def test_the_wish_comes_after_the_delay_and_again_if_it_is_not_granted():
    known = (*OTHERS, members(7, priority=50))

    def decide(state: Following, now: int, priority: int = 100) -> tuple[Following, list[str]]:
        situation = at(*known, now=now, preempt=True, delay=3 * S, priority=priority, lease=held(2, 99 * S))
        after, effects = ownership.decide(state, situation)
        assert isinstance(after, Following)
        return after, asked((after, effects))

    state, words = decide(FOLLOWING, 1 * S)
    assert (state.preempt_at, words) == (4 * S, [])
    state, words = decide(state, 2 * S)
    assert (state.preempt_at, words) == (4 * S, [])
    assert decide(state, 2 * S, priority=50)[0].preempt_at == NEVER, "the wait is over when it does not outrank"
    state, words = decide(state, 4 * S)
    assert (state.preempt_at, words) == (8 * S, ["intent"])
    state, words = decide(state, 8 * S - 1)
    assert words == []
    assert decide(state, 8 * S)[1] == ["intent"]
