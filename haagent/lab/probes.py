"""The frames with which the client asks who answers for an address, and how it reads the answers. Pure.

Four questions: an ARP request (a neighbour solicitation for IPv6), an ICMP echo request, a UDP datagram and a TCP
connection for ports on which nobody listens. Who has the address answers all of them: it refuses the datagram with an
ICMP error that quotes it, and the connection with a reset. So the kernel answers for what services would, and no host
runs one. The last three go to one MAC address each, so that every host that would answer is seen, and not only the one
in the client's neighbour cache. They carry when they were sent and to whom, and the answer brings both back.

An answer whose TTL (hop limit) is not what a host gives its packets was forwarded by a router: it is no answer of the
host that it comes from, and is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from haagent.core.units import Instant
from haagent.wire import arp, ethernet, ndisc
from haagent.wire.inet import pseudo_header, seal


class Kind(IntEnum):
    """What kind of probe an answer answers."""

    ARP = 1
    ICMP = 2
    ND = 3
    ICMP6 = 4
    UDP = 5
    UDP6 = 6
    TCP = 7
    TCP6 = 8


RESETS: Final = (Kind.TCP, Kind.TCP6)


@dataclass(frozen=True, slots=True)
class Reply:
    """`source_mac` answered for `address` (4 or 16 bytes).

    All but ARP and ND bring back when their question was sent, `asked_at` (CLOCK_BOOTTIME), and to which target, by the
    number that the prober gave it. A reset brings back only the low 32 bits of the time: see `whole`.
    """

    kind: Kind
    address: bytes
    source_mac: bytes
    asked_at: Instant | None
    target: int | None


@dataclass(frozen=True, slots=True)
class Asker:
    """Who probes: the client's addresses, and a cookie (16 bits) by which it knows its own echoes."""

    mac: bytes
    ipv4: bytes
    ipv6: bytes
    cookie: int


def who_has(asker: Asker, address: bytes) -> bytes:
    """The frame that asks everybody for `address`."""
    if len(address) == 4:
        return arp.request(address, mac=asker.mac, sender=asker.ipv4)
    return ndisc.solicitation(address, mac=asker.mac, source=asker.ipv6)


class Everybody:
    """`who_has` as a question like the others, whatever the time."""

    def __init__(self, asker: Asker, address: bytes) -> None:
        self._frame = who_has(asker, address)

    def frame(self, _asked_at: Instant) -> bytes:
        """The request as it leaves."""
        return self._frame


class Neighbour:
    """Asks one MAC address, as who has the address in its neighbour cache does to see whether it is still there."""

    def __init__(self, asker: Asker, address: bytes, mac: bytes, _target: int) -> None:
        if len(address) == 4:
            self._frame = mac + who_has(asker, address)[6:]
            return
        body = _SOLICITATION.pack(135, 0, 0, 0, address, 1, 1, asker.mac)  # RFC 4861 4.3, 4.6.1
        sealed = seal(body, 2, pseudo_header(asker.ipv6, address, _IPPROTO_ICMPV6, len(body)))
        self._frame = _outer(asker, address, mac, _IPPROTO_ICMPV6, len(body), ttl=255) + sealed

    def frame(self, _asked_at: Instant) -> bytes:
        """The request as it leaves."""
        return self._frame


class Echo:
    """Echo requests for one address, to one MAC address: all but the time is laid out once."""

    def __init__(self, asker: Asker, address: bytes, mac: bytes, target: int) -> None:
        self._kind = _ECHO_REQUEST_4 if len(address) == 4 else _ECHO_REQUEST_6
        self._target, self._cookie = target, asker.cookie
        zero = _ECHO.pack(self._kind, 0, 0, target, asker.cookie, 0)
        if len(address) == 4:
            pseudo = 0
        else:
            pseudo = pseudo_header(asker.ipv6, address, _IPPROTO_ICMPV6, len(zero))
        protocol = _IPPROTO_ICMP if len(address) == 4 else _IPPROTO_ICMPV6
        self._outer = _outer(asker, address, mac, protocol, len(zero))
        self._sum = int.from_bytes(zero) + pseudo

    def frame(self, asked_at: Instant) -> bytes:
        """The request as it leaves at `asked_at`."""
        # RFC 1071: the eight bytes of the time add to the sum of words as the number itself, modulo 0xffff.
        value = -(self._sum + asked_at) % 0xFFFF
        return self._outer + _ECHO.pack(self._kind, 0, value, self._target, self._cookie, asked_at)


