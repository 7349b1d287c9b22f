"""What an operator is told: done and verified, refused, failed, or not known; and what is left in etcd by then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import pytest

from haagent.api import moves, operator
from haagent.core.records import ORDERS, Intent, Key, Kind, Orders, Put
from haagent.core.units import MS, S
from haagent.v1 import control_pb2 as pb
from haagent.v1 import status_pb2
from tests.unit.api.keys import Desk, Keys, aged
from tests.unit.core.values import owner

T = TypeVar("T")
INTENT = Key(Kind.INTENTS, "web")
TO_B = pb.SwitchoverRequest(group="web", to="b", by="me", wait_ms=200)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests goes on by looking at it: nobody needs to wait in between."""
    monkeypatch.setattr(moves, "STEP", 0)
    monkeypatch.setattr(operator, "POLL", 0)


def ask(doing: Awaitable[T]) -> T:
    async def run() -> T:
        return await doing

    return asyncio.run(run())


def grants(desk: Desk, *, verified: bool = True, **clocks: int | None) -> None:
    """The owner hands over as soon as it is asked: silent 3 ms later, and the other answers 14 ms after that."""

    def granted(puts: Sequence[Put]) -> None:
        if puts and isinstance(puts[0].value, Intent):
            at = desk.now
            desk.keys.moves("web", puts[0].value.to, 42)
            if verified:
                desk.nodes.silent("a", at + 3 * MS)
                desk.nodes.owns("b", 42, at + 17 * MS, **clocks)  # pyright: ignore[reportArgumentType]

    desk.keys.on_commit = granted


def claims(desk: Desk) -> None:
    """As soon as it is asked for, the other claims what the owner's lease has left to it."""

    def claimed(puts: Sequence[Put]) -> None:
        if puts:
            desk.keys.moves("web", "b", 42)
            desk.nodes.owns("b", 42, desk.now)

    desk.keys.on_commit = claimed


def result(outcome: pb.Outcome) -> tuple[str, str]:
    return pb.Result.Name(outcome.result), outcome.reason


def test_a_switchover_is_done_verified_and_measured():
    desk = Desk()
    grants(desk)
    outcome = ask(desk.operator.switchover(TO_B))
    assert result(outcome) == ("DONE", "")
    move = outcome.moves[0]
    assert (move.from_node, move.to_node, move.from_epoch, move.to_epoch, move.verified) == ("a", "b", 41, 42, True)
    assert move.gap_ns == 14 * MS
    assert outcome.text == "web: a -> b, epoch 41 -> 42, 14 ms without an owner"


def test_clocks_apart_are_brought_together():
    desk = Desk()
    grants(desk, ahead=3600 * S, error=100_000)
    move = ask(desk.operator.switchover(TO_B)).moves[0]
    assert (move.gap_ns, move.gap_error_ns) == (14 * MS, 100_000)


def test_clocks_that_were_never_compared_leave_the_wall_clocks():
    desk = Desk()
    grants(desk, ahead=0, error=None)
    outcome = ask(desk.operator.switchover(TO_B))
    assert outcome.moves[0].gap_ns == 14 * MS
    assert outcome.moves[0].gap_error_ns == 0
    assert outcome.text.endswith("by the nodes' wall clocks")


def test_a_move_that_nobody_can_verify_is_not_said_to_be_done():
    desk = Desk()
    grants(desk, verified=False)
    assert result(ask(desk.operator.switchover(TO_B))) == ("UNKNOWN", "not-verified")


@pytest.mark.parametrize(
    "old",
    [
        {"addresses_held": 1},
        {"role": status_pb2.MASTER},
        {"silent_since_boot_ns": 999 * S},  # of an earlier time
    ],
)
def test_an_old_owner_that_may_still_answer_is_not_taken_for_silent(old: dict[str, int]):
    desk = Desk()
    grants(desk)
    granted = desk.keys.on_commit

    def half(puts: Sequence[Put]) -> None:
        granted(puts)
        desk.nodes.says["a"] = aged(desk.nodes.says["a"], **old)

    desk.keys.on_commit = half
    outcome = ask(desk.operator.switchover(TO_B))
    assert result(outcome) == ("UNKNOWN", "not-verified")
    assert "a did not say" in outcome.text


def test_an_owner_that_died_before_it_handed_over_can_not_be_asked():
    """Its lease ran out, and the target claimed: the group is where it should be, but nobody saw the old kernel."""
    desk = Desk()

    def claims(puts: Sequence[Put]) -> None:
        if puts:
            desk.keys.put(Key(Kind.OWNERS, "web"), owner("b", epoch=42, reason="the lease of a lapsed"))
            desk.nodes.owns("b", 42, desk.now)
            desk.nodes.says.pop("a", None)

    desk.keys.on_commit = claims
    outcome = ask(desk.operator.switchover(TO_B))
    assert result(outcome) == ("UNKNOWN", "not-verified")
    assert "a can not be asked whether its kernel holds none of the addresses" in outcome.text


