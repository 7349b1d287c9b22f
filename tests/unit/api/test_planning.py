"""What is refused, and why; and what is written when it is not. Node `a` owns `web`; `b` and `c` could."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from haagent.api import planning
from haagent.api.planning import LINGERS, WINDOW, Order, Pulse, Refusal, Scene, Transfer, Wish
from haagent.core.records import ORDERS, Garbage, Guard, HistoryEntry, Intent, Key, Kind, Orders, Put, Seen, Standing
from haagent.core.units import MS, S
from tests.unit.core.values import A, lease, leases, member, members, owner, owners, seen

NOW = 1_800_000_000 * S
RECORD, INTENT = Key(Kind.OWNERS, "web"), Key(Kind.INTENTS, "web")
ALIVE = {f"{node}1": Pulse(100 * MS) for node in "abc"}


def scene(*more: Seen, pulses: dict[str, Pulse] | None = None, **changes: Any) -> Scene:
    """The ordinary cluster, with what is special about it."""
    ordinary = [owners(7, owner("a", epoch=41))]
    ordinary += [one for node in "abc" for one in (leases(5, node), members(6, node))]
    found = planning.scene([*ordinary, *more], NOW)
    return replace(found, pulses=ALIVE if pulses is None else pulses, **changes)


def orders(value: Orders, revision: int = 9) -> Seen:
    return Seen(ORDERS, revision, revision, value)


def faulty(node: str) -> Seen:
    return seen(Kind.MEMBERS, node, replace(member(node), standings={"web": Standing(0, A)}), 8)


def without(*nodes: str) -> dict[str, Pulse]:
    return {name: pulse for name, pulse in ALIVE.items() if name[0] not in nodes}


def refused(plan: object) -> str:
    assert isinstance(plan, Refusal), plan
    assert plan.text
    return plan.reason


# --- switchover


def test_a_switchover_is_a_wish_guarded_by_the_record_and_by_other_wishes():
    plan = planning.switchover(scene(), Wish("web", "b", "me"))
    wish = Intent("b", 41, "me", 0, NOW + LINGERS)
    assert plan == Transfer("web", "a", wish, (Guard(RECORD, 7), Guard(INTENT, 0)), (Put(INTENT, wish),))


def test_nobody_is_taken_for_a_node_that_wishes_to_preempt():
    plan = planning.switchover(scene(), Wish("web", "b", "preempt"))
    assert isinstance(plan, Transfer)
    assert plan.intent.by == "an operator"


def test_a_scheduled_one_has_its_window():
    plan = planning.switchover(scene(), Wish("web", "b", not_before=NOW + 3600 * S))
    assert isinstance(plan, Transfer)
    assert plan.later
    assert plan.intent == Intent("b", 41, "an operator", NOW + 3600 * S, NOW + 3600 * S + WINDOW)


def test_another_wish_is_replaced_if_it_is_the_one_that_was_read():
    plan = planning.switchover(scene(seen(Kind.INTENTS, "web", Intent("c", 41, "x"), 8)), Wish("web", "b"))
    assert isinstance(plan, Transfer)
    assert plan.guards[1] == Guard(INTENT, 8)


def test_what_goes_without_saying():
    both = scene(pulses=without("c"))
    plan = planning.switchover(both, Wish())
    assert isinstance(plan, Transfer)
    assert (plan.group, plan.intent.to) == ("web", "b")


@pytest.mark.parametrize(
    "at, wish, reason",
    [
        (scene(), Wish("db", "b"), "group-unknown"),
        (scene(owners(8, owner("a"), "db")), Wish("", "b"), "group-unknown"),
        (scene(owners(8, owner("a", clean=True))), Wish("web", "b"), "no-owner"),
        (scene(seen(Kind.OWNERS, "web", Garbage("?"), 8), owners=dict[str, Any]()), Wish("web", "b"), "no-owner"),
        (scene(orders(Orders("somebody"))), Wish("web", "b"), "paused"),
        (scene(), Wish("web", "b", from_epoch=40), "epoch-changed"),
        (scene(), Wish("web", "a"), "already-owner"),
        (scene(), Wish("web", "x"), "target-unknown"),
        (scene(members(8, "b", groups=("db",))), Wish("web", "b"), "target-unknown"),
        (scene(), Wish("web"), "target-unknown"),
        (scene(orders(Orders("", ("b",)))), Wish("web", "b"), "target-drained"),
        (scene(pulses=without("b")), Wish("web", "b"), "target-dead"),
        (scene(faulty("b")), Wish("web", "b"), "target-faulty"),
        (scene(pulses={**ALIVE, "b1": Pulse(600 * MS)}), Wish("web", "b"), "lease-too-old"),
        (scene(cut_off=["b"]), Wish("web", "b"), "target-unreachable"),
        (scene(pulses=without("b", "c")), Wish("web"), "no-candidate"),
        (scene(pulses=without("a")), Wish("web", "b"), "owner-dead"),
        (scene(owners(8, owner("a", turn=2))), Wish("web", "b"), "owner-dead"),
        (scene(), Wish("web", "b", not_before=NOW - 3600 * S), "past"),
        (scene(), Wish("web", "b", expires=NOW - 1), "past"),
        (scene(), Wish("web", "b", not_before=NOW + 9 * S, expires=NOW + 9 * S), "past"),
    ],
)
def test_a_switchover_is_refused_by_name(at: Scene, wish: Wish, reason: str):
    assert refused(planning.switchover(at, wish)) == reason


@pytest.mark.parametrize("at", [scene(pulses={**ALIVE, "b1": Pulse(600 * MS)}), scene(cut_off=["b"])])
def test_force_moves_to_who_is_hard_to_reach(at: Scene):
    assert isinstance(planning.switchover(at, Wish("web", "b", force=True)), Transfer)


@pytest.mark.parametrize("at", [scene(faulty("b")), scene(pulses=without("b")), scene(orders(Orders("", ("b",))))])
def test_force_moves_to_nobody_who_can_not_own(at: Scene):
    assert isinstance(planning.switchover(at, Wish("web", "b", force=True)), Refusal)


# --- failover


def test_a_failover_names_who_claims_first():
    plan = planning.failover(scene(pulses=without("a")), Wish("web", "b", "me"))
    assert isinstance(plan, Transfer)
    assert plan.owner == "a"
    assert plan.intent == Intent("b", 41, "me", 0, NOW + LINGERS)


def test_an_owner_that_missed_two_renewals_is_not_waited_for():
    """Else whoever is first would have claimed by the time at which an operator may say who that is to be."""
    silent = scene(pulses={**ALIVE, "a1": Pulse(600 * MS)})
    assert isinstance(planning.failover(silent, Wish("web", "b")), Transfer)


def test_a_group_without_an_owner_can_be_given_to_one():
    released = planning.failover(scene(owners(8, owner("a", epoch=41, clean=True))), Wish("web", "b"))
    assert isinstance(released, Transfer)
    assert (released.owner, released.intent.from_epoch) == ("", 41)
    never = planning.failover(scene(owners=dict[str, Any]()), Wish("web", "b"))
    assert isinstance(never, Transfer)
    assert never.intent.from_epoch == 0


def test_an_owner_that_is_declared_dead_has_no_failsafe_any_more_and_history_says_by_whom():
    before = replace(owner("a", epoch=41), failsafe=300 * S)
    at = scene(owners(8, before), pulses=without("a"))
    plan = planning.failover(at, Wish("web", "b", "anna", dead=True))
    assert isinstance(plan, Transfer)
    wish, record, entry = plan.puts
    assert wish.value == plan.intent
    assert record.value == replace(before, failsafe=0)
    assert isinstance(entry.value, HistoryEntry)
    assert (entry.key.name, entry.value.node, entry.value.epoch) == ("web/41", "a", 41)
    assert entry.value.reason.endswith("; then a was declared dead by anna")
    assert Guard(record.key, 8) in plan.guards


def test_a_host_that_was_made_again_may_take_what_it_was_declared_dead_for():
    before = replace(owner("a", epoch=41), incarnation="a0")
    at = scene(owners(8, before))
    plan = planning.failover(at, Wish("web", "a", "anna", dead=True))
    assert isinstance(plan, Transfer)
    assert plan.intent.to == "a"


@pytest.mark.parametrize(
    "at, wish, reason",
    [
        (scene(), Wish("web", "b"), "owner-alive"),
        (scene(pulses=without("a")), Wish("db", "b"), "group-unknown"),
        (scene(pulses=without("a")), Wish("web", "a"), "already-owner"),
        (scene(orders(Orders("me")), pulses=without("a")), Wish("web", "b"), "paused"),
        (scene(pulses=without("a", "b")), Wish("web", "b"), "target-dead"),
        (scene(pulses=without("a", "b", "c")), Wish("web"), "no-candidate"),
        (scene(), Wish("web", "b", dead=True), "owner-alive"),
        (scene(owners=dict[str, Any]()), Wish("web", "b", dead=True), "no-owner"),
        (scene(owners(8, owner("a", epoch=41, clean=True))), Wish("web", "b", dead=True), "no-owner"),
        (scene(pulses=without("a")), Wish("web", "a", dead=True), "already-owner"),
    ],
)
def test_a_failover_is_refused_by_name(at: Scene, wish: Wish, reason: str):
    assert refused(planning.failover(at, wish)) == reason


# --- orders


def test_orders_are_rewritten_whole_and_guarded():
    before = Orders("", ("c",))
    plan = planning.pause(scene(orders(before)), "me")
    after = Orders("me", ("c",))
    assert plan == Order((Guard(ORDERS, 9),), (Put(ORDERS, after),), after)
    plan = planning.drain(scene(orders(before)), "b")
    assert isinstance(plan, Order)
    assert plan.orders == Orders("", ("b", "c"))
    plan = planning.undrain(scene(orders(before)), "c")
    assert isinstance(plan, Order)
    assert plan.orders == Orders()
    plan = planning.resume(scene(orders(after)))
    assert isinstance(plan, Order)
    assert plan.orders == before
    plan = planning.pause(scene(), "")
    assert isinstance(plan, Order)
    assert plan.orders.paused
    assert plan.guards == (Guard(ORDERS, 0),)


def test_orders_are_refused_by_name():
    paused, drained = scene(orders(Orders("me"))), scene(orders(Orders("", ("b",))))
    assert refused(planning.pause(paused, "x")) == "paused"
    assert refused(planning.resume(scene())) == "not-paused"
    assert refused(planning.drain(scene(), "x")) == "node-unknown"
    assert refused(planning.drain(drained, "b")) == "drained"
    assert refused(planning.drain(paused, "a")) == "paused"
    assert refused(planning.undrain(scene(), "x")) == "node-unknown"
    assert refused(planning.undrain(scene(), "b")) == "not-drained"
    many = tuple(f"n{number}" for number in range(256))
    assert refused(planning.drain(scene(orders(Orders("", many))), "b")) == "invalid"


def test_who_alone_can_own_is_drained_by_force_only():
    alone = scene(pulses=without("b", "c"))
    assert refused(planning.drain(alone, "a")) == "no-candidate"
    assert isinstance(planning.drain(alone, "a", force=True), Order)
    assert isinstance(planning.drain(alone, "b"), Order)  # it owns nothing


def test_a_node_that_is_gone_can_still_be_undrained():
    assert isinstance(planning.undrain(scene(orders(Orders("", ("gone",)))), "gone"), Order)


def test_what_can_not_be_read_keeps_its_revision():
    found = planning.scene(
        [seen(Kind.ORDERS, "cluster", Garbage("?"), 4), leases(3, "b"), seen(Kind.OWNERS, "x", None, 2)], NOW
    )
    assert found.revisions == {ORDERS: 4, Key(Kind.LEASES, "b"): 3}
    assert found.orders == Orders()
    assert found.leases == {"b": lease("b")}