class Datagram:
    """UDP datagrams to one address and one MAC address, for a port that is closed."""

    def __init__(self, asker: Asker, address: bytes, mac: bytes, target: int) -> None:
        self._cookie, self._port = asker.cookie, _CLOSED_PORTS + target
        self._outer = _outer(asker, address, mac, _IPPROTO_UDP, _UDP.size)
        source = asker.ipv4 if len(address) == 4 else asker.ipv6
        zero = _UDP.pack(self._cookie, self._port, _UDP.size, 0, 0)
        self._sum = int.from_bytes(zero) + pseudo_header(source, address, _IPPROTO_UDP, _UDP.size)

    def frame(self, asked_at: Instant) -> bytes:
        """The datagram as it leaves at `asked_at`."""
        # Zero would mean that there is no checksum (RFC 768), which IPv6 does not allow; 0xffff is equal to it.
        value = -(self._sum + asked_at) % 0xFFFF or 0xFFFF
        return self._outer + _UDP.pack(self._cookie, self._port, _UDP.size, value, asked_at)


class Connection:
    """The first segment of a TCP connection to one address and one MAC address, for a port that is closed."""

    def __init__(self, asker: Asker, address: bytes, mac: bytes, target: int) -> None:
        self._cookie, self._port = asker.cookie, _CLOSED_PORTS + target
        self._outer = _outer(asker, address, mac, _IPPROTO_TCP, _TCP.size)
        source = asker.ipv4 if len(address) == 4 else asker.ipv6
        zero = _TCP.pack(self._cookie, self._port, 0, 0, _SYN, _WINDOW, 0, 0)
        self._sum = int.from_bytes(zero) + pseudo_header(source, address, _IPPROTO_TCP, _TCP.size)

    def frame(self, asked_at: Instant) -> bytes:
        """The segment as it leaves at `asked_at`: the time is its sequence number."""
        sequence = asked_at & _LOW
        value = -(self._sum + sequence) % 0xFFFF
        segment = _TCP.pack(self._cookie, self._port, sequence, 0, _SYN, _WINDOW, value, 0)
        return self._outer + segment


def whole(low: int, arrived: Instant) -> Instant:
    """When a question was asked of which only the low 32 bits of the time are known: in the 4.2 s before its answer."""
    return arrived - ((arrived - low) & _LOW)


def read(frame: bytes, cookie: int) -> Reply | None:
    """What a frame answers; None if it is no answer to a question of ours."""
    if len(frame) < _ETHERNET:
        return None
    match int.from_bytes(frame[12:14]):
        case ethernet.ETHERTYPE_ARP:
            reply = arp.decode(frame)
            if isinstance(reply, arp.Arp) and reply.operation is arp.Operation.REPLY:
                return Reply(Kind.ARP, reply.sender_ip, frame[6:12], None, None)
        case 0x0800 if len(frame) >= _ECHO_4 + _ECHO.size and frame[14] == 0x45 and frame[22] == _TTL:
            return _read_4(frame, cookie)
        case ethernet.ETHERTYPE_IPV6 if len(frame) >= _ECHO_6 + _ECHO.size and frame[21] in (_TTL, _TTL_ND):
            return _read_6(frame, cookie)
        case _:
            pass
    return None


def _read_4(frame: bytes, cookie: int) -> Reply | None:
    match frame[23]:
        case 1 if frame[_ECHO_4] == _UNREACHABLE_4:
            return _refusal(frame, Kind.UDP, cookie)
        case 1:
            return _echo(frame, Kind.ICMP, cookie)
        case 6:
            return _reset(frame, Kind.TCP, cookie)
        case _:
            return None


def _read_6(frame: bytes, cookie: int) -> Reply | None:
    if frame[21] == _TTL_ND:
        reply = ndisc.decode(frame)
        advertised = isinstance(reply, ndisc.Advertisement)
        return Reply(Kind.ND, reply.target, frame[6:12], None, None) if advertised else None
    match frame[20]:
        case 58 if frame[_ECHO_6] == _ECHO_REPLY_6:
            return _echo(frame, Kind.ICMP6, cookie)
        case 58 if frame[_ECHO_6] == _UNREACHABLE_6:
            return _refusal(frame, Kind.UDP6, cookie)
        case 6:
            return _reset(frame, Kind.TCP6, cookie)
        case _:
            return None


