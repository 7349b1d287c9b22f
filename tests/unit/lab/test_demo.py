"""The demo ends well only if every step came out as it should: what stays must stay, and what moves must move."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core.units import MS
from haagent.lab.demo import STEPS, Expect, judge
from haagent.lab.scenarios import Outcome

STAYED = Outcome(before="n1", after="n1", epoch=7, at=0, took=0, gap=3 * MS, most=1, overlap=0, blind=0)
MOVED = replace(STAYED, after="n2", epoch=8, gap=900 * MS)


@pytest.mark.parametrize(
    "expect, outcome",
    [
        (Expect.STAYS, STAYED),
        (Expect.STAYS, replace(STAYED, gap=300 * MS, blind=290 * MS)),
        (Expect.MOVES, MOVED),
        (Expect.CLAIMED, replace(STAYED, epoch=8)),
        (Expect.CLAIMED, MOVED),
    ],
)
def test_as_it_should_be(expect: Expect, outcome: Outcome):
    assert judge(expect, outcome, epoch=7) == ""


@pytest.mark.parametrize(
    "expect, outcome",
    [
        (Expect.STAYS, MOVED),
        (Expect.STAYS, replace(STAYED, epoch=8)),
        (Expect.STAYS, replace(STAYED, gap=300 * MS)),
        (Expect.MOVES, STAYED),
        (Expect.MOVES, replace(MOVED, epoch=7)),
        (Expect.CLAIMED, STAYED),
    ],
)
def test_not_as_it_should_be(expect: Expect, outcome: Outcome):
    assert judge(expect, outcome, epoch=7) == f"expected: {expect}"


@pytest.mark.parametrize("expect", Expect)
def test_two_answerers_are_never_right(expect: Expect):
    assert judge(expect, replace(MOVED, most=2), epoch=7) == "2 answered at once"


def test_etcd_is_away_in_the_story_and_nothing_moves():
    stays = [step.name for step in STEPS if step.expect is Expect.STAYS]
    assert "etcd away for 5 s" in stays
    assert "owner without etcd" in stays
