"""How etcd itself is: versions, sizes, alarms; who compacts history that nobody else compacts; an etcd that is full."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Generator

import pytest

from haagent.adapters.etcd import upkeep
from haagent.core.model import Listed, Unanswered
from haagent.core.records import Put
from haagent.core.units import MS
from haagent.lab.commands import LabError
from haagent.lab.etcd import Etcd, loopback_etcd
from tests.integration.etcd_client import A, Client, assert_in_order, client, lease, settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

QUOTA = 4 << 20
AFTER = 0.6


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Everything a thousand times as often as it is."""
    for name, seconds in {"LOOK": 0.05, "LOOK_WHILE_FULL": 0.1, "SHORTEN": 0.2, "SLACK": 0.4}.items():
        monkeypatch.setattr(upkeep, name, seconds)
    caplog.set_level(logging.INFO, logger="haagent.etcd")


@pytest.fixture
def etcd() -> Generator[Etcd]:
    with loopback_etcd() as made:
        yield made


async def renew_until(c: Client, condition: object, *, patience: int = 1000 * MS) -> None:
    """Write as an owner does, until it is so."""
    assert callable(condition)
    async with asyncio.timeout(30):
        while not condition():
            await c.commit(Put(A, lease(1)), patience=patience)
            await asyncio.sleep(0.01)


def there(etcd: Etcd, revision: int) -> bool:
    try:
        etcd.ctl("get", "x", f"--rev={revision}")
    except LabError as error:
        if "compacted" not in str(error):
            raise
        return False
    return True


def test_what_its_members_are(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            await renew_until(c, lambda: c.store.condition.members and c.store.condition.revisions_a_day)
            (member,) = c.store.condition.members
            shown = json.loads(etcd.ctl("endpoint", "status", "--write-out=json"))[0]["Status"]
            assert member.version == shown["version"]
            assert member.endpoint == etcd.endpoints[0].removeprefix("http://")
            assert 0 < member.used <= member.size <= shown["dbSize"]
            assert member.alarms == ()

    asyncio.run(scenario())


def test_old_history_is_compacted_by_one_of_us_and_the_watch_misses_nothing(etcd: Etcd):
    async def scenario() -> None:
        made = settings(etcd.endpoints, compact_after=AFTER)
        async with client(made) as one, client(made) as other:
            first = await one.committed(Put(A, lease(0)))
            assert there(etcd, first)
            done = ("this node compacts", "somebody else")
            await renew_until(one, lambda: one.store.condition.compaction.startswith(done))
            await renew_until(one, lambda: other.store.condition.compaction.startswith(done))
            assert not there(etcd, first)
            assert "this node compacts" in one.store.condition.compaction + other.store.condition.compaction
            for c in (one, other):
                assert not c.store.condition.uncompacted
                assert c.store.counters["compacted"] == 0
                assert len(c.all(Listed)) == 1
                assert_in_order(c.events)

    asyncio.run(scenario())


def test_somebody_else_compacts_so_we_do_not(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints, compact_after=AFTER)) as c:
            end = asyncio.get_running_loop().time() + 3
            while asyncio.get_running_loop().time() < end:
                await c.committed(Put(A, lease(1)))
                await asyncio.to_thread(etcd.compact)
            assert c.store.condition.compaction.startswith("somebody")
            assert "this node compacts" not in c.store._announcer._said.values()

    asyncio.run(scenario())


def test_nobody_compacts_and_that_is_said_loudly(
    etcd: Etcd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """`compact_after` 0: from the first day where history was never compacted, else once it is six hours old."""
    monkeypatch.setattr(upkeep, "UNTOUCHED", 20)

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            await renew_until(c, lambda: c.store.condition.uncompacted)
            assert "nobody has ever compacted its" in c.store.condition.compaction
            assert there(etcd, 2)

    asyncio.run(scenario())
    assert caplog.text.count("WARNING") == 1, caplog.text


def test_a_user_of_one_prefix_may_compact(etcd: Etcd):
    """etcd asks no permission of who compacts: the role that an agent needs is enough."""
    etcd.ctl("role", "add", "agents")
    etcd.ctl("role", "grant-permission", "agents", "--prefix=true", "readwrite", "/haagent/test/")
    etcd.ctl("user", "add", "agent:secret")
    etcd.ctl("user", "grant-role", "agent", "agents")
    etcd.require_password("root", "admin")

    async def scenario() -> None:
        made = settings(etcd.endpoints, user="agent", password="secret", compact_after=AFTER)
        async with client(made) as c:
            await renew_until(c, lambda: c.store.condition.compaction.startswith("this node compacts"))
            assert c.store.condition.members

    asyncio.run(scenario())


def test_full_and_room_made(etcd: Etcd, caplog: pytest.LogCaptureFixture):
    """It is said once, by its name; nothing flips meanwhile, and writes go on as soon as an operator made room."""
    etcd.limit(QUOTA)

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            await c.committed(Put(A, lease(1), session=True))
            await asyncio.to_thread(etcd.fill)
            refused = await c.commit(Put(A, lease(2)), patience=500 * MS)
            assert isinstance(refused, Unanswered)
            assert refused.why == "etcd is full (NOSPACE): it takes no writes"
            await renew_until(c, lambda: [one.alarms for one in c.store.condition.members] == [("NOSPACE",)])
            for _ in range(20):
                await c.commit(Put(A, lease(2)), patience=250 * MS)
                assert c.store.reachable
            await asyncio.to_thread(etcd.make_room)
            await c.seen(A, await c.committed_at_last(Put(A, lease(3))))
            await renew_until(c, lambda: not c.store.condition.members[0].alarms)

    asyncio.run(scenario())
    lines = [record.getMessage() for record in caplog.records if record.name == "haagent.etcd"]
    assert len([line for line in lines if "etcd: space: NOSPACE: etcd is full" in line]) == 1, lines
    assert len([line for line in lines if "etcd: space: etcd takes writes again" in line]) == 1, lines
    assert not [line for line in lines if "answers" in line or "in use" in line], lines
