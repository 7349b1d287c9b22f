"""How long each turn of the event loop takes: for so long nothing is renewed, and no signal is heard."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any

from haagent.core.units import Duration


class TimedSelector(selectors.DefaultSelector):
    """Tells `turned` how long the event loop was busy whenever it comes back to wait."""

    def __init__(self, turned: Callable[[Duration], None]) -> None:
        super().__init__()
        self._turned = turned
        self._began: int | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        """As every selector."""
        if self._began is not None:
            self._turned(time.monotonic_ns() - self._began)
        ready = super().select(timeout)
        self._began = time.monotonic_ns()
        return ready


def timed_loop(turned: Callable[[Duration], None]) -> asyncio.AbstractEventLoop:
    """An event loop whose turns are timed."""
    return asyncio.SelectorEventLoop(TimedSelector(turned))
