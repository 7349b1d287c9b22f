"""Real agents whose address does not answer: the peers find it on the wire, all are told, and it ends by itself."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from haagent.lab.lab import Lab
from haagent.v1 import control_pb2 as pb
from haagent.v1 import status_pb2
from tests.integration.clusters import answering, one_owner
from tests.integration.test_cluster_control import Office, told

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DROP = (
    "nft add table inet foreign",
    "nft add chain inet foreign in { type filter hook input priority 0 ; }",
    "nft add rule inet foreign in ip daddr 10.77.0.101 drop",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Office]:
    with Lab(3, 1, seed=2, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Office(lab)


@pytest.fixture
def office(shared: Office) -> Office:
    shared.begin()
    return shared


def group(office: Office, node: str) -> status_pb2.Group:
    return next(one for one in office.status(node).groups if one.name == "web")


def all_say(office: Office, answers: int) -> bool:
    return all(group(office, host.name).answers == answers for host in office.lab.hosts)


def run(office: Office, node: str, *lines: str) -> None:
    for line in lines:
        office.lab.host(node).run(line.split())


def test_an_owner_that_does_not_answer_is_named_everywhere_until_it_does(office: Office):
    owner = office.owner
    office.cluster.wait(lambda: all_say(office, status_pb2.YES), "everybody gets an answer")
    run(office, owner, "ip link set eth0 arp off")
    office.story.wait("alarm: unreachable web: 10.77.0.101 answers no ARP on eth0", owner)
    office.cluster.wait(lambda: all_say(office, status_pb2.NO), "everybody knows", timeout=10)
    found = office.ask(office.other, "Doctor", pb.DoctorRequest(), pb.DoctorReply).findings
    assert any(one.text.startswith(f"{owner} owns it, but 10.77.0.101 answers no ARP") for one in found), found
    run(office, owner, "ip link set eth0 arp on")
    office.story.wait("alarm over: unreachable web", owner)
    office.cluster.wait(lambda: all_say(office, status_pb2.YES), "everybody gets an answer again", timeout=10)
    assert office.cluster.epoch() == office.epoch
    one_owner(office.story, office.prober, office.since)


def test_a_switchover_to_a_node_that_does_not_answer_is_not_verified(office: Office):
    run(office, office.other, *DROP)
    try:
        outcome = office.switchover(office.other, office.third)
        assert told(outcome) == ("FAILED", "unreachable"), outcome.text
        assert "10.77.0.101 answers ARP, but no ICMP echo requests on eth0" in outcome.text
        assert not outcome.moves[0].verified
        back = office.switchover(office.owner, office.third)
        assert told(back) == ("DONE", ""), back.text
    finally:
        run(office, office.other, "nft delete table inet foreign")
    answering(office.prober, "10.77.0.101", office.owner)
    one_owner(office.story, office.prober, office.since)
