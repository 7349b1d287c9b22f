"""etcd goes away in every way that it can, under a cluster of real agents: never two owners, and an owner again.

And the log is worth reading: which endpoint, lost and back, in one line each; no line per attempt.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing

import pytest

from haagent.core.units import MS, Duration, Instant
from haagent.lab import namespaces
from haagent.lab.cluster import Cluster
from haagent.lab.commands import now
from haagent.lab.etcd import Member
from haagent.lab.etcd_setup import ELECTION_MS
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, one_owner, others, silence

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
]

VIP = vip4()
AWAY = 3.0
"""Seconds that etcd is away: long enough for a lease of one second to lapse, whatever the machine does meanwhile."""
SHORT_MS = 150.0
"""A silence that is the machine's, not ours."""
TTL_MS = 10 * ELECTION_MS
"""A lease that outlives an election, which takes twice the timeout at most, and as long again when votes are split.

The owner's first renewal may be lost with the leader. The next one comes half a ttl after the last that counted, and
waits where there is no leader; a watch that is silent, too, is left an eighth of a ttl after that renewal was done. So
an election may take half a ttl. How often votes are split nobody can promise.
"""
LINES_MOST = 20
"""Entries of one agent's log for one outage, both its ends, with three endpoints."""


class Scene:
    """A cluster with an owner, and what is to be so after each outage."""

    def __init__(self, lab: Lab, ttl: str) -> None:
        self.lab = lab
        self.etcd = lab.etcd
        self.cluster = Cluster(lab, ttl=ttl)
        self.prober = lab.probe([VIP])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, VIP).cold_start()
        self.begin()

    def begin(self) -> None:
        """Everything is well; what is told from now on is told of the next outage."""
        self.lab.heal()
        self.etcd.start()
        self._settle()
        self.cluster.restore()
        self.owner = answering(self.prober, VIP)
        self.epoch = self.cluster.epoch()
        self.since: Instant = now()
        self.story.forget()

    def set_ttl(self, ttl: str) -> None:
        """Begin with another ttl."""
        self.story.forget()
        for host in self.lab.hosts:
            self.cluster.reload(host, lease={"ttl": ttl})
        self.each_says("^reload: ")
        self.begin()

    def _settle(self) -> None:
        """Wait until etcd has stayed with one leader: a member that comes back makes the others elect again."""
        while True:
            leader = self.etcd.leader()
            time.sleep(1.0 if len(self.etcd.members) > 1 else 0.0)
            if self.etcd.leader() is leader:
                return

    def in_use(self) -> Member:
        """The member that the owner's watch is at."""
        where = self.story.lines(self.owner, "^etcd: watch: at ", whole=True)[-1].text.rpartition(" ")[2]
        return next(member for member in self.etcd.members if member.endpoint.endswith(where))

    def move_to(self, member: Member) -> None:
        """Have that member lead."""
        if self.etcd.leader() is not member:
            told = self.etcd.ctl("endpoint", "status", "--write-out=json")
            ids = {each["Endpoint"]: each["Status"]["header"]["member_id"] for each in json.loads(told)}
            self.etcd.ctl("move-leader", f"{ids[member.endpoint]:x}")
            assert self.etcd.leader() is member

    def unmoved(self) -> None:
        """The owner still answers, and always did: as far as can be told without asking etcd."""
        assert answering(self.prober, VIP) == self.owner
        assert silence(self.prober, VIP, self.since) < SHORT_MS
        assert not self.story.lines(pattern="lease lapsed|MASTER")

    def kept(self) -> None:
        """Nothing happened to the group."""
        self.unmoved()
        assert self.cluster.epoch() == self.epoch

    def kept_by_election(self, took: Duration) -> None:
        """etcd was without a leader for so long: nothing happened to the group, if that was short enough."""
        if took > TTL_MS * MS // 2 and self.story.lines(self.owner, "^lease lapsed"):
            self.lapsed()
        else:
            self.kept()

    def lapsed(self) -> None:
        """The owner let go by itself, in time; nobody answered until somebody claimed by a higher epoch."""
        answering(self.prober, VIP, timeout=20)
        self.cluster.wait(lambda: self.cluster.epoch() > self.epoch, "an epoch beyond the last")
        assert self.story.lines(self.owner, r"^lease lapsed: ")
        assert self.story.lines(self.owner, rf"^web: MASTER -> BACKUP \(the lease lapsed\) .*epoch={self.epoch}$")
        self.story.wait(r"^web: BACKUP -> MASTER ")  # the record is written before the kernel has the addresses

    def each_says(self, *patterns: str) -> None:
        """Every agent tells these, in this order."""
        for host in self.lab.hosts:
            found = [self.story.wait(pattern, host.name) for pattern in patterns]
            assert found == sorted(found, key=lambda line: line.at), found

    def finish(self) -> None:
        """One owner throughout, who stays; and a log that a person can read."""
        time.sleep(0.3)
        one_owner(self.story, self.prober, self.since)
        for host in self.lab.hosts:
            lines = self.story.lines(host.name)
            told = "\n".join(line.text for line in lines)
            assert len(lines) <= LINES_MOST, f"{host.name} says too much:\n{told}"
            again = Counter(line.text for line in lines).most_common(1)
            assert not again or again[0][1] <= 3, f"{host.name} repeats itself:\n{told}"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scene]:
    """One etcd, a ttl of one second."""
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("alone") / "logs") as lab:
        yield Scene(lab, "1s")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scene]:
    """Three members, and a ttl in which they hold two elections."""
    with Lab(3, 3, seed=1, logs=tmp_path_factory.mktemp("three") / "logs") as lab:
        yield Scene(lab, f"{TTL_MS}ms")


