"""Who may talk to etcd: TLS with good and bad certificates, users with good and bad passwords, tokens that end."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
import time
from pathlib import Path

import pytest

from haagent.adapters.etcd import EtcdSettings
from haagent.core.model import Listed, Unanswered
from haagent.core.records import Put
from haagent.core.units import MS
from haagent.lab.certificates import Authority, Certificate, make_ca
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


def test_a_password_that_was_changed_in_its_file_counts_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Changed at etcd first, in the file later: nothing is restarted, nothing is reloaded."""
    file = tmp_path / "password"
    file.write_text("secret\n")
    with loopback_etcd() as etcd:
        etcd.require_password("root", "admin")
        etcd.ctl("user", "add", "agent:secret")
        etcd.ctl("user", "grant-role", "agent", "root")

        async def scenario() -> None:
            async with client(settings(etcd.endpoints, user="agent", password_file=file)) as c:
                await c.committed(Put(A, lease(1), session=True))
                etcd.ctl("user", "passwd", "agent", "--interactive=false", stdin="new\n")
                refused = await c.commit(Put(A, lease(2)), patience=1000 * MS)
                assert isinstance(refused, Unanswered)
                assert refused.why == "not authenticated: wrong user or password"
                file.write_text("new\n")
                await c.seen(A, await c.committed_at_last(Put(A, lease(3))))
                assert c.store.counters["session_granted"] == 1

        asyncio.run(scenario())
    assert caplog.text.count("agent is refused: wrong user or password") == 1


def test_another_user_is_taken_without_a_restart(tmp_path: Path):
    with loopback_etcd() as etcd:
        etcd.require_password("root", "admin")
        for user in ("agent", "other"):
            etcd.ctl("user", "add", f"{user}:secret")
            etcd.ctl("user", "grant-role", user, "root")
        first = settings(etcd.endpoints, user="agent", password="secret")

        async def scenario() -> None:
            async with client(first) as c:
                await c.committed(Put(A, lease(1), session=True))
                assert await c.store.renew(first) == ()
                assert await c.store.renew(dataclasses.replace(first, user="other")) == ("etcd's user",)
                await c.until(lambda: "other is authenticated" in c.store._announcer._said.get("user", ""))
                etcd.ctl("user", "delete", "agent")
                await c.seen(A, await c.committed_at_last(Put(A, lease(2), session=True)))
                assert c.store.counters["session_granted"] == 1

        asyncio.run(scenario())


def test_a_certificate_that_was_replaced_on_disk_is_shown_at_the_next_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Ours expires, etcd restarts and lets nobody in; a new one is put into the same files."""
    with loopback_etcd(tls=True, demand_client_certificate=True) as etcd:
        tls = etcd.tls
        assert tls is not None
        authority = Authority(tls.ca.parent, Certificate(tls.ca, tls.ca.parent / "ca.key"))
        ours = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
        put(tls.client, ours)

        async def scenario() -> None:
            made = settings(etcd.endpoints, ca=tls.ca, certificate=ours.certificate, key=ours.key)
            async with client(made) as c:
                await c.committed(Put(A, lease(1)))
                ends = c.store.certificate_expires
                assert ends is not None
                assert 6 * 86400 < ends - time.time() <= 7 * 86400
                put(authority.expire(tls.client), ours)
                etcd.stop()
                etcd.start()
                await c.until(lambda: c.store.certificate_expires != ends)
                refused = await c.commit(Put(A, lease(2)), patience=2000 * MS)
                assert isinstance(refused, Unanswered)
                assert "our own certificate expired at 20" in refused.why
                assert str(ours.certificate) in refused.why
                put(authority.issue("again"), ours)
                await c.seen(A, await c.committed_at_last(Put(A, lease(3))))

        asyncio.run(scenario())
    assert "our own certificate expired at" in caplog.text
    assert caplog.text.count("not connected") <= 3


def put(made: Certificate, where: Certificate) -> None:
    """As somebody does who replaces both files, one after the other."""
    shutil.copy(made.certificate, where.certificate)
    shutil.copy(made.key, where.key)