def _reset(frame: bytes, kind: Kind, cookie: int) -> Reply | None:
    """A segment that refuses a connection, or accepts it: both acknowledge its sequence number."""
    at = _ECHO_4 if kind is Kind.TCP else _ECHO_6
    if len(frame) < at + _TCP.size:
        return None
    port, found, _, acknowledged, _, _, _, _ = _TCP.unpack_from(frame, at)
    if found != cookie or port < _CLOSED_PORTS:
        return None
    address = frame[26:30] if kind is Kind.TCP else frame[22:38]
    return Reply(kind, address, frame[6:12], (acknowledged - 1) & _LOW, port - _CLOSED_PORTS)


def _echo(frame: bytes, kind: Kind, cookie: int) -> Reply | None:
    at, wanted = (_ECHO_4, _ECHO_REPLY_4) if kind is Kind.ICMP else (_ECHO_6, _ECHO_REPLY_6)
    found, code, _, target, echoed, asked_at = _ECHO.unpack_from(frame, at)
    if (found, code, echoed) != (wanted, 0, cookie):
        return None
    address = frame[26:30] if kind is Kind.ICMP else frame[22:38]
    return Reply(kind, address, frame[6:12], asked_at, target)


def _refusal(frame: bytes, kind: Kind, cookie: int) -> Reply | None:
    # RFC 792, RFC 4443 3.1: eight bytes, and then the packet that was refused, its IP header first.
    at, quoted, code = (_ECHO_4, _IPV4, 3) if kind is Kind.UDP else (_ECHO_6, _IPV6, 4)
    datagram = at + 8 + quoted.size
    if len(frame) < datagram + _UDP.size or frame[at + 1] != code:
        return None
    source_port, port, _, _, asked_at = _UDP.unpack_from(frame, datagram)
    if source_port != cookie or port < _CLOSED_PORTS:
        return None
    address = frame[datagram - (4 if kind is Kind.UDP else 16) : datagram]
    return Reply(kind, address, frame[6:12], asked_at, port - _CLOSED_PORTS)


def _outer(asker: Asker, address: bytes, mac: bytes, protocol: int, length: int, ttl: int = 64) -> bytes:
    """Ethernet and IP headers of a packet with `length` bytes behind them."""
    if len(address) == 4:
        header = _IPV4.pack(0x45, 0, 20 + length, 0, 0, ttl, protocol, 0, asker.ipv4, address)
        return ethernet.build(mac, asker.mac, _ETHERTYPE_IPV4, seal(header, 10))
    header = _IPV6.pack(6 << 28, length, protocol, ttl, asker.ipv6, address)
    return ethernet.build(mac, asker.mac, ethernet.ETHERTYPE_IPV6, header)


_ECHO = Struct("!BBHHHQ")  # RFC 792, RFC 4443 4.1; identifier: the target's number, sequence: cookie, data: the time
_UDP = Struct("!HHHHQ")  # RFC 768; source port: the cookie, destination port: the target's number, data: the time
_TCP = Struct("!HHIIHHHH")  # RFC 9293; ports as those of UDP, sequence number: the time
_SOLICITATION = Struct("!BBHI16sBB6s")
_IPV4 = Struct("!BBHHHBBH4s4s")
_IPV6 = Struct("!IHBB16s16s")
_ETHERNET: Final = 14
_ECHO_4: Final = _ETHERNET + _IPV4.size
_ECHO_6: Final = _ETHERNET + _IPV6.size
_ETHERTYPE_IPV4: Final = 0x0800
_IPPROTO_ICMP: Final = 1
_IPPROTO_TCP: Final = 6
_IPPROTO_UDP: Final = 17
_IPPROTO_ICMPV6: Final = 58
_ECHO_REQUEST_4, _ECHO_REPLY_4 = 8, 0
_ECHO_REQUEST_6, _ECHO_REPLY_6 = 128, 129
_UNREACHABLE_4, _UNREACHABLE_6 = 3, 1
_SYN: Final = 5 << 12 | 0x02
_WINDOW: Final = 1024
_LOW: Final = 0xFFFFFFFF
_TTL: Final = 64
"""What Linux gives its packets (net.ipv4.ip_default_ttl, net.ipv6.conf.*.hop_limit)."""
_TTL_ND: Final = 255
_CLOSED_PORTS: Final = 33434
"""From here on, one port a target: traceroute's range, in which nobody listens."""
