"""Durations as people write them, in the configuration and on the command line.

Apart from the kinds of `values`, so that a command that starts often need not load pydantic for a `10s`.
"""

from __future__ import annotations

import re

from haagent.core.units import MS, US, Duration, S

MINUTE: Duration = 60 * S
HOUR: Duration = 3600 * S
DAY: Duration = 24 * HOUR

_UNITS: dict[str, Duration] = {"us": US, "ms": MS, "s": S, "m": MINUTE, "h": HOUR}
_DURATION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(us|ms|s|m|h)")


def duration(value: object) -> Duration:
    """`250ms`, `1s`, `1.5s`, `5m`, `2h`, `10us` or a bare `0`, exactly in nanoseconds; ValueError for anything else."""
    if value == "0":
        return 0
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a duration such as 250ms, 1s or 5m")
    whole, fraction, unit = match[1], match[2] or "", match[3]
    scaled = int(whole + fraction) * _UNITS[unit]
    if scaled % 10 ** len(fraction):
        raise ValueError("must be whole nanoseconds")
    return scaled // 10 ** len(fraction)


def written(span: Duration) -> str:
    """A duration as it would be written in the file: the shortest form that is exact to the microsecond."""
    for unit in ("h", "m", "s", "ms"):
        if span and span % _UNITS[unit] == 0:
            return f"{span // _UNITS[unit]}{unit}"
    for unit in ("s", "ms"):
        if span >= _UNITS[unit]:
            return f"{span / _UNITS[unit]:.6f}".rstrip("0").rstrip(".") + unit
    return f"{span // US}us" if span else "0s"
