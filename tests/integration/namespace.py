"""A network namespace for one test, that cannot be left behind: it belongs to a process and ends with it.

`@in_namespace` runs the test's body in a process of its own, in a namespace of its own. There, a `Neighbour` is
a second host: a thread in another namespace, whose sockets stay there.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import inspect
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]


def in_namespace(body: Callable[[], None]) -> Callable[[], None]:
    """Make a test of `body`; what it prints is shown when it fails, or with -s."""
    return apart(body, body)


def apart(named: Callable[..., object], body: Callable[[], None]) -> Callable[[], None]:
    """Make a test of `body` that goes by the name of `named`, the function that is decorated."""

    @functools.wraps(named)
    def test() -> None:
        command = [sys.executable, "-W", "error", __file__, named.__code__.co_filename, named.__name__]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=55, env=environment, check=False)
        print(done.stdout + done.stderr)
        assert done.returncode == 0, f"{named.__name__} failed in its namespace:\n{done.stderr}"

    # What pytest would take for fixtures are the parameters of `named`.
    vars(test).update(body=body, __signature__=inspect.Signature())
    return test


def sh(line: str) -> str:
    """Run a command in this thread's namespace."""
    return subprocess.run(line.split(), check=True, capture_output=True, text=True).stdout


class Neighbour:
    """A host of its own, joined by a cable: `here` is our end of it, `there` is its own."""

    def __init__(self, here: str, there: str) -> None:
        self.here, self.there = here, there
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self.run(unshare)
        tid = self.run(threading.get_native_id)
        self.plug = f"ip link add {here} type veth peer name {there} netns {tid}"
        self.connect()

    def connect(self) -> None:
        """Plug the cable in, both ends up; unplugged is `ip link del`."""
        sh(self.plug)
        sh(f"ip link set {self.here} up")
        self.run(lambda: sh(f"ip link set {self.there} up"))

    def run(self, call: Callable[[], T]) -> T:
        """Do something in its namespace, and wait for it."""
        answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answer.put((call(), None))
            except BaseException as error:  # noqa: BLE001 - it is raised by the caller
                answer.put((None, error))

        self._work.put(work)
        result, error = answer.get(timeout=20)
        if error is not None:
            raise error
        return result  # pyright: ignore[reportReturnType]

    def _live(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def unshare() -> None:
    """Give this thread a network namespace of its own, with nothing but a loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000):  # CLONE_NEWNET; os.unshare is Python 3.12's
        raise OSError(ctypes.get_errno(), "unshare")
    sh("ip link set lo up")


def _main(path: str, name: str) -> None:
    unshare()
    spec = importlib.util.spec_from_file_location("body", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["body"] = module
    spec.loader.exec_module(module)
    getattr(module, name).body()


if __name__ == "__main__":
    _main(*sys.argv[1:])
