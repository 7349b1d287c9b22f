"""What is on the wire, as a bystander sees it: a packet socket, the kernel's time stamps, scapy's reading of it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from haagent.core.units import Instant
from haagent.lab.commands import LabError, now
from haagent.lab.host import Host
from tests.wire.oracle import ARP, IP, VRRP, Ether, ICMPv6ND_NA, IPv6, VRRPv3


@dataclass(frozen=True, slots=True)
class Advert:
    """An advertisement, and how it was carried. `interval` in nanoseconds; `password` only where v2 has one."""

    at: Instant
    frame: bytes
    mac: str
    to_mac: str
    source: str
    destination: str
    ttl: int
    tos: int
    fragmentable: bool
    version: int
    vrid: int
    priority: int
    interval: int
    addresses: tuple[str, ...]
    password: bytes | None
    checksum_holds: bool


@dataclass(frozen=True, slots=True)
class Announcement:
    """A gratuitous ARP or an unsolicited neighbour advertisement: `address` is at `target`."""

    at: Instant
    mac: str
    to_mac: str
    address: str
    target: str


class Ear:
    """Hears what passes a host's eth0, from its making on; its own packets too."""

    def __init__(self, host: Host) -> None:
        with host.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind(("eth0", _ETH_P_ALL))
        # The kernel stamps with the wall clock, which nobody sets while a test runs.
        self._offset = now() - time.time_ns()
        self.adverts: list[Advert] = []
        self.announcements: list[Announcement] = []

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hear(self, source: str | None = None, since: Instant = 0) -> list[Advert]:
        """The adverts so far, from one source or from all, later than an instant."""
        self._read()
        return [heard for heard in self.adverts if source in (None, heard.source) and heard.at > since]

    def wait(
        self,
        source: str,
        *,
        since: Instant = 0,
        count: int = 1,
        suits: Callable[[Advert], bool] = lambda advert: advert.priority > 0,
        timeout: float = 15.0,
    ) -> Advert:
        """The `count`th advert that suits, by default any but a farewell; waits for it."""
        end = time.monotonic() + timeout
        while len(found := [heard for heard in self.hear(source, since) if suits(heard)]) < count:
            if time.monotonic() > end:
                told = [(heard.source, heard.priority) for heard in self.adverts[-20:]]
                raise LabError(
                    f"{len(found)} of {count} adverts of {source} within {timeout:g} s; the last ones: {told}"
                )
            time.sleep(0.01)
        return found[count - 1]

    def farewell(self, source: str, *, since: Instant = 0, timeout: float = 15.0) -> Advert:
        """The advert with priority 0."""
        return self.wait(source, since=since, suits=lambda advert: advert.priority == 0, timeout=timeout)

    def _read(self) -> None:
        while True:
            try:
                frame, about, _, _ = self._socket.recvmsg(65536, 64)
            except BlockingIOError:
                return
            if not _may_tell(frame):
                continue
            seconds, nanoseconds = struct.unpack("=qq", about[0][2])
            self._take(frame, seconds * 1_000_000_000 + nanoseconds + self._offset)

    def _take(self, frame: bytes, at: Instant) -> None:
        packet = Ether(frame)
        # What stands in an ICMP error is not what was said.
        if isinstance(packet.payload.payload, VRRP | VRRPv3):
            self.adverts.append(_advert(packet, frame, at))
        elif ARP in packet and packet[ARP].psrc == packet[ARP].pdst:
            found = Announcement(at, packet.src, packet.dst, packet[ARP].psrc, packet[ARP].hwsrc)
            self.announcements.append(found)
        elif ICMPv6ND_NA in packet and not packet[ICMPv6ND_NA].S:
            told = packet[ICMPv6ND_NA]
            self.announcements.append(Announcement(at, packet.src, packet.dst, told.tgt, told.payload.lladdr))


def _may_tell(frame: bytes) -> bool:
    """Whether it is worth scapy's millisecond: a prober's questions and answers come faster than that, and are not."""
    match frame[12:14]:
        case b"\x08\x00":
            return frame[23] == 112
        case b"\x08\x06":
            return frame[28:32] == frame[38:42]
        case b"\x86\xdd":
            return frame[20] == 112 or (frame[20] == 58 and frame[54] == 136)
        case _:
            return False


def _advert(packet: Any, frame: bytes, at: Instant) -> Advert:
    four = IP in packet
    ip = packet[IP] if four else packet[IPv6]
    pdu = ip[VRRP] if VRRP in ip else ip[VRRPv3]
    old = pdu.version == 2
    return Advert(
        at=at,
        frame=frame,
        mac=packet.src,
        to_mac=packet.dst,
        source=ip.src,
        destination=ip.dst,
        ttl=ip.ttl if four else ip.hlim,
        tos=ip.tos if four else ip.tc,
        fragmentable=not (four and ip.flags.DF),
        version=pdu.version,
        vrid=pdu.vrid,
        priority=pdu.priority,
        interval=pdu.adv * (1_000_000_000 if old else 10_000_000),
        addresses=tuple(pdu.addrlist),
        password=struct.pack("!II", pdu.auth1, pdu.auth2) if old and pdu.authtype == 1 else None,
        checksum_holds=_checksum_holds(ip, pdu),
    )


def _checksum_holds(ip: Any, pdu: Any) -> bool:
    """As RFC 9568 5.2.8 and RFC 3768 5.3.8 have it: scapy makes the packet anew, with a checksum of its own."""
    layer = type(pdu)
    again = ip.copy()
    del again[layer].chksum
    return type(ip)(bytes(again))[layer].chksum == pdu.chksum


_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_SO_TIMESTAMPNS: Final = 35
_ETH_P_ALL: Final = 3
