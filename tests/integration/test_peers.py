"""Streams between nodes on loopback: what is said arrives, at once; streams come back, are replaced, and are kept."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from haagent.api.credentials import load
from haagent.api.peers.endpoint import Endpoint, endpoint
from haagent.core.heartbeat import HeartbeatReceived, Meet
from haagent.core.units import MS, S
from haagent.v1.status_pb2 import GroupRole, NodeStatus
from tests.integration.conftest import Measure
from tests.integration.peering import WEB, Node, Papers, Stranger, acquainted, running, until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"), "n1", "n2", "n3")


def three(papers: Papers) -> tuple[Node, Node, Node]:
    n1, n2, n3 = (Node(name, papers.credentials(name)) for name in ("n1", "n2", "n3"))
    return n1, n2, n3


def test_heartbeats_and_promises_between_three(papers: Papers, measure: Measure):
    async def scenario() -> None:
        n1, n2, n3 = nodes = three(papers)
        async with acquainted(*nodes):
            times: list[float] = []
            for number in range(1, 21):
                began = time.monotonic()
                n2.beat("n1", "n3", number=number)
                await n2.promised("n1", number)
                await n2.promised("n3", number)
                times.append(time.monotonic() - began)
            assert n1.heard[0] == HeartbeatReceived("n2", "n2-1", 1, S, WEB)
            assert len(n1.heard) == len(n3.heard) == 20
            measure("promises_ms", round(sorted(times)[10] * 1000, 1))
            assert sorted(times)[10] < 0.05
            table = n2.peers.table()
            assert table["n1"].error == ""
            assert (table["n1"].release, table["n1"].incarnation, table["n1"].version) == ("0.1.0", "n1-1", 1)
            await until(lambda: n2.peers.table()["n3"].clock_ahead is not None, lambda: "a ping's answer")
            found = n2.peers.table()["n3"]
            assert found.round_trip is not None
            assert found.clock_ahead is not None
            assert abs(found.clock_ahead) <= found.round_trip < 500 * MS
            assert not n2.peers.refused

    asyncio.run(scenario())


def test_whoever_is_not_connected_is_not_waited_for(papers: Papers):
    async def scenario() -> None:
        n1 = Node("n1", papers.credentials("n1"))
        async with running(n1):
            n1.beat("n2")
            n1.meet(("n2", "127.0.0.1:1"), ("n3", "no endpoint"))
            n1.beat("n2", "n3")
            assert n1.peers.counters["unsent"] == 3
            assert await n1.refuses("n2", "unreachable") == "unreachable: connection refused"
            assert "'no endpoint' is no address with a port" in await n1.refuses("n3", "bad-endpoint")

    asyncio.run(scenario())


def test_a_restarted_peer_is_back_soon(papers: Papers):
    async def scenario() -> None:
        n1, n2 = Node("n1", papers.credentials("n1")), Node("n2", papers.credentials("n2"))
        async with acquainted(n1, n2):
            await n2.peers.close()
            await until(lambda: not n1.peers.table()["n2"].connected, lambda: "the end is noticed")
            again = Node("n2", papers.credentials("n2"), incarnation="n2-2")
            async with running(again):
                n1.meet(again)  # at another port: dialed there at once
                await n1.connected("n2")
                assert n1.peers.table()["n2"].incarnation == "n2-2"
                again.meet(n1)
                n1.beat("n2")
                await n1.promised("n2", 1)
            await until(lambda: not n1.peers.table()["n2"].connected, lambda: "the end is noticed")

    asyncio.run(scenario())


def test_the_dialing_side_restarts(papers: Papers):
    async def scenario() -> None:
        n1, n2 = Node("n1", papers.credentials("n1")), Node("n2", papers.credentials("n2"))
        async with acquainted(n1, n2):
            await n1.peers.close()
            await until(lambda: not n2.peers.table()["n1"].connected, lambda: "the end is noticed")
            again = Node("n1", papers.credentials("n1"), incarnation="n1-2")
            async with running(again):
                again.meet(n2)
                await n2.connected("n1")
                n2.beat("n1")
                await n2.promised("n1", 1)

    asyncio.run(scenario())


def test_a_new_stream_replaces_the_old_one(papers: Papers):
    async def scenario() -> None:
        n2 = Node("n2", papers.credentials("n2"))
        async with (
            running(n2),
            Stranger(n2, papers.credentials("n1")) as first,
            Stranger(n2, papers.credentials("n1")) as second,
        ):
            await first.hello("n1")
            await n2.connected("n1")
            await second.hello("n1", incarnation="n1-2")
            assert await first.ended() == "replaced: it has opened another stream"
            await second.beat("n1-2")
            await until(lambda: n2.heard, lambda: "a heartbeat")
            assert n2.peers.table()["n1"].incarnation == "n1-2"
            assert n2.count("n1", "replaced") == 1

    asyncio.run(scenario())


def test_statuses_are_told_to_all_and_to_who_comes_later(papers: Papers):
    async def scenario() -> None:
        n1, n2, n3 = three(papers)
        status = NodeStatus(node="n1", incarnation="n1-1", groups=[GroupRole(group="web", epoch=7)])
        async with running(n3), acquainted(n1, n2):
            n1.peers.publish(status)
            await until(lambda: n2.peers.statuses().get("n1") == status, lambda: str(n2.peers.statuses()))
            n1.meet(n2, n3)
            await until(lambda: n3.peers.statuses().get("n1") == status, lambda: str(n3.peers.statuses()))
            for epoch in range(8, 108):  # however often it changes
                status.groups[0].epoch = epoch
                n1.peers.publish(status)
            await until(lambda: n2.peers.statuses()["n1"].groups[0].epoch == 107, lambda: str(n2.peers.statuses()))
            assert n2.peers.counters["received"] < 50
            assert "n2" not in n1.peers.statuses(), "it never said how it is"

    asyncio.run(scenario())


def test_new_certificates_count_from_the_next_connection_on_and_a_new_ca_at_once(papers: Papers, tmp_path: Path):
    async def scenario() -> None:
        n1, n2 = Node("n1", papers.credentials("n1")), Node("n2", papers.credentials("n2"))
        other = Papers(tmp_path / "other", "n1", "n2")
        papers.of["n2b"] = papers.ca.issue("n2b", ["n2"])
        async with acquainted(n1, n2):
            again = papers.of["n2b"]
            ca = papers.ca.own.certificate
            assert not n2.peers.renew(papers.credentials("n2"))
            assert n2.peers.renew(load(ca, again.certificate, again.key, "n2"))
            assert n1.peers.table()["n2"].connected, "the stream goes on"
            streams = n1.peers.counters["streams"]
            assert n2.peers.renew(other.credentials("n2"))
            await n1.refuses("n2", "wrong-ca")
            assert n1.peers.renew(other.credentials("n1"))
            await until(lambda: n1.peers.counters["streams"] > streams, lambda: str(n1.peers.table()))
            await n1.connected("n2")
            await n2.connected("n1")

    asyncio.run(scenario())


def test_a_peer_that_is_no_longer_named_is_kept_while_its_stream_stands(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("haagent.api.peers.peers.FORGOTTEN", 0)

    async def scenario() -> None:
        n1, n2 = Node("n1", papers.credentials("n1")), Node("n2", papers.credentials("n2"))
        async with acquainted(n1, n2):
            n1.peers.meet(Meet(()))
            await asyncio.sleep(1.2)
            n1.beat("n2")
            await n1.promised("n2", 1)
            await n2.peers.close()
            await until(lambda: "n2" not in n1.peers.table(), lambda: str(n1.peers.table()))

    asyncio.run(scenario())


def test_a_mistake_of_ours_costs_a_pause_and_not_the_peer(
    papers: Papers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    wrong = [True, True]

    def dial(text: str) -> Endpoint | None:
        if wrong and wrong.pop():
            raise RuntimeError("nobody thought of that")
        return endpoint(text)

    monkeypatch.setattr("haagent.api.peers.dialer.endpoint", dial)

    async def scenario() -> None:
        n1, n2 = Node("n1", papers.credentials("n1")), Node("n2", papers.credentials("n2"))
        async with acquainted(n1, n2):
            assert n1.count("n2", "mistake") == 2

    asyncio.run(scenario())
    assert caplog.text.count("Traceback") == 1


def test_in_plain_text_if_told_so():
    async def scenario() -> None:
        n1, n2 = Node("n1", None), Node("n2", None)
        async with acquainted(n1, n2):
            n1.beat("n2")
            await n1.promised("n2", 1)

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_an_error(papers: Papers):
    async def scenario() -> None:
        n1 = Node("n1", papers.credentials("n1"))
        async with running(n1):
            second = Node("n2", papers.credentials("n2"))
            second.peers._listen = n1.endpoint
            with pytest.raises(OSError, match=r"peers\.listen: cannot listen at"):
                await second.peers.start()
            await second.peers.close()

    asyncio.run(scenario())
