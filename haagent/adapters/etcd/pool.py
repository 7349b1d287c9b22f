"""All endpoints, in the order in which they are to be used, and the one way in which calls are made.

A call goes to the first endpoint that is connected and not suspected. An endpoint that fails or does not answer is
suspected, and put behind the others until those fail. What is wrong with one may be wrong with any: a follower does
not answer because the leader is gone, and the leader may be the next in order. So all others are in doubt then, and
are probed at once; the first that answers is used. While none does, a call goes to the one that last said anything,
be it "no leader"; and if all are silent, to each in turn.

A call whose failure says that it was not done is made again, on the next endpoint, while its deadline lasts; one that
may have been done is made again only if the caller says that it may be.

gRPC itself never sends a call twice here: it has no retry policy, and so repeats only what provably did not leave
(gRFC A6, "transparent retries"). An endpoint that can not be reached costs a call nothing, because it is not
called: connecting is `Endpoint.tend`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from aetcd import rpc
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.auth import Access
from haagent.adapters.etcd.endpoint import Endpoint
from haagent.adapters.etcd.failures import FAILURES, CallError, Trouble, failure
from haagent.adapters.etcd.settings import Target

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]
Method = Callable[[Endpoint, Metadata, float], Awaitable[T]]
"""One try of a call: at an endpoint, with metadata, with a timeout in seconds."""

# Asks etcd to say at once that it has no leader, instead of waiting for one; and to end a watch when it loses it.
_REQUIRE_LEADER: Final[Metadata] = (("hasleader", "true"),)

_BACKOFF: Final = wait_random_exponential(multiplier=0.005, max=0.2)
_WORTH_TRYING: Final = 0.005
_OVERDUE: Final = 0.2
"""The part of a call's time after which a better endpoint is looked for. The core renews each quarter of its ttl,
answered or not: the renewal after the one that got lost must find it."""
_AGAINST: Final = {Trouble.UNKNOWN, Trouble.TURNED_AWAY}
"""What speaks against the endpoint; all else is an answer."""
_PROBE: Final = 0.2
_PROBE_PAUSE: Final = (0.05, 0.5)
_NOTHING: Final = rpc.RangeRequest(key=b"/haagent/", limit=1)
_SILENCE: Final = 1.0
_TURNS: Final = 1.0


class Pool:
    """Made on the running event loop. `access`: what authenticates connections and calls."""

    def __init__(
        self,
        targets: Sequence[Target],
        access: Access,
        counters: Counter[str],
        announcer: Announcer,
    ) -> None:
        self._order = [Endpoint(target, access.trust) for target in targets]
        self._access = access
        self._counters = counters
        self._announcer = announcer
        self._changed = asyncio.Event()
        self.full = asyncio.Event()
        """Set when an endpoint says that it has no space left."""
        self._loop = asyncio.get_running_loop()
        self._answered_at = self._loop.time()
        self._moved_at = 0.0
        self._ever_answered = False

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them, in the order in which they are to be used."""
        return tuple(self._order)

    @property
    def answers(self) -> bool:
        """Whether any endpoint has answered within the last second."""
        return self._ever_answered and self._loop.time() - self._answered_at <= _SILENCE

    async def tend(self) -> None:
        """Keep all endpoints connected, and us authenticated. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._access.keep(self))
            for endpoint in tuple(self._order):
                tasks.create_task(endpoint.tend(self._hear))
                tasks.create_task(self._probe(endpoint))

    async def close(self) -> None:
        """Close every channel. Calls on them must have ended."""
        await asyncio.gather(*(endpoint.close() for endpoint in self._order))

    async def call(self, method: Method[T], deadline: float, *, repeatable: bool, authenticated: bool = True) -> T:
        """Make a call, until `deadline` (event loop time) at the latest. Raises CallError, and nothing else.

        `repeatable`: doing it twice is as good as doing it once, so it may be made again after any failure.
        """
        loop = self._loop
        overdue_after = (deadline - loop.time()) * _OVERDUE

        def again(error: BaseException) -> bool:
            if not isinstance(error, CallError):
                return False
            if error.trouble is Trouble.TOKEN:
                return self._access.needs_token
            return error.trouble is Trouble.TURNED_AWAY or (repeatable and error.trouble is Trouble.UNKNOWN)

        def wait(state: RetryCallState) -> float:
            # The first round over all endpoints needs no pause: as a rule each is another one.
            return 0.0 if state.attempt_number < len(self._order) else _BACKOFF(state)

        def stop(state: RetryCallState) -> bool:
            # What this failure says is worth more than that there was no time left for another.
            return loop.time() + state.upcoming_sleep + _WORTH_TRYING >= deadline

        async for attempt in AsyncRetrying(retry=retry_if_exception(again), stop=stop, wait=wait, reraise=True):
            with attempt:
                metadata = await self.metadata(deadline) if authenticated else _REQUIRE_LEADER
                endpoint = await self.connected(deadline)
                timeout = max(deadline - loop.time(), 0.001)
                if repeatable and len(self._order) > 1:
                    # Leave time to ask another one.
                    timeout = max(timeout / 2, min(timeout, 0.02))
                async with self._watched(endpoint, loop.time() + overdue_after, metadata):
                    return await method(endpoint, metadata, timeout)
        raise AssertionError("either returned or raised")

    async def connected(self, deadline: float) -> Endpoint:
        """The endpoint to use now; waits for one to be connected. CallError (not sent) if none is in time."""
        while (endpoint := self._choose()) is None:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                reasons = ", ".join(f"{endpoint.name}: {endpoint.why}" for endpoint in self._order)
                raise CallError(f"no endpoint is connected ({reasons})", Trouble.NOT_SENT) from None
        return endpoint

    async def metadata(self, deadline: float) -> Metadata:
        """What goes with every call. CallError (not sent) if there is no token in time."""
        token = await self._access.token(deadline)
        return (*_REQUIRE_LEADER, ("token", token)) if token else _REQUIRE_LEADER

    def put_behind(self, endpoint: Endpoint, why: str) -> None:
        """Use the other endpoints before this one."""
        before = self._order[0], self._next()
        self._order.remove(endpoint)
        self._order.append(endpoint)
        after = self._next()
        if endpoint in before and after is not endpoint:
            self._counters["failed_over"] += 1
            # Where all are slow they take turns with every call; that is not worth a line each time.
            if self._loop.time() - self._moved_at > _TURNS:
                self._announcer.bad("in use", f"{after.name} instead of {endpoint.name} ({why})")
            self._moved_at = self._loop.time()

    def _next(self) -> Endpoint:
        """The one that a call would go to; of those that do not answer, the first."""
        connected = [endpoint for endpoint in self._order if endpoint.connected] or self._order
        return next((endpoint for endpoint in connected if not endpoint.suspected.is_set()), connected[0])

    def drop_token(self, metadata: Metadata) -> None:
        """A call was refused for the token it carried."""
        self._access.drop_token(dict(metadata).get("token", ""))

    def answered(self, endpoint: Endpoint) -> None:
        """The endpoint answered something."""
        self._answered_at = self._loop.time()
        self._ever_answered = True
        endpoint.clear(self._answered_at)
        self._announcer.over("answers", "again")

    def failed(self, endpoint: Endpoint, error: CallError) -> None:
        """A call or a stream at the endpoint ended so; draw the conclusions for those to come."""
        if error.trouble not in _AGAINST:
            self.answered(endpoint)
            return
        self._doubt(endpoint, spoke=error.trouble is Trouble.TURNED_AWAY)
        self.put_behind(endpoint, error.why)
        # A short silence is nothing to report: the core sees each unanswered call.
        if self._loop.time() - self._answered_at > _SILENCE:
            self._announcer.bad("answers", "no endpoint does")

    @contextlib.asynccontextmanager
    async def _watched(self, endpoint: Endpoint, overdue_at: float, metadata: Metadata) -> AsyncGenerator[None]:
        number = endpoint.begin(overdue_at)
        overdue = self._loop.call_at(overdue_at, self._look_for_overdue, endpoint)
        try:
            yield
        except FAILURES as raised:
            error = failure(raised)
            self._counters[f"call_{error.trouble.name.lower()}"] += 1
            if error.trouble is Trouble.TOKEN:
                self.drop_token(metadata)
            if error.trouble is Trouble.FULL:
                self.full.set()
            if endpoint.end(number) or error.trouble not in _AGAINST:
                self.failed(endpoint, error)
            raise error from None
        else:
            self.answered(endpoint)
        finally:
            overdue.cancel()
            endpoint.end(number)

    def _look_for_overdue(self, endpoint: Endpoint) -> None:
        # An answer to a later call speaks for the endpoint, and then this one is not waited for any more.
        if endpoint.overdue(self._loop.time()):
            self._doubt(endpoint, spoke=False)

    def _doubt(self, endpoint: Endpoint, *, spoke: bool) -> None:
        """Something is wrong, and seen at this endpoint: avoid all of them, until they answer a probe or a call."""
        (endpoint.spoke if spoke else endpoint.missed)(self._loop.time())
        for each in self._order:
            each.suspect()

    def _choose(self) -> Endpoint | None:
        connected = [endpoint for endpoint in self._order if endpoint.connected]
        good = next((endpoint for endpoint in connected if not endpoint.suspected.is_set()), None)
        if good is None:
            return max(connected, key=lambda endpoint: endpoint.standing, default=None)
        # The last first: it is the first that the others are used instead of.
        for endpoint in reversed(connected[: connected.index(good)]):
            self.put_behind(endpoint, "an answer is overdue")
        return good

    async def _probe(self, endpoint: Endpoint) -> None:
        """Find out whether a suspected endpoint works, at no call's cost: at once, and after an election or a pause."""
        pause = _PROBE_PAUSE[0]
        while True:
            await endpoint.suspected.wait()
            try:
                if endpoint.connected:
                    metadata = await self.metadata(self._loop.time() + _PROBE)
                    await endpoint.kv.Range(_NOTHING, metadata=metadata, timeout=_PROBE)
                    endpoint.clear(self._loop.time())
            except CallError:
                pass
            except FAILURES as raised:
                trouble = failure(raised).trouble
                if trouble not in _AGAINST:
                    endpoint.clear(self._loop.time())
                elif trouble is Trouble.TURNED_AWAY:
                    endpoint.spoke(self._loop.time())
            pause = min(pause * 2, _PROBE_PAUSE[1]) if endpoint.suspected.is_set() else _PROBE_PAUSE[0]
            await asyncio.sleep(pause)

    def _hear(self, endpoint: Endpoint, connected: bool) -> None:
        if connected:
            self._announcer.good(endpoint.name, "connected")
        else:
            self._announcer.bad(endpoint.name, f"not connected ({endpoint.why})")
        self._changed.set()
