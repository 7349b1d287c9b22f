"""What the core knows of its host's network: the addresses to hold, interfaces, and what others configured."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Passing(StrEnum):
    """What the kernel lets pass of an address while this node does not own it: IP is all but ARP and ND."""

    NOTHING = "nothing"
    IP = "ip"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    """An address to hold: packed (4 or 16 bytes), with its prefix length, on an interface.

    `without_lease`: other than nothing if this host is meant to have the address also while it does not own it.
    """

    address: bytes
    prefix: int
    interface: str
    without_lease: Passing = Passing.NOTHING


@dataclass(frozen=True, slots=True)
class InterfaceChanged:
    """An interface as it is now, with its MAC address (empty where it has none, such as a tunnel).

    `v4` and `v6`: packed source addresses for adverts (v6: link-local), if any.
    """

    name: str
    up: bool
    v4: bytes | None
    v6: bytes | None
    mac: bytes = b""


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """What this host's kernel has, and has not, beside what the agent put there.

    `foreign`: the virtual addresses of any of our groups that somebody else configured, wherever they are (on which
    interface, with which prefix). `missing`: the sources that the file has adverts come from, and no interface has.
    """

    foreign: tuple[VirtualAddress, ...]
    missing: frozenset[bytes]
