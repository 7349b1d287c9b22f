"""Established TCP connections on addresses that have left this host, reset by the kernel on our demand (SOCK_DESTROY).

A server's connections on an address that another node has now neither live nor die: nothing comes for them any more,
and they wait for hours. After `reset` the server's next system call on one fails (ECONNABORTED). The client learns
nothing of it from here: what the host would send from an address that it lost does not leave it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Final

from haagent.adapters.netlink.rtnl import Held, Requests

log = logging.getLogger("haagent.kernel")


class Resets:
    """Resets connections beside the event loop, with one listing of the host's sockets at a time."""

    def __init__(self) -> None:
        self._waiting: set[bytes] = set()
        self._working: asyncio.Task[None] | None = None

    def ask(self, addresses: Iterable[bytes]) -> None:
        """These addresses have left, unless another group of ours holds them. Returns at once."""
        self._waiting.update(addresses)
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work(), name="resets")

    async def close(self) -> None:
        """Let what was asked for be done, within a second."""
        if self._working is not None:
            await asyncio.wait([self._working], timeout=1)

    async def _work(self) -> None:
        while self._waiting:
            addresses, self._waiting = self._waiting, set()
            try:
                count = await asyncio.to_thread(reset, addresses)
            except OSError as error:
                log.warning("cannot reset the connections on addresses that left: %s", error.strerror)
            else:
                if count:
                    log.info("reset %d connections on addresses that left", count)


def can_reset() -> bool:
    """Whether the kernel destroys sockets when asked to (CONFIG_INET_DIAG_DESTROY)."""
    try:
        with _open() as opened:
            nobody = struct.pack("=HH16s16sI8s", 0, 0, bytes(16), bytes(16), 0, b"\xff" * 8)
            return _destroy(opened, socket.AF_INET, nobody) != errno.EOPNOTSUPP
    except OSError:
        return False


def reset(addresses: Iterable[bytes]) -> int:
    """Reset all connections on those of the addresses that this host does not hold by us any more; how many they were.

    Takes as long as the kernel needs to list all TCP sockets: not for the event loop. OSError: it cannot be done.
    """
    gone = {_mapped(each) for each in addresses} - {_mapped(each) for each in _held()}
    if not gone:
        return 0
    done = 0
    with _open() as opened:
        for family in (socket.AF_INET, socket.AF_INET6):
            for one in [each for each in _connections(opened, family) if _source(family, each) in gone]:
                number = _destroy(opened, family, one)
                if number not in (0, errno.ENOENT):
                    raise OSError(number, os.strerror(number))
                done += number == 0
    return done


def _held() -> list[bytes]:
    requests = Requests()
    try:
        return [each.address for each in requests.dump() if isinstance(each, Held) and each.tagged]
    finally:
        requests.close()


def _mapped(address: bytes) -> bytes:
    """As a socket of either family has it: a connection to an IPv4 address may be one of an IPv6 socket."""
    return address if len(address) == 16 else bytes(10) + b"\xff\xff" + address


def _source(family: int, identity: bytes) -> bytes:
    return _mapped(identity[4:8]) if family == socket.AF_INET else identity[4:20]


def _connections(opened: socket.socket, family: int) -> Iterator[bytes]:
    """The identity (struct inet_diag_sockid) of each connection of the host."""
    opened.send(_request(_SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP, family, bytes(_IDENTITY)))
    while True:
        data = opened.recv(1 << 16)
        for kind, body in _messages(data):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -_INT.unpack_from(body)[0]
                raise OSError(number, os.strerror(number))
            yield body[4 : 4 + _IDENTITY]
        time.sleep(0)  # let the event loop have the interpreter's lock


def _destroy(opened: socket.socket, family: int, identity: bytes) -> int:
    """The errno, 0 if it was done."""
    opened.send(_request(_SOCK_DESTROY, _NLM_F_ACK, family, identity))
    for kind, body in _messages(opened.recv(1 << 16)):
        if kind == _NLMSG_ERROR:
            return -int(_INT.unpack_from(body)[0])
    return errno.EIO


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    opened.settimeout(5)
    return opened


def _request(kind: int, flags: int, family: int, identity: bytes) -> bytes:
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _STATES) + identity
    return _HEADER.pack(_HEADER.size + len(body), kind, 1 | flags, 0, 0) + body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h (struct inet_diag_req_v2), net/tcp_states.h.
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI")
_INT = struct.Struct("=i")
_IDENTITY: Final = 48
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_SOCK_DESTROY: Final = 21
_NLM_F_ACK: Final = 0x4
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_STATES: Final = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11
"""All but LISTEN, CLOSE and TIME_WAIT: a service's listening sockets stay."""
