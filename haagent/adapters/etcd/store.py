"""The store: the core's questions to etcd, answered one by one, and what stands there, as it changes.

A node that takes a thousand groups asks a thousand questions in one go. Were all sent at once, the next renewal would
wait behind them, here and in etcd. So they are sent AT_ONCE at a time, in order; renewals wait for no other question.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aetcd import rpc

from haagent.adapters.etcd import requests
from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.auth import Access
from haagent.adapters.etcd.failures import CallError, Trouble
from haagent.adapters.etcd.lineage import Lineage, Mark
from haagent.adapters.etcd.operators import EtcdRecords
from haagent.adapters.etcd.pool import Pool
from haagent.adapters.etcd.session import Session
from haagent.adapters.etcd.settings import EtcdSettings, targets
from haagent.adapters.etcd.together import MOST, Together
from haagent.adapters.etcd.upkeep import Condition, Upkeep
from haagent.adapters.etcd.watch import Watcher
from haagent.core.model import Ask, Asking, Commit, Committed, Look, Refused, Unanswered
from haagent.core.units import Duration, S
from haagent.runtime.ports import Deliver

AT_ONCE: Final = 2 * MOST
"""Questions under way, renewals apart: what goes in two calls. etcd takes some 5 ms for each."""
WAITING_MOST: Final = 10_000
"""Questions that wait for their turn; one more is answered at once, by `Unanswered`."""
LATENCIES: Final = 256
"""How many renewals' latencies are kept."""

_Answer = Committed | Refused


@dataclass(frozen=True, slots=True)
class _Question:
    """What is to be done for a question, and by when (event loop time)."""

    ask: Ask
    work: Callable[[_Running], Awaitable[_Answer]]
    deadline: float


@dataclass(frozen=True, slots=True)
class _Running:
    """What exists while `run` runs."""

    tasks: asyncio.TaskGroup
    pool: Pool
    together: Together
    session: Session
    watcher: Watcher
    upkeep: Upkeep


