"""What the protocols here share of IP: packed addresses, the Internet checksum, the IPv4 header.

Addresses are packed `bytes` in network order, 4 for IPv4 and 16 for IPv6: they come so from the wire, hash
fast, and compare in the order that VRRP's tie-break needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from struct import Struct
from typing import Final

from haagent.wire.rejection import Reason, Rejected

VRRP_GROUP_V4: Final = bytes((224, 0, 0, 18))
"""224.0.0.18: RFC 9568 5.1.1.2."""

VRRP_GROUP_V6: Final = bytes.fromhex("ff020000000000000000000000000012")
"""ff02::12: RFC 9568 5.1.2.2."""

IPPROTO_VRRP: Final = 112
IPPROTO_AH: Final = 51

TOS_VRRP: Final = 0xC0
"""Internetwork control (DSCP CS6): no RFC asks for it, but keepalived and FRR both send it."""

TTL_LINK_LOCAL: Final = 255
"""The TTL or hop limit that proves that no router forwarded a packet (RFC 9568 5.1.1.3, RFC 4861 7.1)."""

ETHERNET_MIN_PAYLOAD: Final = 46
"""A shorter payload is padded to this; what the sender pads with is undefined (IEEE 802.3)."""


@dataclass(frozen=True, slots=True)
class IPv4Datagram:
    """The parts of an IPv4 packet that VRRP looks at. `payload` is what the header's total length covers."""

    source: bytes
    destination: bytes
    ttl: int
    payload: bytes


def split_ipv4(datagram: bytes) -> IPv4Datagram | Rejected:
    """Take the IPv4 header off a packet as a raw socket of protocol 112 delivers it.

    The header's own checksum is left to the kernel, which has verified it. Trailing bytes are tolerated only
    as far as Ethernet pads.
    """
    length = len(datagram)
    if length < _IPV4.size:
        return Rejected(Reason.TRUNCATED, f"{length} bytes, an IPv4 header has 20")
    first, total, fragment, ttl, protocol, source, destination = _IPV4.unpack_from(datagram)
    if first >> 4 != 4:
        return Rejected(Reason.BAD_HEADER, f"IP version {first >> 4}, must be 4")
    header = (first & 0x0F) * 4
    if header < _IPV4.size or total < header:
        return Rejected(Reason.BAD_HEADER, f"header length {header} of total length {total}, must be 20 to 60")
    if protocol == IPPROTO_AH:
        return Rejected(Reason.AH, "IP authentication header (protocol 51) is not supported")
    if protocol != IPPROTO_VRRP:
        return Rejected(Reason.BAD_PROTOCOL, f"IP protocol {protocol}, must be 112")
    if fragment & _MORE_OR_OFFSET:
        return Rejected(Reason.FRAGMENT, "a fragment; no advert is long enough to need one")
    if total > length:
        return Rejected(Reason.TRUNCATED, f"{length} bytes of an IPv4 packet of {total}")
    if total < length and length > ETHERNET_MIN_PAYLOAD:
        return Rejected(Reason.OVERSIZED, f"{length} bytes for an IPv4 packet of {total}")
    return IPv4Datagram(source, destination, ttl, datagram[header:total])


def to_text(packed: bytes) -> str:
    """4 or 16 bytes in the usual notation; ValueError for any other length."""
    if len(packed) == 4:  # what a flood of refused packets asks for; ipaddress takes four times as long
        first, second, third, fourth = packed
        return f"{first}.{second}.{third}.{fourth}"
    return str(ip_address(packed))


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """The pseudo-header as a term for `seal` and `checksum_holds` (RFC 8200 8.1; IPv4's adds up alike)."""
    return int.from_bytes(source) + int.from_bytes(destination) + protocol + length


def seal(data: bytes, at: int, pseudo: int = 0) -> bytes:
    """`data`, an even number of bytes, with its Internet checksum (RFC 1071) put where it is zero, at `at`.

    A ones'-complement sum of 16-bit words is the remainder of the whole, read as one integer, modulo 0xffff:
    one division in C instead of a loop over words. The whole must not be zero, and a packet's never is.
    """
    value = -(int.from_bytes(data) + pseudo) % 0xFFFF
    return data[:at] + value.to_bytes(2) + data[at + 2 :]


def checksum_holds(data: bytes, pseudo: int = 0) -> bool:
    """Whether an even number of bytes, checksum included, adds up as RFC 1071 wants. See `seal`."""
    return (int.from_bytes(data) + pseudo) % 0xFFFF == 0


_IPV4 = Struct("!BxH2xHBB2x4s4s")
_MORE_OR_OFFSET = 0x3FFF
