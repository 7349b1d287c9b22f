"""etcd goes away under agents that hear each other: what is owned stays, as long as every candidate promises to wait.

And only so long: with one promise missing the owner lets go at its deadline, as without failsafe.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator

import pytest

from haagent.core.units import MS, Instant, S
from haagent.lab.asking import metric
from haagent.lab.cluster import ROUND, Cluster
from haagent.lab.commands import now
from haagent.lab.etcd import Etcd
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, key, one_owner, others, silence
from tests.integration.conftest import MakeLab

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VIP = vip4()
AWAY = 5.0
"""Seconds that etcd is away: five times the lease."""
TTL = 1 * S
SHORT_MS = 150.0
"""A silence that is the machine's, not ours: who lets go is silent for most of a second. The bench counts probes."""
CARRIED = "^alarm: failsafe etcd: does not show our renewals: promises of the candidates carry what is owned"


class Scene:
    """A cluster with an owner that failsafe would carry."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.etcd = lab.etcd
        self.cluster = Cluster(lab, ttl="1s", peers=True)
        self.prober = lab.probe([VIP])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, VIP).cold_start()
        self.begin()

    def begin(self) -> None:
        """Everything is well; what is told from now on is told of the next outage."""
        self.etcd.resume()
        self.etcd.start()
        self.cluster.restore()
        self.owner = self.lab.host(answering(self.prober, VIP))
        self.backups = others(self.cluster, self.owner.name)
        self.epoch = self.cluster.epoch()
        self.since: Instant = now()
        self.story.forget()

    def unmoved(self) -> None:
        """The owner answers, and always did."""
        assert answering(self.prober, VIP) == self.owner.name
        assert silence(self.prober, VIP, self.since) < SHORT_MS
        assert not self.story.lines(pattern=" -> MASTER|MASTER -> ")

    def shown(self) -> None:
        """Failsafe is on, and whoever looks sees it: in the log, in a list that any node gives, in the metrics."""
        self.story.wait(CARRIED, self.owner.name)
        assert metric(self.owner, "haagent_failsafe_active") == 1
        assert 280 < metric(self.owner, "haagent_failsafe_remaining_seconds") < 300
        assert metric(self.owner, "haagent_failsafe_missing_candidates") == 0
        for host in self.lab.hosts:
            said = json.loads(self.cluster.ctl(host, "list", "-f", "json").stdout)
            assert list(said["failsafe"]) == [self.owner.name], said
            assert 270_000 < said["failsafe"][self.owner.name]["left_ms"] < 300_000
            assert not said["without_owner"], said
        assert f"FAILSAFE on {self.owner.name}: " in self.cluster.ctl(self.backups[0], "list").stdout

    def kept(self) -> None:
        """etcd is back, and all is as before."""
        self.story.wait("^alarm over: failsafe etcd", self.owner.name)
        time.sleep(1.5)
        self.unmoved()
        assert (self.cluster.owner(), self.cluster.epoch()) == (self.owner.name, self.epoch)
        assert metric(self.owner, "haagent_failsafe_active") == 0
        self.finish()

    def silent_since(self, deadline: Instant) -> None:
        """Nobody answered after the deadline, until now."""
        time.sleep(max(0, deadline + TTL - now()) / S)
        last = self.prober.timeline(self.since).last_answer_before(VIP, now())
        assert last is not None
        assert last.at <= deadline, f"{last.node} answered {(last.at - deadline) / MS:.1f} ms after the deadline"

    def finish(self) -> None:
        one_owner(self.story, self.prober, self.since)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scene]:
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Scene(lab)


@pytest.mark.parametrize("end, back", [(Etcd.pause, Etcd.resume), (Etcd.kill, Etcd.start)], ids=["paused", "killed"])
def test_etcd_is_away_and_the_owner_stays(
    scene: Scene, end: Callable[[Etcd], object], back: Callable[[Etcd], object]
) -> None:
    scene.begin()
    end(scene.etcd)
    time.sleep(AWAY - 2)
    scene.shown()
    time.sleep(2)
    scene.unmoved()
    back(scene.etcd)
    scene.kept()


@pytest.mark.parametrize("before", [True, False], ids=["before", "during"])
def test_a_candidate_is_dead_and_the_owner_lets_go(scene: Scene, before: bool) -> None:
    """At the end of what etcd showed, or all promised, last; and when etcd is back there is an owner again."""
    scene.begin()
    victim = scene.cluster.agents[scene.backups[0].name]
    if before:
        victim.kill()
        gone = scene.etcd.pause().after
    else:
        scene.etcd.pause()
        time.sleep(2)
        scene.unmoved()
        gone = victim.kill()
    scene.silent_since(gone + TTL)
    assert scene.story.lines(scene.owner.name, "^web: MASTER -> BACKUP ")
    scene.etcd.resume()
    answering(scene.prober, VIP)
    scene.cluster.wait(lambda: scene.cluster.epoch() > scene.epoch, "an epoch beyond the last")
    scene.finish()


def test_the_owner_alone_is_cut_off_from_etcd(scene: Scene) -> None:
    """The others reach etcd, see its lease end there, and wait all the same: they promise anew all the time."""
    scene.begin()
    scene.lab.cut_from_etcd(scene.owner)
    time.sleep(AWAY - 2)
    scene.shown()
    scene.unmoved()
    scene.lab.heal()
    scene.kept()


@pytest.mark.parametrize("all_of_them", [True, False], ids=["all", "owner"])
def test_keys_are_gone_when_etcd_is_back(scene: Scene, all_of_them: bool) -> None:
    """Away for longer than the sessions of the nodes, so that etcd has collected their leases' and members' keys."""
    scene.begin()
    hosts = scene.lab.hosts if all_of_them else (scene.owner,)
    for host in hosts:
        scene.lab.cut_from_etcd(host)
    time.sleep(2)
    for host in hosts:
        end_session(scene.etcd, host.name)
    assert scene.owner.name not in scene.cluster.candidates()
    time.sleep(2)
    scene.unmoved()
    scene.lab.heal()
    scene.kept()
    scene.cluster.restore()
    assert (scene.cluster.owner(), scene.cluster.epoch()) == (scene.owner.name, scene.epoch)


def end_session(etcd: Etcd, node: str) -> None:
    """Have etcd end the session of a node's agent, as it does when it has not heard of it for long."""
    said = json.loads(etcd.ctl("get", key("members", node), "--write-out=json"))
    etcd.ctl("lease", "revoke", f"{said['kvs'][0]['lease']:x}")


