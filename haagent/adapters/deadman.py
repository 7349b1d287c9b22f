"""The dead-man timer: the kernel kills this process at an instant, unless that is put off before it comes.

A POSIX timer on CLOCK_BOOTTIME whose expiry is SIGKILL: no handler runs, so a process that is stopped, hung or starved
dies as well, and nothing resumes with old beliefs. What has not to outlive the deadline by itself (the gate) is the
kernel's to end; this ends the process. It is late by a timer interrupt, and by what the process takes to die.
Source: timer_create(2), timer_settime(2). A child does not inherit it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
import time
from typing import Final

from haagent.core.units import NEVER, Instant, S


class Deadman:
    """One timer, disarmed. OSError if the kernel has none to give."""

    def __init__(self) -> None:
        self._libc = _library()
        self._timer = ctypes.c_void_p()
        event = _Sigevent(None, signal.SIGKILL, _SIGEV_SIGNAL)
        if self._libc.timer_create(time.CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            raise _failed("timer_create")

    def arm(self, until: Instant) -> None:
        """Die at this instant (at once, if it is past) and not at the one before; NEVER disarms."""
        # Zero would disarm: an instant long past is the first nanosecond after boot.
        self._set(0 if until >= NEVER else max(until, 1))

    def disarm(self) -> None:
        """Do not die."""
        self._set(0)

    def close(self) -> None:
        """Give the timer back; do not die."""
        if self._libc.timer_delete(self._timer) != 0:
            raise _failed("timer_delete")

    def _set(self, at: int) -> None:
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(*divmod(at, S)))
        if self._libc.timer_settime(self._timer, _TIMER_ABSTIME, ctypes.byref(spec), None) != 0:
            raise _failed("timer_settime")


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class _Sigevent(ctypes.Structure):
    """struct sigevent, 64 bytes in all."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


def _library() -> ctypes.CDLL:
    """The C library; before glibc 2.34 its timers were in a library of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "timer_create"):
        libc = ctypes.CDLL(ctypes.util.find_library("rt"), use_errno=True)
    return libc


def _failed(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


_SIGEV_SIGNAL: Final = 0
_TIMER_ABSTIME: Final = 1
