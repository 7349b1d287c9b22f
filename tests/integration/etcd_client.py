"""The etcd adapter as the pump would use it: questions, their answers, and what was delivered so far."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from haagent.adapters.etcd import EtcdSettings, EtcdStore
from haagent.core.model import (
    Ask,
    Asking,
    Commit,
    Committed,
    Event,
    Listed,
    Look,
    Refused,
    Unanswered,
    Watched,
)
from haagent.core.records import Guard, Key, Kind, LeaseValue, OwnerRecord, Put, Seen
from haagent.core.units import Duration, S

CLUSTER = "test"
PATIENCE = 10 * S
SECONDS = 30.0

A = Key(Kind.LEASES, "a")
B = Key(Kind.LEASES, "b")
WEB = Key(Kind.OWNERS, "web")

Answer = Committed | Refused | Unanswered
E = TypeVar("E", bound=Event)


def lease(number: int) -> LeaseValue:
    return LeaseValue("i1", "host", 1 * S, number)


def owner(epoch: int) -> OwnerRecord:
    return OwnerRecord("a", "i1", "host", 1 * S, epoch, False, ("a", "b"), "test")


class Client:
    """A running store. Every wait is for a condition, and fails after `SECONDS`."""

    def __init__(self, settings: EtcdSettings) -> None:
        self.events: list[Event] = []
        self.hook: Callable[[Event], None] | None = None
        self.store = EtcdStore(settings, self._deliver)
        self._numbers = 0

    def _deliver(self, event: Event) -> None:
        self.events.append(event)
        if self.hook is not None:
            self.hook(event)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110 - a condition of any kind, not only of events
                await asyncio.sleep(0.002)

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def next(self, kind: type[E], after: int) -> E:
        """The first event of its kind behind the first `after` events."""

        def found() -> list[E]:
            return [event for event in self.events[after:] if isinstance(event, kind)]

        await self.until(found)
        return found()[0]

    async def seen(self, key: Key, revision: int) -> Seen:
        """The key, as the watch (or a list) showed it at that revision."""

        def found() -> list[Seen]:
            shown = [seen for event in self.events if isinstance(event, Listed | Watched) for seen in event.seen]
            return [seen for seen in shown if seen.key == key and seen.revision == revision]

        await self.until(found)
        return found()[0]

    def commit(
        self,
        *puts: Put,
        guards: Sequence[Guard] = (),
        deletes: Sequence[Key] = (),
        patience: Duration = PATIENCE,
        kind: Asking = Asking.RENEW,
    ) -> Coroutine[Any, Any, Answer]:
        """Ask now; awaiting it gives the answer."""
        ask = self._ask(kind)
        self.store.commit(Commit(ask, tuple(guards), puts, tuple(deletes), patience))
        return self.answer(ask)

    def look(self, *keys: Key, patience: Duration = PATIENCE) -> Coroutine[Any, Any, Answer]:
        ask = self._ask(Asking.LOOK)
        self.store.look(Look(ask, keys, patience))
        return self.answer(ask)

    async def committed(self, *puts: Put, guards: Sequence[Guard] = (), deletes: Sequence[Key] = ()) -> int:
        """Commit; its revision."""
        answer = await self.commit(*puts, guards=guards, deletes=deletes)
        assert isinstance(answer, Committed), answer
        return answer.revision

    async def committed_at_last(self, *puts: Put, patience: Duration = 1 * S) -> int:
        """Commit again and again, as the core does; the revision of the first that is answered so."""
        async with asyncio.timeout(SECONDS):
            while True:
                answer = await self.commit(*puts, patience=patience)
                if isinstance(answer, Committed):
                    return answer.revision
                await asyncio.sleep(0.01)

    async def answer(self, ask: Ask) -> Answer:
        def found() -> list[Answer]:
            return [
                event
                for event in self.events
                if isinstance(event, Committed | Refused | Unanswered) and event.ask == ask
            ]

        await self.until(found)
        return found()[0]

    def _ask(self, kind: Asking) -> Ask:
        self._numbers += 1
        return Ask(kind, "a", self._numbers)


@contextlib.asynccontextmanager
async def client(settings: EtcdSettings, *, listed: bool = True) -> AsyncGenerator[Client]:
    """A store that runs, and that has listed unless told not to wait for it."""
    made = Client(settings)
    running = asyncio.create_task(made.store.run())
    try:
        await made.until(lambda: made.store._running)
        if listed:
            await made.until(lambda: running.done() or made.all(Listed))
        yield made
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def settings(endpoints: Sequence[str], **more: Any) -> EtcdSettings:
    return EtcdSettings(tuple(endpoints), CLUSTER, **more)


def assert_in_order(events: Sequence[Event]) -> None:
    """Each watch goes on where its list ended, and no revision comes twice or out of order."""
    at = None
    for event in events:
        match event:
            case Listed(_, revision, seen):
                assert all(one.revision <= revision for one in seen)
                at = revision
            case Watched(revision, seen):
                assert at is not None, "watched before listed"
                assert revision > at, "an old revision"
                revisions = [one.revision for one in seen]
                assert revisions == sorted(revisions)
                assert all(at < one <= revision for one in revisions)
                at = revision
            case _:
                pass
