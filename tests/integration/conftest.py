"""The lab as a fixture. Its processes' logs are in pytest's directory for the test, which stays when the test fails.

And `measure`, for what a test finds out beside passing: `pytest -v` ends with a list of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from haagent.lab.lab import Lab
from haagent.lab.topology import Extra

MakeLab = Callable[..., Lab]
Measure = Callable[[str, object], None]


@pytest.fixture
def make_lab(tmp_path: Path) -> Generator[MakeLab]:
    """`make_lab(hosts=3, etcd=1, ...)`: a lab that is there until the test ends."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with ExitStack() as stack:

        def make(
            hosts: int = 3, etcd: int = 1, *, seed: int = 1, tls: bool = False, extras: Collection[Extra] = ()
        ) -> Lab:
            return stack.enter_context(Lab(hosts, etcd, seed=seed, logs=tmp_path / "logs", tls=tls, extras=extras))

        yield make


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """`measure("gap_ms", 12)`."""

    def note(name: str, value: object) -> None:
        request.node.user_properties.append((name, value))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.verbosity <= 0:
        return
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        if report.when == "call" and report.user_properties:
            said = ", ".join(f"{name} {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid.rpartition('/')[2]}: {said}")
