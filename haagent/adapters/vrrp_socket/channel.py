"""One raw socket of protocol 112: one family on one interface, whoever speaks VRRP there.

The source address, the TTL and the interface go with each packet as ancillary data, so that virtual routers which
differ in them can share the socket. Checksums are ours: for IPv6 too the kernel computes one only if
asked (IPV6_CHECKSUM), and it would not know the dialects.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from haagent.wire.inet import IPPROTO_VRRP, TOS_VRRP, VRRP_GROUP_V4, VRRP_GROUP_V6, split_ipv4, to_text
from haagent.wire.rejection import Reason, Rejected


class Spot(NamedTuple):
    """Where a channel speaks: an interface and a family (4 or 6)."""

    interface: str
    family: int


@dataclass(frozen=True, slots=True)
class Packet:
    """A VRRP PDU and what its IP header said of it; addresses are packed."""

    source: bytes
    destination: bytes
    ttl: int
    pdu: bytes


class Channel:
    """An open socket. Every method that touches the kernel may raise OSError."""

    def __init__(self, spot: Spot) -> None:
        """Opens, non-blocking. OSError: no such interface, or no right to."""
        self.spot = spot
        self.index = socket.if_nametoindex(spot.interface)
        self.member = False
        family = socket.AF_INET if spot.family == 4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, IPPROTO_VRRP)
        try:
            self._set_up(family)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def is_stale(self) -> bool:
        """Whether the interface is gone, or another one by now."""
        try:
            return socket.if_nametoindex(self.spot.interface) != self.index
        except OSError:
            return True

    def set_member(self, member: bool) -> None:
        """Join the VRRP group, or leave it."""
        if member == self.member:
            return
        if self.spot.family == 4:
            option = socket.IP_ADD_MEMBERSHIP if member else socket.IP_DROP_MEMBERSHIP
            self._socket.setsockopt(socket.IPPROTO_IP, option, _MREQN.pack(VRRP_GROUP_V4, bytes(4), self.index))
        else:
            option = socket.IPV6_JOIN_GROUP if member else socket.IPV6_LEAVE_GROUP
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, VRRP_GROUP_V6 + _INT.pack(self.index))
        self.member = member

    def send(self, pdu: bytes, *, source: bytes, destination: bytes, ttl: int) -> None:
        """Send one PDU; `source` must be an address of this host."""
        if self.spot.family == 4:
            about = [
                (socket.IPPROTO_IP, _IP_PKTINFO, _IN_PKTINFO.pack(self.index, source, bytes(4))),
                (socket.IPPROTO_IP, socket.IP_TTL, _INT.pack(ttl)),
            ]
            self._socket.sendmsg([pdu], about, 0, (to_text(destination), 0))
        else:
            about = [
                (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source + _INT.pack(self.index)),
                (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(ttl)),
            ]
            self._socket.sendmsg([pdu], about, 0, (to_text(destination), 0, 0, self.index))

    def receive(self, most: int) -> Iterator[Packet | tuple[bytes, Rejected]]:
        """At most so many packets that wait; what is not one comes as its source (if known) and why."""
        receive = self._receive_v4 if self.spot.family == 4 else self._receive_v6
        for _ in range(most):
            if self._socket.fileno() < 0:  # closed by what the last packet led to
                return
            try:
                yield receive()
            except BlockingIOError:
                return

    def overflowed(self) -> int:
        """How many packets the kernel has dropped because we did not read them in time."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_SK_MEMINFO_DROPS + 1))
        return int(struct.unpack_from("=I", raw, 4 * _SK_MEMINFO_DROPS)[0])

    def _set_up(self, family: int) -> None:
        sock = self._socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.spot.interface.encode() + b"\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS_VRRP)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)  # DF clear, as keepalived has it
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _MREQN.pack(bytes(4), bytes(4), self.index))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS_VRRP)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self.index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)

    def _receive_v4(self) -> Packet | tuple[bytes, Rejected]:
        data = self._socket.recv(_LARGEST)
        datagram = split_ipv4(data)
        if isinstance(datagram, Rejected):
            return data[12:16], datagram
        return Packet(datagram.source, datagram.destination, datagram.ttl, datagram.payload)

    def _receive_v6(self) -> Packet | tuple[bytes, Rejected]:
        pdu, about, _, address = self._socket.recvmsg(_LARGEST, _ANCILLARY)
        source = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
        found = {kind: data for level, kind, data in about if level == socket.IPPROTO_IPV6}
        if socket.IPV6_PKTINFO not in found or socket.IPV6_HOPLIMIT not in found:
            return source, Rejected(Reason.BAD_HEADER, "the kernel did not tell its destination or hop limit")
        (hops,) = _INT.unpack(found[socket.IPV6_HOPLIMIT])
        return Packet(source, found[socket.IPV6_PKTINFO][:16], hops, pdu)


@contextmanager
def datagrams(spot: Spot, source: bytes) -> Generator[Callable[[bytes], None]]:
    """Send empty datagrams from there to the discard port of whom one names. OSError: it cannot be sent."""
    family = socket.AF_INET if spot.family == 4 else socket.AF_INET6
    index = socket.if_nametoindex(spot.interface)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, spot.interface.encode() + b"\0")
        opened.bind((to_text(source), 0) if spot.family == 4 else (to_text(source), 0, 0, index))

        def send(to: bytes) -> None:
            text = to_text(to)
            opened.sendto(b"", (text, _DISCARD) if spot.family == 4 else (text, _DISCARD, 0, index))

        yield send


_DISCARD: Final = 9
_INT = struct.Struct("=i")
_MREQN = struct.Struct("=4s4si")
_IN_PKTINFO = struct.Struct("=i4s4s")
_IP_PKTINFO: Final = 8  # linux/in.h; Python names it from 3.14 on
_IP_MTU_DISCOVER: Final = 10  # linux/in.h
_IP_PMTUDISC_DONT: Final = 0
_SO_MEMINFO: Final = 55  # asm-generic/socket.h
_SK_MEMINFO_DROPS: Final = 8  # linux/sock_diag.h
_LARGEST: Final = 8192
"""An advert has at most 8 + 255 x 16 bytes; what is longer is cut off here, and refused for its length."""
_ANCILLARY: Final = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(4)
_RECEIVE_BUFFER: Final = 256 * 1024
