"""Captured frames by name, taken apart without the code under test."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

CAPTURES = Path(__file__).parent / "captures"


def captured(program: str) -> dict[str, bytes]:
    """The frames of `captures/<program>.hex`, by name."""
    lines = (CAPTURES / f"{program}.hex").read_text().splitlines()
    pairs = (line.split() for line in lines if line and not line.startswith("#"))
    return {name: bytes.fromhex(digits) for name, digits in pairs}


KEEPALIVED = captured("keepalived")
FRR = captured("frr")
LINUX = captured("linux")


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


class Headers(TypedDict):
    """The keyword arguments of `decode`."""

    source: bytes
    destination: bytes
    ttl: int
    multicast: bool


@dataclass(frozen=True)
class Packet:
    """A VRRP packet and what its IP header says."""

    source: bytes
    destination: bytes
    ttl: int
    pdu: bytes

    @property
    def headers(self) -> Headers:
        return {
            "source": self.source,
            "destination": self.destination,
            "ttl": self.ttl,
            "multicast": self.destination in (ip("224.0.0.18"), ip("ff02::12")),
        }


def packet(frame: bytes) -> Packet:
    """Cut a captured frame by fixed offsets: no options, no extension headers."""
    if frame[12:14] == b"\x86\xdd":
        return Packet(frame[22:38], frame[38:54], frame[21], frame[54:])
    return Packet(frame[26:30], frame[30:34], frame[22], frame[34:])
