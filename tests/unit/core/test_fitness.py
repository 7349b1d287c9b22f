"""Whether a node's interfaces let it own a group, what it says of itself then, and from where it speaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haagent.core import fitness
from haagent.core.model import GroupRules, InterfaceChanged, RouterRules, VirtualAddress
from haagent.core.records import Standing
from tests.unit.core.values import ADDRESS, ETH0, VIP2, A, B, group, router

LINK_LOCAL = bytes.fromhex("fe80" + "00" * 13 + "01")
ETH1 = InterfaceChanged("eth1", up=True, v4=B, v6=LINK_LOCAL)
BOTH = {"eth0": ETH0, "eth1": ETH1}
ON_ETH1 = VirtualAddress(VIP2, 24, "eth1")
PAIR = group("web", router(), router("vr2", interface="eth1", priority=50))


@pytest.mark.parametrize(
    "rules, expected",
    [
        (router(), A),
        (router(interface="eth1"), B),
        (router(interface="eth1", family=6), LINK_LOCAL),
        (router(family=6), None),
        (router(interface="eth9"), None),
        (router(interface="eth9", source=VIP2), VIP2),
        (router(source=VIP2), VIP2),
    ],
)
def test_source(rules: RouterRules, expected: bytes | None):
    assert fitness.source(rules, BOTH) == expected


@pytest.mark.parametrize(
    "rules, interfaces, expected",
    [
        pytest.param(group(), [ETH0], (), id="all is well"),
        pytest.param(group(), [], ("interface eth0 not seen yet",), id="not seen"),
        pytest.param(group(), [replace(ETH0, up=False)], ("interface eth0 is down or absent",), id="down"),
        pytest.param(
            group(), [replace(ETH0, up=False, v4=None)], ("interface eth0 is down or absent",), id="down: said once"
        ),
        pytest.param(group(), [replace(ETH0, v4=None)], ("interface eth0 has no IPv4 address",), id="no IPv4"),
        pytest.param(
            group("web", router(family=6)), [ETH0], ("interface eth0 has no link-local IPv6 address",), id="no IPv6"
        ),
        pytest.param(group("web", router(family=6, interface="eth1", addresses=())), [ETH1], (), id="IPv6"),
        pytest.param(group("web", router(source=VIP2)), [replace(ETH0, v4=None)], (), id="a configured source"),
        pytest.param(
            group("web", router(addresses=(ADDRESS, ON_ETH1))),
            [ETH0, replace(ETH1, up=False)],
            ("interface eth1 is down or absent",),
            id="an address' own interface",
        ),
        pytest.param(
            group("web", router(addresses=(ADDRESS, ON_ETH1))), [ETH0, replace(ETH1, v4=None)], (), id="needs no source"
        ),
        pytest.param(
            PAIR,
            [replace(ETH0, v4=None), replace(ETH1, up=False)],
            ("interface eth1 is down or absent", "interface eth0 has no IPv4 address"),
            id="any router's fault is the group's",
        ),
        pytest.param(
            group("web", router(), router("vr2")),
            [replace(ETH0, v4=None)],
            ("interface eth0 has no IPv4 address",),
            id="the same fault of two routers is one",
        ),
    ],
)
def test_faults(rules: GroupRules, interfaces: list[InterfaceChanged], expected: tuple[str, ...]):
    assert fitness.faults(rules, {one.name: one for one in interfaces}) == expected


def test_a_source_that_no_interface_has_is_a_fault():
    """However the interface is: nothing could be sent from there."""
    rules = group("web", router(), router("vr2", source=VIP2))
    assert fitness.faults(rules, {"eth0": ETH0}, frozenset({A})) == ()
    assert fitness.faults(rules, {"eth0": ETH0}, frozenset({VIP2})) == (
        "unicast_source 10.0.0.101 is not an address of this host",
    )


def test_a_group_uses_its_routers_interfaces_and_those_of_their_addresses():
    assert fitness.used(group("web", router(addresses=(ON_ETH1,)), router("vr2", interface="eth2"))) == {
        "eth0",
        "eth1",
        "eth2",
    }


def test_standing_is_the_weakest_routers_priority_and_the_first_ones_address():
    assert fitness.standing(PAIR, BOTH, unfit=False) == Standing(50, A)
    assert fitness.standing(PAIR, BOTH, unfit=True) == Standing(0, A)
    assert fitness.standing(PAIR, {}, unfit=True) == Standing(0, b"")


def test_sources_are_all_there_are_each_once():
    groups = [PAIR, group("other", router("vr3")), group("third", router("vr4", interface="eth9"))]
    assert fitness.sources(groups, BOTH) == (A, B)


@pytest.mark.parametrize("address, text", [(A, "10.0.0.1"), (LINK_LOCAL, "fe80::1"), (b"", ""), (b"\x01\x02", "0102")])
def test_text(address: bytes, text: str):
    assert fitness.text(address) == text


def test_a_group_waits_for_the_one_that_a_reload_takes_its_routers_from():
    old, new, other = group("web", router()), group("site", router()), group("mail", router("mail"))
    assert fitness.banned(new, [old], stopping=False) == ("group web is given up first",)
    assert fitness.banned(other, [old], stopping=False) == ()
    assert fitness.banned(old, [old], stopping=True) == ("the agent stops", "removed from the configuration")
