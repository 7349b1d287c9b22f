"""A packet socket on one interface, of this namespace or of another, that hears what is for one MAC address."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final

from haagent.core.units import Instant
from haagent.lab import namespaces
from haagent.lab.commands import LabError, now

REOPEN_AFTER: Final = 20_000_000
"""An interface that is gone is looked for so often, in nanoseconds."""


class Wire:
    """Frames leave and arrive here; while the interface is not there, none does.

    A host that is lost takes its interfaces with it, and brings others of the same name: they are found again.
    """

    def __init__(self, interface: str, mac: bytes | None = None, namespace: str | None = None) -> None:
        """`mac`: whose frames are wanted; those of the interface itself unless given."""
        self._interface, self._mac, self._namespace = interface, mac, namespace
        self._socket: socket.socket | None = None
        self._opened: Instant = 0
        self.sent = self.refused = 0

    @property
    def descriptor(self) -> int | None:
        """For `select`; None while there is no interface."""
        return None if self._socket is None else self._socket.fileno()

    @property
    def mac(self) -> bytes:
        """The address of the interface; LabError if it is not there."""
        if not self.open():
            raise LabError(f"no interface {self._interface} in {self._namespace or 'this namespace'}")
        assert self._socket is not None
        return self._socket.getsockname()[4]

    def open(self) -> bool:
        """Open it if it is not, and if it was not just tried; whether it is open now."""
        if self._socket is None and now() - self._opened > REOPEN_AFTER:
            self._opened = now()
            with contextlib.suppress(OSError, LabError), namespaces.inside(self._namespace):
                self._socket = _open(self._interface, self._mac)
        return self._socket is not None

    def send(self, frame: bytes) -> None:
        """Send it if that is possible now: who cannot be asked does not answer."""
        if self._socket is None:
            self.refused += 1
            return
        try:
            self._socket.send(frame)
            self.sent += 1
        except OSError as error:  # the link is down, or its queue full
            self.refused += 1
            if error.errno in _GONE:
                self._socket.close()
                self._socket = None

    def receive(self) -> Iterator[tuple[Instant, bytes]]:
        """All that has arrived, each frame with when, as the kernel stamped it (CLOCK_BOOTTIME)."""
        ahead = time.time_ns() - now()
        while self._socket is not None:
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # ENETDOWN, once, when the link goes down
                continue
            yield min(_stamp(ancillary) - ahead, now()), frame


def _open(interface: str, mac: bytes | None) -> socket.socket:
    # Opened for no protocol: nothing is received until the filter stands and bind names one.
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        opened.setblocking(False)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        opened.bind((interface, 0))
        _only_for(opened, opened.getsockname()[4] if mac is None else mac)
        opened.bind((interface, _ETH_P_ALL))
    except OSError:
        opened.close()
        raise
    return opened


def _only_for(opened: socket.socket, mac: bytes) -> None:
    """Let the kernel drop what is not addressed to `mac`, so that a flood of multicast does not wake us."""
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the first four bytes
            (0x15, 0, 3, int.from_bytes(mac[:4])),
            (0x28, 0, 0, 4),  # load the next two
            (0x15, 0, 1, int.from_bytes(mac[4:])),
            (0x06, 0, 0, 0xFFFF),  # accept
            (0x06, 0, 0, 0),  # drop
        )
    )
    kept = ctypes.create_string_buffer(program)
    value = struct.pack("HL", len(program) // 8, ctypes.addressof(kept))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, value)


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's time of arrival (wall clock, ns); now, if it gave none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return seconds * 1_000_000_000 + nanoseconds
    return time.time_ns()


# linux/if_packet.h, asm-generic/socket.h, linux/if_ether.h: the socket module lacks them.
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_TIMESTAMPNS: Final = 35
_SO_ATTACH_FILTER: Final = 26
_ETH_P_ALL: Final = 3
_GONE: Final = (errno.ENXIO, errno.ENODEV)
