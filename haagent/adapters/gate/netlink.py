"""Netlink, as far as both gates need it: messages, attributes, a socket that asks and one that listens.

The kernel performs a request while it is being sent, so every answer is there when `send` returns, and no call here
waits. Headers and attribute lengths are in the machine's byte order, and everything is aligned to 4 bytes; the values
of attributes are what each subsystem says (nf_tables: big-endian, traffic control: the machine's).
Source: linux/netlink.h, Documentation/userspace-api/netlink.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

REQUEST, ACK = 0x1, 0x4
EXCLUSIVE, CREATE, APPEND = 0x200, 0x400, 0x800
DUMP: Final = 0x300
DUMP_INTERRUPTED: Final = 0x10

ERROR, DONE = 2, 3


class Message(NamedTuple):
    """A request, or what came from the kernel: `body` is all after the header; `portid` names who asked for it."""

    kind: int
    flags: int
    body: bytes
    sequence: int = 0
    portid: int = 0


class NetlinkError(Exception):
    """The kernel refused a request: the errno, which of the messages sent it was (-1: none of them), its own words."""

    def __init__(self, number: int, at: int = -1, words: str = "") -> None:
        name = errno.errorcode.get(number, str(number))
        super().__init__(f"{name} ({words or os.strerror(number)})")
        self.number = number
        self.at = at


class OverrunError(Exception):
    """The kernel dropped news, because we read too slowly."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A string, as the kernel wants it: with a zero at its end."""
    return attribute(kind, value.encode() + b"\0")


def messages(data: bytes) -> Iterator[Message]:
    """The messages in a buffer, up to the first that is malformed."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, portid = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        yield Message(kind, flags, data[offset + _HEADER.size : offset + length], sequence, portid)
        offset += _aligned(length)


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    """(kind, value) of each attribute, up to the first that is malformed."""
    found: list[tuple[int, bytes]] = []
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            break
        found.append((kind & _KIND, data[offset + _ATTRIBUTE.size : offset + length]))
        offset += _aligned(length)
    return found


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes by kind; of several of one kind, the last."""
    return dict(attribute_list(data))


def read_text(value: bytes) -> str:
    """A string attribute, without what follows its zero."""
    return value.partition(b"\0")[0].decode(errors="replace")


class Requests:
    """The socket that asks. `portid` is its name: the kernel tells it to listeners with everything that it changes."""

    def __init__(self, protocol: int, opened: socket.socket | None = None) -> None:
        """`opened`: go on with this socket, which an earlier process made so."""
        self._socket = _open(protocol) if opened is None else opened
        with contextlib.suppress(OSError):  # words, and no echo of what was asked
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self.portid: int = self._socket.getsockname()[0]
        self._sequence = 0

    @property
    def endpoint(self) -> socket.socket:
        """What the kernel knows this process by, as long as anybody has it open."""
        return self._socket

    def close(self) -> None:
        self._socket.close()

    def perform(self, requests: Sequence[Message]) -> None:
        """Send all in one system call, and check that each was done. NetlinkError of the first that was refused."""
        first = self._sequence + 1
        self._sequence += len(requests)
        buffer = b"".join(_packed(request, first + at) for at, request in enumerate(requests))
        self._send(buffer)
        missing = sum(bool(request.flags & ACK) for request in requests)
        refusal: NetlinkError | None = None
        for message in self._received():
            at = message.sequence - first
            if message.kind != ERROR or not 0 <= at < len(requests):
                continue
            number = _error(message)
            missing -= bool(requests[at].flags & ACK)
            if number and refusal is None:
                refusal = NetlinkError(number, at, _words(message))
        if refusal is not None:
            raise refusal
        if missing > 0:
            raise NetlinkError(errno.ETIMEDOUT, words="the kernel did not answer")

    def dump(self, request: Message) -> list[Message]:
        """All that there is of something. NetlinkError if the kernel refuses, or keeps changing."""
        for _ in range(_DUMP_TRIES):
            self._sequence += 1
            self._send(_packed(request._replace(flags=request.flags | DUMP), self._sequence))
            found, whole = self._read_dump()
            if whole:
                return found
        raise NetlinkError(errno.EINTR, words="it changes faster than it can be listed")

    def _read_dump(self) -> tuple[list[Message], bool]:
        found: list[Message] = []
        whole = True
        for message in self._received():
            if message.sequence != self._sequence:
                continue
            # Something changed while the kernel listed: what it said may not fit together.
            whole &= not message.flags & DUMP_INTERRUPTED
            if message.kind in (ERROR, DONE) and (number := _error(message)):
                if number == errno.EINTR:
                    return found, False
                raise NetlinkError(number, 0, _words(message))
            if message.kind == DONE:
                return found, whole
            if message.kind != ERROR:
                found.append(message)
        raise NetlinkError(errno.ETIMEDOUT, words="the kernel did not finish its list")

    def _send(self, buffer: bytes) -> None:
        for _ in self._received():  # what an answer that was too long left
            pass
        try:
            self._socket.send(buffer)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO) from error

    def _received(self) -> Iterator[Message]:
        while True:
            try:
                data = self._socket.recv(_READ, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                raise NetlinkError(error.errno or errno.EIO) from error
            yield from messages(data)


class News:
    """The socket that listens to multicast groups; readable (`fileno`) when there is something to read."""

    def __init__(self, protocol: int, groups: Iterable[int]) -> None:
        self._socket = _open(protocol)
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> Iterator[Message]:
        """What has been told so far; OverrunError where some of it was lost. Read on after that."""
        while True:
            try:
                data = self._socket.recv(_READ, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                raise OverrunError from error
            yield from messages(data)


def _open(protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    opened.bind((0, 0))
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            opened.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)
    return opened


def _packed(message: Message, sequence: int) -> bytes:
    length = _HEADER.size + len(message.body)
    return _HEADER.pack(length, message.kind, message.flags | REQUEST, sequence, 0) + message.body + bytes(-length & 3)


def _error(message: Message) -> int:
    """The errno of an NLMSG_ERROR (0: an acknowledgement) or NLMSG_DONE."""
    return -_INT.unpack_from(message.body)[0] if len(message.body) >= _INT.size else 0


def _words(message: Message) -> str:
    # The errno, then the header of what was asked (NETLINK_CAP_ACK), then attributes.
    told = attributes(message.body[_INT.size + _HEADER.size :])
    return read_text(told.get(_NLMSGERR_ATTR_MSG, b""))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_INT = struct.Struct("=i")
_NESTED: Final = 0x8000
_KIND: Final = 0x3FFF
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 1, 10, 11
_NLMSGERR_ATTR_MSG: Final = 1
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER: Final = 1 << 20
_READ: Final = 1 << 16
_DUMP_TRIES: Final = 5