def test_a_target_whose_kernel_lacks_an_address_is_not_done():
    desk = Desk()
    grants(desk)
    granted = desk.keys.on_commit

    def half(puts: Sequence[Put]) -> None:
        granted(puts)
        desk.nodes.says["b"] = aged(desk.nodes.says["b"], addresses_missing=1)

    desk.keys.on_commit = half
    assert result(ask(desk.operator.switchover(TO_B))) == ("UNKNOWN", "not-verified")


def test_a_target_that_dies_in_the_middle_is_a_failure_that_says_where_it_went():
    desk = Desk()

    def granted(puts: Sequence[Put]) -> None:
        if puts:
            desk.keys.moves("web", "b", 42)
            desk.nodes.owns("c", 43, desk.now)
            desk.nodes.silent("a", desk.now)
            desk.keys.on_commit = lambda _puts: None
            desk.operator._clock = clock

    def clock() -> int:
        desk.now += MS
        if desk.now > 1000 * S + 100 * MS:
            desk.keys.moves("web", "c", 43)
        return desk.now

    desk.keys.on_commit = granted
    desk.operator._follower._clock = clock
    outcome = ask(desk.operator.switchover(TO_B))
    assert result(outcome) == ("FAILED", "moved-elsewhere")
    assert "c by epoch 43" in outcome.text


def test_a_wish_that_nobody_grants_is_withdrawn():
    desk = Desk()
    assert result(ask(desk.operator.switchover(TO_B))) == ("FAILED", "not-done")
    assert INTENT not in desk.keys.keys


def test_a_group_that_went_elsewhere_is_a_failure():
    desk = Desk()
    desk.keys.on_commit = lambda puts: desk.keys.moves("web", "c", 42) if puts else None
    assert result(ask(desk.operator.switchover(TO_B))) == ("FAILED", "moved-elsewhere")


def test_what_is_refused_changes_nothing():
    desk = Desk()
    before = desk.keys.revision
    assert result(ask(desk.operator.switchover(pb.SwitchoverRequest(group="web", to="x")))) == (
        "REFUSED",
        "target-unknown",
    )
    assert desk.keys.revision == before


def test_an_owner_that_changes_while_one_asks_is_not_the_one_that_was_meant():
    desk = Desk()
    reads = desk.keys.read

    async def read_then_change() -> object:
        found = await reads()
        desk.keys.moves("web", "c", 42)
        desk.keys.read = reads
        return found

    desk.keys.read = read_then_change  # pyright: ignore[reportAttributeAccessIssue]
    assert result(ask(desk.operator.switchover(TO_B))) == ("REFUSED", "epoch-changed")
    assert INTENT not in desk.keys.keys


def test_for_later_and_without_waiting_it_is_written_down():
    desk = Desk()
    later = pb.SwitchoverRequest(group="web", to="b", not_before_wall_ns=1_800_003_600 * S, wait_ms=1000)
    assert result(ask(desk.operator.switchover(later))) == ("SCHEDULED", "")
    assert isinstance(desk.keys.keys[INTENT].value, Intent)
    assert result(ask(desk.operator.switchover(pb.SwitchoverRequest(to="c")))) == ("SCHEDULED", "")


@pytest.mark.parametrize("done", [True, False])
def test_an_answer_that_was_lost_is_looked_for(done: bool):
    desk = Desk()
    grants(desk)
    desk.keys.lost = [done]
    outcome = ask(desk.operator.switchover(TO_B))
    assert result(outcome) == (("DONE", "") if done else ("UNKNOWN", "unanswered"))


def test_a_withdrawal_without_an_answer_is_not_known():
    desk = Desk()
    desk.keys.on_commit = lambda _puts: desk.keys.lost.append(False)
    assert result(ask(desk.operator.switchover(TO_B))) == ("UNKNOWN", "unanswered")


def test_without_etcd_nothing_is_done():
    desk = Desk()
    desk.keys.away = True
    for doing in (
        desk.operator.switchover(TO_B),
        desk.operator.pause(pb.PauseRequest()),
        desk.operator.drain(pb.DrainRequest(node="a")),
    ):
        assert result(ask(doing)) == ("REFUSED", "etcd-unreachable")


def test_a_failover_is_done_although_the_old_owner_can_not_be_asked():
    desk = Desk()
    desk.nodes.dead.add("a")
    claims(desk)
    outcome = ask(desk.operator.failover(pb.FailoverRequest(group="web", to="b", wait_ms=200)))
    assert result(outcome) == ("DONE", "")
    assert not outcome.moves[0].verified
    assert outcome.moves[0].known == "a could not be asked, its lease is over"
    assert result(ask(Desk().operator.failover(pb.FailoverRequest(to="b")))) == ("REFUSED", "owner-alive")


