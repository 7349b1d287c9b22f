"""Many timers, one due time: a heap, so that no event costs more the more virtual routers there are."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

from haagent.core.units import NEVER, Instant

K = TypeVar("K")


class Timers(Generic[K]):
    """Timers by key. Moving one to a later time touches only a dict: its heap entry is moved when it surfaces."""

    def __init__(self) -> None:
        self._due: dict[K, Instant] = {}
        self._heap: list[tuple[Instant, int, K]] = []
        self._pushed: dict[K, Instant] = {}
        self._count = 0

    def set(self, key: K, due: Instant) -> None:
        """Arm the key's timer for `due`; NEVER disarms it."""
        if due >= NEVER:
            self._due.pop(key, None)
            return
        self._due[key] = due
        pushed = self._pushed.get(key)
        if pushed is None or due < pushed:
            self._push(key, due)

    def next(self) -> Instant:
        """When the earliest timer is due, NEVER if none is armed."""
        heap = self._heap
        while heap:
            at, _, key = heap[0]
            due = self._due.get(key)
            if due == at:
                return at
            heapq.heappop(heap)
            if self._pushed.get(key) == at:
                del self._pushed[key]
                if due is not None:
                    self._push(key, due)
        return NEVER

    def pop(self, now: Instant) -> K | None:
        """Disarm and return one timer that is due, None when none is."""
        if self.next() > now:
            return None
        at, _, key = heapq.heappop(self._heap)
        if self._pushed.get(key) == at:
            del self._pushed[key]
        del self._due[key]
        return key

    def _push(self, key: K, due: Instant) -> None:
        self._count += 1
        self._pushed[key] = due
        heapq.heappush(self._heap, (due, self._count, key))
