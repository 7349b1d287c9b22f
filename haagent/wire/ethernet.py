"""Ethernet II frames, as a packet socket sends and receives them: no preamble, no checksum, no VLAN tag."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from haagent.wire.inet import ETHERNET_MIN_PAYLOAD
from haagent.wire.rejection import Reason, Rejected

ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD

BROADCAST: Final = b"\xff" * 6


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; MAC addresses are 6 bytes. `payload` still has the padding of a short frame."""

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes


def build(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """The frame as bytes. Short ones are left short: the driver pads, as it does for keepalived's."""
    return _HEADER.pack(destination, source, ethertype) + payload


def split(frame: bytes, ethertype: int) -> Frame | Rejected:
    """Take the Ethernet header off a frame that must carry `ethertype`."""
    if len(frame) < _HEADER.size:
        return Rejected(Reason.TRUNCATED, f"{len(frame)} bytes, an Ethernet header has 14")
    destination, source, found = _HEADER.unpack_from(frame)
    if found != ethertype:
        return Rejected(Reason.BAD_ETHERTYPE, f"ethertype {found:#06x}, must be {ethertype:#06x}")
    return Frame(destination, source, found, frame[_HEADER.size :])


def wrong_length(payload: bytes, length: int) -> Rejected | None:
    """Why `payload` is not `length` bytes and at most a short frame's padding; None if it is."""
    if len(payload) < length:
        return Rejected(Reason.TRUNCATED, f"{len(payload)} bytes, must be {length}")
    if len(payload) > max(length, ETHERNET_MIN_PAYLOAD):
        return Rejected(Reason.OVERSIZED, f"{len(payload)} bytes, must be {length}")
    return None


def multicast_mac(group: bytes) -> bytes:
    """The MAC address of an IPv6 multicast group: 33:33 and its last four bytes (RFC 2464 7)."""
    return b"\x33\x33" + group[-4:]


_HEADER = Struct("!6s6sH")
