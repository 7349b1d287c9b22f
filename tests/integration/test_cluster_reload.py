"""What an operator does to a running cluster: reloads, priorities, mistakes in the file, addresses and links by hand.

The client's prober sees each address all the time: what is kept must not miss a probe.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from typing import Any

import pytest

from haagent.core.units import MS, S
from haagent.lab.cluster import ROOT, Cluster, web_router
from haagent.lab.commands import now
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import Network, vip4
from tests.integration.clusters import Story, answering, held, one_owner, others, silence, value
from tests.integration.conftest import Measure

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
]

KEPT, ADDED, OTHER = vip4(1), vip4(2), vip4(3)
SHORT_MS = 150.0
"""A silence that is the machine's: a probe is sent each 2 ms."""


class Office:
    """A cluster with an owner of KEPT, and an operator who edits files."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = Cluster(lab, ttl="1s")
        self.prober = lab.probe([KEPT, ADDED, OTHER])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, KEPT).cold_start()
        self.begin()

    def begin(self) -> None:
        """The plain configuration everywhere, an owner, and a story that begins now."""
        self.cluster.restore()
        for host in self.lab.hosts:
            if self.cluster.differences.pop(host.name, None):
                self.story.forget()
                self.cluster.reload(host)
                self.story.wait("^reload: ", host.name)
        self.cluster.restore()
        self.owner = answering(self.prober, KEPT)
        self.epoch = self.cluster.epoch()
        self.since = now()
        self.story.forget()

    def reload(self, *names: str, **changes: Any) -> None:
        """On these hosts, or on all; returns when they did it."""
        for host in self.lab.hosts:
            if not names or host.name in names:
                self.story.forget()
                self.cluster.reload(host, **changes)
                self.story.wait("^reload: ", host.name)

    def kept(self, *vips: str) -> None:
        """The group did not move, and its clients missed nothing."""
        assert (self.cluster.owner(), self.cluster.epoch()) == (self.owner, self.epoch)
        for vip in vips or (KEPT,):
            assert answering(self.prober, vip) == self.owner
            assert silence(self.prober, vip, self.since) < SHORT_MS


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Generator[Office]:
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Office(lab)


def test_addresses_come_and_go_while_another_is_held(office: Office) -> None:
    office.begin()
    owner = office.lab.host(office.owner)
    office.reload(virtual_routers=[web_router(addresses=[f"{KEPT}/24", f"{ADDED}/24"])])
    assert answering(office.prober, ADDED) == office.owner
    assert {KEPT, ADDED} <= held(owner)
    office.kept()
    office.reload(virtual_routers=[web_router()])
    office.cluster.wait(lambda: ADDED not in held(owner), "the address is removed")
    time.sleep(0.1)
    assert not office.prober.timeline(now() - 50 * MS).answers(ADDED)
    office.kept()
    for vip in (KEPT, ADDED):
        assert office.prober.timeline(office.since).most_at_once(vip) == 1
    one_owner(office.story, office.prober, office.since)


def test_the_order_and_the_first_address_change(office: Office) -> None:
    """The first address is the one that the tests watch; it comes second, and then stays alone. Not a probe is lost."""
    office.begin()
    office.reload(virtual_routers=[web_router(addresses=[f"{ADDED}/24", f"{KEPT}/24"])])
    assert answering(office.prober, ADDED) == office.owner
    office.kept()
    one_owner(office.story, office.prober, office.since)


@pytest.mark.parametrize("ttl", [pytest.param("300ms", marks=pytest.mark.alone), "3s"])
def test_the_ttl_changes_while_owning(office: Office, ttl: str) -> None:
    """Shorter and longer, the owner first and the others after it. What counts is what stands in etcd afterwards."""
    office.begin()
    names = [office.owner, *(host.name for host in others(office.cluster, office.owner))]
    for name in names:
        office.reload(name, lease={"ttl": ttl})
    wanted = 300 if ttl == "300ms" else 3000
    office.cluster.wait(
        lambda: all(value(office.cluster, "leases", name)["ttl_ms"] == wanted for name in names), "the ttl in etcd"
    )
    time.sleep(1)
    office.kept()
    one_owner(office.story, office.prober, office.since)
    fault = office.lab.cut_from_etcd(office.lab.host(office.owner))
    first = office.prober.wait_for_answer(KEPT, after=fault.moment.before, other_than=office.owner)
    lapse = office.story.wait("^lease lapsed", office.owner)
    assert abs(lapse.at - fault.moment.before) < wanted * MS + 100 * MS
    # The record still says which ttl the owner had when it claimed; its lease key says which one it has.
    assert first.at - fault.moment.before < 2 * (wanted + 300) * MS
    one_owner(office.story, office.prober, office.since)


def test_a_higher_priority_preempts_by_handover(office: Office, measure: Measure) -> None:
    """Not before its delay; the owner hands over, so the gap is one of milliseconds; the next epoch."""
    office.begin()
    heir = others(office.cluster, office.owner)[0].name
    changed = now()
    office.reload(heir, virtual_routers=[web_router(priority=200, preempt=True, preempt_delay="1s")])
    answering(office.prober, KEPT, heir)
    first = office.prober.timeline(changed).first_answer_after(KEPT, changed, heir)
    assert first is not None
    assert 1 * S <= first.at - changed < 4 * S
    assert (office.cluster.owner(), office.cluster.epoch()) == (heir, office.epoch + 1)
    office.story.wait(rf"^web: BACKUP -> MASTER \(handover from {office.owner}\)", heir)
    gap = silence(office.prober, KEPT, office.since)
    measure("handover_gap_ms", gap)
    assert gap < 150
    time.sleep(1)
    assert office.cluster.epoch() == office.epoch + 1
    one_owner(office.story, office.prober, office.since)


def test_a_higher_priority_without_preempt_waits_for_its_turn(office: Office) -> None:
    """Nothing moves; but when the owner stops, the priority decides who is next."""
    office.begin()
    heir = others(office.cluster, office.owner)[-1].name
    other = others(office.cluster, office.owner)[0].name
    office.reload(other, virtual_routers=[web_router(priority=150)])
    office.reload(heir, virtual_routers=[web_router(priority=200)])
    time.sleep(1.5)
    office.kept()
    office.cluster.agents[office.owner].stop()
    assert answering(office.prober, KEPT) == heir
    one_owner(office.story, office.prober, office.since)


def test_a_file_that_cannot_be_used_changes_nothing(office: Office) -> None:
    office.begin()
    host = office.lab.host(office.owner)
    path = office.cluster.config(host)
    good = path.read_text()
    for text, complaint in (
        (good.replace("vrid: 51", "vrid: 0"), r"yaml:\d+: virtual_routers\[0\]\.vrid: 0, must be 1 to 255"),
        (good.replace("ttl: 1s", "ttl: 1"), r"yaml:\d+: lease\.ttl: 1, must be a duration"),
        (
            good.replace("interface:", "interfaec:"),
            r"yaml:\d+: virtual_routers\[0\]\.interfaec: .*did you mean interface",
        ),
        ("{ nothing", r"yaml:\d+"),
        ("", r"n\d\.yaml"),
        (good.replace("cluster: lab", "cluster: other"), "a restart is needed to change cluster"),
        (good.replace(f"node: {host.name}", "node: other"), "a restart is needed to change node"),
    ):
        office.story.forget()
        path.write_text(text)
        office.cluster.agents[host.name].signal(1)
        office.story.wait("^reload refused, nothing changed", host.name)
        assert office.story.lines(host.name, complaint), office.story.lines(host.name)
    path.unlink()
    office.story.forget()
    office.cluster.agents[host.name].signal(1)
    office.story.wait("^reload refused, nothing changed", host.name)
    office.cluster.reload(host)
    office.story.wait("^reload: nothing changed", host.name)
    office.kept()
    one_owner(office.story, office.prober, office.since)


def test_a_group_is_added_and_removed(office: Office) -> None:
    """The second group gets an owner of its own; out of that one's file, it goes to another; out of all files, away."""
    office.begin()
    second = {"name": "db", "vrid": 52, "interface": "eth0", "addresses": [f"{OTHER}/24"]}
    office.reload(virtual_routers=[web_router(), second])
    first = answering(office.prober, OTHER)
    office.reload(first, virtual_routers=[web_router()])
    office.story.wait(rf"^db: BACKUP -> MASTER \(released by {first}\)")
    heir = answering(office.prober, OTHER)
    assert heir != first
    assert OTHER not in held(office.lab.host(first))
    office.reload(virtual_routers=[web_router()])
    office.cluster.wait(lambda: not any(OTHER in held(host) for host in office.lab.hosts), "nobody holds it")
    office.cluster.wait(lambda: value(office.cluster, "owners", "db")["clean"], "the record is released")
    office.kept()
    one_owner(office.story, office.prober, office.since)


