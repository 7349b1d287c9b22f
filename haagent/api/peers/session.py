"""One stream with one peer, after both have greeted: reads, writes, answers pings, and says why it ended.

The same for who dialed and who listened: gRPC's two kinds of stream are behind `Pipe`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from haagent.api.peers import messages
from haagent.api.peers.greeting import Greeting
from haagent.api.peers.limits import Allowance, Outbox
from haagent.api.peers.messages import Answered, Asked, Reported
from haagent.api.peers.pings import Pings
from haagent.api.peers.reasons import Reason, Refused
from haagent.core.heartbeat import HeartbeatReceived, PromiseReceived
from haagent.core.units import Duration, Instant, S

SILENCE: Final[Duration] = 4 * S
"""After that long without a word, though it is pinged every second, the peer is gone or hangs."""

Told = HeartbeatReceived | PromiseReceived | Reported


class Pipe(Protocol):
    """A stream of messages, both ways."""

    async def read(self) -> bytes | Refused:
        """The next message, or why there is none any more."""
        ...

    async def write(self, data: bytes) -> None:
        """Send one, as soon as the other end has room for it. Nothing happens on a stream that has ended."""
        ...


class Session:
    """Made when the stream stands. `hear` is told what counts, `refuse` what does not; `counters` are by kind."""

    def __init__(
        self,
        peer: Greeting,
        pipe: Pipe,
        *,
        hear: Callable[[Told], None],
        refuse: Callable[[Refused], None],
        clock: Callable[[], Instant],
        counters: Counter[str],
    ) -> None:
        now = clock()
        self.peer = peer
        self.pings = Pings()
        self._pipe = pipe
        self._hear = hear
        self._refuse = refuse
        self._clock = clock
        self._counters = counters
        self._outbox = Outbox()
        self._allowance = Allowance(now)
        self._heard_at = now
        self._waits = asyncio.Event()
        self._ended: asyncio.Future[Refused] = asyncio.get_running_loop().create_future()

    async def run(self) -> Refused:
        """Until the stream ends, or `end`; returns why."""
        reading = asyncio.create_task(self._read(), name=f"read from {self.peer.node}")
        writing = asyncio.create_task(self._write(), name=f"write to {self.peer.node}")
        try:
            await asyncio.wait({reading, writing, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.wait({reading, writing})
            self._counters["replaced_heartbeats"] += self._outbox.replaced
            self._counters["dropped_outgoing"] += self._outbox.dropped
        if self._ended.done():
            return self._ended.result()
        return Refused(Reason.CLOSED, "") if reading.cancelled() else reading.result()

    def end(self, why: Refused) -> None:
        """End the stream soon."""
        if not self._ended.done():
            self._ended.set_result(why)

    def heartbeat(self, data: bytes) -> None:
        """Say this, in place of a heartbeat that has not been said yet."""
        self._outbox.put_heartbeat(data)
        self._waits.set()

    def status(self, data: bytes) -> None:
        """Say this, in place of a status that has not been said yet, when there is nothing else to say."""
        self._outbox.put_status(data)
        self._waits.set()

    def say(self, data: bytes) -> None:
        """Say this after what waits; if too much does, the oldest is never said."""
        self._outbox.put(data)
        self._waits.set()

    def ping(self) -> None:
        """Ask how far away the peer is; end the stream if it has not said a word for too long."""
        now = self._clock()
        if now - self._heard_at > SILENCE:
            self.end(Refused(Reason.SILENT, f"not a word for {(now - self._heard_at) / S:.1f} s"))
        else:
            self.say(messages.ping(self.pings.ask(now)))

    async def _write(self) -> None:
        while True:
            while (data := self._outbox.take()) is not None:
                await self._pipe.write(data)
                self._counters["sent"] += 1
            self._waits.clear()
            await self._waits.wait()

    async def _read(self) -> Refused:
        while True:
            data = await self._pipe.read()
            if isinstance(data, Refused):
                return data
            now = self._heard_at = self._clock()
            self._counters["received"] += 1
            if self._allowance.take(now):
                self._take(data, now)
            elif self._allowance.flooded:
                return Refused(Reason.FLOOD, f"{self._allowance.overrun} messages more than it may send")
            else:
                self._refuse(Refused(Reason.RATE, "more messages than it may send: dropped"))

    def _take(self, data: bytes, now: Instant) -> None:
        heard = messages.read(data, self.peer)
        match heard:
            case Refused():
                self._refuse(heard)
            case Asked():
                self.say(messages.pong(heard, now))
            case Answered():
                if not self.pings.answered(heard, now):
                    self._refuse(Refused(Reason.UNEXPECTED, "the answer to a ping that was not sent"))
            case HeartbeatReceived() | PromiseReceived() | Reported():
                self._hear(heard)
