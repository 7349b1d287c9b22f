"""Addresses and links as the kernel has them: one socket to ask, one to listen; all that touches pyroute2.

pyroute2 opens the sockets, names the constants and decodes (20 us a message). Our one request that comes in
hundreds, an address, is packed here: pyroute2's encoder takes 80 us each, 16 ms for 200 addresses with the
interpreter's lock held, where one `struct` takes 2 us. Nothing here is shared between threads.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from pyroute2 import IPRSocket
from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_LINK,
)
from pyroute2.netlink.rtnl.ifaddrmsg import (
    IFA_F_DADFAILED,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT,
    IFA_F_SECONDARY,
    IFA_F_TENTATIVE,
)

from haagent.core.model import VirtualAddress

TAG: Final = 0x68
"""Our IFA_PROTO (a recent `ip` shows `proto 0x68`): below 4 are the kernel's own, the rest is for users."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. Up: administratively, with a carrier, and operational (RFC 2863: up or unknown)."""

    index: int
    name: str
    up: bool
    mac: bytes = b""


@dataclass(frozen=True, slots=True)
class Held:
    """An address that the kernel has.

    `tagged`: by us or an earlier run; `brief`: it has a lifetime, no longer than the longest that we give;
    `usable`: it passed duplicate detection.
    """

    index: int
    address: bytes
    prefix: int
    tagged: bool
    permanent: bool
    brief: bool
    secondary: bool
    usable: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """What a deletion names: an address of an interface, or (no address) the interface itself."""

    index: int
    address: bytes = b""
    prefix: int = 0


News = Link | Held | Gone


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the kernel refused a request: the errno, and the kernel's own words where it has some."""

    number: int
    words: str = ""

    def __str__(self) -> str:
        name = errno.errorcode.get(self.number, str(self.number))
        return f"{name} ({self.words or os.strerror(self.number)})"


class OverrunError(Exception):
    """The kernel dropped news that we were too slow to read: only a dump tells what it has now."""


def set_address(index: int, wanted: VirtualAddress, lifetime: int) -> bytes:
    """The request (header without its sequence number) to add an address, or to give it our tag and `lifetime` (s).

    As keepalived has it, an IPv6 address skips duplicate detection. It is deprecated from the start, whatever its
    prefix: the kernel then takes another address as the source of the host's own connections (RFC 6724, rule 3),
    which would break when the address moves. IPv4 has no such preference: there the first address of a subnet is the
    source, and a /32 never is. A full-length prefix needs no route of its own.
    """
    flags, preferred = 0, lifetime
    if len(wanted.address) == 16:
        flags, preferred = IFA_F_NODAD, 0
        if wanted.prefix == 128:
            flags |= IFA_F_NOPREFIXROUTE
    body = _address(index, wanted.address, wanted.prefix) + _SETTINGS.pack(
        *(8, _IFA_FLAGS, flags), *(5, _IFA_PROTO, TAG), *(20, _IFA_CACHEINFO, preferred, lifetime, 0, 0)
    )
    return _request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body)


def delete_address(index: int, address: bytes, prefix: int) -> bytes:
    """The request to delete an address."""
    return _request(RTM_DELADDR, 0, _address(index, address, prefix))


def knows_tags(release: str) -> bool:
    """Whether a kernel of this release stores IFA_PROTO: Linux 5.18 or later."""
    major, _, rest = release.partition(".")
    minor = "".join(ch for ch in rest.partition(".")[0] if ch.isdigit())
    return (int(major), int(minor or 0)) >= (5, 18)


