"""Which frames the bridges drop. Pure: faults in, an nft script out.

The script replaces all rules in one transaction, so a fault begins and ends at one instant for every frame.
It runs in the bridges' namespace: the kernels of the hosts, and whatever nft rules agents put there, are not
touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

_PARTS = 100_000  # the smallest loss is 0.001 %


class Direction(Enum):
    """Seen from the host that the fault is about."""

    OUT = "out"
    IN = "in"
    BOTH = "both"


@dataclass(frozen=True)
class Drop:
    """Drop frames that enter by one of `sources` and leave by one of `targets` (ports; empty: any).

    `vrrp_only` leaves all other protocols alone. `percent` of such frames are dropped, each by its own dice;
    a frame that several drops match must survive all of them.
    """

    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    vrrp_only: bool = False
    percent: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise ValueError(f"loss of {self.percent} %: must be above 0 and at most 100")


def between(these: tuple[str, ...], others: tuple[str, ...], direction: Direction, **how: bool) -> tuple[Drop, ...]:
    """Drops between two sets of ports, direction as `these` see it. Without others, nothing to drop."""
    if not these or not others:
        return ()
    out = Drop(these, others, vrrp_only=how.get("vrrp_only", False))
    into = Drop(others, these, vrrp_only=how.get("vrrp_only", False))
    return {Direction.OUT: (out,), Direction.IN: (into,), Direction.BOTH: (out, into)}[direction]


def around(ports: tuple[str, ...], direction: Direction, percent: float = 100.0) -> tuple[Drop, ...]:
    """Drops between these ports and everybody else."""
    out, into = Drop(sources=ports, percent=percent), Drop(targets=ports, percent=percent)
    return {Direction.OUT: (out,), Direction.IN: (into,), Direction.BOTH: (out, into)}[direction]


def ruleset(drops: Iterable[Drop]) -> str:
    """The nft script after which exactly these drops are in force, whatever was before."""
    rules = [rule for drop in drops for rule in _rules(drop)]
    lines = [
        "table bridge lab",
        "delete table bridge lab",
        "table bridge lab {",
        "  chain faults {",
        "    type filter hook forward priority 0; policy accept;",
        *(f"    {rule}" for rule in rules),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _rules(drop: Drop) -> list[str]:
    match: list[str] = []
    if drop.sources:
        match.append(f"iifname {_set(drop.sources)}")
    if drop.targets:
        match.append(f"oifname {_set(drop.targets)}")
    if drop.percent < 100:
        match.append(f"numgen random mod {_PARTS} < {max(1, round(drop.percent * _PARTS / 100))}")
    # IANA protocol 112 is VRRP, over IPv4 and as the (only) next header over IPv6.
    kinds = ["ip protocol 112", "ip6 nexthdr 112"] if drop.vrrp_only else [""]
    return [" ".join(filter(None, [*match, kind, "counter drop"])) for kind in kinds]


def _set(ports: tuple[str, ...]) -> str:
    return "{ " + ", ".join(f'"{port}"' for port in ports) + " }"
