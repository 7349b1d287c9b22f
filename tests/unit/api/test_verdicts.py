"""Verdicts about a real node: owner by the lease as it runs at the request, ready, and well."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from haagent.api.http.verdicts import Ownership, ownership, unready, unwell
from haagent.core.records import Kind
from haagent.core.units import MS, S
from haagent.runtime.pump import Pump
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import owner, rules
from tests.unit.runtime.test_pump import Mind, World


def test_the_owner_is_who_holds_the_lease_now():
    talk = master(rules())
    assert ownership(talk.node, "web", talk.now) == Ownership(True, "a", 1)
    held_until = cast(Any, talk.node.lease).held_until
    assert ownership(talk.node, "web", held_until - 1) == Ownership(True, "a", 1)
    late = ownership(talk.node, "web", held_until)
    assert late is not None
    assert not late.here, "the node was not told of the time yet, and still thinks that it is MASTER"


def test_another_owner_is_named_while_its_lease_runs():
    talk = backup(rules())
    talk.other_writes(2000, (Kind.OWNERS, "web", owner("b", epoch=7)))
    assert ownership(talk.node, "web", talk.now) == Ownership(False, "b", 7)
    assert ownership(talk.node, "web", talk.now + 60 * S) == Ownership(False, "", 7)
    talk.other_writes(2100, (Kind.OWNERS, "web", owner("b", epoch=7, clean=True)))
    assert ownership(talk.node, "web", talk.now) == Ownership(False, "", 7)


def test_a_group_that_is_not_ours_is_unknown():
    assert ownership(master(rules()).node, "theirs", 0) is None


def test_ready_once_the_lease_runs_and_nothing_is_in_init():
    talk = Talk(rules())
    talk.start()
    assert unready(talk.node, None, 0) == ("the lease does not run", "web is in INIT")
    talk = backup(rules())
    assert unready(talk.node, None, talk.now) == ()


def test_ready_for_a_ttl_after_the_lease_was_lost():
    node = backup(rules()).node
    end = cast(Any, node.lease).held_until
    assert unready(node, end, end + 999 * MS) == ()
    assert unready(node, end, end + 1000 * MS) == ("the lease does not run",)


def test_well_while_the_node_takes_in_events_and_its_invariants_hold():
    async def run() -> None:
        mind = Mind()
        pump = Pump(mind, cast(Any, World()), lambda: 1)
        pump.start(cast(Any, SimpleNamespace(arm=lambda at: None)))
        assert unwell(pump) == ()
        assert mind.fed[-1] == ("TimePassed", 1)
        mind.wrong = "two and two are five"
        assert len(unwell(pump)) == 1
        assert len(unwell(pump)) == 1

    asyncio.run(run())
