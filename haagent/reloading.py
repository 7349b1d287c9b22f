"""Reading the configuration again, for SIGHUP and for operators: one reading at a time, each told what came of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final, Protocol

from haagent.api.control import Reading
from haagent.config.build import Config
from haagent.config.changes import difference, needs_restart
from haagent.config.load import Invalid
from haagent.onhost import refused
from haagent.prepare import prepare
from haagent.runtime.outer import Manager

_LOG: Final = logging.getLogger("haagent")


class Subject(Protocol):
    """Who goes by the configuration."""

    def apply(self, config: Config) -> None:
        """Go by this one, which is another one than before."""
        ...

    async def refresh(self, config: Config) -> tuple[str, ...]:
        """Take in what the files say that it names; what of that is something else than before."""
        ...


class Reloads:
    """Made on the running event loop. `subject` goes by `config`, read from `path`."""

    def __init__(self, path: Path, config: Config, subject: Subject, manager: Manager) -> None:
        self._path = path
        self._config = config
        self._subject = subject
        self._manager = manager
        self._running: asyncio.Task[Reading] | None = None
        self._next: asyncio.Future[Reading] | None = None
        self._ended = False

    def ask(self) -> asyncio.Future[Reading]:
        """Read it, or once more after the reading that is under way: the file may have changed since that began."""
        if self._running is None:
            self._manager.reloading()
            self._running = asyncio.create_task(self._read(), name="reload")
            self._running.add_done_callback(self._done)
            return self._running
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def asked(self) -> Reading:
        """As `ask`, and wait for what comes of it; whoever stops to wait does not stop it."""
        return await asyncio.shield(self.ask())

    def end(self) -> None:
        """The agent stops: nothing is applied any more."""
        self._ended = True

    def _done(self, task: asyncio.Task[Reading]) -> None:
        self._running = None
        if not self._ended:
            self._manager.ready()
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("reload failed, nothing changed", exc_info=error)
        if self._next is None:
            return
        waiting, self._next = self._next, None
        self.ask().add_done_callback(lambda done: _hand_on(done, waiting))

    async def _read(self) -> Reading:
        # In a thread: a large file takes seconds, and the lease is renewed four times in each ttl.
        loaded = await asyncio.to_thread(prepare, self._path)
        if isinstance(loaded, Invalid):
            for line in loaded.errors:
                _LOG.error("%s", line)
            _LOG.error("reload refused, nothing changed")
            return Reading(True, loaded.errors)
        for line in loaded.warnings:
            _LOG.warning("%s", line)
        old, new = self._config, loaded.config
        if fixed := needs_restart(old, new):
            why = f"a restart is needed to change {', '.join(fixed)}"
            _LOG.error("reload refused, nothing changed: %s", why)
            return Reading(True, (why, *loaded.warnings))
        if why := await asyncio.to_thread(refused, old, new):
            _LOG.error("reload refused, nothing changed: %s", "; ".join(why))
            return Reading(True, (*why, *loaded.warnings))
        if self._ended:
            return Reading(True, ("the agent stops",))
        refreshed = await self._subject.refresh(new)
        if old == new:
            said = ", ".join(refreshed) or "nothing changed"
            _LOG.info("reload: %s", said)
            return Reading(False, (said, *loaded.warnings))
        said = ", ".join((difference(old, new), *refreshed))
        _LOG.info("reload: %s", said)
        self._config = new
        self._subject.apply(new)
        return Reading(False, (said, *loaded.warnings))


def _hand_on(done: asyncio.Future[Reading], waiting: asyncio.Future[Reading]) -> None:
    if waiting.done():
        return
    if done.cancelled():
        waiting.cancel()
    elif (error := done.exception()) is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(done.result())
