"""A stand-in for systemd: the notification socket with its descriptor store, and starts with what is in it.

As sd_notify(3) and sd_listen_fds(3) say, and systemd's service manager does: what goes beyond `most` is closed; what
was stored without FDPOLL=0 is closed when its other end hangs up; the next process gets all that is left, from
descriptor 3 on, and the manager keeps its copies.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.namespace import ROOT

_START = """
import os, sys
count = int(os.environ["LISTEN_FDS"])
given = [int(each) for each in sys.argv[1].split(",") if each]
high = [os.dup2(each, 100 + at) for at, each in enumerate(given)]
for at, each in enumerate(high):
    os.dup2(each, 3 + at)
os.closerange(3 + count, 300)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """Serves until it is closed. `most`: FileDescriptorStoreMax=."""

    def __init__(self, directory: Path, most: int) -> None:
        self.path = str(directory / "notify")
        self.said: list[str] = []
        self._most = most
        self._stored: list[tuple[str, int, bool]] = []
        self._guard = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._over, self._close = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the service's process, with what is in store."""
        with self._guard:
            names, given = [name for name, _, _ in self._stored], [each for _, each, _ in self._stored]
            env = {
                **os.environ,
                **(environment or {}),
                "PYTHONPATH": str(ROOT),
                "NOTIFY_SOCKET": self.path,
                "LISTEN_FDS": str(len(given)),
                "LISTEN_FDNAMES": ":".join(names),
            }
            words = [sys.executable, "-c", _START, ",".join(map(str, given)), *argv]
            return subprocess.Popen(words, env=env, pass_fds=given, stdout=subprocess.PIPE, bufsize=0)

    def stored(self) -> list[str]:
        """The names of what is in store."""
        with self._guard:
            return [name for name, _, _ in self._stored]

    def close(self) -> None:
        """Let go of all."""
        self._close.close()
        self._thread.join()
        for _, descriptor, _ in self._stored:
            os.close(descriptor)
        self._socket.close()
        self._over.close()

    def _serve(self) -> None:
        while True:
            poll = select.poll()
            for each in (self._socket, self._over):
                poll.register(each, select.POLLIN)
            for _, descriptor, polled in self._stored:
                if polled:
                    poll.register(descriptor, 0)
            ready = {descriptor for descriptor, _ in poll.poll()}
            with self._guard:
                if self._over.fileno() in ready:
                    return
                self._forget(lambda name, descriptor, ready=ready: descriptor in ready)
                if self._socket.fileno() in ready:
                    self._receive()

    def _receive(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 16)
        lines = dict(line.split("=", 1) for line in data.decode().splitlines())
        self.said.append(data.decode())
        name = lines.get("FDNAME", "")
        if "FDSTOREREMOVE" in lines:
            self._forget(lambda stored, _: stored == name)
        for descriptor in descriptors:
            if "FDSTORE" in lines and len(self._stored) < self._most and not self._has(descriptor):
                self._stored.append((name, descriptor, lines.get("FDPOLL") != "0"))
            else:
                os.close(descriptor)

    def _has(self, descriptor: int) -> bool:
        return any(os.path.samestat(os.fstat(descriptor), os.fstat(each)) for _, each, _ in self._stored)

    def _forget(self, which: object) -> None:
        assert callable(which)
        for each in [each for each in self._stored if which(each[0], each[1])]:
            self._stored.remove(each)
            with contextlib.suppress(OSError):
                os.close(each[1])
