"""Times for people: instants in their own zone, durations as short as they can be and still be true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from haagent.core.units import MS, Duration, S, Wall

_LATEST: Final[Wall] = (1 << 63) - 1
"""Nanoseconds since 1970 that go over the wire: until April 2262."""


def scheduled(text: str, now: Wall) -> Wall:
    """An ISO 8601 instant in the future, in nanoseconds since 1970; 0 for `now`. ValueError says what is allowed.

    Without a zone it is local time.
    """
    if text.strip().lower() == "now":
        return 0
    allowed = f"must be now, or like {example(now)} (local time) or {_iso(_local(now), 'minutes')}"
    try:
        given = datetime.fromisoformat(text.strip())
        at = given.astimezone()
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r}, {allowed}") from None
    if len(text.strip()) < len("2026-11-20T12"):
        raise ValueError(f"{text!r} has no time of day, {allowed}")
    wall = int(at.timestamp()) * S + at.microsecond * 1000
    if wall > _LATEST:
        raise ValueError(f"{text!r} is too far away, must be before the year 2262")
    if wall <= now:
        raise ValueError(f"{_iso(at)} is past, must be in the future")
    return wall


def example(now: Wall) -> str:
    """The next full hour, as one would type it."""
    return (_local(now) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:00")


def moment(wall: Wall) -> str:
    """To the second, with the zone."""
    return _iso(_local(wall))


def stamp(wall: Wall) -> str:
    """To the second, for tables; empty for 0."""
    return _local(wall).strftime("%Y-%m-%d %H:%M:%S") if wall else ""


def exact(wall: Wall) -> str:
    """For programs: to the millisecond, in UTC."""
    return datetime.fromtimestamp(wall / S, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def recently(wall: Wall, now: Wall) -> str:
    """The time of a day, if it was in the last one, else the date; empty for 0."""
    if not wall:
        return ""
    return _local(wall).strftime("%H:%M:%S" if 0 <= now - wall < 86_400 * S else "%Y-%m-%d")


def short(span: Duration) -> str:
    """`14 ms`, `0.4 ms`, `1.2 s`, `4 min 12 s`, `3 h 5 min`."""
    if span < 10 * MS:
        return f"{span / MS:.1f} ms".replace(".0 ms", " ms")
    if span < S:
        return f"{span // MS} ms"
    if span < 60 * S:
        return f"{span / S:.1f} s".replace(".0 s", " s")
    minutes, seconds = divmod(span // S, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _local(wall: Wall) -> datetime:
    return datetime.fromtimestamp(wall / S, UTC).astimezone()


def _iso(at: datetime, timespec: str = "seconds") -> str:
    return at.isoformat(timespec=timespec)
