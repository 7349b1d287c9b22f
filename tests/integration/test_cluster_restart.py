"""The owner's agent is killed and started again within its lease: clients notice nothing, for nothing is let go of.

Judged by what the host's kernel says of its addresses (`ip monitor`) and of the gate (`nft monitor`), not by speed: the
lease is long enough for a start on a busy machine. How fast a start is, the bench measures.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Generator, Sequence

import pytest

from haagent.core.units import Instant
from haagent.lab.cluster import Cluster, both_families, web_router
from haagent.lab.commands import LabError, now
from haagent.lab.host import Host
from haagent.lab.process import Process
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4, vip6
from tests.integration.clusters import Story, answering, held, key, one_owner, silence
from tests.integration.conftest import MakeLab, Measure

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TTL = "3s"
RESTARTS = 3
LOST = 6
"""Milliseconds without an answer in which a probe was lost: one is sent each 2 ms."""
VIPS = (vip4(), vip6())


class Watch:
    """What the kernel of a host tells of addresses and of nftables."""

    def __init__(self, host: Host) -> None:
        self._addresses = host.spawn(["ip", "monitor", "address"], name="addresses")
        self._tables = host.spawn(["stdbuf", "-oL", "nft", "monitor"], name="tables")
        try:
            _provoke(self._addresses, host, ["ip", "address", "replace", "127.0.0.9/32", "dev", "lo"])
            _provoke(self._tables, host, ["nft", "add table netdev seen; delete table netdev seen"])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for each in (self._addresses, self._tables):
            each.stop()

    def deleted(self) -> list[str]:
        """The addresses that were deleted, as `ip` tells of them."""
        return [line for line in self._addresses.output().splitlines() if line.startswith("Deleted")]

    def told(self, vip: str) -> list[str]:
        """What happened to an address."""
        return [line for line in self._addresses.output().splitlines() if f" {vip}/" in line]

    def shut(self) -> list[str]:
        """The addresses that were closed, as `nft` tells of them; all, if the table went."""
        changes = self._tables.output().splitlines()
        return [line for line in changes if re.search("gate[46]-.*jump shut|delete table netdev haagent", line)]


@contextlib.contextmanager
def watch(host: Host) -> Generator[Watch]:
    made = Watch(host)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("gate", ["nft", "bpf"])
def test_nothing_is_let_go_of(make_lab: MakeLab, measure: Measure, gate: str):
    """Addresses of both families stay where they are, open by the old lease until they are open by the new one."""
    lab = make_lab(hosts=2)
    cluster = Cluster(lab, ttl=TTL, keys={**both_families(), "fence": {"gate": gate}})
    rehearsal = Rehearsal(cluster, lab.probe(VIPS), vip4())
    story, since = Story(cluster), now()
    rehearsal.cold_start()
    owner = lab.host(cluster.owner())
    silent: list[float] = []
    with watch(owner) as kernel:
        dropped = _dropped(owner)
        assert bool(dropped) == (gate == "nft")
        for _ in range(RESTARTS):
            story.forget()
            before = cluster.epoch()
            outcome = rehearsal.restart()
            assert (outcome.before, outcome.after, outcome.epoch) == (owner.name, owner.name, before + 1)
            assert [line.text for line in story.lines(owner.name, "^web: ")] == [
                f"web: INIT -> MASTER (claimed again) group=web epoch={before + 1}"
            ]
            silent.append(max(silence(rehearsal.prober, vip, outcome.at) for vip in VIPS))
            cluster.restore()
        assert kernel.deleted() == []
        assert kernel.shut() == []
        assert _dropped(owner) == dropped, "by the gate"
        assert all(len(kernel.told(vip)) >= RESTARTS for vip in VIPS), "given longer lives each time"
    measure("silent_ms", silent)
    assert sum(each <= LOST for each in silent) >= RESTARTS - 1, f"silent for {silent} ms"
    one_owner(story, rehearsal.prober, since)


def test_what_is_lost_of_one_group_leaves_the_other_alone(make_lab: MakeLab):
    """While the agent was dead the record of `db` went: that group is swept at start, and `web` goes on."""
    lab = make_lab(hosts=2)
    routers = [web_router(), web_router(name="db", vrid=52, addresses=[f"{vip4(2)}/24"])]
    cluster = Cluster(lab, ttl=TTL, routers=routers)
    prober = lab.probe([vip4(), vip4(2)])
    story, since = Story(cluster), now()
    cluster.start()
    cluster.restore()
    owner = lab.host(answering(prober, vip4()))
    answering(prober, vip4(2), owner.name)
    with watch(owner) as kernel:
        story.forget()
        began = _restart_without(cluster, owner, "db")
        story.wait("^web: INIT -> MASTER", owner.name)
        story.wait("^db: INIT -> BACKUP", owner.name)
        prober.wait_for_answer(vip4(), after=now(), node=owner.name)
        assert vip4() in held(owner)
        assert {line.split()[4] for line in kernel.deleted()} == {f"{vip4(2)}/24"}
        assert kernel.shut(), "of the other group"
        assert not [line for line in kernel.shut() if f"{vip4()} " in line]
    answering(prober, vip4(2))
    assert silence(prober, vip4(2), began) > LOST, "the client would have noticed"
    assert silence(prober, vip4(), began) < silence(prober, vip4(2), began)
    one_owner(story, prober, since)


def _restart_without(cluster: Cluster, owner: Host, group: str) -> Instant:
    """Kill the agent, let the record of one group go, and start the agent again."""
    began = cluster.agents[owner.name].kill()
    cluster.lab.etcd.ctl("del", key("owners", group))
    cluster.start([owner])
    return began


def _dropped(host: Host) -> list[str]:
    """What the nftables gate has counted, if that is the host's gate."""
    tables = host.run(["nft", "list", "counters"]).stdout
    return re.findall(r"packets \d+", tables)


def _provoke(monitor: Process, host: Host, change: Sequence[str]) -> None:
    """Change something until the monitor tells of it: from then on it misses nothing."""
    give_up = time.monotonic() + 10
    while not monitor.output():
        if time.monotonic() > give_up:
            raise LabError(f"{monitor} tells of nothing")
        host.run(change)
        time.sleep(0.02)
