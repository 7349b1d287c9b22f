"""How much a peer may say, and what waits to be said to it: both bounded, neither ever waits. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from haagent.core.units import Duration, Instant, S

RATE: Final = 200
"""Messages a second that a peer may send for long. Ten a second is what peers need."""
BURST: Final = 400
FLOOD: Final = 2000
"""Messages above the rate, without a pause that makes up for them, after which a stream is ended."""
SHUNNED: Final[Duration] = 5 * S
"""How long who flooded is refused."""
WAITING_MOST: Final = 64
"""Promises and pings that wait to be sent to one peer."""


class Allowance:
    """A token bucket: `BURST` at once, `RATE` a second for long."""

    def __init__(self, now: Instant) -> None:
        self.overrun = 0
        self._credit = BURST * S  # in messages, times a second
        self._at = now

    def take(self, now: Instant) -> bool:
        """Whether the next message is still allowed; what is not is counted in `overrun`."""
        self._credit = min(BURST * S, self._credit + (now - self._at) * RATE)
        self._at = now
        if self._credit >= BURST * S:
            self.overrun = 0
        if self._credit >= S:
            self._credit -= S
            return True
        self.overrun += 1
        return False

    @property
    def flooded(self) -> bool:
        """Whether so much was too much that it can be no mistake."""
        return self.overrun > FLOOD


class Outbox:
    """What waits to be said to one peer: the newest heartbeat, the newest status, and some of the rest, in order.

    `replaced` heartbeats and `dropped` others were not sent in time.
    """

    def __init__(self) -> None:
        self.replaced = 0
        self.dropped = 0
        self._heartbeat: bytes | None = None
        self._status: bytes | None = None
        self._rest: deque[bytes] = deque()

    def put_heartbeat(self, data: bytes) -> None:
        """In place of one that waits."""
        self.replaced += self._heartbeat is not None
        self._heartbeat = data

    def put_status(self, data: bytes) -> None:
        """In place of one that waits."""
        self._status = data

    def put(self, data: bytes) -> None:
        """Behind what waits; when too much does, the oldest goes."""
        if len(self._rest) >= WAITING_MOST:
            self._rest.popleft()
            self.dropped += 1
        self._rest.append(data)

    def take(self) -> bytes | None:
        """The next to be sent: a heartbeat before all, a status last; None if nothing waits."""
        if self._heartbeat is not None:
            data, self._heartbeat = self._heartbeat, None
        elif self._rest:
            data = self._rest.popleft()
        else:
            data, self._status = self._status, None
        return data

    def clear(self) -> None:
        """Forget what waits: who would have heard it is gone."""
        self._heartbeat = self._status = None
        self._rest.clear()
