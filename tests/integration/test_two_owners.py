"""The trials of `make owners`: they pass on a healthy tree, and see two answerers where there is no gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench.two_owners import main

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("gate, exit_code", [("nft", 0), ("none", 1)])
def test_an_owner_that_is_killed_or_stopped(tmp_path: Path, gate: str, exit_code: int) -> None:
    # An address's lifetime, in whole seconds, is far longer than such a ttl.
    argv = [
        "--variant",
        "one interface",
        "--trials",
        "2",
        "--ttl",
        "300ms",
        "--gate",
        gate,
        "--out",
        str(tmp_path / "out.json"),
    ]
    done = CliRunner().invoke(main, argv)
    assert done.exit_code == exit_code, done.output
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert (row["trials"], row["spoiled"]) == (2, [])
    assert [trial["what"] for trial in row["done"]] == ["SIGKILL", "SIGSTOP"]
    if gate == "none":
        assert row["two_answered"] == 2
        assert row["longest_ms"] > 100
        assert all(len(trial["ways"]) == 2 for trial in row["done"])
