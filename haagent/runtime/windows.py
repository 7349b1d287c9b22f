"""Failback windows: times of the week, as people write them and as clocks on walls show them.

    Sat,Sun 02:00-04:00
    daily 23:30-00:30 Europe/Berlin

A day is that of the beginning: `Sat 23:00-02:00` ends on Sunday. Without the name of a zone it is the host's own. What
the clock is put forward over does not happen, what it is put back over happens twice, as for anybody who looks at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from haagent.core.units import S, Wall

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ALLOWED: Final = "must be like 'Sat,Sun 02:00-04:00' or 'daily 23:30-00:30 Europe/Berlin'"

_DAYS: Final = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
PATTERN: Final = rf"(daily|{_DAYS}(?:,{_DAYS})*) ({_TIME})-({_TIME}|24:00)(?: ([A-Za-z0-9_+/-]{{1,64}}))?"
_WINDOW: Final = re.compile(PATTERN)


@dataclass(frozen=True, slots=True)
class Window:
    """From minute `start` of these days (Monday is 0) until `end`, the same day or, if that is not later, the next.

    `zone` None: the host's.
    """

    days: frozenset[int]
    start: int
    end: int
    zone: ZoneInfo | None
    text: str

    def __str__(self) -> str:
        """As it was written."""
        return self.text

    def covers(self, shown: datetime) -> bool:
        """Whether a wall clock that shows this day and time (whatever its zone) shows one within."""
        minute, day = shown.hour * 60 + shown.minute, shown.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


def window(text: str) -> Window:
    """What is written. ValueError, with what is allowed."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(ALLOWED)
    days, start, end, zone = match.groups()
    numbers = range(7) if days == "daily" else (DAYS.index(day) for day in days.split(","))
    return Window(frozenset(numbers), _minute(start), _minute(end), None if zone is None else _zone(zone), text)


def is_open(windows: Iterable[Window], wall: Wall) -> bool:
    """Whether any of them is open at that time."""
    now = datetime.fromtimestamp(wall // S, UTC)
    return any(one.covers(now.astimezone(one.zone)) for one in windows)


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not known, not possible as a name, a directory
        raise ValueError(f"no such time zone: {name}") from None