def test_many_reloads_in_a_row(office: Office) -> None:
    """Signals come faster than files are read: the last one counts, and nothing is lost on the way."""
    office.begin()
    host = office.lab.host(office.owner)
    for turn in range(40):
        addresses = [f"{KEPT}/24", *([f"{ADDED}/24"] if turn % 2 else [])]
        office.cluster.reload(host, virtual_routers=[web_router(addresses=addresses)])
        time.sleep(0.02)
    assert answering(office.prober, ADDED) == office.owner
    office.kept()
    one_owner(office.story, office.prober, office.since)


def test_an_address_removed_by_hand_comes_back(office: Office) -> None:
    office.begin()
    owner = office.lab.host(office.owner)
    for _ in range(3):
        owner.run(["ip", "address", "del", f"{KEPT}/24", "dev", "eth0"])
        office.cluster.wait(lambda: KEPT in held(owner), "the address is back", timeout=2)
        time.sleep(0.3)
    office.story.wait(rf"put back {KEPT} on eth0: somebody removed it", office.owner)
    office.kept()
    one_owner(office.story, office.prober, office.since)


@pytest.mark.parametrize("by", ["cable", "operator"])
def test_the_owners_link_goes_down_and_up(office: Office, by: str, measure: Measure) -> None:
    """It gives the group up, with the reason, so that another has it at once; when the link is up it is fit again."""
    office.begin()
    owner = office.lab.host(office.owner)
    fault = None
    down = now()
    if by == "cable":
        fault = office.lab.link_down(owner, Network.SERVICE)
    else:
        owner.run(["ip", "link", "set", "eth0", "down"])
    first = office.prober.wait_for_answer(KEPT, after=down, other_than=owner.name)
    office.story.wait(r"^interface eth0: down or absent", owner.name)
    office.story.wait(r"^web: MASTER -> FAULT \(interface eth0 is down or absent\)", owner.name)
    office.story.wait(rf"^web: BACKUP -> MASTER \(released by {owner.name}\)", first.node)
    measure("gap_ms", silence(office.prober, KEPT, down))
    assert first.at - down < 1 * S, "a release is not waited for"
    assert office.cluster.epoch() == office.epoch + 1
    if fault is not None:
        fault.undo()
    else:
        owner.run(["ip", "link", "set", "eth0", "up"])
    office.story.wait(r"^web: FAULT -> BACKUP \(fit again\)", owner.name)
    office.cluster.restore()
    assert answering(office.prober, KEPT) == first.node
    assert office.cluster.epoch() == office.epoch + 1
    one_owner(office.story, office.prober, office.since)