class EtcdStore:
    """The port `Store`. `run` must be running; what is asked before or after it is answered by `Unanswered`.

    `counters` counts by name what happened; `latencies` are those of the last answered renewals, as `Duration`.
    EtcdSettingsError from the constructor if the settings can not work.
    """

    def __init__(self, settings: EtcdSettings, deliver: Deliver) -> None:
        self._targets = targets(settings)
        self._settings = settings
        self._deliver = deliver
        self._lineage = Lineage()
        self._announcer = Announcer()
        self._access = Access(settings, self._announcer)
        self._running: _Running | None = None
        self._under_way = 0
        self._waiting: deque[_Question] = deque()
        self.counters: Counter[str] = Counter()
        self.latencies: deque[Duration] = deque(maxlen=LATENCIES)

    @property
    def reachable(self) -> bool:
        """Whether etcd has answered anything within the last second."""
        return self._running is not None and self._running.pool.answers

    @property
    def condition(self) -> Condition:
        """How etcd itself is, as far as it has said."""
        return Condition() if self._running is None else self._running.upkeep.condition

    @property
    def certificate_expires(self) -> float | None:
        """When the certificate that etcd knows us by ends, in seconds since 1970; None: there is none."""
        return self._access.trust.expires

    async def renew(self, settings: EtcdSettings) -> tuple[str, ...]:
        """Authenticate by this user and these certificates from now on; in words, what of them is another one.

        What is connected stays so: certificates count from the next connection on. Endpoints and cluster stay as they
        are. EtcdSettingsError: it cannot be, and nothing changed.
        """
        said = await self._access.change(settings)
        self._settings = settings
        return said

    def records(self) -> EtcdRecords:
        """What operators read and write, on the same connections."""
        return EtcdRecords(self._settings.cluster, lambda: self._running.pool if self._running is not None else None)

    async def run(self) -> None:
        """Keep connected, keep the session, list and watch; until cancelled. An exception of `deliver` ends it."""
        settings = self._settings
        pool = Pool(self._targets, self._access, self.counters, self._announcer)
        session = Session(pool, settings.session_ttl, self.counters, self._announcer)
        watcher = Watcher(pool, settings.cluster, self._deliver, self._lineage, self.counters, self._announcer)
        upkeep = Upkeep(pool, lambda: self._settings, self._announcer)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._running = _Running(tasks, pool, Together(pool, tasks), session, watcher, upkeep)
                tasks.create_task(pool.tend())
                tasks.create_task(session.run())
                tasks.create_task(watcher.run())
                tasks.create_task(upkeep.run())
        finally:
            self._running = None
            for question in self._waiting:
                self._later(Unanswered(question.ask, "not running"))
            self._waiting.clear()
            await pool.close()

    def commit(self, effect: Commit) -> None:
        """Do one transaction. At most 128 guards and 128 writes, or etcd refuses it."""
        deadline = _deadline(effect.patience)
        self._ask(_Question(effect.ask, lambda running: self._transact(running, effect, deadline), deadline))

    def look(self, effect: Look) -> None:
        """Read some keys, linearizably and all at one revision."""
        deadline = _deadline(effect.patience)
        self._ask(_Question(effect.ask, lambda running: self._read(running, effect, deadline), deadline))

    def resync(self, broken: bool = False) -> None:
        """Drop the watch, list again, watch from there. `broken`: answers to what was asked before do not count."""
        if broken:
            self._lineage.end()
        if self._running is not None:
            self._running.watcher.resync()

    async def resign(self) -> None:
        """End the node's etcd session: its lease is revoked, with the keys that hang on it. Half a second at most."""
        if self._running is not None:
            await self._running.session.resign()

    # --- questions -------------------------------------------------------------------------------------------

    def _ask(self, question: _Question) -> None:
        if self._running is None:
            self._later(Unanswered(question.ask, "not running"))
        elif question.ask.kind is Asking.RENEW:
            self._begin(self._running, question, lambda: None)
        elif len(self._waiting) >= WAITING_MOST:
            self._later(Unanswered(question.ask, "too many questions wait"))
        else:
            self._waiting.append(question)
            self._begin_some()

    def _begin_some(self) -> None:
        """Begin with those whose turn it is."""
        while self._waiting and self._running is not None and self._under_way < AT_ONCE:
            question = self._waiting.popleft()
            if question.deadline <= asyncio.get_running_loop().time():
                self._later(Unanswered(question.ask, "not sent: too many questions were before it"))
                continue
            self._under_way += 1
            self._begin(self._running, question, self._next)

    def _next(self) -> None:
        self._under_way -= 1
        self._begin_some()

    def _later(self, event: Unanswered) -> None:
        # Never within the call: whoever asks is in the middle of something.
        self.counters["unanswered"] += 1
        asyncio.get_running_loop().call_soon(self._deliver, event)

    def _begin(self, running: _Running, question: _Question, ended: Callable[[], None]) -> None:
        answering = self._answer(question.ask, question.work(running))
        try:
            task = running.tasks.create_task(answering)
        except RuntimeError:  # `run` is being cancelled
            answering.close()
            self._later(Unanswered(question.ask, "not running"))
            ended()
            return
        task.add_done_callback(lambda task: self._end(question.ask, task, ended))

    async def _answer(self, ask: Ask, work: Awaitable[_Answer]) -> None:
        try:
            event = await work
        except CallError as error:
            self.counters["unanswered"] += 1
            self._deliver(Unanswered(ask, error.why))
        else:
            self.counters["committed" if isinstance(event, Committed) else "refused"] += 1
            self._deliver(event)

    def _end(self, ask: Ask, task: asyncio.Task[None], ended: Callable[[], None]) -> None:
        if task.cancelled():
            self.counters["unanswered"] += 1
            self._deliver(Unanswered(ask, "closed before the answer came"))
        ended()

    async def _transact(self, running: _Running, effect: Commit, deadline: float) -> _Answer:
        asked = time.monotonic_ns()
        mark = self._lineage.mark()
        response = await self._send(running, effect, deadline)
        self._check(running, response.header, mark)
        if effect.ask.kind is Asking.RENEW:
            self.latencies.append(time.monotonic_ns() - asked)
        revision = response.header.revision
        if response.succeeded:
            return Committed(effect.ask, revision)
        return Refused(effect.ask, revision, requests.shown(requests.guarded(effect), response))

    async def _read(self, running: _Running, effect: Look, deadline: float) -> _Answer:
        mark = self._lineage.mark()
        request = requests.looking(self._settings.cluster, effect.keys)
        response = await running.together.transact(request, deadline)
        self._check(running, response.header, mark)
        return Refused(effect.ask, response.header.revision, requests.shown(effect.keys, response))

    async def _send(self, running: _Running, effect: Commit, deadline: float) -> rpc.TxnResponse:
        if not any(put.session for put in effect.puts):
            return await running.together.transact(self._request(effect, 0), deadline)
        lease = await running.session.lease.get(deadline)
        try:
            return await self._send_with(running, effect, lease, deadline)
        except CallError as error:
            if error.trouble is not Trouble.LEASE_GONE:
                raise
        # etcd looks for the lease before it writes anything: this was not done.
        running.session.lease.drop(lease)
        return await self._send_with(running, effect, await running.session.lease.get(deadline), deadline)

    async def _send_with(self, running: _Running, effect: Commit, lease: int, deadline: float) -> rpc.TxnResponse:
        # By itself: should the lease be gone, nothing else must fail for that.
        return await running.together.alone(self._request(effect, lease), deadline)

    def _request(self, effect: Commit, lease: int) -> rpc.TxnRequest:
        try:
            return requests.transaction(self._settings.cluster, effect, lease)
        except ValueError as error:
            raise CallError(str(error), Trouble.REFUSED) from None

    def _check(self, running: _Running, header: rpc.ResponseHeader, mark: Mark) -> None:
        """An answer must be of the history that was listed: what the question was asked about."""
        if not self._lineage.has(header, mark):
            self.counters["other_history"] += 1
            running.watcher.resync()
            raise CallError("answered by an etcd that was wiped or is another one", Trouble.UNKNOWN)
        self._lineage.saw(header.revision)


def _deadline(patience: Duration) -> float:
    return asyncio.get_running_loop().time() + patience / S
