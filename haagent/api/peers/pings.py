"""How far a peer is, and how far its clock: what pings and their answers tell. Pure.

The clock difference is that of the sample with the least round trip of the last ten: it errs by half of that at most.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from haagent.api.peers.messages import Answered, Asked
from haagent.core.units import Duration, Instant

SAMPLES: Final = 10
_WAITING_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One ping: from sending it to its answer, and the peer's clock less ours, halfway between."""

    round_trip: Duration
    ahead: Duration


class Pings:
    """The pings of one stream."""

    def __init__(self) -> None:
        self._number = 0
        self._waiting: dict[int, Instant] = {}
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    def ask(self, now: Instant) -> Asked:
        """The next ping."""
        self._number += 1
        self._waiting[self._number] = now
        if len(self._waiting) > _WAITING_MOST:
            del self._waiting[next(iter(self._waiting))]
        return Asked(self._number, now)

    def answered(self, answer: Answered, now: Instant) -> bool:
        """Take in an answer; whether it is one to a ping that was sent so, and not answered yet."""
        if self._waiting.get(answer.number) != answer.sent_at:
            return False
        del self._waiting[answer.number]
        self._samples.append(Sample(now - answer.sent_at, answer.at - (answer.sent_at + now) // 2))
        return True

    @property
    def best(self) -> Sample | None:
        """The sample that errs least; None before the first answer."""
        return min(self._samples, key=lambda sample: sample.round_trip, default=None)