def test_a_failover_from_an_owner_that_hangs_is_done_when_its_lease_is_over():
    desk = Desk()
    desk.nodes.dead.add("a")
    desk.nodes.owns("a", 41, desk.now)  # the last that it said, over a stream that still stands
    claims(desk)
    outcome = ask(desk.operator.failover(pb.FailoverRequest(group="web", to="b", wait_ms=200)))
    assert result(outcome) == ("DONE", "")
    assert not outcome.moves[0].verified


def test_an_owner_that_can_not_be_asked_has_let_go_before_it_wrote_the_record_of_the_next():
    desk = Desk()

    def hands_over(puts: Sequence[Put]) -> None:
        if puts:
            desk.keys.put(Key(Kind.OWNERS, "web"), owner("b", epoch=42, reason="handover from a"))
            desk.nodes.owns("b", 42, desk.now)

    desk.keys.on_commit = hands_over
    outcome = ask(desk.operator.switchover(TO_B))
    assert result(outcome) == ("DONE", "")
    assert outcome.moves[0].known == "a could not be asked, it wrote the new record once its kernel had let go"
    assert not outcome.moves[0].verified
    # Nobody to ask what the new owner's kernel has.
    desk.nodes.says.clear()
    desk.keys.on_commit = lambda puts: desk.keys.moves("web", "c", 43) if puts else None
    asked = ask(desk.operator.switchover(pb.SwitchoverRequest(group="web", to="c", wait_ms=200)))
    assert result(asked) == ("UNKNOWN", "not-verified")
    assert asked.text.endswith("(no stream to it: ask there)")


def test_orders_are_written():
    desk = Desk()
    assert result(ask(desk.operator.pause(pb.PauseRequest(by="me")))) == ("DONE", "")
    assert desk.keys.keys[ORDERS].value == Orders("me")
    assert result(ask(desk.operator.resume(pb.ResumeRequest()))) == ("DONE", "")
    assert result(ask(desk.operator.drain(pb.DrainRequest(node="b")))) == ("DONE", "")
    assert desk.keys.keys[ORDERS].value == Orders("", ("b",))
    assert result(ask(desk.operator.undrain(pb.UndrainRequest(node="b")))) == ("DONE", "")
    assert result(ask(desk.operator.undrain(pb.UndrainRequest(node="b")))) == ("REFUSED", "not-drained")


def test_a_drain_waits_until_everything_left():
    desk = Desk(Keys(web=owner("a", epoch=41), db=owner("c", epoch=3)))

    def leaves(puts: Sequence[Put]) -> None:
        desk.keys.moves("web", "b", 42)
        desk.nodes.silent("a", desk.now)
        desk.nodes.owns("b", 42, desk.now + 5 * MS)

    desk.keys.on_commit = leaves
    outcome = ask(desk.operator.drain(pb.DrainRequest(node="a", wait_ms=100)))
    assert result(outcome) == ("DONE", "")
    assert [(move.group, move.verified) for move in outcome.moves] == [("web", True)]


def test_a_drained_node_keeps_what_nobody_else_can_own():
    desk = Desk()
    for node in "bc":
        desk.nodes.dead.add(node)
        desk.keys.keys.pop(Key(Kind.MEMBERS, node))
    assert result(ask(desk.operator.drain(pb.DrainRequest(node="a")))) == ("REFUSED", "no-candidate")
    outcome = ask(desk.operator.drain(pb.DrainRequest(node="a", wait_ms=100, force=True)))
    assert result(outcome) == ("DONE", "")
    assert outcome.text == "a is drained; it keeps web until somebody else can own that"


def test_a_drain_that_takes_too_long_says_what_is_left():
    outcome = ask(Desk().operator.drain(pb.DrainRequest(node="a", wait_ms=50)))
    assert result(outcome) == ("FAILED", "not-done")
    assert "web" in outcome.text


def test_history_is_told_by_group_and_bounded():
    desk = Desk()
    for epoch in (9, 10, 11):
        desk.keys.moves("web", "b", epoch)
        desk.keys.moves("db", "c", epoch)
    told = ask(desk.operator.history(pb.HistoryRequest(newest=2)))
    assert [(one.group, one.epoch) for one in told.entries] == [("db", 10), ("db", 11), ("web", 10), ("web", 11)]
    assert told.entries[0].at_wall_ns == 5 * MS
    only = ask(desk.operator.history(pb.HistoryRequest(group="web")))
    assert [one.epoch for one in only.entries] == [9, 10, 11]
