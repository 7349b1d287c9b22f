"""The reading of the wall clock: at once, at the next half minute, and windows told only where something changed."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import time

import pytest

from haagent.adapters import wallclock
from haagent.adapters.wallclock import WallClock
from haagent.core.model import Event, WallClockRead, WindowChanged
from haagent.core.units import MS, S
from haagent.runtime.clock import boottime
from haagent.runtime.windows import window

WEEK = window("daily 00:00-24:00")


def test_it_is_read_at_once():
    async def run() -> None:
        heard: list[Event] = []
        clock = WallClock(heard.append)
        clock.configure({"web": (WEEK,)})
        assert heard == [], "not before it starts"
        clock.start()
        clock.close()
        read, opened = heard
        assert isinstance(read, WallClockRead)
        assert abs(boottime() + read.offset - time.time_ns()) < 1 * S
        assert opened == WindowChanged("web", True)

    asyncio.run(run())


def test_it_is_read_again_when_the_timer_fires(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wallclock, "EVERY", 20 * MS)

    async def run() -> None:
        heard: list[Event] = []
        enough = asyncio.Event()

        def hear(event: Event) -> None:
            heard.append(event)
            if len(heard) == 5:
                enough.set()

        clock = WallClock(hear)
        clock.configure({"web": (WEEK,)})
        clock.start()
        await asyncio.wait_for(enough.wait(), 10)
        clock.close()
        assert [event for event in heard if not isinstance(event, WallClockRead)] == [WindowChanged("web", True)]

    asyncio.run(run())


def test_windows_that_change_by_a_reload_are_told_where_it_matters():
    async def run() -> None:
        heard: list[Event] = []
        clock = WallClock(heard.append)
        clock.configure({"web": (WEEK,), "db": ()})
        clock.start()
        assert heard[1:] == [WindowChanged("web", True)]
        heard.clear()
        clock.configure({"web": (window("Mon 00:00-24:00"), WEEK), "db": (WEEK,)})
        assert heard == [WindowChanged("db", True)]
        heard.clear()
        clock.configure({"db": (WEEK,)})
        assert heard == [WindowChanged("web", False)], "the group may be there still, and have other times later"
        heard.clear()
        clock.configure({"web": (WEEK,)})
        assert heard == [WindowChanged("db", False), WindowChanged("web", True)]
        clock.close()

    asyncio.run(run())


def test_a_clock_that_is_set_while_the_timer_is_armed_is_looked_at_again():
    """timerfd_settime arms the timer and fails with ECANCELED: what it was armed by is a time that no longer is."""

    class Set:
        """The kernel, where somebody sets the clock twice."""

        def __init__(self, libc: ctypes.CDLL) -> None:
            self.libc = libc
            self.armed = 0

        def timerfd_create(self, *arguments: object) -> int:
            return self.libc.timerfd_create(*arguments)

        def timerfd_settime(self, *arguments: object) -> int:
            self.armed += 1
            ctypes.set_errno(errno.ECANCELED)
            return -1 if self.armed <= 2 else self.libc.timerfd_settime(*arguments)

    async def run() -> None:
        heard: list[Event] = []
        clock = WallClock(heard.append)
        clock._libc = kernel = Set(clock._libc)  # pyright: ignore[reportAttributeAccessIssue]
        clock.start()
        clock.close()
        assert kernel.armed == 3
        assert len(heard) == 1

    asyncio.run(run())
