"""So that a lab is torn down by SIGTERM as by Ctrl-C, and that neither breaks into the tearing down."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator
from types import FrameType, TracebackType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def end_on_sigterm() -> Generator[None]:
    """In the block SIGTERM raises SystemExit(143), where nobody else handles it; outside the main thread,
    nothing.
    """
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Deferred:
    """A block in which SIGINT and SIGTERM wait; what came is delivered when it ends."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> None:
        if _in_main_thread():
            for number in _ENDING:
                self._handlers[number] = signal.signal(number, lambda came, _: self._came.append(came))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for number in self._came[:1]:
            signal.raise_signal(number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
