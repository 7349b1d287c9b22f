"""What the ledger says: places, what is wanted at them, and what is to be put there or deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Duration, Instant, S


class Place(NamedTuple):
    """Where an address is wanted, whatever its prefix length."""

    interface: str
    address: bytes


class Why(StrEnum):
    """Why an address is put."""

    INSTALL = "installed"
    RENEW = "renewed"
    REPAIR = "repaired"
    """It was there, and somebody took it."""
    TAKE_BACK = "taken_back"
    """Ours is there, but somebody changed it."""


@dataclass(frozen=True, slots=True)
class Put:
    """Add an address, or give it our tag and `lifetime` (seconds)."""

    index: int
    wanted: VirtualAddress
    lifetime: int
    why: Why


@dataclass(frozen=True, slots=True)
class Drop:
    """Delete an address; `why` is for the log."""

    index: int
    place: Place
    prefix: int
    why: str


LEFT: Final = "left by an earlier run"


def place_of(wanted: VirtualAddress) -> Place:
    return Place(wanted.interface, wanted.address)


@dataclass(slots=True)
class Wanted:
    """`end`: of the lifetime that we gave it; `seen`: the kernel has had it; `settles`: not missed before then."""

    address: VirtualAddress
    groups: set[str] = field(default_factory=set[str])
    end: Instant = 0
    settles: Instant = 0
    seen: bool = False


def lifetime_for(until: Instant, now: Instant) -> int:
    """The fewest whole seconds that surely reach `until`: what an agent that is dead holds, it holds no longer."""
    assert until > now
    return -(-(until + EARLY - now) // S)


EARLY: Duration = 30 * MS
"""A lifetime that ends less than this after the lease is renewed: the kernel deletes up to 20 ms and a tick early."""

LATE: Duration = 1 * S + EARLY
"""A lifetime that ends more than this after the lease (a lease that got shorter) is renewed as well."""

SETTLES: Duration = 200 * MS