class Requests:
    """The socket that asks. Many requests go in one system call; the kernel performs them while it lasts."""

    def __init__(self) -> None:
        self._sequence = 0
        self._open()

    def close(self) -> None:
        self._netlink.close()

    def apply(self, requests: Sequence[bytes]) -> list[Refusal | None]:
        """Perform all, in order; for each None (done) or why not. A socket that fails is opened anew."""
        answers: list[Refusal | None] = []
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            try:
                answers += self._apply(batch)
            except OSError as error:
                answers += [Refusal(error.errno or errno.ETIMEDOUT)] * len(batch)
                self.close()
                self._open()
        return answers

    def dump(self) -> list[News]:
        """All links, then all addresses."""
        return [*self._dump(RTM_GETLINK, _IFINFOMSG_SIZE), *self._dump(RTM_GETADDR, _IFADDRMSG_SIZE)]

    def _open(self) -> None:
        self._netlink, self._socket = _open(0)
        self._socket.settimeout(_ANSWER_TIMEOUT)

    def _apply(self, batch: Sequence[bytes]) -> list[Refusal | None]:
        first = self._sequence + 1
        self._sequence += len(batch)
        self._socket.send(b"".join(_numbered(request, first + at) for at, request in enumerate(batch)))
        answers: list[Refusal | None] = [None] * len(batch)
        missing = len(batch)
        while missing:
            for kind, sequence, data, offset in _split(self._socket.recv(_READ)):
                at = sequence - first
                if kind != NLMSG_ERROR or not 0 <= at < len(batch):
                    continue
                missing -= 1
                (code,) = _INT.unpack_from(data, offset + _HEADER.size)
                if code:
                    answers[at] = Refusal(-code, self._words(data))
        return answers

    def _words(self, data: bytes) -> str:
        return next((str(m.get_attr("NLMSGERR_ATTR_MSG") or "") for m in self._netlink.marshal.parse(data)), "")

    def _dump(self, kind: int, body_size: int) -> list[News]:
        news: list[News] = []
        for _ in range(_DUMP_TRIES):
            self._sequence += 1
            self._socket.send(_numbered(_request(kind, NLM_F_DUMP, bytes(body_size), ack=0), self._sequence))
            news, whole = self._read_dump()
            if whole:
                break
        return news  # after so many changes: what is wrong in it, the events that are waiting put right

    def _read_dump(self) -> tuple[list[News], bool]:
        news: list[News] = []
        whole = True
        while True:
            data = self._socket.recv(_READ)
            for kind, sequence, _, offset in _split(data):
                if sequence != self._sequence:
                    continue
                # Something changed while the kernel listed: what it said may not fit together.
                whole &= not _HEADER.unpack_from(data, offset)[2] & NLM_F_DUMP_INTR
                if kind == NLMSG_ERROR:
                    code = -_INT.unpack_from(data, offset + _HEADER.size)[0]
                    raise OSError(code, os.strerror(code))
                if kind == NLMSG_DONE:
                    return news, whole
            messages = _decode(self._netlink, data)
            while some := list(islice(messages, _PIECE)):
                news += some
                time.sleep(0)