# --- one etcd


@pytest.mark.parametrize("end", [lambda etcd: etcd.stop(), lambda etcd: etcd.kill()], ids=["stopped", "killed"])
def test_etcd_is_away_for_longer_than_the_lease(alone: Scene, end: Callable[[object], object]) -> None:
    """Without failsafe nobody may own then: the owner lets go, and one claims when etcd is back."""
    alone.begin()
    end(alone.etcd)
    time.sleep(AWAY)
    assert not alone.prober.timeline(now() - 10**9).answers(VIP)
    alone.etcd.start()
    back = now()
    alone.lapsed()
    assert alone.prober.wait_for_answer(VIP, after=back).at - back < 5 * 10**9
    alone.each_says(r"^etcd: 10\.78\.0\.201:2379: not connected", r"^etcd: 10\.78\.0\.201:2379: connected")
    alone.each_says("^alarm: etcd-silent", "^alarm over: etcd-silent")
    alone.finish()


def test_etcd_is_restarted_at_once(alone: Scene) -> None:
    """A restart may be quicker than the lease, or not: either the owner keeps the address, or it lets go cleanly."""
    alone.begin()
    alone.etcd.kill()
    alone.etcd.start()
    alone.each_says("201:2379: not connected", "201:2379: connected")
    time.sleep(1.5)
    (alone.lapsed if alone.story.lines(alone.owner, "^lease lapsed") else alone.kept)()
    alone.finish()


def test_a_pause_shorter_than_the_lease_is_nothing(alone: Scene) -> None:
    alone.begin()
    alone.etcd.pause()
    time.sleep(0.3)
    alone.etcd.resume()
    time.sleep(1)
    alone.kept()
    alone.finish()


def test_a_pause_longer_than_the_lease_is_an_outage(alone: Scene) -> None:
    """The connections stay open and nothing answers: only the deadlines of calls tell. Late answers change nothing."""
    alone.begin()
    alone.etcd.pause()
    time.sleep(AWAY)
    assert not alone.prober.timeline(now() - 10**9).answers(VIP)
    alone.etcd.resume()
    alone.lapsed()
    alone.each_says("^etcd: answers: no endpoint does", "^etcd: answers: again")
    alone.each_says("^alarm: etcd-silent", "^alarm over: etcd-silent")
    alone.finish()


def test_history_is_compacted_while_a_watch_is_behind(alone: Scene) -> None:
    """A backup does not read for a while; what it missed is compacted away. It says so, lists anew, and follows."""
    alone.begin()
    backup = others(alone.cluster, alone.owner)[0].name
    agent = alone.cluster.agents[backup]
    agent.pause()
    write_much(alone)
    alone.etcd.compact()
    agent.resume()
    alone.story.wait(r"^etcd: watch: ended \(compacted up to revision \d+\)$", backup)
    alone.story.wait(r"^etcd: watch: at 10\.78\.0\.201:2379$", backup)
    alone.cluster.restore()
    assert alone.cluster.epoch() == alone.epoch
    assert silence(alone.prober, VIP, alone.since) < SHORT_MS
    assert not alone.story.lines(alone.owner)
    alone.finish()


