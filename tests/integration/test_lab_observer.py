"""The observer asks each host by every path that a client may use, and knows by its cable which host answers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from haagent.core.units import MS, S
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.probes import Kind
from haagent.lab.render import as_text
from haagent.lab.timeline import WIRE, Timeline
from haagent.lab.topology import Extra, vip4, vip6
from tests.integration.conftest import MakeLab, Measure

pytestmark = pytest.mark.integration

VIPS = (vip4(), vip6())
FOUR = {Kind.ARP, Kind.ICMP, Kind.UDP, Kind.TCP}
SIX = {Kind.ND, Kind.ICMP6, Kind.UDP6, Kind.TCP6}


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(hosts=3, etcd=0, extras=tuple(Extra))


def take(host: Host, interface: str = "eth0") -> None:
    host.run(["ip", "address", "add", f"{vip4()}/32", "dev", interface])
    host.run(["ip", "address", "add", f"{vip6()}/128", "dev", interface, "nodad"])


def seen(prober: Prober, since: int, seconds: float = 0.3) -> Timeline:
    time.sleep(seconds)
    return prober.timeline(since)


def ways(timeline: Timeline) -> dict[str, set[str]]:
    """By whom, and on which of the paths, each address was answered for."""
    found: dict[str, set[str]] = {}
    for vip in VIPS:
        for answer in timeline.answers(vip):
            if answer.path != WIRE:
                found.setdefault(answer.node, set()).add(answer.path)
    return found


def test_every_path_and_every_kind_of_question_is_answered(lab: Lab) -> None:
    take(lab.host("n3"))
    prober = lab.observe(VIPS)
    for vip in VIPS:
        prober.wait_for_answer(vip, after=0, node="n3")
    timeline = seen(prober, now(), 0.5)
    assert timeline.nodes == ("n3",), as_text(timeline)
    kinds = Counter((answer.path, answer.kind) for vip in VIPS for answer in timeline.answers(vip))
    by_path = {path: {kind for at, kind in kinds if at == path} for path, _ in kinds}
    assert by_path["n3 eth0"] == set(Kind)
    # Linux answers ARP for an address by any interface, and ND only by the address's own.
    for path in ("n3 eth2", "n3 eth3", "n3 container"):
        assert by_path[path] == set(Kind) - {Kind.ND}, path
    for path in ("n3 eth0", "n3 eth3"):
        counts = [count for (at, _), count in kinds.items() if at == path]
        assert min(counts) > max(counts) // 4, "none is held back by a limit of rate"


def test_a_host_that_forwards_does_not_answer(lab: Lab) -> None:
    """n1 and n2 are routers to the side network, and pass on what is for n3: the answers are n3's."""
    take(lab.host("n3"))
    prober = lab.observe(VIPS)
    prober.wait_for_answer(vip4(), after=0)
    timeline = seen(prober, now())
    assert timeline.nodes == ("n3",), as_text(timeline)
    assert "n1 eth3" in ways(timeline)["n3"], "what n1 was asked has come to n3"
    assert "n1" not in ways(timeline)


def test_what_a_router_kept_is_answered_when_it_arrives(lab: Lab) -> None:
    """While nobody has the address, the routers keep what they are to forward, and deliver it to who comes next."""
    n1, _, n3 = lab.hosts
    take(n1)
    prober = lab.observe(VIPS)
    prober.wait_for_answer(vip4(), after=0, node="n1")
    for vip, length in ((vip4(), 32), (vip6(), 128)):
        n1.run(["ip", "address", "del", f"{vip}/{length}", "dev", "eth0"])
    time.sleep(0.5)
    taken = now()
    take(n3)
    timeline = seen(prober, 0, 1.5)
    assert {answer.node for vip in VIPS for answer in timeline.answers(vip)} == {"n1", "n3"}
    firsts = [answer.at for vip in VIPS for answer in timeline.answers(vip) if answer.node == "n3"]
    assert min(firsts) > taken, as_text(timeline)
    assert timeline.most_at_once() == 1


