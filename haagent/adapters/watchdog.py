"""/dev/watchdog: a timer outside the agent that resets the machine unless it is put off in time.

Opening the device starts the timer. It is stopped only by writing `V` right before closing (magic close); a process
that ends in any other way leaves it running, and the machine is reset unless somebody opens and pets it again. Some
drivers, and all with `nowayout`, can not be stopped at all.

Source: linux/watchdog.h; Documentation/watchdog/watchdog-api.rst of the kernel.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from typing import Final

from haagent.core.units import Duration, S

_LOG: Final = logging.getLogger("haagent.watchdog")

# linux/watchdog.h; the encoding is that of asm-generic/ioctl.h.
WDIOC_GETSUPPORT: Final = 0x8028_5700
WDIOC_KEEPALIVE: Final = 0x8004_5705
WDIOC_SETTIMEOUT: Final = 0xC004_5706
WDIOC_GETTIMEOUT: Final = 0x8004_5707
WDIOF_SETTIMEOUT: Final = 0x0080
WDIOF_MAGICCLOSE: Final = 0x0100

_INFO: Final = struct.Struct("II32s")
_INT: Final = struct.Struct("i")

SHORTEST: Final = 2
LONGEST: Final = 600
"""Seconds that are asked for. A driver counts in whole ones: with 1, a pet that is late by a moment resets."""


class NoWatchdogError(Exception):
    """The device is not there, is in use, or is none: the message says which."""


class Watchdog:
    """The open device, its timer running. `patience`: how long it waits."""

    def __init__(self, path: str, wanted: Duration) -> None:
        """Open it, and have it wait as near above `wanted` as the driver can. NoWatchdogError if it can not be had."""
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NoWatchdogError(f"{path}: {error.strerror}") from None
        try:
            self._stops, seconds, name = self._start(wanted)
        except OSError as error:
            os.close(self._descriptor)
            raise NoWatchdogError(f"{path}: not a watchdog: {error.strerror}") from None
        self.patience: Duration = seconds * S
        _LOG.info("%s (%s) resets this machine after %d s without a sign of life", path, name, seconds)
        if not self._stops:
            _LOG.warning("%s can not be stopped: ending the agent resets this machine", path)

    def pet(self) -> None:
        """Wait anew from now."""
        try:
            fcntl.ioctl(self._descriptor, WDIOC_KEEPALIVE, bytes(_INT.size))
        except OSError as error:
            _LOG.error("%s: cannot be put off: %s", self._path, error.strerror)

    def close(self, *, clean: bool) -> None:
        """Stop the timer if the end is `clean`; else leave it to who comes after, or to reset the machine."""
        if clean and self._stops:
            try:
                os.write(self._descriptor, b"V")
            except OSError as error:
                _LOG.error("%s: cannot be stopped: %s", self._path, error.strerror)
        elif not clean:
            _LOG.error("%s is left running: %d s from now it resets this machine", self._path, self.patience // S)
        os.close(self._descriptor)

    def _start(self, wanted: Duration) -> tuple[bool, int, str]:
        """Whether it can be stopped, how many seconds it waits, and its name."""
        support = fcntl.ioctl(self._descriptor, WDIOC_GETSUPPORT, bytes(_INFO.size))
        options, _, identity = _INFO.unpack(support)
        name = identity.partition(b"\0")[0].decode(errors="replace")
        name = "".join(char if char.isprintable() else "?" for char in name)
        seconds = max(SHORTEST, -(-wanted // S))
        accepted = self._set(seconds) if options & WDIOF_SETTIMEOUT else None
        if accepted is None:  # the driver's own; what it may be set to, or is, it says nowhere else
            accepted = self._number(WDIOC_GETTIMEOUT, 0)
            _LOG.warning("%s cannot be set to %d s, it has %d s of its own", self._path, seconds, accepted)
        return bool(options & WDIOF_MAGICCLOSE), accepted, name

    def _set(self, seconds: int) -> int | None:
        """The first time from `seconds` on, doubled, that the driver takes."""
        while seconds <= LONGEST:
            try:
                return self._number(WDIOC_SETTIMEOUT, seconds)
            except OSError:  # EINVAL: below its minimum
                seconds *= 2
        return None

    def _number(self, request: int, value: int) -> int:
        (answer,) = _INT.unpack(fcntl.ioctl(self._descriptor, request, _INT.pack(value)))
        return answer
