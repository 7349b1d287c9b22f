"""Faults become nft rules: which frames are dropped between which ports."""

from __future__ import annotations

import pytest

from haagent.lab.faults import Direction, Drop, around, between, ruleset


def rules(*drops: Drop) -> list[str]:
    lines = [line.strip() for line in ruleset(drops).splitlines()]
    return [line for line in lines if line.endswith("drop")]


def test_directions_are_those_of_the_first() -> None:
    out, into = Drop(("a",), ("b", "c")), Drop(("b", "c"), ("a",))
    assert between(("a",), ("b", "c"), Direction.OUT) == (out,)
    assert between(("a",), ("b", "c"), Direction.IN) == (into,)
    assert between(("a",), ("b", "c"), Direction.BOTH) == (out, into)
    assert between(("a",), (), Direction.BOTH) == ()


def test_rules_name_both_ports() -> None:
    assert rules(Drop(("a",), ("b", "c"))) == ['iifname { "a" } oifname { "b", "c" } counter drop']


def test_everybody_is_no_match_at_all() -> None:
    assert rules(*around(("a",), Direction.OUT)) == ['iifname { "a" } counter drop']
    assert rules(*around(("a",), Direction.IN)) == ['oifname { "a" } counter drop']


def test_vrrp_over_both_families() -> None:
    assert rules(Drop(("a",), ("b",), vrrp_only=True)) == [
        'iifname { "a" } oifname { "b" } ip protocol 112 counter drop',
        'iifname { "a" } oifname { "b" } ip6 nexthdr 112 counter drop',
    ]


def test_loss_throws_dice() -> None:
    assert rules(Drop(("a",), percent=2.5)) == ['iifname { "a" } numgen random mod 100000 < 2500 counter drop']


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_loss_beyond_all_bounds_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 100"):
        Drop(percent=percent)


def test_no_faults_is_a_chain_without_rules() -> None:
    assert rules() == []
    assert "delete table bridge lab" in ruleset([])
