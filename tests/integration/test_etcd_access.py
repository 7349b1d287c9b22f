"""Who may talk to etcd: TLS with good and bad certificates, users with good and bad passwords, tokens that end."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path

import pytest

from haagent.adapters.etcd import EtcdSettings
from haagent.core.model import Listed, Unanswered
from haagent.core.records import Put
from haagent.core.units import MS
from haagent.lab.certificates import make_ca
from haagent.lab.etcd import loopback_etcd
from tests.integration.etcd_client import A, client, lease, settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="haagent.etcd")


def works(made: EtcdSettings) -> None:
    async def scenario() -> None:
        async with client(made) as c:
            await c.seen(A, await c.committed(Put(A, lease(1), session=True)))

    asyncio.run(scenario())


def is_told(made: EtcdSettings, why: str) -> None:
    """Nothing is listed, and a question's answer has the reason."""

    async def scenario() -> None:
        async with client(made, listed=False) as c:
            # Several, so that a line per attempt would show in the log.
            for _ in range(5):
                answer = await c.commit(Put(A, lease(1)), patience=600 * MS)
                assert isinstance(answer, Unanswered)
                assert why in answer.why
            assert not c.all(Listed)

    asyncio.run(scenario())


def test_tls(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    with loopback_etcd(tls=True) as etcd:
        assert etcd.tls is not None
        ours = etcd.tls.client
        good = settings(etcd.endpoints, ca=etcd.tls.ca, certificate=ours.certificate, key=ours.key)
        works(good)
        # Without a scheme, having a ca says it.
        works(dataclasses.replace(good, endpoints=(etcd.endpoints[0].removeprefix("https://"),)))

        caplog.clear()
        stranger = make_ca(tmp_path / "stranger", "somebody else")
        why = "TLS: its certificate is not signed by our ca"
        is_told(dataclasses.replace(good, ca=stranger.own.certificate), why)
        assert caplog.text.count("WARNING") == 1

        caplog.clear()
        is_told(settings([etcd.endpoints[0].replace("https", "http")]), "no endpoint is connected")
        assert caplog.text.count("WARNING") == 1


def test_tls_to_a_server_without(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    ca = make_ca(tmp_path / "ca").own.certificate
    with loopback_etcd() as etcd:
        is_told(settings([etcd.endpoints[0].replace("http", "https")], ca=ca), "does it speak TLS?")
    assert caplog.text.count("WARNING") == 1


def test_client_certificates(tmp_path: Path):
    with loopback_etcd(tls=True, demand_client_certificate=True) as etcd:
        assert etcd.tls is not None
        ours = etcd.tls.client
        good = settings(etcd.endpoints, ca=etcd.tls.ca, certificate=ours.certificate, key=ours.key)
        works(good)
        why = "does it want a certificate of ours?"
        is_told(dataclasses.replace(good, certificate=None, key=None), why)
        other = make_ca(tmp_path / "other").issue("stranger")
        is_told(
            dataclasses.replace(good, certificate=other.certificate, key=other.key),
            "TLS: ",
        )


def test_users(caplog: pytest.LogCaptureFixture):
    with loopback_etcd() as etcd:
        unneeded = settings(etcd.endpoints, user="agent", password="secret")
        works(unneeded)
        assert "agent is of no use: authentication is not enabled" in caplog.text

        etcd.require_password("agent", "secret")
        works(unneeded)

        caplog.clear()
        is_told(settings(etcd.endpoints, user="agent", password="guess"), "wrong user or password")
        assert caplog.text.count("agent is refused: wrong user or password") == 1

        caplog.clear()
        is_told(settings(etcd.endpoints), "user name is empty")
        assert caplog.text.count("list: not answered (user name is empty)") == 1

        etcd.ctl("user", "add", "nobody:secret")
        caplog.clear()
        is_told(settings(etcd.endpoints, user="nobody", password="secret"), "permission denied")
        assert caplog.text.count("list: not answered (permission denied)") == 1


def test_a_token_that_ended_is_replaced_within_the_call():
    """etcd keeps simple tokens in memory: a restart ends them all."""
    with loopback_etcd() as etcd:
        etcd.require_password("agent", "secret")

        async def scenario() -> None:
            async with client(settings(etcd.endpoints, user="agent", password="secret")) as c:
                await c.committed(Put(A, lease(1), session=True))
                etcd.stop()
                etcd.start()
                await c.seen(A, await c.committed_at_last(Put(A, lease(2), session=True)))
                assert c.store.counters["call_token"] >= 1

        asyncio.run(scenario())


def test_authentication_switched_on_under_way():
    with loopback_etcd() as etcd:

        async def scenario() -> None:
            async with client(settings(etcd.endpoints, user="agent", password="secret")) as c:
                await c.committed(Put(A, lease(1)))
                etcd.require_password("agent", "secret")
                await c.committed(Put(A, lease(2)))
                c.store.resync()
                await c.seen(A, await c.committed(Put(A, lease(3))))

        asyncio.run(scenario())
