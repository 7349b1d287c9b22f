"""What the agents logged in a trial, as values. Pure: texts in.

Log lines have wall-clock stamps, and a trial may step an agent's clock, by whole hours; so hours are taken off until a
line is near the time that it is known to be from.
"""

from __future__ import annotations

import calendar
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from haagent.core.units import MS, Duration, Instant, S

LATE: Final = 50 * MS
"""`margin` + `guard`: who notices the end of its lease later than this was not running when it ended."""
_HOUR: Final = 3600 * S


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of `node`'s log; `at` to the millisecond. What is no entry has the level `raw`."""

    node: str
    at: Instant
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Tenure:
    """By its own word `node` was MASTER by `epoch` from `start` to `end`; None if it could not tell its end."""

    node: str
    epoch: int
    start: Instant
    end: Instant | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The record named `node` as the owner, by `epoch`, from `at` on (to the millisecond, when it was asked for)."""

    node: str
    epoch: int
    at: Instant


def claims(history: Iterable[Mapping[str, Any]], *, wall_less_boot: Duration, since: Instant) -> tuple[Claim, ...]:
    """What etcd's history says of the time since that instant, the claim before it included.

    Its stamps are by the true clock: a trial steps only the one that the agents' logs go by.
    """
    found = [
        Claim(str(entry["node"]), int(entry["epoch"]), _iso_ns(str(entry["since"])) - wall_less_boot)
        for entry in history
    ]
    earlier = [claim for claim in found if claim.at < since]
    return (*earlier[-1:], *(claim for claim in found if claim.at >= since))


def read(texts: Mapping[str, str], *, wall_less_boot: Duration, near: Instant) -> tuple[Line, ...]:
    """All lines of the logs, by node, in order; `near` is any instant of the trial."""
    found: list[Line] = []
    for node, text in texts.items():
        at = near
        for raw in text.splitlines():
            match = _ENTRY.match(raw)
            if match is not None:
                at = _near(_wall_ns(match[1]) - wall_less_boot, near)
            found.append(Line(node, at, match[2] if match else "raw", match[3] if match else raw))
    return tuple(sorted(found, key=lambda line: line.at))


def tenures(lines: Iterable[Line], group: str, first: Tenure | None = None) -> tuple[Tenure, ...]:
    """Who was MASTER of the group, by its own word, in order of beginning; `first` owned before the lines begin."""
    found: list[Tenure] = []
    begun: dict[str, tuple[int, Instant]] = {} if first is None else {first.node: (first.epoch, first.start)}

    def end(node: str, at: Instant | None) -> None:
        if node in begun:
            found.append(Tenure(node, *begun.pop(node), at))

    for line in lines:
        if line.text.startswith("haagent starts"):
            end(line.node, None)
        elif (match := _ROLE.match(line.text)) is not None and match["group"] == group:
            end(line.node, line.at)
            if match["after"] == "MASTER":
                begun[line.node] = (int(match["epoch"]), line.at)
    for node in list(begun):
        end(node, None)
    return tuple(sorted(found, key=lambda tenure: (tenure.start, tenure.node)))


def shared_epochs(all_tenures: Iterable[Tenure]) -> tuple[int, ...]:
    """The epochs by which more than one node was MASTER: there must be none."""
    nodes: defaultdict[int, set[str]] = defaultdict(set)
    for tenure in all_tenures:
        nodes[tenure.epoch].add(tenure.node)
    return tuple(sorted(epoch for epoch, who in nodes.items() if len(who) > 1))


def stalls(lines: Iterable[Line]) -> tuple[str, ...]:
    """Which agents say that they did not run when their lease ended, and how late they noticed."""
    found = ((line.node, _LATE.search(line.text)) for line in lines)
    return tuple(f"{node} {match[1]} ms" for node, match in found if match is not None and int(match[1]) * MS > LATE)


def sick(lines: Iterable[Line]) -> tuple[str, ...]:
    """What no agent should ever say."""
    return tuple(
        f"{line.node}: {line.text[:200]}" for line in lines if line.level == "critical" or "Traceback" in line.text
    )


def _near(at: Instant, near: Instant) -> Instant:
    return at - round((at - near) / _HOUR) * _HOUR


def _iso_ns(stamp: str) -> int:
    return _wall_ns(stamp.replace("+00:00", "Z"))


def _wall_ns(stamp: str) -> int:
    whole, _, milli = stamp.removesuffix("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * S + int(milli) * MS


_ENTRY: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\w+) +(.*)")
_ROLE: Final = re.compile(r"(?P<group>\S+): \S+ -> (?P<after>\S+) \(.*\).*?(?: epoch=(?P<epoch>\d+))")
_LATE: Final = re.compile(r"^lease lapsed: .* late_ms=(\d+)")
