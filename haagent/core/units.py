"""Time as the core counts it.

Instants are nanoseconds of CLOCK_BOOTTIME (it goes on through suspend, and no clock setting moves it);
durations are nanoseconds too. Both are plain `int`: exact, cheap to compare, free of rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

Instant = int
Duration = int
Wall = int
"""Nanoseconds since 1970 by the wall clock. It may be set: only operators' wishes are dated by it."""

US: Final[Duration] = 1_000
MS: Final[Duration] = 1_000_000
S: Final[Duration] = 1_000_000_000

NEVER: Final[Instant] = 1 << 62
"""An instant that no clock reaches (146 years of uptime): the due time of a timer that is not armed."""

NOTHING_OPEN: Final[Mapping[str, Instant]] = MappingProxyType({})
"""By group, until when the kernel lets pass what an earlier incarnation held: nothing passes."""