def test_etcd_is_wiped_while_it_is_away(scene: Scene) -> None:
    """A record that is gone is an answer: the owner lets go, and claims again at once, as it knows that it owned."""
    scene.begin()
    scene.etcd.kill()
    time.sleep(AWAY - 2)
    scene.unmoved()
    scene.etcd.wipe()
    back = now()
    scene.cluster.wait(lambda: scene.cluster.epoch() > 0, "somebody claims")
    assert answering(scene.prober, VIP) == scene.owner.name
    assert scene.cluster.epoch() == scene.epoch + 1
    assert now() - back < 5 * S
    scene.finish()


def test_a_node_that_comes_later_is_asked_too(make_lab: MakeLab) -> None:
    """Its promise carries, and without it nothing does."""
    lab = make_lab(4)
    cluster = Cluster(lab, peers=True)
    prober, story = lab.probe([VIP]), Story(cluster)
    fourth = lab.hosts[-1]
    cluster.start(lab.hosts[:-1])
    first = prober.wait_for_answer(VIP, after=0, timeout=20)
    cluster.start([fourth])
    cluster.wait(cluster.carried, "the record names all four")
    time.sleep(ROUND)
    since = now()
    assert metric(fourth, 'haagent_peer_messages_total{direction="sent",message="promise"}') > 0
    lab.etcd.pause()
    time.sleep(3)
    assert answering(prober, VIP) == first.node
    assert silence(prober, VIP, since) < SHORT_MS
    killed = cluster.agents[fourth.name].kill()
    time.sleep(2)
    last = prober.timeline(since).last_answer_before(VIP, now())
    assert last is not None
    assert last.at <= killed + TTL
    lab.etcd.resume()
    answering(prober, VIP)
    one_owner(story, prober, since)
