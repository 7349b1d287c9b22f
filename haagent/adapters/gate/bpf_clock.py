"""The kernel's clock as eBPF programs read it, and ours: in a time namespace they differ."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from haagent.adapters.gate import bpf_syscall as bpf
from haagent.adapters.gate.bpf_program import nothing
from haagent.core.units import Duration, S
from haagent.runtime.clock import boottime


def ahead() -> Duration:
    """How far our clock is ahead of the kernel's own, in a time namespace. OSError if that cannot be told.

    The kernel says so to the nanosecond, and dates a program that we load: the two must agree.
    """
    difference: Duration = 0
    with contextlib.suppress(FileNotFoundError):  # a kernel without time namespaces
        for line in _OFFSETS.read_text().splitlines():
            clock, seconds, nanoseconds = line.split()
            if clock == "boottime":
                difference = int(seconds) * S + int(nanoseconds)
    before = boottime()
    descriptor = bpf.program_load(nothing(), b"haagent")
    try:
        kernel = bpf.program(descriptor).loaded_at
    finally:
        os.close(descriptor)
    if not before - difference <= kernel <= boottime() - difference:
        raise OSError(
            errno.ETIME,
            f"the kernel's CLOCK_BOOTTIME is {(before - kernel) / S:.3f} s behind ours, and {_OFFSETS} says"
            f" {difference / S:.3f} s: use fence.gate: nft in this time namespace",
        )
    return difference


_OFFSETS: Final = Path("/proc/self/timens_offsets")
