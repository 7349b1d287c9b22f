"""Which endpoint a call goes to when some of them fall silent or lose their leader, with endpoints made of nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio
import pytest

from haagent.adapters.etcd import pool as pool_module
from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.auth import Access
from haagent.adapters.etcd.endpoint import Endpoint
from haagent.adapters.etcd.failures import CallError
from haagent.adapters.etcd.pool import Pool
from haagent.adapters.etcd.settings import EtcdSettings, Target
from haagent.adapters.etcd.trust import Trust

PATIENCE = 1.0
"""Of a call: after a fifth of it the answer is overdue, after a quarter the core asks again."""
AGAIN = PATIENCE / 4


class Scripted(Endpoint):
    """An endpoint that is always connected. `mood` is how it answers: "well", "silent", "no leader"."""

    def __init__(self, target: Target, trust: Trust) -> None:
        super().__init__(target, trust)
        self.mood = "well"
        self.calls = 0
        self.kv: Any = self  # the only call of a pool's own is the probe's `kv.Range`

    @property
    def connected(self) -> bool:
        return True

    async def Range(self, *_: object, timeout: float, **__: object) -> str:  # noqa: N802, ASYNC109 - gRPC's
        return await self.answer(timeout)

    async def answer(self, timeout: float) -> str:  # noqa: ASYNC109
        match self.mood:
            case "silent":
                await asyncio.sleep(timeout)
                raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            case "no leader":
                raise _error(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
            case _:
                return self.name.removesuffix(":1")


def _error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@contextlib.asynccontextmanager
async def pool_of(monkeypatch: pytest.MonkeyPatch, **moods: str) -> AsyncGenerator[tuple[Pool, dict[str, Scripted]]]:
    """A pool that runs, with these endpoints in this order."""
    monkeypatch.setattr(pool_module, "Endpoint", Scripted)
    announcer = Announcer()
    access = Access(EtcdSettings(tuple(f"{name}:1" for name in moods), "c"), announcer)
    made = Pool([Target(name, 1) for name in moods], access, Counter(), announcer)
    by_name = {one.name.removesuffix(":1"): one for one in made._order if isinstance(one, Scripted)}
    for name, mood in moods.items():
        by_name[name].mood = mood
    probes = [asyncio.create_task(made._probe(one)) for one in made._order]
    try:
        yield made, by_name
    finally:
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        await made.close()


def ask(pool: Pool) -> asyncio.Task[str]:
    """A call as a renewal is made: once, unless it was not done."""

    async def method(endpoint: Endpoint, _: object, timeout: float) -> str:  # noqa: ASYNC109
        assert isinstance(endpoint, Scripted)
        endpoint.calls += 1
        return await endpoint.answer(timeout)

    return asyncio.create_task(pool.call(method, asyncio.get_running_loop().time() + PATIENCE, repeatable=False))


def test_the_second_renewal_does_not_go_to_another_silent_endpoint(monkeypatch: pytest.MonkeyPatch):
    """The leader fell silent. A follower waits for it, and the next in order is the leader itself."""

    async def scenario() -> None:
        async with pool_of(monkeypatch, follower="silent", leader="silent", other="well") as (pool, endpoints):
            first = ask(pool)
            await asyncio.sleep(AGAIN)
            assert await ask(pool) == "other"
            assert endpoints["leader"].calls == 0
            with pytest.raises(CallError, match="no answer in time"):
                await first

    asyncio.run(scenario())


def test_who_said_that_it_has_no_leader_is_asked_again_before_who_may_be_silent(monkeypatch: pytest.MonkeyPatch):
    """During an election: the call waits where somebody answers, and is done when there is a leader."""

    async def scenario() -> None:
        async with pool_of(monkeypatch, follower="no leader", leader="silent", other="no leader") as (pool, endpoints):
            asked = ask(pool)
            await asyncio.sleep(AGAIN)
            endpoints["follower"].mood = endpoints["other"].mood = "well"
            assert await asked in ("follower", "other")
            assert endpoints["leader"].calls == 0

    asyncio.run(scenario())


def test_an_endpoint_that_was_only_slow_stays_the_first(monkeypatch: pytest.MonkeyPatch):
    """Its answer is overdue, but it answers the probe: no need to leave it."""

    async def scenario() -> None:
        async with pool_of(monkeypatch, first="silent", second="well") as (pool, endpoints):
            slow = ask(pool)
            await asyncio.sleep(0)
            endpoints["first"].mood = "well"
            await asyncio.sleep(AGAIN)
            assert await ask(pool) == "first"
            with pytest.raises(CallError):
                await slow

    asyncio.run(scenario())


def test_when_nobody_answers_calls_take_turns(monkeypatch: pytest.MonkeyPatch):
    async def scenario() -> None:
        async with pool_of(monkeypatch, one="silent", two="silent", three="silent") as (pool, endpoints):
            calls = []
            for _ in range(6):
                calls.append(ask(pool))
                await asyncio.sleep(AGAIN)
            for call in calls:
                with pytest.raises(CallError, match="no answer in time"):
                    await call
            assert all(endpoint.calls for endpoint in endpoints.values())

    asyncio.run(scenario())
