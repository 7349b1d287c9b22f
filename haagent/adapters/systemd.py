"""The service manager, by the protocol of sd_notify(3): datagrams of `NAME=value` lines to the socket it names.

Without $NOTIFY_SOCKET nobody listens, and nothing is sent. What cannot be sent is lost: no agent waits for the manager.
Descriptors that it shall store are sent along, and come back by sd_listen_fds(3) to the next process of the service.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Mapping
from typing import Final

from haagent.core.units import US, Duration

LONGEST: Final = 1000
"""Characters of a status."""


class ServiceManager:
    """Tells the manager how the service is. `environment`: os.environ, of which nothing is changed."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.patience = _patience(environment)
        self._inherited = _inherited(environment)
        self._socket: socket.socket | None = None
        self._status = ""
        # sd_notify(3): a path, or an @ in place of the null byte of an abstract name. (vsock is for whole machines.)
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """It has started, or the reload is over."""
        self._send("READY=1")

    def reloading(self) -> None:
        """It reads its configuration anew."""
        # The manager tells by this instant which reload is meant.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // US}")

    def stopping(self) -> None:
        """It is about to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """How it is, for people, in one line; said only if it is another one than before."""
        text = "".join(char if char.isprintable() else "?" for char in text[:LONGEST])
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def pet(self) -> None:
        """It is well. Said at least once in each `patience`, if the manager asked for that."""
        if self.patience is not None:
            self._send("WATCHDOG=1")

    def inherited(self, name: str) -> list[int]:
        """The descriptors of that name which it has in store and gave to this process; the caller closes them."""
        return self._inherited.pop(name, [])

    def store(self, name: str, descriptor: int, *, polled: bool) -> bool:
        """Ask it to store a copy; `polled`: until the other end hangs up. False: it surely does not.

        It does not answer. One that it refuses (FileDescriptorStoreMax=) it closes.
        """
        if self._socket is None:
            return False
        lines = f"FDSTORE=1\nFDNAME={name}" + ("" if polled else "\nFDPOLL=0")
        try:
            # Not socket.send_fds, which ignores the address before Python 3.12.
            rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor)
            self._socket.sendmsg([lines.encode()], [rights], 0, self._address)
        except OSError:
            return False
        return True

    def forget(self, name: str) -> None:
        """Ask it to close what it has in store by that name."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def close(self, *, clean: bool) -> None:  # noqa: ARG002 - the manager sees for itself how the process ends
        """Say no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)


def _inherited(environment: Mapping[str, str]) -> dict[str, list[int]]:
    """The descriptors that the manager gave to this process, by name; none of our children gets them."""
    count, names = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_FDNAMES", "").split(":")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return {}
    found: dict[str, list[int]] = {}
    for descriptor, name in zip(range(_FIRST, _FIRST + int(count[:4])), names, strict=False):
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, False)
            found.setdefault(name, []).append(descriptor)
    return found


def _patience(environment: Mapping[str, str]) -> Duration | None:
    """After how long without a word the manager ends the service (sd_watchdog_enabled(3)); None: it does not."""
    owner, microseconds = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if owner and owner != str(os.getpid()):
        return None  # it is our parent's
    if not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) < 19 and int(microseconds)):
        return None
    return int(microseconds) * US


_FIRST: Final = 3
"""SD_LISTEN_FDS_START."""
