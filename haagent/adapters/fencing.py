"""Fencing by a program of the operator's: it is run, and its exit status is the answer.

    0              confirmed: the node answers for nothing any more
    1 and above    refused; the first line on standard error says why
    in no time     timed out: its process group gets SIGTERM, then SIGKILL

No shell, no standard input, no environment but this:

    HAAGENT_NODE, HAAGENT_INCARNATION   who is to be fenced
    HAAGENT_GROUP, HAAGENT_EPOCH        what is about to be claimed from it, and the epoch by which it held that
    HAAGENT_DEADLINE_MS                 the time that is left, in milliseconds
    HAAGENT_CLUSTER, HAAGENT_BY         the cluster, and the node that asks

One run at a time for each node. Who could change the program could have any node shut down, and do as the agent's user
does: so it and every directory above it must be root's, and writable by nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from haagent.core.model import Event, Fence, FenceConfirmed, FenceRefused, FenceTimedOut
from haagent.core.units import MS, Duration, S
from haagent.runtime.clock import boottime
from haagent.runtime.ports import Deliver, FenceCommand

_LOG: Final = logging.getLogger("haagent.fencing")

TERM_PATIENCE: Duration = 500 * MS
"""Between SIGTERM and SIGKILL."""
KEPT: Final = 4096
"""Bytes of standard error that are looked at; the rest is read, and dropped."""
LONGEST: Final = 200
"""Characters of a reason."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class UnfitError(Exception):
    """The program must not be run, or can not: the message says why."""


def inspect(command: FenceCommand) -> dict[str, Any]:
    """UnfitError unless the program is there, can be run, and only root can change it; and the user exists.

    Returns what makes a child process (subprocess.Popen) that user's. Reads files, and may ask a directory service.
    """
    account = _account(command.user)
    program = Path(command.command[0])
    try:
        places = {*_way(program), *_way(program.resolve(strict=True))}
        kept = {place: place.stat() for place in sorted(places)}
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise UnfitError(f"{program}: {getattr(error, 'strerror', None) or error}") from None
    for place, status in kept.items():
        if status.st_uid != 0:
            raise UnfitError(f"{program}: {place} is not root's")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UnfitError(f"{program}: {place} can be written by others than root")
    if not stat.S_ISREG(program.stat().st_mode) or not program.stat().st_mode & 0o111:
        raise UnfitError(f"{program}: not a program")
    return account


class ExecFencer:
    """The `Fencer` port by a program; `cluster` and `by` are told to it."""

    def __init__(self, deliver: Deliver, cluster: str, by: str) -> None:
        self._deliver = deliver
        self._about = {"HAAGENT_CLUSTER": cluster, "HAAGENT_BY": by}
        self._command: FenceCommand | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._runs: set[asyncio.Task[None]] = set()

    def configure(self, command: FenceCommand | None) -> None:
        """Run this program from now on; what runs goes on."""
        self._command = command

    def fence(self, effect: Fence) -> None:
        """Run the program about one node, after what may run about it already."""
        run = asyncio.get_running_loop().create_task(self._answer(effect), name=f"fence {effect.node}")
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def close(self) -> None:
        """Kill what runs; nobody waits for its answer."""
        runs = tuple(self._runs)
        for run in runs:
            run.cancel()
        if runs:
            await asyncio.wait(runs, timeout=2 * TERM_PATIENCE / S)

    async def _answer(self, effect: Fence) -> None:
        answer: Event
        try:
            answer = await self._fence(effect)
        except TimeoutError:
            answer = FenceTimedOut(effect.ask)
        except (OSError, ValueError, UnfitError) as error:
            answer = FenceRefused(effect.ask, f"could not be run: {error}")
        self._deliver(answer)

    async def _fence(self, effect: Fence) -> Event:
        lock = self._locks.setdefault(effect.node, asyncio.Lock())
        async with asyncio.timeout(_left(effect)):
            await lock.acquire()
        try:
            command = self._command
            if command is None:
                return FenceRefused(effect.ask, "no program is configured any more")
            async with asyncio.timeout(_left(effect)):
                account = await asyncio.to_thread(inspect, command)
            return await self._run(command, account, effect)
        finally:
            lock.release()

    async def _run(self, command: FenceCommand, account: dict[str, Any], effect: Fence) -> Event:
        with _Output() as output:
            process = await asyncio.create_subprocess_exec(
                *command.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=output.writer,
                start_new_session=True,
                cwd="/",
                env=self._environment(effect),
                **account,
            )
            output.started()
            try:
                async with asyncio.timeout(_left(effect)):
                    status = await process.wait()
            finally:
                if process.returncode is None:
                    await _end(process)
            if status == 0:
                return FenceConfirmed(effect.ask)
            ended = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
            return FenceRefused(effect.ask, output.first_line() or ended)

    def _environment(self, effect: Fence) -> dict[str, str]:
        return {
            "PATH": PATH,
            "HAAGENT_NODE": effect.node,
            "HAAGENT_INCARNATION": effect.incarnation,
            "HAAGENT_GROUP": effect.group,
            "HAAGENT_EPOCH": str(effect.epoch),
            "HAAGENT_DEADLINE_MS": str(max(0, effect.until - boottime()) // MS),
            **self._about,
        }


def _left(effect: Fence) -> float:
    return max(0, effect.until - boottime()) / S


def _account(user: str | None) -> dict[str, Any]:
    """The user's ids, and no more groups than that one's own. UnfitError: no such user."""
    if user is None:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UnfitError(f"no such user: {user}") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}


def _way(path: Path) -> set[Path]:
    """The path, all above it, and where its links lead."""
    found: set[Path] = set()
    for _ in range(40):
        found |= {path, *path.parents}
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return found


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM to all that it started and that stayed in its group, then SIGKILL; and wait until it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            _LOG.error("cannot kill the fencing program, pid %d: %s", process.pid, error)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERM_PATIENCE / S):
                await process.wait()


@dataclass(slots=True)
class _Output:
    """A pipe for standard error, read as it comes. Who holds it open beyond the program's end holds up nobody."""

    reader: int = -1
    writer: int = -1
    kept: bytearray = field(default_factory=bytearray)

    def __enter__(self) -> _Output:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The program's end blocks as any other would: the two ends' flags are their own.
        os.set_blocking(self.writer, True)
        asyncio.get_running_loop().add_reader(self.reader, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.reader)
        os.close(self.reader)
        self.started()

    def started(self) -> None:
        """The program has its end."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def first_line(self) -> str:
        """What is readable of the first line that is not empty."""
        with contextlib.suppress(BlockingIOError):
            while len(self.kept) < KEPT and self._read():
                pass
        lines = (line.strip() for line in self.kept.decode(errors="replace").splitlines())
        line = next(filter(None, lines), "")[:LONGEST]
        return "".join(char if char.isprintable() else "?" for char in line)

    def _read(self) -> int:
        data = os.read(self.reader, 65536)
        self.kept += data[: KEPT - len(self.kept)]
        if not data:
            asyncio.get_running_loop().remove_reader(self.reader)
        return len(data)
