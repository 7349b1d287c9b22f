"""Server-sent events: the status to everyone who follows it, as it changes, and never faster than anyone can bear.

There is no queue. Whoever is slow misses what was between, and gets the newest next; whoever takes nothing at all is
let go. What is rendered, once for all of them, takes at most a small part of the event loop's time, however large.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from google.protobuf.json_format import MessageToJson

from haagent.v1.status_pb2 import Status

_LOG: Final = logging.getLogger("haagent.http")

PAUSE: Final = 0.2
"""Seconds between two events at least: five a second."""
SHARE: Final = 20
"""After rendering, so many times as long goes by before the next: it takes a twentieth of the loop's time."""
PAUSE_MOST: Final = 0.7
"""But so much at most: a change is to be seen within a second."""
AT_LEAST_EVERY: Final = 2.0
"""Seconds until the whole status is said again although nothing changed."""
PATIENCE: Final = 5.0
"""Seconds that somebody may take nothing of what is sent."""


class TooSlowError(Exception):
    """Nothing was taken for too long."""


class Sink(Protocol):
    """Where events go: `unsent` bytes wait to be taken; `send` may wait until they are."""

    def unsent(self) -> int: ...
    def send(self, data: bytes) -> Awaitable[None]: ...


class Throttled:
    """A status rendered at most every `PAUSE`, or more rarely if that takes long, however often it is asked for.

    What it takes is the time of this thread, `cost`: while the status is gathered the event loop does other things.
    """

    def __init__(
        self,
        status: Callable[[], Awaitable[Status]],
        render: Callable[[Status], bytes],
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        self._status = status
        self._render = render
        self._clock = clock
        self._cost = cost
        self._one = asyncio.Lock()
        self._text = b""
        self._again_at = float("-inf")

    async def get(self) -> bytes:
        """As it is, or was a moment ago."""
        if self._clock() >= self._again_at:
            async with self._one:  # who comes meanwhile gets what the first one made
                if self._clock() >= self._again_at:
                    status = await self._status()
                    began = self._cost()
                    self._text = self._render(status)
                    spent = self._cost() - began
                    self._again_at = self._clock() + max(PAUSE, min(SHARE * spent, PAUSE_MOST))
        return self._text

    def pause(self) -> float:
        """Seconds until it would be rendered anew."""
        return max(0.0, self._again_at - self._clock())


class Feed:
    """`stream` tells one client what there is to tell, as it is `changed` and `renewed`.

    Two kinds of events: `status`, the whole; and `lease`, which is only how long the lease still runs, since that
    changes with every renewal. `lease` gives its milliseconds: left, ttl. What is in `status` is JSON, in one line.
    """

    def __init__(self, status: Callable[[], Awaitable[Status]], lease: Callable[[], tuple[float, float]]) -> None:
        self.status = Throttled(status, as_json)
        self._lease = lease
        self._event = self._status_event = b""
        self._number = self._status_number = 0
        self._told = asyncio.Event()
        self._wanted = asyncio.Event()
        self._whole = False
        self._teller: asyncio.Task[None] | None = None
        self._followers = 0

    def changed(self) -> None:
        """Something that the status shows is not as it was."""
        self._whole = True
        self._wanted.set()

    def renewed(self) -> None:
        """The lease runs longer than before."""
        self._wanted.set()

    async def stream(self, sink: Sink) -> None:
        """Tell one client, until cancelled. TooSlowError: it takes nothing; ConnectionError: it is gone."""
        told = got = self._number
        stuck_at = None
        await self._send(sink, b"retry: 1000\n\n" + _event("status", await self.status.get()))
        with _Following(self):
            while True:
                if self._number == told:
                    await self._told.wait()
                    if self._teller is None or self._teller.done():
                        raise ConnectionError("there is nothing to tell any more")
                    continue
                told = self._number
                if not sink.unsent():
                    stuck_at = None
                    missed = self._status_number > got
                    got = told
                    await self._send(sink, self._status_event if missed else self._event)
                elif stuck_at is None:
                    stuck_at = time.monotonic()
                elif time.monotonic() - stuck_at > PATIENCE:
                    raise TooSlowError

    def follow(self, more: int) -> None:
        """So many more followers (or, negative, less): the first begins the telling, with the last it ends."""
        self._followers += more
        if self._followers and (self._teller is None or self._teller.done()):
            self._teller = asyncio.create_task(self._tell(), name="http-feed")
            self._teller.add_done_callback(self._ended)
        elif not self._followers and self._teller is not None:
            self._teller.cancel()
            self._teller = None

    async def _tell(self) -> None:
        whole_at = time.monotonic() + AT_LEAST_EVERY
        while True:
            try:
                # Not wait_for: before Python 3.12 that loses a cancellation which comes just when the wait is over.
                async with asyncio.timeout(whole_at - time.monotonic()):
                    await self._wanted.wait()
            except TimeoutError:
                self._whole = True
            self._wanted.clear()
            if self._whole:
                await asyncio.sleep(self.status.pause())  # what else changes meanwhile is told with it
                self._whole = False
                self._status_event = _event("status", await self.status.get())
                self._status_number = self._number + 1
                self._publish(self._status_event)
                whole_at = time.monotonic() + AT_LEAST_EVERY
            else:
                left, ttl = self._lease()
                self._publish(_event("lease", json.dumps({"left": round(left, 1), "ttl": ttl}).encode()))
            await asyncio.sleep(PAUSE)

    def _ended(self, teller: asyncio.Task[None]) -> None:
        """Nobody is left who follows, or the status could not be rendered: then they are all let go, to come again."""
        if not teller.cancelled() and (error := teller.exception()) is not None:
            _LOG.error("the status can not be told", exc_info=error)
            self._told.set()

    def _publish(self, event: bytes) -> None:
        self._event = event
        self._number += 1
        self._told.set()
        self._told = asyncio.Event()

    async def _send(self, sink: Sink, data: bytes) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await sink.send(data)
        except TimeoutError:
            raise TooSlowError from None


class _Following:
    """Counts one follower, while it follows."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __enter__(self) -> None:
        self._feed.follow(1)

    def __exit__(self, *_: object) -> None:
        self._feed.follow(-1)


def as_json(status: Status) -> bytes:
    """Protobuf's JSON, in one line, with what is zero, false or empty."""
    return MessageToJson(status, indent=None, always_print_fields_with_no_presence=True).encode()


def _event(kind: str, data: bytes) -> bytes:
    """One event; `data` is a single line."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
