"""The lab as a fixture. Its processes' logs are in pytest's directory for the test, which stays when the test fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from haagent.lab.lab import Lab

MakeLab = Callable[..., Lab]


@pytest.fixture
def make_lab(tmp_path: Path) -> Generator[MakeLab]:
    """`make_lab(hosts)`: so many hosts and an etcd, there until the test ends."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with ExitStack() as stack:

        def make(hosts: int) -> Lab:
            return stack.enter_context(Lab(hosts, etcd=1, seed=1, logs=tmp_path / "logs"))

        yield make
