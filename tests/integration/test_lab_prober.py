"""The observer sees what was done: an address moved by hand, one that two hosts have, one that nobody has."""

from __future__ import annotations

import time

import pytest

from haagent.core.units import MS, S
from haagent.lab.commands import LabError, now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.render import as_text
from haagent.lab.topology import vip4, vip6
from tests.integration.conftest import MakeLab

pytestmark = pytest.mark.integration

VIPS = (vip4(), vip6())


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(hosts=3, etcd=0)


def take(host: Host) -> None:
    host.run(["ip", "address", "add", f"{vip4()}/32", "dev", "eth0"])
    host.run(["ip", "address", "add", f"{vip6()}/128", "dev", "eth0", "nodad"])


def drop(host: Host) -> None:
    host.run(["ip", "address", "del", f"{vip4()}/32", "dev", "eth0"])
    host.run(["ip", "address", "del", f"{vip6()}/128", "dev", "eth0"])


def test_an_address_that_moves_is_a_gap_and_no_overlap(lab: Lab) -> None:
    n1, n2, _ = lab.hosts
    prober = lab.probe(VIPS)
    take(n1)
    for vip in VIPS:
        prober.wait_for_answer(vip, after=0, node="n1")
    time.sleep(0.1)
    moved = now()
    drop(n1)
    time.sleep(0.1)
    take(n2)
    for vip in VIPS:
        found = prober.wait_for_answer(vip, after=moved, other_than="n1")
        assert found.node == "n2"
    time.sleep(0.05)
    timeline = prober.timeline()
    for vip in VIPS:
        assert timeline.most_at_once(vip) == 1, as_text(timeline)
        gap = timeline.gap(vip, moved)
        assert (gap.before, gap.after) == ("n1", "n2"), as_text(timeline)
        assert gap.length is not None
        assert 90 * MS <= gap.length <= 2 * S
        before = timeline.last_answer_before(vip, gap.end or 0)
        assert before is not None
        assert before.node == "n1"


def test_two_hosts_with_the_address_are_an_overlap(lab: Lab) -> None:
    n1, n2, _ = lab.hosts
    prober = lab.probe(VIPS)
    take(n1)
    take(n2)
    for vip in VIPS:
        prober.wait_for_answer(vip, after=now(), node="n1")
        prober.wait_for_answer(vip, after=now(), node="n2")
    timeline = prober.timeline()
    for vip in VIPS:
        assert timeline.most_at_once(vip) == 2
        assert {frozenset(overlap.nodes) for overlap in timeline.overlaps(vip)} == {frozenset(("n1", "n2"))}
    assert timeline.most_at_once() == 2


def test_nobody_answers_for_an_address_that_nobody_has(lab: Lab) -> None:
    prober = lab.probe(VIPS)
    with pytest.raises(LabError, match="no answer"):
        prober.wait_for_answer(vip4(), after=0, timeout=0.2)
    timeline = prober.timeline()
    assert timeline.most_at_once() == 0
    gap = timeline.gap(vip4(), now())
    assert (gap.start, gap.end) == (None, None)


def test_a_host_that_is_lost_stops_answering_at_that_moment(lab: Lab) -> None:
    n1 = lab.host("n1")
    take(n1)
    prober = lab.probe(VIPS)
    prober.wait_for_answer(vip4(), after=0)
    fault = lab.lose_host(n1)
    time.sleep(0.1)
    timeline = prober.timeline()
    for vip in VIPS:
        last = timeline.last_answer_before(vip, now())
        assert last is not None
        assert last.at <= fault.moment.after
        assert timeline.gap(vip, fault.moment.before).end is None


def test_an_answer_that_can_not_come_back_is_none(lab: Lab) -> None:
    n1 = lab.host("n1")
    take(n1)
    prober = lab.probe(VIPS)
    prober.wait_for_answer(vip4(), after=0)
    with lab.isolate(n1) as fault:
        time.sleep(0.1)
    healed = now()
    for vip in VIPS:
        prober.wait_for_answer(vip, after=healed)
        gap = prober.timeline().gap(vip, fault.moment.before)
        assert gap.length is not None
        assert gap.length >= 90 * MS


def test_statistics_at_the_end_and_what_was_seen_stays(lab: Lab) -> None:
    take(lab.host("n1"))
    prober = lab.probe(VIPS, step=5 * MS)
    prober.wait_for_answer(vip4(), after=0)
    time.sleep(0.2)
    statistics = prober.stop()
    assert statistics.realtime
    assert statistics.answers > 0
    # Each step asks everybody once, and each of three hosts, for each of two addresses.
    assert statistics.sent + statistics.refused == statistics.steps * 8
    assert 0 < statistics.cpu < 1
    assert prober.timeline().nodes == ("n1",)
