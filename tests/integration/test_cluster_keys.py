"""Somebody's hand in etcd, under a cluster of real agents: records deleted, rubbish written, values of any size.

Never two owners; the agents name the key and what is wrong with it; an owner again, by itself. And who else may write
there by mistake: a second node of the same name, and a node's own dead predecessor.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from haagent.core.units import S
from haagent.lab.cluster import Cluster
from haagent.lab.commands import now
from haagent.lab.lab import Lab
from haagent.lab.topology import vip4
from tests.integration.clusters import (
    Stage,
    Story,
    answering,
    held,
    key,
    one_owner,
    others,
    resident,
    silence,
    value,
)
from tests.integration.conftest import Measure

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
]

VIP = vip4()
SHORT_MS = 150.0
RUBBISH = "{ this is none of ours"


class Desk(Stage):
    """A cluster with an owner, and an operator with etcdctl."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.begin()

    def begin(self) -> None:
        self.cluster.restore()
        self.owner = answering(self.prober, VIP)
        self.backup = others(self.cluster, self.owner)[0].name
        self.epoch = self.cluster.epoch()
        self.since = now()
        self.story.forget()

    def ctl(self, *words: str) -> None:
        self.lab.etcd.ctl(*words)

    def kept(self) -> None:
        """The group did not move, and its clients noticed nothing."""
        assert (self.cluster.owner(), self.cluster.epoch()) == (self.owner, self.epoch)
        assert answering(self.prober, VIP) == self.owner
        assert silence(self.prober, VIP, self.since) < SHORT_MS

    def owned_again(self) -> None:
        """The owner let go as soon as the record was not its own; the next epoch has an owner that answers."""
        self.cluster.wait(self._next_epoch, "the next epoch")
        self.cluster.restore()
        assert answering(self.prober, VIP) == self.cluster.owner()
        assert self.cluster.epoch() == self.epoch + 1

    def _next_epoch(self) -> bool:
        record = self.cluster.record()
        return record is not None and record["epoch"] > self.epoch

    def all_say(self, pattern: str) -> None:
        for host in self.lab.hosts:
            self.story.wait(pattern, host.name)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Desk]:
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Desk(lab)


# --- deleted


def test_the_ownership_record_is_deleted(desk: Desk) -> None:
    """Who owns by a record that is gone owns no more. The others wait for as long as a lease could run."""
    desk.begin()
    desk.ctl("del", key("owners", "web"))
    desk.owned_again()
    desk.story.wait(r"^web: MASTER -> BACKUP \(the ownership record is gone or unreadable\)", desk.owner)
    one_owner(desk.story, desk.prober, desk.since)


@pytest.mark.parametrize("kind", ["leases", "members"])
@pytest.mark.parametrize("whose", ["owner", "backup"])
def test_a_nodes_own_key_is_deleted(desk: Desk, kind: str, whose: str) -> None:
    """It writes it anew, and nothing moves: its record is untouched, so nobody can have claimed."""
    desk.begin()
    node: str = getattr(desk, whose)
    desk.ctl("del", key(kind, node))
    desk.cluster.wait(lambda: bool(desk.lab.etcd.ctl("get", key(kind, node))), f"{kind}/{node} written anew", timeout=2)
    time.sleep(1)
    desk.kept()
    one_owner(desk.story, desk.prober, desk.since)


def test_everything_is_deleted_at_once(desk: Desk) -> None:
    """The whole prefix, by one command: as if etcd had been wiped, but its history goes on."""
    desk.begin()
    desk.ctl("del", "--prefix", "/haagent/lab/")
    desk.owned_again()
    one_owner(desk.story, desk.prober, desk.since)


# --- rubbish


def test_rubbish_in_the_ownership_record(desk: Desk) -> None:
    desk.begin()
    desk.ctl("put", key("owners", "web"), RUBBISH)
    desk.all_say(r"^alarm: unreadable owners/web: no JSON")
    desk.owned_again()
    desk.all_say(r"^alarm over: unreadable owners/web")
    one_owner(desk.story, desk.prober, desk.since)


