"""Operators and real agents: what is answered, what the client outside saw meanwhile, and that both agree.

The client's prober sees the address all the time. A request goes to any of the agents.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Generator
from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from haagent.core.units import MS, S
from haagent.lab.commands import now
from haagent.lab.lab import Lab
from haagent.lab.topology import vip4
from haagent.v1 import control_pb2 as pb
from haagent.v1 import status_pb2
from tests.integration.clusters import Stage, answering, held, key, one_owner, others, silence, value
from tests.integration.conftest import Measure

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VIP = vip4(1)
GAP_MS = 250
"""A planned move takes some milliseconds; this machine may have other work."""
WAIT_MS = 10_000

M = TypeVar("M", bound=Message)


class Office(Stage):
    """A cluster with an owner, peers that talk, and an operator."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab, peers=True)

    def begin(self) -> None:
        """All nodes are there and talk with each other, and one owns."""
        self.cluster.restore()
        self.cluster.wait(lambda: all(self.talks(host.name) for host in self.lab.hosts), "all have streams")
        self.owner = answering(self.prober, VIP)
        self.other, self.third = (host.name for host in others(self.cluster, self.owner))
        self.epoch = self.cluster.epoch()
        self.since = now()
        self.story.forget()

    def ask(self, node: str, name: str, request: Message, reply: type[M]) -> M:
        """What a node's agent answers."""
        with grpc.insecure_channel(f"unix:{self.cluster.socket(self.lab.host(node))}") as channel:
            call = channel.unary_unary(
                f"/haagent.v1.Control/{name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=reply.FromString,
            )
            return call(request, timeout=30)

    def order(self, name: str, request: Message, node: str = "n1") -> pb.Outcome:
        return self.ask(node, name, request, pb.Outcome)

    def status(self, node: str = "n1") -> status_pb2.Status:
        return self.ask(node, "GetStatus", pb.GetStatusRequest(), status_pb2.Status)

    def talks(self, node: str) -> bool:
        """Whether it answers, and has a stream to each other node, whose clock it knows."""
        try:
            members = self.status(node).members
        except grpc.RpcError:
            return False
        peers = [member.peer for member in members if member.node != node]
        return len(peers) == 2 and all(peer.connected and peer.round_trip_ns for peer in peers)

    def switchover(self, to: str, asked: str = "n1") -> pb.Outcome:
        return self.order("Switchover", pb.SwitchoverRequest(group="web", to=to, by="anna", wait_ms=WAIT_MS), asked)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Office]:
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Office(lab)


@pytest.fixture
def office(shared: Office) -> Office:
    shared.begin()
    return shared


def told(outcome: pb.Outcome) -> tuple[str, str]:
    return pb.Result.Name(outcome.result), outcome.reason


@pytest.mark.parametrize("asked", [0, 1, 2], ids=["the owner", "the target", "a third"])
def test_a_switchover_is_done_and_verified_whoever_is_asked(office: Office, measure: Measure, asked: int):
    to = office.other
    outcome = office.switchover(to, (office.owner, office.other, office.third)[asked])
    assert told(outcome) == ("DONE", ""), outcome.text
    move = outcome.moves[0]
    assert move.verified
    assert (move.from_node, move.to_node) == (office.owner, to)
    assert (move.from_epoch, move.to_epoch) == (office.epoch, office.epoch + 1)
    # Verified means so already when the answer comes, not soon after.
    assert VIP in held(office.lab.host(to))
    assert VIP not in held(office.lab.host(office.owner))
    assert answering(office.prober, VIP, to) == to
    silent = silence(office.prober, VIP, office.since)
    measure("told_ms", round(move.gap_ns / MS, 1))
    measure("seen_ms", silent)
    assert move.gap_ns / MS < GAP_MS
    assert silent < GAP_MS
    assert "asked for by anna (local)" in "".join(line.text for line in office.story.lines(pattern="switchover of"))
    one_owner(office.story, office.prober, office.since)


def test_what_is_refused_changes_nothing(office: Office):
    assert told(office.switchover("n9")) == ("REFUSED", "target-unknown")
    assert told(office.switchover(office.owner)) == ("REFUSED", "already-owner")
    assert told(office.order("Failover", pb.FailoverRequest(to=office.other))) == ("REFUSED", "owner-alive")
    assert told(office.order("Pause", pb.PauseRequest(by="anna"))) == ("DONE", "")
    assert told(office.switchover(office.other)) == ("REFUSED", "paused")
    assert told(office.order("Resume", pb.ResumeRequest())) == ("DONE", "")
    assert office.cluster.epoch() == office.epoch
    assert silence(office.prober, VIP, office.since) < GAP_MS
    one_owner(office.story, office.prober, office.since)


def test_a_drained_node_gives_up_everything_before_that_is_said(office: Office):
    outcome = office.order("Drain", pb.DrainRequest(node=office.owner, by="anna", wait_ms=WAIT_MS))
    try:
        assert told(outcome) == ("DONE", ""), outcome.text
        assert outcome.moves[0].verified
        assert VIP not in held(office.lab.host(office.owner))
    finally:
        assert told(office.order("Undrain", pb.UndrainRequest(node=office.owner))) == ("DONE", "")
    one_owner(office.story, office.prober, office.since)


