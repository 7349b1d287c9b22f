"""The last events and what was done about them, for the report of a fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from haagent.core.model import Effect, Event
from haagent.core.units import MS, Instant

KEPT: Final = 64
LONGEST: Final = 600
"""Characters of an event or effect in a report."""


@dataclass(slots=True)
class Entry:
    """One event (None: the start), when it was fed, and its effects (None: it raised)."""

    now: Instant
    event: Event | None
    effects: tuple[Effect, ...] | None = None


class Recorder:
    """A ring of the last entries. Recording keeps references only: text is made when a report is asked for."""

    def __init__(self, kept: int = KEPT) -> None:
        self._entries: deque[Entry] = deque(maxlen=kept)

    def begin(self, now: Instant, event: Event | None) -> Entry:
        """Note an event that is about to be fed; the caller adds the effects."""
        entry = Entry(now, event)
        self._entries.append(entry)
        return entry

    def report(self) -> Iterator[str]:
        """The entries as lines of text, oldest first, times in milliseconds before the newest."""
        newest = self._entries[-1].now if self._entries else 0
        for entry in self._entries:
            yield _cut(f"{(entry.now - newest) / MS:+.3f} ms {entry.event or 'start'}")
            if entry.effects is None:
                yield "    raised"
            else:
                yield from (_cut(f"    {effect}") for effect in entry.effects)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
