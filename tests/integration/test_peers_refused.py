"""Who is refused, and why: certificates, names, versions; floods, garbage and what is too large. Nothing is delivered.

Each refusal has its name, is counted, and leaves the other peers alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
import warnings
from pathlib import Path

import pytest

from haagent.api.credentials import Credentials
from haagent.api.peers import messages
from haagent.api.peers.wire import FAILURES
from haagent.core.heartbeat import HeartbeatReceived
from haagent.core.units import S
from haagent.lab.certificates import make_ca
from tests.integration.peering import Node, Papers, Stranger, acquainted, forged, running, until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"), "n1", "n2", "n3")


@pytest.fixture(scope="module")
def wrong(papers: Papers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Credentials]:
    """What n1 must not get through with, and n2 neither."""
    other = make_ca(tmp_path_factory.mktemp("other"), "somebody else")
    made: dict[str, Credentials] = {}
    for name in ("n1", "n2"):
        good = papers.credentials(name)
        made[f"{name} by another ca"] = forged(good, other.issue(name))
        made[f"{name} expired"] = forged(good, papers.ca.expire(papers.of[name]))
        made[f"{name} as n3"] = forged(good, papers.of["n3"])
    return made


BY_THE_DIALER = [
    ("n2 by another ca", "wrong-ca"),
    ("n2 expired", "expired"),
    ("n2 as n3", "wrong-name"),
]


@pytest.mark.parametrize("which, reason", BY_THE_DIALER)
def test_the_dialer_looks_who_listens(papers: Papers, wrong: dict[str, Credentials], which: str, reason: str):
    async def scenario() -> None:
        n1, n2 = Node("n1", papers.credentials("n1")), Node("n2", wrong[which])
        async with running(n1, n2):
            n1.meet(n2)
            n2.meet(n1)
            assert (await n1.refuses("n2", reason)).startswith(f"{reason}: ")
            n2.beat("n1")
            await asyncio.sleep(0.2)
            assert n1.heard == n2.heard == []
            assert not n2.peers.table()["n1"].connected

    asyncio.run(scenario())


BY_THE_LISTENER = [
    ("n1 by another ca", "certificate-refused", "it does not take our certificate"),
    ("n1 expired", "certificate-refused", "it does not take our certificate"),
    ("n1 as n3", "refused-by-peer", "wrong-name: it says that it is n1, its certificate is for n3"),
]


@pytest.mark.parametrize("which, reason, said", BY_THE_LISTENER)
def test_the_listener_looks_who_dials(
    papers: Papers, wrong: dict[str, Credentials], which: str, reason: str, said: str
):
    async def scenario() -> None:
        n1, n2 = Node("n1", wrong[which]), Node("n2", papers.credentials("n2"))
        async with running(n1, n2):
            n1.meet(n2)
            assert said in await n1.refuses("n2", reason)
            n1.beat("n2")
            await asyncio.sleep(0.1)
            assert n2.heard == []
            assert not n2.peers.table()
            assert n2.peers.counters["connections"] > 0

    asyncio.run(scenario())


def test_one_speaks_tls_and_the_other_does_not(papers: Papers):
    async def scenario() -> None:
        for one, other, reason in ((papers.credentials("n1"), None, "plain-text"), (None, "n2", "tls-wanted")):
            n1 = Node("n1", one)
            n2 = Node("n2", None if other is None else papers.credentials(other))
            async with running(n1, n2):
                n1.meet(n2)
                await n1.refuses("n2", reason)
                assert n1.heard == n2.heard == []

    asyncio.run(scenario())


def test_who_waits_to_be_dialed_finds_out_why_he_is_not(
    papers: Papers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("haagent.api.peers.dialer._LOOK_AFTER", 0.05)

    async def scenario() -> None:
        stranger = Papers(tmp_path / "stranger", "n1")
        n1, n2 = Node("n1", stranger.credentials("n1")), Node("n2", papers.credentials("n2"))
        async with running(n1, n2):
            n2.meet(n1, ("n0", "127.0.0.1:1"), ("n00", "a..b:1"))
            assert "its certificate" in await n2.refuses("n1", "wrong-ca")
            await n2.refuses("n0", "unreachable")
            await n2.refuses("n00", "bad-endpoint")

    asyncio.run(scenario())


def test_only_tls_1_2_and_newer(papers: Papers):
    async def scenario() -> None:
        n2 = Node("n2", papers.credentials("n2"))
        async with running(n2):
            for version, taken in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.load_verify_locations(papers.ca.own.certificate)
                context.load_cert_chain(papers.of["n1"].certificate, papers.of["n1"].key)
                context.set_alpn_protocols(["h2"])
                context.set_ciphers("DEFAULT:@SECLEVEL=0")
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    context.minimum_version = context.maximum_version = version
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", n2.peers.port, ssl=context)
                    writer.transport.abort()
                    assert taken
                except (ssl.SSLError, ConnectionResetError):
                    assert not taken

    asyncio.run(scenario())


GREETINGS = [
    ("n1", {"cluster": "test"}, "?", "wrong-cluster: it is of test, we are of prod"),
    ("n1", {"oldest": 2, "newest": 7}, "?", "no-common-version: it speaks versions 2 to 7, we 1 to 1"),
    ("n1", {"node": "n3"}, "?", "wrong-name: it says that it is n3, its certificate is for n1"),
    ("n3", {}, "?", "wrong-direction: n2 dials n3, not the other way round"),
    ("n1", {"node": "n\n1"}, "?", "bad-text: hello: names must be 1 to 253 printable characters"),
    ("n1", {"oldest": 0, "newest": 0}, "?", "bad-number: hello: versions 0 to 0"),
]


@pytest.mark.parametrize("name, changes, peer, said", GREETINGS)
def test_a_greeting_that_is_refused(papers: Papers, name: str, changes: dict[str, object], peer: str, said: str):
    async def scenario() -> None:
        n2 = Node("n2", papers.credentials("n2"))
        async with running(n2), Stranger(n2, papers.credentials(name)) as stranger:
            await stranger.hello(name, **changes)
            assert await stranger.ended() == said
            assert n2.count(peer, said.partition(":")[0]) == 1
            assert not n2.peers.table()

    asyncio.run(scenario())


def test_who_does_not_greet_is_sent_away(papers: Papers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("haagent.api.peers.wire.DEADLINE", 0.3)

    async def scenario() -> None:
        n2 = Node("n2", papers.credentials("n2"))
        async with running(n2):
            async with Stranger(n2, papers.credentials("n1")) as mute:
                assert "no-hello" in await mute.ended()
            async with Stranger(n2, papers.credentials("n1")) as rude:
                await rude.beat("n1-1")
                assert await rude.ended() == "no-hello: it began with heartbeat"
            async with Stranger(n2, papers.credentials("n1")) as drunk:
                await drunk.say(b"\xff" * 100)
                assert await drunk.ended() == "garbage: 100 bytes that are no message"
            assert n2.heard == []

    asyncio.run(scenario())


def test_what_is_no_use_is_dropped_and_the_stream_goes_on(papers: Papers, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="haagent.peers")

    async def scenario() -> None:
        n2 = Node("n2", papers.credentials("n2"))
        async with running(n2), Stranger(n2, papers.credentials("n1")) as stranger:
            await stranger.hello("n1")
            for _ in range(20):
                await stranger.beat("n1-0")  # replayed: of an incarnation before
            await stranger.say(b"\xff" * 100)
            await stranger.say(bytes(messages.MESSAGE_MOST + 1))
            await stranger.hello("n1")
            await stranger.beat("n1-1", number=5)
            await until(lambda: n2.heard, lambda: str(n2.peers.refused))
            assert len(n2.heard) == 1
            counted = {str(reason): count for (peer, reason), count in n2.peers.refused.items() if peer == "n1"}
            assert counted == {"wrong-incarnation": 20, "garbage": 1, "oversized": 1, "unexpected": 1}

    asyncio.run(scenario())
    assert caplog.text.count("wrong-incarnation") == 1, "said once"


def test_a_message_of_a_megabyte_ends_the_stream(papers: Papers):
    async def scenario() -> None:
        n2, n3 = Node("n2", papers.credentials("n2")), Node("n3", papers.credentials("n3"))
        async with acquainted(n2, n3), Stranger(n2, papers.credentials("n1")) as stranger:
            await stranger.hello("n1")
            await n2.connected("n1")
            with contextlib.suppress(*FAILURES):
                await stranger.say(bytes(1 << 20))
            assert await stranger.ended()
            await until(lambda: not n2.peers.table()["n1"].connected, lambda: str(n2.peers.table()))
            assert n2.heard == []
            n3.beat("n2")
            await n3.promised("n2", 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("plain", [False, True], ids=["tls", "plain"])
def test_a_hundred_thousand_messages_end_the_stream_and_harm_nobody(papers: Papers, plain: bool):
    def credentials(name: str) -> Credentials | None:
        return None if plain else papers.credentials(name)

    async def scenario() -> None:
        n2, n3 = Node("n2", credentials("n2")), Node("n3", credentials("n3"))
        async with acquainted(n2, n3), Stranger(n2, credentials("n1")) as flooder:
            await flooder.hello("n1")
            await n2.connected("n1")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

            async def flood() -> int:
                sent = 0
                with contextlib.suppress(*FAILURES):
                    for sent in range(100_000):
                        await flooder.beat("n1-1", number=sent)
                return sent

            flooding = asyncio.create_task(flood())
            for number in range(1, 6):
                n3.beat("n2", number=number)
                await n3.promised("n2", number)
            assert await flooding < 99_999
            assert await flooder.ended()
            assert n2.count("n1", "too-fast") == 2000
            assert n2.count("n1", "flood") == n2.peers.counters["refused_flood"] == 1
            assert (
                len([heard for heard in n2.heard if isinstance(heard, HeartbeatReceived) and heard.node == "n1"]) < 1500
            )
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
            async with Stranger(n2, credentials("n1")) as again:
                await again.hello("n1")
                assert "flood: it sent too much a moment ago" in await again.ended()
            assert n2.peers.table()["n3"].connected

    asyncio.run(scenario())


def test_a_megabyte_of_garbage_at_the_port(papers: Papers):
    def throw(port: int, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port)) as thrown:
            thrown.settimeout(5)
            with contextlib.suppress(OSError):
                thrown.sendall(data)
                while thrown.recv(4096):
                    pass

    async def scenario() -> None:
        for credentials in (papers.credentials("n2"), None):
            n2 = Node("n2", credentials)
            n3 = Node("n3", None if credentials is None else papers.credentials("n3"))
            async with acquainted(n2, n3):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                for data in (os.urandom(1 << 20), b"\x16\x03\x01" + os.urandom(1 << 20), b"PRI * HTTP/2.0\r\n" * 65536):
                    await asyncio.to_thread(throw, n2.peers.port, data)
                assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
                n3.beat("n2")
                await n3.promised("n2", 1)
                assert set(n2.peers.table()) == {"n3"}

    asyncio.run(scenario())


def test_who_does_not_read_is_not_waited_for(papers: Papers):
    """Its window is full; heartbeats replace each other, promises are dropped, and the others hear all."""

    async def scenario() -> None:
        n2, n3 = Node("n2", papers.credentials("n2")), Node("n3", papers.credentials("n3"))
        async with acquainted(n2, n3):
            async with Stranger(n2, papers.credentials("n1")) as deaf:
                await deaf.hello("n1")
                await n2.connected("n1")
                session = n2.peers._circle.links["n1"].session
                assert session is not None
                for _ in range(100):
                    session.status(bytes(messages.MESSAGE_MOST))
                    session.heartbeat(b"one")
                    session.heartbeat(b"two")
                    session.say(bytes(messages.MESSAGE_MOST))
                    await asyncio.sleep(0)
                assert session._outbox.replaced >= 50
                assert session._outbox.dropped >= 10
                n2.beat("n3")
                await n2.promised("n3", 1)
            await until(lambda: not n2.peers.table()["n1"].connected, lambda: str(n2.peers.table()))

    asyncio.run(scenario())


@pytest.mark.parametrize("deaf", [False, True])
def test_who_says_nothing_any_more_is_given_up(
    papers: Papers, deaf: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A peer that hangs: it answers no ping. If it does not read either, a message to it may be stuck half way."""
    monkeypatch.setattr("haagent.api.peers.session.SILENCE", 1 * S)

    async def scenario() -> None:
        n2 = Node("n2", papers.credentials("n2"))
        async with running(n2), Stranger(n2, papers.credentials("n1")) as hung:
            await hung.hello("n1")
            await n2.connected("n1")
            if deaf:
                session = n2.peers._circle.links["n1"].session
                assert session is not None
                for _ in range(64):
                    session.say(bytes(messages.MESSAGE_MOST))
                    await asyncio.sleep(0)
            await n2.refuses("n1", "silent")
            await until(lambda: not n2.peers.table()["n1"].connected, lambda: str(n2.peers.table()))
            assert n2.peers.table()["n1"].error.startswith("silent: not a word for ")
            async with Stranger(n2, papers.credentials("n1")) as again:
                await again.hello("n1")
                await n2.connected("n1")

    asyncio.run(scenario())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
