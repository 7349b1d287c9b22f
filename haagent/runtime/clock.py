"""The clock that leases are counted by: CLOCK_BOOTTIME, which goes on while the machine is suspended.

A module of its own, because the lab's prober reads it too, and must start quickly.
"""

from __future__ import annotations

import time

from haagent.core.units import Instant


def boottime() -> Instant:
    """CLOCK_BOOTTIME now."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