def test_a_reload_that_this_host_cannot_fulfil_is_refused_and_costs_nobody_the_group(office: Office) -> None:
    """An absent interface, a source that is no address of the host: on all nodes it would take the group down."""
    office.begin()
    for changes, why in (
        ({"interface": "eth9"}, "web: interface eth9 does not exist on this host"),
        (
            {"unicast_peers": ["10.77.0.9"], "unicast_source": "10.77.0.8"},
            "web: unicast_source 10.77.0.8 is not an address of this host",
        ),
    ):
        for host in office.lab.hosts:
            office.story.forget()
            office.cluster.reload(host, virtual_routers=[web_router(**changes)])
            office.story.wait(rf"^reload refused, nothing changed: {why}", host.name)
            path = str(office.cluster.config(host))
            check = host.run(["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "haagent", "check", "-c", path])
            assert why in check.stderr
    office.kept()
    office.reload(virtual_routers=[web_router()])
    one_owner(office.story, office.prober, office.since)


def test_an_absent_interface_keeps_no_other_change_from_being_applied(office: Office) -> None:
    """What this host never had is not lost by a reload: it starts with it, and takes in what else is new."""
    office.begin()
    there = [web_router(), web_router(name="db", vrid=52, interface="eth9", addresses=[f"{ADDED}/24"])]
    (host, *_) = others(office.cluster, office.owner)
    agent = office.cluster.agents[host.name]
    agent.stop()
    office.story.forget()
    office.cluster.differences.setdefault(host.name, {})["virtual_routers"] = there
    office.cluster.start([host])
    office.story.wait("db: interface eth9 does not exist on this host", host.name)
    there[0] = web_router(priority=120)
    office.cluster.reload(host, virtual_routers=there)
    office.story.wait("^reload: changed web", host.name)
    office.kept()
    office.reload(host.name, virtual_routers=[web_router()])
