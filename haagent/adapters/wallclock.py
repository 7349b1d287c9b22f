"""The wall clock: how far it is ahead of the clock that leases are counted by, and which failback windows are open.

Nothing that keeps addresses apart rests on it; it dates what operators plan. It is read at the start, at each half
minute that it shows (so that windows open and close on the minute), and whenever somebody sets it: timerfd_create(2),
TFD_TIMER_CANCEL_ON_SET.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Mapping
from typing import Final

from haagent.core.model import WallClockRead, WindowChanged
from haagent.core.units import Duration, S, Wall
from haagent.runtime.clock import boottime
from haagent.runtime.ports import Deliver
from haagent.runtime.windows import Window, is_open

EVERY: Final[Duration] = 30 * S

# linux/timerfd.h. Python has these from 3.13 on.
_TFD_TIMER_ABSTIME: Final = 1
_TFD_TIMER_CANCEL_ON_SET: Final = 2


class _Itimerspec(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns"))


class WallClock:
    """Delivers `WallClockRead` and `WindowChanged` while it runs."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._windows: Mapping[str, tuple[Window, ...]] = {}
        self._open: dict[str, bool] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1

    def configure(self, windows: Mapping[str, tuple[Window, ...]]) -> None:
        """These groups have failback windows, from now on."""
        self._windows = windows
        if self._descriptor >= 0:
            self._tell_windows(time.time_ns())

    def start(self) -> None:
        """Read the clock now, and from now on. OSError: the kernel has no such timer."""
        self._descriptor = self._libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        asyncio.get_running_loop().add_reader(self._descriptor, self._expired)
        self._read()

    def close(self) -> None:
        """Read it no more."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _expired(self) -> None:
        with contextlib.suppress(OSError):  # ECANCELED: it was set
            os.read(self._descriptor, 8)
        self._read()

    def _read(self) -> None:
        while not self._armed():
            pass  # it was set meanwhile, and the next half minute is another one
        # Only now: if it is set from here on, the timer says so.
        wall = time.time_ns()
        self._deliver(WallClockRead(wall - boottime()))
        self._tell_windows(wall)

    def _armed(self) -> bool:
        """Wake up at the next half minute. False if somebody set the clock since it was armed last."""
        now = time.time_ns()
        spec = _Itimerspec(0, 0, *divmod(now - now % EVERY + EVERY, S))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if self._libc.timerfd_settime(self._descriptor, flags, ctypes.byref(spec), None) == 0:
            return True
        error = ctypes.get_errno()
        if error != errno.ECANCELED:
            raise OSError(error, "timerfd_settime")
        return False

    def _tell_windows(self, wall: Wall) -> None:
        for group in {**self._open, **self._windows}:
            now = is_open(self._windows.get(group, ()), wall)
            if now != self._open.get(group, False):
                self._deliver(WindowChanged(group, now))
            self._open[group] = now
        self._open = {group: now for group, now in self._open.items() if group in self._windows}
