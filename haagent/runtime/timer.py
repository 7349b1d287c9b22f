"""A timer on the clock that leases are counted by.

asyncio's timers are CLOCK_MONOTONIC, which stands still while the machine is suspended, and rounded up to the next
millisecond: a machine that wakes up would hold its addresses until the rest of the old wait is over. So the one timer
is a timerfd: it fires at the wake-up, and to the microsecond.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from typing import Final

from haagent.core.units import NEVER, Instant, S

# linux/timerfd.h. Python has these from 3.13 on.
_TFD_TIMER_ABSTIME: Final = 1
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class BoottimeTimer:
    """One timer on the running event loop: calls `fired` once an instant has come."""

    def __init__(self, fired: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(time.CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._fired = fired
        self._at = NEVER
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._expired)

    def arm(self, at: Instant) -> None:
        """Fire at this instant, or at once if it is past, in place of what was armed before; NEVER disarms."""
        if at == self._at:
            return
        self._at = at
        # Zero would disarm: an instant long past is the first nanosecond after boot.
        seconds, nanoseconds = (0, 0) if at >= NEVER else divmod(max(at, 1), S)
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        if self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Never fire again."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _expired(self) -> None:
        with contextlib.suppress(BlockingIOError):  # armed anew since the loop saw it expire
            os.read(self._descriptor, 8)
            self._at = NEVER
            self._fired()
