"""The etcd adapter when etcd fails: gone, stopped, without a leader, compacted, wiped; and what it says in the log."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
from tenacity import RetryCallState

from haagent.adapters.etcd.watch import Watcher
from haagent.core.model import Committed, Listed, Unanswered
from haagent.core.records import Put
from haagent.core.units import MS, S
from haagent.lab.etcd import Etcd, loopback_etcd
from tests.integration.etcd_client import (
    CLUSTER,
    WEB,
    A,
    Answer,
    Client,
    assert_in_order,
    client,
    lease,
    owner,
    settings,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def etcd() -> Generator[Etcd]:
    with loopback_etcd() as made:
        yield made


@pytest.fixture
def three() -> Generator[Etcd]:
    with loopback_etcd(3) as made:
        yield made


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    """However etcd fails, the log has a line per change, not per attempt."""
    caplog.set_level(logging.INFO, logger="haagent.etcd")
    yield
    lines = [record.getMessage() for record in caplog.records if record.name == "haagent.etcd"]
    assert len(lines) <= 40, lines
    assert not any(count > 6 for count in Counter(lines).values()), lines


def endpoints(etcd: Etcd, *, follower_first: bool) -> list[str]:
    """All endpoints; the first, which will be used, is a follower's or the leader's."""
    leader = etcd.leader().endpoint
    others = [endpoint for endpoint in etcd.endpoints if endpoint != leader]
    return [*others, leader] if follower_first else [leader, *others]


async def connected(c: Client, count: int) -> None:
    """Wait until that many endpoints are connected, so that the first one is in use."""
    running = c.store._running
    assert running is not None
    await c.until(lambda: sum(endpoint.connected for endpoint in running.pool._order) == count)


async def renew_until_committed(c: Client, every: float = 0.25) -> int:
    """As the core renews: on and on, whatever is unanswered. How many it took."""
    asked: list[asyncio.Task[Answer]] = []
    try:
        while True:
            asked.append(asyncio.create_task(c.commit(Put(A, lease(len(asked))), patience=970 * MS)))
            done, _ = await asyncio.wait(asked, timeout=every, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(one.result(), Committed) for one in done):
                return len(asked)
            assert len(asked) < 100
            await asyncio.sleep(every if done else 0)
    finally:
        await asyncio.gather(*asked)


def test_etcd_restarted(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            await c.seen(A, await c.committed(Put(A, lease(1))))
            name = c.all(Listed)[0].cluster
            etcd.stop()
            answer = await c.commit(Put(A, lease(2)), patience=300 * MS)
            assert isinstance(answer, Unanswered)
            before = len(c.events)
            etcd.start()
            await c.seen(A, await c.committed_at_last(Put(A, lease(3))))
            listed = await c.next(Listed, before)
            assert listed.cluster == name
            assert_in_order(c.events)

    asyncio.run(scenario())


def test_etcd_not_there_yet(etcd: Etcd, caplog: pytest.LogCaptureFixture):
    etcd.stop()

    async def scenario() -> None:
        async with client(settings(etcd.endpoints), listed=False) as c:
            answer = await c.commit(Put(A, lease(1)), patience=500 * MS)
            assert isinstance(answer, Unanswered)
            assert "connection refused" in answer.why
            assert not c.all(Listed)
            etcd.start()
            await c.until(lambda: c.all(Listed))
            await c.committed(Put(A, lease(1)))

    asyncio.run(scenario())
    assert "not connected (connection refused)" in caplog.text


def test_an_endpoint_that_is_not_there_costs_a_commit_nothing(etcd: Etcd):
    async def scenario(dead: str) -> None:
        async with client(settings([dead, *etcd.endpoints])) as c:
            for number in range(10):
                await c.committed(Put(A, lease(number)))
            assert c.store.counters["unanswered"] == 0

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # not listening: refused
        asyncio.run(scenario(f"http://127.0.0.1:{bound.getsockname()[1]}"))


def test_the_endpoint_in_use_killed(three: Etcd):
    async def scenario() -> None:
        ordered = endpoints(three, follower_first=True)
        async with client(settings(ordered)) as c:
            await connected(c, 3)
            await c.committed(Put(A, lease(1)))
            next(member for member in three.members if member.endpoint == ordered[0]).kill()
            await renew_until_committed(c)
            await c.seen(A, await c.committed_at_last(Put(A, lease(2))))
            assert_in_order(c.events)

    asyncio.run(scenario())


def test_the_endpoint_in_use_hangs(three: Etcd):
    """Its connections stay open and nothing answers: the renewal after the lost one goes elsewhere."""

    async def scenario() -> None:
        ordered = endpoints(three, follower_first=True)
        async with client(settings(ordered)) as c:
            await connected(c, 3)
            await c.committed(Put(A, lease(1)))
            hung = next(member for member in three.members if member.endpoint == ordered[0])
            hung.pause()
            # Two are enough on an idle machine.
            assert await renew_until_committed(c) <= 12
            c.store.resync()
            at = await c.committed_at_last(Put(WEB, owner(1)))
            await c.seen(WEB, at)
            hung.resume()
            assert_in_order(c.events)

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_the_leader_lost(three: Etcd, how: str):
    async def scenario() -> None:
        async with client(settings(endpoints(three, follower_first=False))) as c:
            await connected(c, 3)
            await c.committed(Put(A, lease(1)))
            leader = three.leader()
            if how == "kill":
                leader.kill()
            else:
                leader.pause()
            await renew_until_committed(c)
            c.store.resync()
            await c.seen(A, await c.committed_at_last(Put(A, lease(2))))
            if how == "pause":
                leader.resume()
            assert_in_order(c.events)

    asyncio.run(scenario())


def test_no_quorum(three: Etcd):
    """The member that is left says that it has no leader, or nothing; it never commits; then all is well again."""

    async def scenario() -> None:
        async with client(settings(three.endpoints)) as c:
            await connected(c, 3)
            before = await c.committed(Put(A, lease(1)))
            for member in three.members[:2]:
                member.pause()
            for number in range(8):
                answer = await c.commit(Put(A, lease(10 + number)), patience=400 * MS)
                assert isinstance(answer, Unanswered), answer
            for member in three.members[:2]:
                member.resume()
            after = await c.committed_at_last(Put(A, lease(2)))
            assert after > before
            c.store.resync()
            await c.seen(A, after)
            assert_in_order(c.events)

    asyncio.run(scenario())


def test_compacted_between_list_and_watch(
    etcd: Etcd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    listing, lists = Watcher._list, 0

    async def then_compact(watcher: Watcher, state: RetryCallState) -> Any:
        nonlocal lists
        listed = await listing(watcher, state)
        lists += 1
        if lists == 1:  # on the event loop, right after the list: the watch has not begun
            etcd.ctl("put", f"/haagent/{CLUSTER}/leases/missed", "{}")
            etcd.compact()
        return listed

    async def scenario() -> None:
        async with client(settings(etcd.endpoints), listed=False) as c:
            await c.until(lambda: len(c.all(Listed)) == 2)
            assert [one.key.name for one in c.all(Listed)[1].seen] == ["missed"]
            assert c.store.counters["compacted"] == 1
            await c.seen(A, await c.committed(Put(A, lease(1))))
            assert_in_order(c.events)

    monkeypatch.setattr(Watcher, "_list", then_compact)
    asyncio.run(scenario())
    assert caplog.text.count("watch: ended (history was compacted since the list") == 1


def test_wiped_and_set_up_as_before(etcd: Etcd):
    """The same cluster id, and revisions from the start: another etcd all the same."""

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            for number in range(100):
                await c.committed(Put(A, lease(number), session=True))
            before = len(c.events)
            etcd.wipe()
            listed = await c.next(Listed, before)
            old = c.all(Listed)[0].cluster
            assert listed.cluster == f"{old}.1"
            assert listed.seen == ()
            assert listed.revision < 100
            at = await c.committed(Put(A, lease(1), session=True))
            await c.seen(A, at)
            c.store.resync()
            assert (await c.next(Listed, len(c.events))).cluster == f"{old}.1"

    asyncio.run(scenario())


def test_an_answer_of_a_wiped_etcd_is_none(etcd: Etcd):
    """The first to ask after the wipe must not take the new etcd's answer for one about the old one's keys."""

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            for number in range(100):
                await c.committed(Put(A, lease(number)))
            wiped = len(c.events)
            etcd.wipe()  # blocks the event loop: nothing was listed yet
            answers: list[Answer] = []
            while not any(isinstance(event, Listed) for event in c.events[wiped:]):
                answers.append(await c.commit(Put(A, lease(1)), patience=1 * S))
            listed = next(event for event in c.events[wiped:] if isinstance(event, Listed))
            early = c.events[wiped : c.events.index(listed)]
            assert not [event for event in early if isinstance(event, Committed)]

    asyncio.run(scenario())


def test_a_stopped_etcd_that_goes_on_loses_nothing(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            await c.committed(Put(A, lease(1)))
            etcd.members[0].pause()
            answer = await c.commit(Put(A, lease(2)), patience=200 * MS)
            assert isinstance(answer, Unanswered)
            etcd.resume()
            await c.seen(A, await c.committed_at_last(Put(A, lease(3))))
            assert_in_order(c.events)

    asyncio.run(scenario())
