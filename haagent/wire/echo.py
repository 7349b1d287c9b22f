"""ICMP echo over Ethernet (RFC 792, RFC 4443 4.1): ask a host at a known MAC address whether it answers for an address.

Whole frames, so that the question goes where the asker wants it, whatever the kernel's routes and neighbours are.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from haagent.wire import ethernet
from haagent.wire.inet import pseudo_header, seal
from haagent.wire.rejection import Reason, Rejected


@dataclass(frozen=True, slots=True)
class Ends:
    """From where to where a frame goes: MAC addresses of 6 bytes, packed IP addresses of one family."""

    source_mac: bytes
    source: bytes
    target_mac: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class EchoReply:
    """An answer: from this packed address, to the question with these numbers (16 bits each)."""

    source: bytes
    identifier: int
    sequence: int


def request(ends: Ends, identifier: int, sequence: int) -> bytes:
    """The frame that asks `ends.target` for an echo."""
    family6 = len(ends.target) == 16
    message = _ECHO.pack(_REQUEST_V6 if family6 else _REQUEST_V4, 0, 0, identifier, sequence)
    if family6:
        pseudo = pseudo_header(ends.source, ends.target, _IPPROTO_ICMPV6, len(message))
        header = _IPV6.pack(6 << 28, len(message), _IPPROTO_ICMPV6, _HOPS, ends.source, ends.target)
        packet, kind = header + seal(message, 2, pseudo), ethernet.ETHERTYPE_IPV6
    else:
        total = _IPV4.size + len(message)
        header = _IPV4.pack(0x45, 0, total, 0, 0, _HOPS, _IPPROTO_ICMP, 0, ends.source, ends.target)
        packet, kind = seal(header, 10) + seal(message, 2), ethernet.ETHERTYPE_IPV4
    return ethernet.build(ends.target_mac, ends.source_mac, kind, packet)


def decode(frame: bytes) -> EchoReply | Rejected:
    """Read a frame that carries an echo reply. Checksums are not verified: the numbers tell whose answer it is."""
    outer = ethernet.split(frame, ethernet.ETHERTYPE_IPV4)
    if not isinstance(outer, Rejected):
        return _decode_v4(outer.payload)
    outer = ethernet.split(frame, ethernet.ETHERTYPE_IPV6)
    return outer if isinstance(outer, Rejected) else _decode_v6(outer.payload)


def _decode_v4(packet: bytes) -> EchoReply | Rejected:
    if len(packet) < _IPV4.size:
        return Rejected(Reason.TRUNCATED, f"{len(packet)} bytes, an IPv4 header has 20")
    first, _, _, _, _, _, protocol, _, source, _ = _IPV4.unpack_from(packet)
    header = (first & 0x0F) * 4
    if first >> 4 != 4 or header < _IPV4.size:
        return Rejected(Reason.BAD_HEADER, f"first byte {first:#04x} is of no IPv4 header")
    if protocol != _IPPROTO_ICMP:
        return Rejected(Reason.BAD_PROTOCOL, f"IP protocol {protocol}, must be 1")
    return _decode_message(packet[header:], source, _REPLY_V4)


def _decode_v6(packet: bytes) -> EchoReply | Rejected:
    if len(packet) < _IPV6.size:
        return Rejected(Reason.TRUNCATED, f"{len(packet)} bytes, an IPv6 header has 40")
    _, _, protocol, _, source, _ = _IPV6.unpack_from(packet)
    if protocol != _IPPROTO_ICMPV6:
        return Rejected(Reason.BAD_PROTOCOL, f"next header {protocol}, must be 58")
    return _decode_message(packet[_IPV6.size :], source, _REPLY_V6)


def _decode_message(message: bytes, source: bytes, wanted: int) -> EchoReply | Rejected:
    if len(message) < _ECHO.size:
        return Rejected(Reason.TRUNCATED, f"{len(message)} bytes of ICMP, an echo has 8")
    kind, _, _, identifier, sequence = _ECHO.unpack_from(message)
    if kind != wanted:
        return Rejected(Reason.BAD_TYPE, f"ICMP type {kind}, must be {wanted}")
    return EchoReply(source, identifier, sequence)


_IPV4 = Struct("!BBHHHBBH4s4s")
_IPV6 = Struct("!IHBB16s16s")
_ECHO = Struct("!BBHHH")
_HOPS = 64
_IPPROTO_ICMP, _IPPROTO_ICMPV6 = 1, 58
_REQUEST_V4, _REPLY_V4 = 8, 0
_REQUEST_V6, _REPLY_V6 = 128, 129
