"""Failback windows: what may be written, and when each is open, as a table of what the clock on the wall shows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from haagent.core.units import S
from haagent.runtime.windows import is_open, window


def shown(text: str) -> datetime:
    """2026-11-16 is a Monday."""
    return datetime.fromisoformat(text)


OPEN = [
    ("Sat,Sun 02:00-04:00", "2026-11-21T02:00", True),
    ("Sat,Sun 02:00-04:00", "2026-11-22T03:59:59", True),
    ("Sat,Sun 02:00-04:00", "2026-11-22T04:00", False),
    ("Sat,Sun 02:00-04:00", "2026-11-21T01:59:59", False),
    ("Sat,Sun 02:00-04:00", "2026-11-20T03:00", False),
    ("daily 03:00-03:30", "2026-11-18T03:29", True),
    ("daily 03:00-03:30", "2026-11-18T03:30", False),
    ("Sat 23:00-02:00", "2026-11-21T23:00", True),
    ("Sat 23:00-02:00", "2026-11-22T01:59", True),
    ("Sat 23:00-02:00", "2026-11-21T01:00", False),
    ("Sat 23:00-02:00", "2026-11-22T23:30", False),
    ("Sun 23:00-02:00", "2026-11-16T01:00", True),
    ("Mon 22:00-24:00", "2026-11-16T23:59", True),
    ("Mon 22:00-24:00", "2026-11-17T00:00", False),
    ("Mon 00:00-24:00", "2026-11-16T12:00", True),
    ("Mon 12:00-12:00", "2026-11-17T11:59", True),
    ("Mon 12:00-12:00", "2026-11-16T11:59", False),
]


@pytest.mark.parametrize("text, at, expected", OPEN)
def test_open(text: str, at: str, expected: bool):
    assert window(text).covers(shown(at)) is expected
    assert str(window(text)) == text


def wall(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


def test_a_zone_is_that_of_the_window_whatever_the_hosts():
    berlin = [window("daily 02:00-04:00 Europe/Berlin")]
    assert is_open(berlin, wall("2026-11-21T01:00"))  # CET
    assert not is_open(berlin, wall("2026-11-21T00:59"))
    assert is_open(berlin, wall("2026-07-01T00:00"))  # CEST
    assert not is_open(berlin, wall("2026-07-01T02:00"))


def test_summer_time_begins_and_an_hour_does_not_happen():
    """On 2026-03-29, 02:00 to 03:00 is skipped in Berlin; on 2026-10-25 it comes twice."""
    berlin = [window("daily 02:00-03:00 Europe/Berlin")]
    assert not any(is_open(berlin, wall(f"2026-03-29T0{hour}:{minute}0")) for hour in range(4) for minute in range(6))
    assert [hour for hour in range(4) if is_open(berlin, wall(f"2026-10-25T0{hour}:30"))] == [0, 1]


def test_any_of_several_windows_will_do():
    both = [window("Mon 01:00-02:00 UTC"), window("Tue 01:00-02:00 UTC")]
    assert is_open(both, wall("2026-11-17T01:30"))
    assert not is_open(both, wall("2026-11-18T01:30"))
    assert not is_open([], wall("2026-11-17T01:30"))


def test_without_a_zone_it_is_the_hosts(monkeypatch: pytest.MonkeyPatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert is_open([window("daily 10:00-11:00")], wall("2026-11-17T01:30"))
        assert not is_open([window("daily 10:00-11:00")], wall("2026-11-17T10:30"))
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "daily",
            "02:00-04:00",
            "daily 2:00-04:00",
            "daily 02:00-25:00",
            "daily 24:00-01:00",
            "Sat, Sun 02:00-04:00",
        ),
        *("sat 02:00-04:00", "daily 02:00-04:00 ", "daily 02:60-04:00", "daily 02:00-04:00 Europe/Berlin x"),
    ],
)
def test_what_is_no_window(text: str):
    with pytest.raises(ValueError, match="must be like 'Sat,Sun 02:00-04:00'"):
        window(text)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "/etc/passwd", "Europe/", "-"])
def test_what_is_no_zone(zone: str):
    with pytest.raises(ValueError, match="no such time zone"):
        window(f"daily 02:00-04:00 {zone}")
