"""Processes of the lab: real ones, inside a namespace, with a log each, that die with the lab.

The kernel's "die with your parent" (PR_SET_PDEATHSIG) means the parent *thread*. So one thread per lab, which
lives as long as the lab does, starts all of them, whichever thread asks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from haagent.core.units import Instant
from haagent.lab.commands import LabError, now


class Process:
    """A process that was started in the lab, leader of its own process group.

    `log` receives standard output and standard error, `started` is a CLOCK_BOOTTIME instant.
    """

    def __init__(self, argv: Sequence[str], popen: subprocess.Popen[bytes], log: Path, started: Instant) -> None:
        self.argv = tuple(argv)
        self.log = log
        self.started = started
        self._popen = popen

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended; a stopped process counts as running."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code; -N if signal N ended it; None while it runs."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the process alone; nothing happens if it has ended."""
        self._popen.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP to the whole process group; return when all threads of the process stand still.

        On a busy machine that takes its time, in which a thread on another core goes on.
        """
        self._signal_group(signal.SIGSTOP)
        give_up = time.monotonic() + 10
        while not _stands_still(self.pid):
            if time.monotonic() > give_up:
                raise LabError(f"{self}: goes on 10 s after SIGSTOP")
            time.sleep(0.0005)

    def resume(self) -> None:
        """SIGCONT to the whole process group."""
        self._signal_group(signal.SIGCONT)

    def begin_kill(self) -> None:
        """SIGKILL to the whole process group, and do not wait."""
        self._signal_group(signal.SIGKILL)

    def kill(self) -> Instant:
        """SIGKILL to the whole group, and wait for the process; return when the signal had been sent."""
        self.begin_kill()
        sent = now()
        self.wait()
        return sent

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for the end and return the exit code; LabError after `timeout` seconds."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self}: still runs after {timeout} s, log {self.log}") from None

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, then as `wait`."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def __repr__(self) -> str:
        return f"<{self.argv[0]} pid {self.pid}>"

    def _signal_group(self, number: int) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def _stands_still(pid: int) -> bool:
    """Whether every thread is stopped, or has ended (proc(5): T, Z, X)."""
    states: list[str] = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.append(stat.read_text().rpartition(") ")[2][0])
    return all(state in "TZX" for state in states)


class Launcher:
    """Starts processes; all of them die when it is closed, or when the process that holds it dies."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-launcher")
        self._started: list[Process] = []

    def spawn(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        namespace: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a process, in a namespace if one is named, its output appended to `log`.

        `env` is added to our own environment. Its /sys shows the namespace; nothing else differs from a plain
        start. Raises LabError if the program is not there to be run.
        """
        into = [] if namespace is None else ["ip", "netns", "exec", namespace]
        wrapped = [*into, "setpriv", "--pdeathsig", "KILL", "--", *argv]

        def start() -> subprocess.Popen[bytes]:
            with log.open("ab") as output:
                return subprocess.Popen(
                    wrapped,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=None if env is None else {**os.environ, **env},
                    start_new_session=True,
                )

        started = now()
        try:
            popen = self._thread.submit(start).result()
        except FileNotFoundError as error:
            raise LabError(f"{error.filename}: not installed") from None
        process = Process(argv, popen, log, started)
        self._started = [p for p in self._started if p.running]
        self._started.append(process)
        return process

    def close(self) -> None:
        """SIGKILL what still runs, and wait for it."""
        for process in self._started:
            process.begin_kill()
        for process in self._started:
            process.wait()
        self._thread.shutdown()
