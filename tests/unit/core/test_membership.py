"""What a node tells the others of itself: when its member key is written, guarded by what, and how often."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core.context import Context
from haagent.core.lease import Questions, Unheld
from haagent.core.membership import Membership
from haagent.core.model import Ask, Asking, Commit, Effect, Meet
from haagent.core.records import Guard, Key, Kind, MemberValue, Standing
from haagent.core.units import MS, NEVER, S
from tests.unit.core.values import ETH0, LEASES, A, group, held, member, rules, seen, watched

UNHELD = Unheld(Questions((), 0, 0, NEVER, 0))
HELD = held(created=3, until=99 * S)


def membership() -> tuple[Membership, Context]:
    context = Context(rules())
    made = Membership(context)
    made.interfaces["eth0"] = ETH0
    made.assess(context.rules.groups["web"], ())
    return made, context


def written(context: Context) -> list[MemberValue]:
    values: list[MemberValue] = []
    for effect in context.out:
        assert isinstance(effect, Commit)
        (put,) = effect.puts
        assert isinstance(put.value, MemberValue)
        values.append(put.value)
    context.out.clear()
    return values


def show(context: Context, value: MemberValue, revision: int = 5) -> None:
    list(context.view.watch(watched(seen(Kind.MEMBERS, "a", value, revision)), context.rules, context.now))


def test_the_member_key_says_how_the_node_stands_and_goes_with_its_session():
    made, context = membership()
    made.sync(HELD)
    (commit,) = context.out
    assert isinstance(commit, Commit)
    assert commit.ask == Ask(Asking.MEMBER, "a", 1)
    assert commit.guards == (Guard(LEASES, 3, created=True),), "not after another took our name"
    assert commit.puts[0].session
    assert commit.puts[0].key == Key(Kind.MEMBERS, "a")
    assert commit.puts[0].value == MemberValue("a1", "test", (A,), {"web": Standing(100, A)})


@pytest.mark.parametrize("lease", [UNHELD, held(created=0)])
def test_nothing_is_written_without_a_lease(lease: Unheld):
    made, context = membership()
    made.sync(lease)
    assert context.out == []


def test_one_write_at_a_time_and_another_after_a_ttl_without_an_answer():
    made, context = membership()
    made.sync(HELD)
    assert len(written(context)) == 1
    for now, count in ((1 * MS, 0), (1 * S - 1, 0), (1 * S, 1), (1 * S + 1, 0)):
        context.now = now
        made.sync(HELD)
        assert len(written(context)) == count


def test_the_answer_ends_the_waiting_and_a_late_one_does_not():
    made, context = membership()
    made.sync(HELD)
    made.answered(Ask(Asking.MEMBER, "a", 0))
    made.sync(HELD)
    assert len(written(context)) == 1
    made.answered(Ask(Asking.MEMBER, "a", 1))
    made.sync(HELD)
    assert len(written(context)) == 1


def test_what_the_view_shows_is_not_written_again():
    made, context = membership()
    made.sync(HELD)
    (value,) = written(context)
    made.answered(Ask(Asking.MEMBER, "a", 1))
    show(context, value)
    made.sync(HELD)
    assert written(context) == []


def test_a_key_that_says_something_else_is_put_right():
    made, context = membership()
    show(context, MemberValue("a0", "old", (), {}))
    made.sync(HELD)
    assert len(written(context)) == 1


def test_a_fault_is_told_as_priority_0_and_its_end_too():
    made, context = membership()
    web = context.rules.groups["web"]
    made.interfaces["eth0"] = replace(ETH0, up=False)
    made.assess(web, ())
    made.sync(HELD)
    (value,) = written(context)
    assert value.standings == {"web": Standing(0, A)}
    made.answered(Ask(Asking.MEMBER, "a", 1))
    show(context, value)
    made.interfaces["eth0"] = ETH0
    made.assess(web, ())
    made.sync(HELD)
    (value,) = written(context)
    assert value.standings == {"web": Standing(100, A)}


def test_who_is_banned_says_why_first():
    made, context = membership()
    made.interfaces["eth0"] = replace(ETH0, up=False)
    made.assess(context.rules.groups["web"], ("the agent stops",))
    assert made.faults["web"] == ("the agent stops", "interface eth0 is down or absent")
    assert made.standings["web"].priority == 0


def test_a_group_that_is_forgotten_is_told_no_more():
    made, context = membership()
    made.assess(group("other"), ())
    made.forget("web")
    made.forget("never heard of")
    made.sync(HELD)
    (value,) = written(context)
    assert set(value.standings) == {"other"}
    assert set(made.faults) == {"other"}


def test_peers_are_met_where_they_are_reached_and_once():
    made, context = membership()
    made.meet()
    assert context.out == [], "it has no peers itself"
    context.rules = rules(endpoint="10.0.0.1:8501")

    def tell(node: str, endpoint: str, revision: int) -> list[Effect]:
        value = replace(member(node), endpoint=endpoint)
        list(context.view.watch(watched(seen(Kind.MEMBERS, node, value, revision)), context.rules, context.now))
        made.meet()
        said, context.out = context.out, []
        return said

    b, c = ("b", "10.0.0.2:8501"), ("c", "10.0.0.3:8501")
    assert tell("a", "10.0.0.1:8501", 5) == []
    assert tell(*c, 6) == [Meet((c,))]
    assert tell(*b, 7) == [Meet((b, c))]
    assert tell(*b, 8) == []
    assert tell("b", "", 9) == [Meet((c,))]