@pytest.mark.parametrize("kind", ["leases", "members"])
@pytest.mark.parametrize("whose", ["owner", "backup"])
def test_rubbish_in_a_nodes_own_key(desk: Desk, kind: str, whose: str) -> None:
    """As if deleted: it is written anew, and all say what they saw."""
    desk.begin()
    node: str = getattr(desk, whose)
    desk.ctl("put", key(kind, node), RUBBISH)
    desk.all_say(rf"^alarm: unreadable {kind}/{node}: no JSON")
    desk.all_say(rf"^alarm over: unreadable {kind}/{node}")
    time.sleep(0.5)
    desk.kept()
    one_owner(desk.story, desk.prober, desk.since)


@pytest.mark.parametrize("path", ["intents/web", "leases/nobody", "members/nobody", "owners/other", "intents/other"])
def test_rubbish_that_nobody_overwrites(desk: Desk, path: str) -> None:
    """The alarm stays until somebody takes the key away, and the group does not care."""
    desk.begin()
    kind, _, name = path.partition("/")
    desk.ctl("put", key(kind, name), RUBBISH)
    desk.all_say(rf"^alarm: unreadable {path}: no JSON")
    desk.ctl("del", key(kind, name))
    desk.all_say(rf"^alarm over: unreadable {path}")
    desk.kept()
    one_owner(desk.story, desk.prober, desk.since)


def test_values_of_any_size(desk: Desk, measure: Measure, tmp_path: Path) -> None:
    """A member of 10,000 standings, a megabyte of JSON, a thousand keys: named, and not kept in memory."""
    desk.begin()
    before = {name: resident(agent.pid) for name, agent in desk.cluster.agents.items()}
    standings = {f"g{n}": {"priority": 100, "address": "10.77.0.9"} for n in range(10_000)}
    huge = {"v": 1, "incarnation": "x", "version": "1", "addresses": [], "standings": standings}
    many = {**huge, "standings": {f"g{n}": {"priority": 1, "address": ""} for n in range(1_100)}}
    put_file(desk, tmp_path, key("members", "huge"), json.dumps(huge))
    put_file(desk, tmp_path, key("leases", "huge"), "[" * 1_000_000)
    put_file(desk, tmp_path, key("members", "many"), json.dumps(many, separators=(",", ":")))
    desk.all_say(r"^alarm: unreadable members/huge: \d+ bytes, at most 65536 are read")
    desk.all_say(r"^alarm: unreadable leases/huge: 1000000 bytes, at most 65536 are read")
    desk.all_say(r"^alarm: unreadable members/many: standings: at most 1024")
    for whose in ("members/huge", "members/many", "leases/huge"):
        desk.ctl("del", f"/haagent/lab/{whose}")
        desk.all_say(f"^alarm over: unreadable {whose}")
    desk.kept()
    grown = {name: resident(agent.pid) - before[name] for name, agent in desk.cluster.agents.items()}
    measure("resident_grown_kib", str(grown))
    assert max(grown.values()) < 12 * 1024
    one_owner(desk.story, desk.prober, desk.since)


def put_file(desk: Desk, directory: Path, path: str, text: str) -> None:
    """A value that is too long for a command line."""
    file = directory / "value"
    file.write_text(text)
    (member,) = desk.lab.etcd.members
    host = desk.lab.host(member.name)
    host.run(["sh", "-c", f"etcdctl --endpoints={member.endpoint} put {path} < {file}"])


