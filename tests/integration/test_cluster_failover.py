"""A cluster of real agents loses its owner in every way that the lab knows: one owner at a time, and a new one in time.

Few trials and generous bounds: the numbers are the bench's business. What is exact here: who answers, how many at once,
which epoch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from functools import partial

import pytest

from haagent.core.units import MS, Duration, S
from haagent.lab.cluster import Cluster, both_families
from haagent.lab.commands import now
from haagent.lab.faults import Direction
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Outcome, Rehearsal
from haagent.lab.topology import vip4, vip6
from tests.integration.clusters import Story, held, one_owner, others
from tests.integration.conftest import Measure

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
]

TRIALS = 2
QUIET = 0.5
"""Seconds after everything is healed, in which something could move."""

SCENARIOS = {
    "graceful stop": Rehearsal.graceful_stop,
    "killed": Rehearsal.kill,
    "stopped and continued": Rehearsal.stop_and_continue,
    "host lost": Rehearsal.lose_host,
    "cut off from etcd": Rehearsal.cut_from_etcd,
    "cut off from etcd and peers": Rehearsal.cut_from_cluster,
    "cut, only outgoing": partial(Rehearsal.cut_from_cluster, direction=Direction.OUT),
    "cut, only incoming": partial(Rehearsal.cut_from_cluster, direction=Direction.IN),
    "cut off from everything": Rehearsal.isolate,
}


BOTH_FAMILIES = ("graceful stop", "killed", "host lost", "cut off from etcd")


class Stage:
    """A cluster that was started cold, with its client."""

    def __init__(self, lab: Lab, ttl: Duration, *, dual: bool = False) -> None:
        self.ttl = ttl
        self.vips = (vip4(), vip6()) if dual else (vip4(),)
        self.held = (*self.vips, "fe80::100") if dual else self.vips
        self.cluster = Cluster(lab, ttl=f"{ttl // MS}ms", keys=both_families() if dual else None)
        self.prober = lab.probe(self.vips)
        self.story = Story(self.cluster)
        self.rehearsal = Rehearsal(self.cluster, self.prober, vip4())
        self.began = now()
        self.cold = self.rehearsal.cold_start()

    def bound(self) -> Duration:
        """Twice what is promised for the median on a quiet machine."""
        return 2 * (self.ttl + 300 * MS)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((1 * S, False), id="1s"),
        pytest.param((300 * MS, False), id="300ms", marks=pytest.mark.alone),  # what an agent sleeps is soon a lease
        pytest.param((1 * S, True), id="dual"),
    ],
)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    ttl, dual = request.param
    with Lab(hosts=3, etcd=1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Stage(lab, ttl, dual=dual)


def test_a_cold_start_makes_one_owner(stage: Stage) -> None:
    """Nobody owned before, but nobody can know that: all wait for one ttl, and then the first in rank claims."""
    assert stage.cold.most == 1
    assert stage.cold.epoch == 1
    started = stage.story.lines(pattern="haagent starts", whole=True)
    master = stage.story.lines(pattern="-> MASTER", whole=True)
    assert len(started) == 3
    assert [line.node for line in master] == [stage.cold.after]
    assert master[0].at - started[0].at >= stage.ttl - 50 * MS
    assert master[0].at - started[-1].at <= 2 * 2 * stage.ttl + 500 * MS
    one_owner(stage.story, stage.prober, stage.began)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SCENARIOS)
def test_another_takes_over_and_nothing_moves_back(stage: Stage, name: str, measure: Measure) -> None:
    """Each time: the next epoch, within bounds; and when all is healed the new owner stays."""
    dual = len(stage.vips) > 1
    if dual and name not in BOTH_FAMILIES:
        pytest.skip("the same as with one family")
    for _ in range(1 if dual else TRIALS):
        stage.cluster.restore()
        stage.story.forget()
        before, since = stage.cluster.epoch(), now()
        outcome = SCENARIOS[name](stage.rehearsal)
        check_succession(stage, outcome, before)
        check_siblings(stage, outcome.after)
        healed = stage.rehearsal.heal(QUIET)
        assert (healed.before, healed.after, healed.epoch) == (outcome.after, outcome.after, outcome.epoch)
        assert healed.gap < 150 * MS + healed.blind
        one_owner(stage.story, stage.prober, since)
        measure("took_ms", outcome.took // MS)


def test_the_observer_would_see_a_second_owner(stage: Stage) -> None:
    """The assertion that all others rest on, provoked: a host without an agent is given the owner's address by hand."""
    stage.cluster.restore()
    since = now()
    backup = others(stage.cluster, stage.cluster.owner())[0]
    stage.cluster.agents[backup.name].stop()
    backup.run(["ip", "address", "add", f"{vip4()}/32", "dev", "eth0"])
    stage.prober.wait_for_answer(vip4(), after=since, node=backup.name)
    time.sleep(0.1)
    backup.run(["ip", "address", "del", f"{vip4()}/32", "dev", "eth0"])
    with pytest.raises(AssertionError, match="two nodes answered"):
        one_owner(stage.story, stage.prober, since)


def check_succession(stage: Stage, outcome: Outcome, before: int) -> None:
    assert outcome.after != outcome.before
    assert outcome.epoch == before + 1
    assert outcome.took - outcome.blind <= stage.bound()
    said = stage.story.lines(outcome.after, r"web: BACKUP -> MASTER \(.+\)")
    assert len(said) == 1, said
    assert re.search(rf"{outcome.before}.* epoch={outcome.epoch}", said[0].text)


def check_siblings(stage: Stage, owner: str) -> None:
    """What is owned as one is with one node, all of it, and with no other."""
    wanted = set(stage.held)
    for vip in stage.vips:
        stage.prober.wait_for_answer(vip, after=now(), node=owner)
    assert held(stage.cluster.lab.host(owner)) >= wanted
    # Where no agent is left nobody takes addresses away; that nothing answers for them there is what the client sees.
    dead = {host.name for host in stage.cluster.missing()}
    for host in others(stage.cluster, owner):
        assert host.name in dead or not held(host) & wanted


def test_every_change_of_owner_is_in_the_history(stage: Stage) -> None:
    """One entry an epoch, without a hole; and each epoch was one node's, if it got as far as being MASTER."""
    stage.cluster.restore()
    listed = stage.cluster.lab.etcd.ctl("get", "--prefix", "--keys-only", "/haagent/lab/history/web/")
    epochs = sorted(int(line.rpartition("/")[2]) for line in listed.split())
    assert epochs == list(range(1, stage.cluster.epoch() + 1))
    assert {epoch for _, epoch in stage.story.masters()} <= set(epochs)
