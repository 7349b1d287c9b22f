"""Signals between the agent's first line and its event loop: half a second of imports, in which SIGHUP would kill it.

SIGTERM and SIGINT end the process at once, with exit code 0: nothing is held yet, so nothing is to be given up. SIGHUP
is noted, and the file read again once the agent has begun. Nothing slow may be imported here.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

_came: set[int] = set()


def heed() -> None:
    """From now on, until the event loop has handlers of its own."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _note)


def came(*numbers: signal.Signals) -> bool:
    """Whether one of these signals came. Of SIGTERM: and an import of those that swallow every exception went on."""
    return not _came.isdisjoint(numbers)


def _note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal handlers are called
    _came.add(number)
    if number != signal.SIGHUP:
        sys.stderr.write(f"haagent: {signal.Signals(number).name} came before the agent began: ended\n")
        sys.exit(0)