class Events:
    """The socket that listens to links and addresses."""

    def __init__(self) -> None:
        self._netlink, self._socket = _open(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._netlink.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> Iterator[News]:
        """What has been told; `OverrunError` if some was lost, or it does not end, after dropping the rest."""
        for count in range(1, _NEWS_MOST + 1):
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._drop()
                raise OverrunError from error
            yield from _decode(self._netlink, data)
            if count % _PIECE == 0:
                time.sleep(0)
        self._drop()
        raise OverrunError

    def _drop(self) -> None:
        while select.select([self._socket], [], [], 0)[0]:
            try:
                self._socket.recv(_READ)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def _open(groups: int) -> tuple[Any, socket.socket]:
    netlink = IPRSocket(ext_ack=True)
    try:
        netlink.bind(groups)
    except KeyError:  # what pyroute2 makes of whatever kept all its attempts from succeeding
        netlink.close()
        raise OSError(
            errno.EMFILE, "no netlink socket: too few file descriptors (LimitNOFILE=) or too little memory"
        ) from None
    raw: socket.socket = netlink.socket
    try:
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return netlink, raw


def _decode(netlink: Any, data: bytes) -> Iterator[News]:
    for message in netlink.marshal.parse(data):
        yield from _news(message)


def _news(message: Any) -> Iterable[News]:
    kind, index = message["header"]["type"], message.get("index")
    if kind == RTM_DELLINK:
        # A bridge says with AF_BRIDGE that an interface left it; only the plain message is the interface's end.
        return (Gone(index),) if message["family"] == socket.AF_UNSPEC else ()
    if kind == RTM_NEWLINK:
        up = message["flags"] & _UP == _UP
        if message["family"] != socket.AF_UNSPEC:
            return ()
        mac = str(message.get_attr("IFLA_ADDRESS") or "")
        return (Link(index, message.get_attr("IFLA_IFNAME"), up, bytes.fromhex(mac.replace(":", ""))),)
    if kind not in (RTM_NEWADDR, RTM_DELADDR):
        return ()
    # IPv4's IFA_ADDRESS is the far end on a point-to-point link; IPv6 has IFA_LOCAL there only.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    family = message["family"]
    if text is None or family not in (socket.AF_INET, socket.AF_INET6):
        return ()
    address, prefix = socket.inet_pton(family, text), message["prefixlen"]
    if kind == RTM_DELADDR:
        return (Gone(index, address, prefix),)
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    lifetimes = message.get_attr("IFA_CACHEINFO")
    return (
        Held(
            index,
            address,
            prefix,
            tagged=message.get_attr("IFA_PROTO") == TAG,
            permanent=bool(flags & IFA_F_PERMANENT),
            brief=not flags & IFA_F_PERMANENT and lifetimes is not None and lifetimes["ifa_valid"] <= _LONGEST,
            secondary=family == socket.AF_INET and bool(flags & IFA_F_SECONDARY),
            usable=not flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED),
        ),
    )


def _address(index: int, address: bytes, prefix: int) -> bytes:
    size = len(address)
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    attributes = _ATTRIBUTE.pack(4 + size, _IFA_LOCAL) + address + _ATTRIBUTE.pack(4 + size, _IFA_ADDRESS) + address
    return _IFADDRMSG.pack(family, prefix, 0, 0, index) + attributes


def _request(kind: int, flags: int, body: bytes, ack: int = NLM_F_ACK) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | ack | flags, 0, 0) + body


def _numbered(request: bytes, sequence: int) -> bytes:
    return request[:8] + _UINT.pack(sequence) + request[12:]


def _split(data: bytes) -> Iterator[tuple[int, int, bytes, int]]:
    """(type, sequence, data from here on, offset) of each message in a buffer."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, sequence, data, offset
        offset += (length + 3) & ~3


_HEADER = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_IFADDRMSG_SIZE, _IFINFOMSG_SIZE = 8, 16
_ATTRIBUTE = struct.Struct("=HH")
# IFA_FLAGS (u32), IFA_PROTO (u8, padded), IFA_CACHEINFO (struct ifa_cacheinfo): linux/if_addr.h.
_SETTINGS = struct.Struct("=HHIHHBxxxHHIIII")
_INT, _UINT = struct.Struct("=i"), struct.Struct("=I")

_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 2, 6, 8, 11
# IFF_UP, IFF_RUNNING (operstate up or unknown), IFF_LOWER_UP (carrier): linux/if.h.
_UP = 0x1 | 0x40 | 0x10000
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 1 << 20
_READ = 1 << 16
_BATCH = 100
# Seconds: the longest `lease.ttl`, and what a lifetime has beyond the lease's end (`ledger.lifetime_for`).
_LONGEST = 60 + 2
_DUMP_TRIES = 5
# So many messages are decoded before the event loop may have the interpreter's lock (a system call that does not
# wait gives it away for too short a time: the loop would get it after 5 ms only, when it may insist).
_PIECE = 16
# Read in one go, 30 ms: a storm of changes may not keep us from what we are asked to do.
_NEWS_MOST = 1000
_ANSWER_TIMEOUT = 5.0