@pytest.mark.parametrize(
    "happens, path",
    [
        (lambda host: take(host, "lo"), "n1 eth0"),
        (lambda host: take(host, "eth2"), "n1 eth2"),
        (lambda host: take(host, "mv0"), "n1 eth0"),
        (lambda host: take(host, "vk"), "n1 container"),
    ],
    ids=["lo", "second interface", "macvlan", "container"],
)
def test_a_second_host_is_named_with_its_path(lab: Lab, happens: Callable[[Host], None], path: str) -> None:
    n1, n2, _ = lab.hosts
    take(n2)
    prober = lab.observe(VIPS)
    prober.wait_for_answer(vip4(), after=0, node="n2")
    happens(n1)
    timeline = seen(prober, now())
    assert path in ways(timeline)["n1"], as_text(timeline)
    (overlap, *_) = timeline.overlaps(vip4())
    assert set(overlap.nodes) == {"n1", "n2"}
    assert any(way.startswith(path) for way in timeline.ways(overlap)["n1"])
    assert max(each.length for each in timeline.overlaps(vip4())) > 100 * MS


def test_a_host_that_answers_only_by_one_path_is_seen(lab: Lab) -> None:
    """What leaves n1 by eth0 is dropped, as by a gate on that interface alone: eth2 goes on."""
    n1, n2, _ = lab.hosts
    take(n1)
    rules = (
        "add table netdev t\nadd chain netdev t c { type filter hook egress device eth0 priority 0; policy drop; }\n"
    )
    n1.run(["nft", "-f", "-"], stdin=rules)
    take(n2)
    prober = lab.observe(VIPS)
    prober.wait_for_answer(vip4(), after=0, node="n2")
    timeline = seen(prober, now())
    assert ways(timeline)["n1"] >= {"n1 eth2", "n1 eth3", "n1 container"}, as_text(timeline)
    assert "n1 eth0" not in ways(timeline)["n1"]
    assert timeline.most_at_once() == 2


def test_who_is_cut_off_from_the_client_is_asked_all_the_same(lab: Lab) -> None:
    n1, n2, _ = lab.hosts
    take(n1)
    prober = lab.observe(VIPS)
    prober.wait_for_answer(vip4(), after=0, node="n1")
    with lab.isolate(n1):
        take(n2)
        cut = now()
        time.sleep(0.2)
        timeline = prober.timeline(cut)
    assert timeline.most_at_once() == 2, as_text(timeline)
    assert all(answer.node == "n2" for answer in timeline.answers(vip4()) if answer.path == WIRE)


def test_another_mac_address_is_still_the_same_host(lab: Lab) -> None:
    n1 = lab.host("n1")
    take(n1)
    prober = lab.observe([vip4()])
    prober.wait_for_answer(vip4(), after=0, node="n1")
    n1.run(["ip", "link", "set", "eth0", "address", "02:99:00:00:00:01"])
    changed = now()
    timeline = seen(prober, changed)
    assert timeline.nodes == ("n1",), as_text(timeline)
    kinds = {answer.kind for answer in timeline.answers(vip4()) if answer.path == "n1 eth0"}
    assert kinds == FOUR, "it is asked by its new address"


def test_a_host_that_was_lost_is_asked_when_it_is_back(lab: Lab) -> None:
    n1 = lab.host("n1")
    prober = lab.observe(VIPS)
    lab.lose_host(n1).undo()
    take(n1)
    timeline = seen(prober, now(), 0.5)
    assert ways(timeline)["n1"] >= {"n1 eth0", "n1 eth2", "n1 eth3", "n1 container"}, as_text(timeline)


def test_it_leaves_the_machine_to_others(lab: Lab, measure: Measure) -> None:
    take(lab.host("n1"))
    began = now()
    prober = lab.observe(VIPS)
    prober.wait_for_answer(vip4(), after=0)
    time.sleep(1)
    statistics = prober.stop()
    share = statistics.cpu * S / (now() - began)
    measure("share of a core", round(share, 2))
    assert statistics.realtime
    assert share < 0.6
