"""An agent's wall clock is stepped from outside, at once; what counts leases is not, nor is gRPC's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from haagent.lab.chaos.wallclock import Dial

CODE = """
import logging, sys, time
from pathlib import Path
from haagent.lab.chaos import wallclock

def clocks():
    import grpc.aio._utils
    record = logging.LogRecord("", 0, "", 0, "", None, None)
    wall = time.time(), time.time_ns() / 1e9, record.created
    return wall, (time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), grpc.aio._utils.time.time())

path = Path(sys.argv[1])
wallclock._wrap(path)
before = clocks()
for hours in (7, -24, 0):
    with path.open("r+b") as file:
        file.write(wallclock._STEP.pack(hours * 3600 * 10**9))
    after = clocks()
    print(hours, *(round((b - a) / 3600, 2) for old, new in zip(before, after) for a, b in zip(old, new)))
"""


def test_the_clock_is_stepped_and_stepped_back(tmp_path: Path) -> None:
    dial = Dial(tmp_path / "clock")
    argv = [sys.executable, "-c", CODE, str(dial.path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines() == [
        "7 7.0 7.0 7.0 0.0 0.0 0.0",
        "-24 -24.0 -24.0 -24.0 0.0 0.0 0.0",
        "0 0.0 0.0 0.0 0.0 0.0 0.0",
    ]


def test_a_dial_is_set_in_nanoseconds(tmp_path: Path) -> None:
    dial = Dial(tmp_path / "clock")
    assert dial.path.read_bytes() == bytes(8)
    dial.set(-5)
    assert int.from_bytes(dial.path.read_bytes(), sys.byteorder, signed=True) == -5