def test_a_target_that_hangs_in_the_middle_is_not_said_to_own(office: Office):
    target = office.cluster.agents[office.other]
    target.signal(signal.SIGSTOP)  # its lease runs on for a while: it is handed the group, and does nothing
    try:
        outcome = office.switchover(office.other, office.owner)
    finally:
        target.signal(signal.SIGCONT)
    assert outcome.result in (pb.FAILED, pb.UNKNOWN), outcome
    assert not any(move.verified for move in outcome.moves)
    answering(office.prober, VIP)
    one_owner(office.story, office.prober, office.since)


def test_a_failover_names_who_takes_over_from_a_dead_owner(office: Office):
    office.lab.host(office.owner).kill_all()
    asked = pb.FailoverRequest(group="web", to=office.third, by="anna", wait_ms=WAIT_MS)
    outcome = office.order("Failover", asked, office.other)
    while outcome.result == pb.REFUSED and office.cluster.owner() == office.owner:  # it may still renew, so far
        outcome = office.order("Failover", asked, office.other)
    if outcome.result != pb.REFUSED:  # else somebody was quicker than this machine let us ask
        assert told(outcome) == ("DONE", ""), outcome.text
        assert answering(office.prober, VIP) == office.third
    one_owner(office.story, office.prober, office.since)


def test_an_owner_that_is_declared_dead_is_not_waited_for(office: Office):
    """The record names a host that is gone, and only that one: nobody here has promised anything, so all wait."""
    lost = value(office.cluster, "owners", "web")
    lost |= {"node": "n9", "incarnation": "gone", "host": "gone", "candidates": ["n9"], "machines": ["gone"]}
    lost |= {"epoch": office.epoch + 1, "failsafe_ms": 300_000}
    office.lab.etcd.ctl("put", key("owners", "web"), json.dumps(lost))
    office.story.wait("alarm: waits-for-promises web: not claimed here for .* s: promises may carry n9", timeout=10)
    request = pb.FailoverRequest(group="web", to=office.third, by="anna", wait_ms=3000)
    assert told(office.order("Failover", request)) == ("FAILED", "not-done")
    request.dead, request.wait_ms = True, WAIT_MS
    outcome = office.order("Failover", request)
    assert told(outcome) == ("DONE", ""), outcome.text
    answering(office.prober, VIP, office.third)
    history = office.ask("n1", "History", pb.HistoryRequest(group="web"), pb.HistoryReply).entries
    assert any(entry.reason.endswith("then n9 was declared dead by anna") for entry in history), history
    one_owner(office.story, office.prober, office.since)


def test_the_socket_of_a_dead_agent_is_taken_over(office: Office):
    path = office.cluster.socket(office.lab.host(office.third))
    host = office.lab.host(office.third)
    host.kill_all()
    office.cluster.wait(lambda: host in office.cluster.missing(), "it is gone")
    assert path.exists()
    office.cluster.restore()
    office.cluster.wait(lambda: office.talks(office.third), "it answers again")


def test_a_reload_answers_with_what_was_read(office: Office):
    host = office.lab.host("n1")
    good = office.cluster.config(host).read_text()
    assert office.order("Reload", pb.ReloadRequest()).text == "nothing changed"
    office.cluster.config(host).write_text(good.replace("vrid: 51", "vrid: 0"))
    outcome = office.order("Reload", pb.ReloadRequest())
    assert told(outcome) == ("REFUSED", "configuration")
    assert "vrid: 0, must be 1 to 255" in outcome.text
    office.cluster.config(host)


def test_status_history_and_findings_are_told_quickly(office: Office, measure: Measure):
    office.switchover(office.other)
    began = time.monotonic()
    status = office.status(office.third)
    took = time.monotonic() - began
    measure("status_ms", round(took * 1000, 1))
    assert took < 0.3
    web = status.groups[0]
    assert (web.owner, web.epoch) == (office.other, office.epoch + 1)
    assert abs(web.since_wall_ns - time.time_ns()) < 60 * S
    owner = next(member for member in status.members if member.node == office.other)
    assert owner.alive
    office.cluster.wait(lambda: office.status(office.other).changes[-1].gap_ns > 0, "it learns the gap")
    last = office.status(office.other).changes[-1]
    assert last.after == status_pb2.MASTER
    assert last.gap_ns / MS < GAP_MS
    history = office.ask("n1", "History", pb.HistoryRequest(group="web", newest=2), pb.HistoryReply)
    assert [entry.epoch for entry in history.entries] == [office.epoch, office.epoch + 1]
    findings = office.ask("n1", "Doctor", pb.DoctorRequest(), pb.DoctorReply).findings
    assert all(finding.level != pb.Finding.WRONG for finding in findings), findings
    verified = office.ask(office.other, "Verify", pb.VerifyRequest(group="web"), pb.VerifyReply)
    assert list(verified.addresses_held) == [f"{VIP}/24"]
