"""The agent with a wall clock that can be set from outside: `python -m haagent.lab.chaos.wallclock FILE run -c ...`.

No namespace covers CLOCK_REALTIME, and setting the machine's is out of the question. So `time.time` and
`time.time_ns`, which the agent's Python code and its log read, are wrapped here. gRPC keeps the true clock: its C part
reads it without asking Python, and deadlines made by one clock and waited for by another would be our own invention.
FILE holds the step in nanoseconds (8 bytes, native) and is mapped, so that setting it takes effect at once.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
import types
from pathlib import Path
from typing import Final

from haagent.core.units import Duration

_STEP: Final = struct.Struct("q")


class Dial:
    """The file by which one agent's clock is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(_STEP.pack(0))

    def set(self, step: Duration) -> None:
        """Have the clock be ahead of the true one by this much, or behind if negative."""
        with self.path.open("r+b") as file:
            file.write(_STEP.pack(step))


def main() -> None:
    """Wrap the clock, then be the agent."""
    path, *rest = sys.argv[1:]
    _wrap(Path(path))
    sys.argv = ["haagent", *rest]
    runpy.run_module("haagent", run_name="__main__", alter_sys=True)


def _wrap(path: Path) -> None:
    import grpc.aio  # so that it is there to be spared

    assert grpc.aio
    true_clock = types.ModuleType("time")
    vars(true_clock).update(vars(time))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "grpc" and getattr(module, "time", None) is time:
            vars(module)["time"] = true_clock

    with path.open("rb") as file:
        dial = mmap.mmap(file.fileno(), _STEP.size, prot=mmap.PROT_READ)
    time_ns, seconds = time.time_ns, time.time
    time.time_ns = lambda: time_ns() + int(_STEP.unpack_from(dial)[0])
    time.time = lambda: seconds() + int(_STEP.unpack_from(dial)[0]) / 1e9


if __name__ == "__main__":
    main()
