"""Neighbour discovery (RFC 4861) over Ethernet: announce an address, ask for one, read what others say."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from haagent.wire import ethernet
from haagent.wire.inet import TTL_LINK_LOCAL, checksum_holds, pseudo_header, seal
from haagent.wire.rejection import Reason, Rejected

ANY_ADDRESS: Final = bytes(16)
"""`::` as source makes a solicitation a probe for duplicates (RFC 4862 5.4.2)."""

ALL_NODES: Final = bytes.fromhex("ff020000000000000000000000000001")


@dataclass(frozen=True, slots=True)
class Solicitation:
    """Who has `target`? `mac` is the source link-layer option, None if there is none."""

    source: bytes
    destination: bytes
    target: bytes
    mac: bytes | None


@dataclass(frozen=True, slots=True)
class Advertisement:
    """`target` is here. `mac` is the target link-layer option, None if there is none."""

    source: bytes
    destination: bytes
    target: bytes
    mac: bytes | None
    router: bool
    solicited: bool
    override: bool


def unsolicited(address: bytes, mac: bytes, *, router: bool = False, source: bytes | None = None) -> bytes:
    """The frame that tells all nodes that `address` is now at `mac`, whatever they believed (RFC 4861 7.2.6).

    `router` keeps `address` in its neighbours' lists of default routers: set it where forwarding is on. The
    source is the address itself unless given, as keepalived has it.
    """
    flags = _OVERRIDE | (_ROUTER if router else 0)
    body = _BODY.pack(_ADVERTISEMENT, 0, 0, flags << 24, address) + _option(_TARGET_MAC, mac)
    return _frame(mac, address if source is None else source, ALL_NODES, body)


def solicitation(target: bytes, *, mac: bytes, source: bytes = ANY_ADDRESS) -> bytes:
    """The frame that asks who has `target`: a probe for duplicates unless `source` is an address of ours."""
    # RFC 4861 4.3: no source link-layer option when the source is unspecified.
    option = b"" if source == ANY_ADDRESS else _option(_SOURCE_MAC, mac)
    body = _BODY.pack(_SOLICITATION, 0, 0, 0, target) + option
    return _frame(mac, source, _solicited_node(target), body)


def decode(frame: bytes) -> Solicitation | Advertisement | Rejected:
    """Read a frame that carries a solicitation or an advertisement, with every check of RFC 4861 7.1."""
    outer = ethernet.split(frame, ethernet.ETHERTYPE_IPV6)
    if isinstance(outer, Rejected):
        return outer
    packet = outer.payload
    if len(packet) < _IPV6.size:
        return Rejected(Reason.TRUNCATED, f"{len(packet)} bytes, an IPv6 header has 40")
    first, length, protocol, hops, source, destination = _IPV6.unpack_from(packet)
    if first >> 28 != 6:
        return Rejected(Reason.BAD_HEADER, f"IP version {first >> 28}, must be 6")
    if protocol != _IPPROTO_ICMPV6:
        return Rejected(Reason.BAD_PROTOCOL, f"next header {protocol}, must be 58")
    if hops != TTL_LINK_LOCAL:
        return Rejected(Reason.BAD_TTL, f"hop limit {hops}, must be 255")
    if wrong := ethernet.wrong_length(packet, _IPV6.size + length):
        return wrong
    return _decode_body(packet[_IPV6.size : _IPV6.size + length], source, destination)


def _decode_body(body: bytes, source: bytes, destination: bytes) -> Solicitation | Advertisement | Rejected:
    if len(body) < _BODY.size:
        return Rejected(Reason.TRUNCATED, f"{len(body)} bytes of ICMPv6, must be 24 or more")
    kind, code, _, flags, target = _BODY.unpack_from(body)
    if kind not in (_SOLICITATION, _ADVERTISEMENT):
        return Rejected(Reason.BAD_TYPE, f"ICMPv6 type {kind}, must be 135 or 136")
    if code != 0:
        return Rejected(Reason.BAD_CODE, f"ICMPv6 code {code}, must be 0")
    if len(body) % 8 != 0:
        return Rejected(Reason.BAD_OPTION, f"{len(body)} bytes of ICMPv6, options come in units of 8")
    if not checksum_holds(body, pseudo_header(source, destination, _IPPROTO_ICMPV6, len(body))):
        return Rejected(Reason.BAD_CHECKSUM, "ICMPv6 checksum does not match")
    if target[0] == _MULTICAST:
        return Rejected(Reason.BAD_TARGET, "the target is a multicast address")
    mac = _find_mac(body, _SOURCE_MAC if kind == _SOLICITATION else _TARGET_MAC)
    if isinstance(mac, Rejected):
        return mac
    if kind == _SOLICITATION:
        return _solicitation(source, destination, target, mac)
    return _advertisement(source, destination, target, mac, flags >> 24)


def _solicitation(source: bytes, destination: bytes, target: bytes, mac: bytes | None) -> Solicitation | Rejected:
    if source == ANY_ADDRESS and not destination.startswith(_SOLICITED_NODE):
        return Rejected(Reason.BAD_SOURCE, "a probe that is not for a solicited-node group")
    if source == ANY_ADDRESS and mac is not None:
        return Rejected(Reason.BAD_OPTION, "a probe with a source link-layer address")
    return Solicitation(source, destination, target, mac)


def _advertisement(
    source: bytes, destination: bytes, target: bytes, mac: bytes | None, flags: int
) -> Advertisement | Rejected:
    solicited = bool(flags & _SOLICITED)
    if solicited and destination[0] == _MULTICAST:
        return Rejected(Reason.BAD_FLAGS, "marked as solicited, but sent to a group")
    router, override = bool(flags & _ROUTER), bool(flags & _OVERRIDE)
    return Advertisement(source, destination, target, mac, router, solicited, override)


def _find_mac(body: bytes, wanted: int) -> bytes | Rejected | None:
    """The first link-layer option of the kind `wanted`; the walk also proves that every option fits."""
    found: bytes | None = None
    at = _BODY.size
    while at < len(body):
        kind, size = body[at], body[at + 1] * 8
        if size == 0 or at + size > len(body):
            return Rejected(Reason.BAD_OPTION, f"option {kind} of {size} bytes where {len(body) - at} are left")
        if kind == wanted and found is None:
            if size != 8:
                return Rejected(Reason.BAD_OPTION, f"link-layer option of {size} bytes, must be 8 on Ethernet")
            found = body[at + 2 : at + 8]
        at += size
    return found


def _option(kind: int, mac: bytes) -> bytes:
    return bytes((kind, 1)) + mac


def _frame(mac: bytes, source: bytes, destination: bytes, body: bytes) -> bytes:
    sealed = seal(body, 2, pseudo_header(source, destination, _IPPROTO_ICMPV6, len(body)))
    header = _IPV6.pack(6 << 28, len(body), _IPPROTO_ICMPV6, TTL_LINK_LOCAL, source, destination)
    return ethernet.build(ethernet.multicast_mac(destination), mac, ethernet.ETHERTYPE_IPV6, header + sealed)


def _solicited_node(target: bytes) -> bytes:
    return _SOLICITED_NODE + target[-3:]


_IPV6 = Struct("!IHBB16s16s")
_BODY = Struct("!BBHI16s")
_IPPROTO_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_MAC, _TARGET_MAC = 1, 2
_ROUTER, _SOLICITED, _OVERRIDE = 0x80, 0x40, 0x20
_MULTICAST = 0xFF
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")