def test_a_record_that_names_nobody(desk: Desk) -> None:
    """A valid record of a node that does not exist: the owner lets go, and nobody claims before its ttl is over."""
    desk.begin()
    ghost = {**value(desk.cluster, "owners", "web"), "node": "ghost", "incarnation": "0", "epoch": desk.epoch + 7}
    written = now()
    desk.ctl("put", key("owners", "web"), json.dumps(ghost))
    desk.cluster.wait(lambda: desk.cluster.epoch() == desk.epoch + 8, "an epoch beyond the ghost's")
    desk.story.wait(r"^web: MASTER -> BACKUP \(the record names ghost\)", desk.owner)
    assert desk.story.wait(r"-> MASTER \(the lease of ghost lapsed\)").at - written > 1 * S
    one_owner(desk.story, desk.prober, desk.since)


# --- one name twice, and oneself before


def test_a_second_node_of_the_same_name_waits(desk: Desk) -> None:
    """A file was copied to another host, and the name in it: whoever was first goes on, the other says why it waits."""
    desk.begin()
    twin = next(host for host in others(desk.cluster, desk.owner))
    desk.cluster.agents[twin.name].stop()
    desk.cluster.differences[twin.name] = {"node": desk.owner}
    try:
        desk.cluster.start([twin])
        desk.story.wait(rf"^alarm: name-in-use {desk.owner}: by incarnation \w+ on host", twin.name)
        time.sleep(3)
        assert not desk.story.lines(twin.name, "lease held|MASTER")
        assert VIP not in held(twin)
        desk.kept()
        one_owner(desk.story, desk.prober, desk.since)
        desk.cluster.agents[twin.name].stop()
    finally:
        del desk.cluster.differences[twin.name]
    desk.kept()


def test_of_two_that_start_at_once_with_one_name_one_waits(desk: Desk) -> None:
    """Neither was first: the guard on the lease key decides."""
    desk.begin()
    first, second = others(desk.cluster, desk.owner)
    for host in (first, second):
        desk.cluster.agents[host.name].stop()
        desk.cluster.differences[host.name] = {"node": "twin"}
    try:
        desk.story.forget()
        desk.cluster.start([first, second])
        desk.story.wait("^alarm: name-in-use twin")
        time.sleep(2)
        waiting = {line.node for line in desk.story.lines(pattern="^alarm: name-in-use twin")}
        holding = {line.node for line in desk.story.lines(pattern="^lease held")}
        assert len(waiting) == len(holding) == 1
        assert waiting.isdisjoint(holding)
        desk.cluster.agents[desk.owner].stop()
        (heir,) = holding
        assert answering(desk.prober, VIP) == heir
        one_owner(desk.story, desk.prober, desk.since)
    finally:
        for host in (first, second):
            del desk.cluster.differences[host.name]
            desk.cluster.agents[host.name].stop()


@pytest.mark.parametrize("ttl, within", [("5s", True), ("300ms", False)], ids=["within the lease", "after the lease"])
def test_a_killed_agent_is_succeeded_by_itself(ttl: str, within: bool, tmp_path: Path, measure: Measure) -> None:
    """kill -9, and a new agent on the same host: it knows that the dead one is dead, and claims its record at once."""
    with Lab(2, 1, seed=1, logs=tmp_path / "logs") as lab:
        cluster, prober = Cluster(lab, ttl=ttl), lab.probe([VIP])
        story = Story(cluster)
        (n1, n2) = lab.hosts
        cluster.start([n1])
        answering(prober, VIP, "n1", timeout=30)
        if within:
            cluster.start([n2])
            cluster.wait(lambda: len(cluster.candidates()) == 2, "n2 is a candidate, too")
        story.forget()
        since = cluster.agents["n1"].kill()
        if not within:
            time.sleep(1)
        started = now()
        cluster.start([n1])
        master = story.wait("-> MASTER")
        assert master.node == "n1"
        assert cluster.epoch() == 2
        assert answering(prober, VIP) == "n1"
        said = story.lines("n1")
        held_at = next(line.at for line in said if line.text.startswith("lease held"))
        assert master.at - held_at < 0.5 * S
        assert master.at - started < 5 * S
        measure("silent_ms", silence(prober, VIP, since))
        assert VIP not in held(n2)
        one_owner(story, prober, since)