def write_much(scene: Scene, count: int = 1500) -> None:
    """More than a connection and etcd's own queue of a watch take, beside our keys, where watches look too."""
    (member,) = scene.etcd.members
    key = base64.b64encode(b"/haagent/lab/n/filler").decode()
    body = json.dumps({"key": key, "value": base64.b64encode(bytes(1000)).decode()})
    with namespaces.inside(member.place.namespace):
        connection = http.client.HTTPConnection(member.place.address, member.place.client_port, timeout=5)
        with closing(connection):
            for _ in range(count):
                connection.request("POST", "/v3/kv/put", body)
                assert connection.getresponse().read()


def test_etcd_is_wiped(alone: Scene) -> None:
    """All data is gone, and revisions count anew: all let go at once, wait a ttl, and epochs go on where they were."""
    alone.begin()
    alone.etcd.wipe()
    alone.lapsed()
    alone.each_says(
        r"^etcd: cluster: \d+\.\d+$",
        "^alarm: etcd-rewound etcd: its history is another one",
        "^alarm over: etcd-rewound",
    )
    assert alone.cluster.epoch() == alone.epoch + 1
    alone.finish()


# --- three members


def test_the_leader_is_killed_and_elections_are_quicker_than_the_lease(three: Scene) -> None:
    three.begin()
    leader = three.etcd.leader()
    began = leader.kill().before
    three.etcd.leader()
    took = now() - began
    three.each_says(f"^etcd: {name(leader)}: not connected")
    time.sleep(2)
    leader.start()
    three.each_says(f"^etcd: {name(leader)}: connected$")
    three.kept_by_election(took)
    three.finish()


def test_a_follower_is_killed(three: Scene) -> None:
    three.begin()
    leader = three.etcd.leader()
    follower = next(member for member in three.etcd.members if member is not leader)
    follower.kill()
    time.sleep(2)
    follower.start()
    three.each_says(f"^etcd: {name(follower)}: not connected", f"^etcd: {name(follower)}: connected$")
    three.kept()
    three.finish()


@pytest.mark.parametrize("whole", [False, True], ids=["from the other members", "from everybody"])
def test_the_leader_is_isolated(three: Scene, whole: bool) -> None:
    """From its fellows only, it still answers clients, with nothing but "no leader"."""
    three.begin()
    leader = three.etcd.leader()
    station = three.lab.host(leader.name)
    began = now()
    if whole:
        three.lab.isolate(station)
    else:
        for other in three.etcd.members:
            if other is not leader:
                three.lab.cut(station, three.lab.host(other.name))
                three.lab.cut(three.lab.host(other.name), station)
    assert three.etcd.leader() is not leader
    took = now() - began
    time.sleep(4)
    assert answering(three.prober, VIP)
    three.lab.heal()
    time.sleep(2)
    three.kept_by_election(took)
    three.finish()


@pytest.mark.parametrize("how", ["isolated", "paused"])
def test_the_member_in_use_falls_silent_and_leads_nothing(three: Scene, how: str) -> None:
    """The owner's calls and its watch hang there, and nothing tells but time: it must find another within its lease.

    Two seconds: less than TCP takes to give up.
    """
    three.set_ttl("2s")
    used = three.in_use()
    three.move_to(next(member for member in three.etcd.members if member is not used))
    time.sleep(1)
    three.since = now()
    if how == "paused":
        used.pause()
    else:
        three.lab.isolate(three.lab.host(used.name))
    time.sleep(4)
    three.unmoved()
    assert three.in_use() is not used
    if how == "paused":
        used.resume()
    three.lab.heal()
    time.sleep(1)
    three.kept()
    three.finish()


def test_the_leader_is_killed_and_the_lease_is_shorter_than_an_election(three: Scene) -> None:
    """300 ms against an election of a second: the owner lets go in time, and one claims when there is a leader."""
    three.set_ttl("300ms")
    leader = three.etcd.leader()
    leader.kill()
    three.lapsed()
    leader.start()
    three.each_says(f"^etcd: {name(leader)}: connected$")
    three.finish()


def name(member: Member) -> str:
    """How the agents' logs call it."""
    return re.escape(f"{member.place.address}:{member.place.client_port}")
