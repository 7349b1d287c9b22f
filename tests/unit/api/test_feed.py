"""The feed: what is said at once, what is said together, what is rendered how often, and who is let go."""

from __future__ import annotations

import asyncio
import json

import pytest

from haagent.api.http import feed as feeding
from haagent.api.http.feed import Feed, Throttled, TooSlowError, as_json
from haagent.v1.status_pb2 import Status
from tests.unit.api.values import status


class Client:
    """Takes what it is sent, until `full`."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.full = False

    def unsent(self) -> int:
        return 1 if self.full else 0

    async def send(self, data: bytes) -> None:
        self.got.append(data)

    def kinds(self) -> list[str]:
        return [
            line.removeprefix(b"event: ").decode()
            for data in self.got
            for line in data.split(b"\n")[:3]
            if line.startswith(b"event: ")
        ]

    async def has(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.got) < count:  # noqa: ASYNC110 - a test looks at what came
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "PAUSE", 0.02)
    monkeypatch.setattr(feeding, "AT_LEAST_EVERY", 0.1)
    monkeypatch.setattr(feeding, "PATIENCE", 0.1)


def make() -> tuple[Feed, list[int]]:
    """A feed, and how often its status was asked for."""
    asked: list[int] = []

    async def shown() -> Status:
        asked.append(1)
        return Status(cluster="prod")

    return Feed(shown, lambda: (800.0, 1000.0)), asked


def test_a_status_at_once_then_again_though_nothing_changes():
    async def run() -> None:
        feed, _ = make()
        client = Client()
        following = asyncio.create_task(feed.stream(client))
        await client.has(3)
        following.cancel()
        await asyncio.wait([following])
        assert client.got[0].startswith(b"retry: 1000\n\nevent: status\ndata: {")
        assert client.kinds()[:3] == ["status"] * 3

    asyncio.run(run())


def test_many_changes_are_told_as_one():
    async def run() -> None:
        feed, asked = make()
        client = Client()
        following = asyncio.create_task(feed.stream(client))
        await client.has(2)
        for _ in range(1000):
            feed.changed()
        await client.has(3)
        following.cancel()
        await asyncio.wait([following])
        assert len(asked) <= 4

    asyncio.run(run())


def test_a_renewal_is_told_in_a_few_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeding, "AT_LEAST_EVERY", 60)

    async def run() -> None:
        feed, _ = make()
        client = Client()
        following = asyncio.create_task(feed.stream(client))
        await client.has(1)
        feed.renewed()
        await client.has(2)
        following.cancel()
        await asyncio.wait([following])
        assert client.got[-1] == b'event: lease\ndata: {"left": 800.0, "ttl": 1000.0}\n\n'

    asyncio.run(run())


def test_nothing_is_rendered_when_nobody_follows():
    async def run() -> None:
        feed, asked = make()
        feed.changed()
        await asyncio.sleep(0.05)
        assert asked == []

    asyncio.run(run())


def test_who_missed_a_status_gets_the_newest_one_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeding, "AT_LEAST_EVERY", 60)
    monkeypatch.setattr(feeding, "PATIENCE", 60)

    async def run() -> None:
        feed, _ = make()
        slow, well = Client(), Client()
        tasks = [asyncio.create_task(feed.stream(client)) for client in (slow, well)]
        await slow.has(1)
        await well.has(1)
        slow.full = True
        feed.changed()
        await well.has(2)
        feed.renewed()
        await well.has(3)
        slow.full = False
        feed.renewed()
        await slow.has(2)
        assert well.kinds() == ["status", "status", "lease", "lease"][: len(well.got)]
        assert slow.kinds() == ["status", "status"]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(run())


def test_who_takes_nothing_is_let_go_and_the_others_are_not():
    async def run() -> None:
        feed, _ = make()
        stuck, well = Client(), Client()
        tasks = [asyncio.create_task(feed.stream(client)) for client in (stuck, well)]
        await stuck.has(1)
        stuck.full = True
        with pytest.raises(TooSlowError):
            await asyncio.wait_for(tasks[0], 10)
        before = len(well.got)
        await well.has(before + 1)
        assert len(stuck.got) <= 2
        tasks[1].cancel()
        await asyncio.wait(tasks)

    asyncio.run(run())


def test_who_hangs_in_the_middle_of_an_event_is_let_go():
    class Hung(Client):
        async def send(self, data: bytes) -> None:
            await asyncio.sleep(60)

    async def run() -> None:
        feed, _ = make()
        with pytest.raises(TooSlowError):
            await asyncio.wait_for(feed.stream(Hung()), 10)

    asyncio.run(run())


def test_a_status_that_can_not_be_rendered_lets_all_go(caplog: pytest.LogCaptureFixture):
    async def run() -> None:
        left = [Status(), Status()]

        async def shown() -> Status:
            return left.pop()

        feed = Feed(shown, lambda: (0.0, 0.0))
        client = Client()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(feed.stream(client), 10)

    asyncio.run(run())
    assert "can not be told" in caplog.text


def test_what_takes_long_is_rendered_rarely_but_within_a_second(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeding, "PAUSE", 0.2)
    now = [0.0]
    made: list[float] = []

    def rendering(takes: float) -> int:
        def render(_: Status) -> bytes:
            made.append(now[0])
            now[0] += takes
            return b"x"

        async def shown() -> Status:
            now[0] += 0.05  # of other things that the loop does meanwhile
            return Status()

        async def run() -> None:
            text = Throttled(shown, render, clock=lambda: now[0], cost=lambda: now[0])
            while now[0] < 10:
                assert await text.get() == b"x"
                now[0] += 0.01

        now[0] = 0.0
        made.clear()
        asyncio.run(run())
        return len(made)

    assert 30 < rendering(0.001) <= 10 / 0.2
    assert rendering(0.02) * 0.02 <= 10 / feeding.SHARE
    assert rendering(0.2) >= 10


def test_the_whole_status_is_one_line():
    text = as_json(status())
    assert b"\n" not in text
    assert json.loads(text)["self"]["node"] == "n1"
