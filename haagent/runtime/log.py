"""The log: one line an entry, for people (text) or machines (JSON), on standard error.

    2026-03-01T12:00:00.123Z info  web: BACKUP -> MASTER (the lease of n2 lapsed) epoch=42

Written by a thread of its own: whoever reads standard error (journald, a pipe) may stop reading, and a node that waits
for its log does not renew its lease. What does not fit in the queue is dropped and counted.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from threading import Thread
from typing import Final, TextIO

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
QUEUED_MOST: Final = 10_000
LONGEST: Final = 8_000
"""Characters of a message that are written."""

Value = str | int | bool


def fields(**values: Value) -> dict[str, dict[str, Value]]:
    """The `extra` of a log call: what is written behind the message as `key=value`."""
    return {"fields": values}


class Log:
    """The log of the process, from its making until `close`."""

    def __init__(self, level: str, style: str, stream: TextIO | None = None) -> None:
        """`level`: one of LEVELS; `style`: text or json; `stream`: standard error by default."""
        self._stream = stream or sys.stderr
        self._format = _Json() if style == "json" else _Text()
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUED_MOST)
        self._handler = _Enqueue(self._queue)
        # A daemon thread: a reader that never reads again must not keep the process from ending.
        self._thread = Thread(target=self._write, name="haagent-log", daemon=True)
        self._thread.start()
        root = logging.getLogger()
        root.addHandler(self._handler)
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write entries of this level and above from now on; other libraries' only from warning on."""
        logging.getLogger().setLevel(max(LEVELS[level], logging.WARNING))
        logging.getLogger("haagent").setLevel(LEVELS[level])

    def close(self, patience: float = 1.0) -> None:
        """Write what is queued, for `patience` seconds at the most, and end."""
        logging.getLogger().removeHandler(self._handler)
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(patience)

    def _write(self) -> None:
        told = 0
        while (record := self._queue.get()) is not None:
            dropped = self._handler.dropped
            lines = [self._format.format(record)]
            if dropped > told:
                lines.append(self._format.format(_notice(f"{dropped - told} log entries dropped: nobody read them")))
                told = dropped
            try:
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()
            except (OSError, ValueError):
                self._handler.dropped += 1  # nobody reads standard error any more; there is nowhere to say so


class _Enqueue(QueueHandler):
    """Never waits."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.message = record.getMessage()  # now: its arguments may change
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        return record


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = [_time(record), f"{_level(record):<8}", _one_line(_whole(record))]
        said += [f"{key}={_word(value)}" for key, value in _fields(record).items()]
        return " ".join(said)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = {"time": _time(record), "level": _level(record), "logger": record.name}
        return json.dumps({**head, "message": _whole(record)[:LONGEST], **_fields(record)})


def _notice(text: str) -> logging.LogRecord:
    return logging.LogRecord("haagent.log", logging.WARNING, __file__, 0, text, None, None)


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _level(record: logging.LogRecord) -> str:
    return record.levelname.lower()


def _whole(record: logging.LogRecord) -> str:
    message = record.getMessage()
    return f"{message}\n{record.exc_text}" if record.exc_text else message


def _fields(record: logging.LogRecord) -> dict[str, Value]:
    found: dict[str, Value] = getattr(record, "fields", {})
    return found


def _word(value: Value) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    plain = text.isprintable() and text and not set(text) & set(' "=')
    return text if plain else json.dumps(text)


def _one_line(text: str) -> str:
    """Text from outside must not look like entries of its own, nor move a terminal's cursor."""
    text = text[:LONGEST]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
