"""The trials of `make owners`: they pass on a healthy tree, and see two answerers where there is no gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench.two_owners import main

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize(
    "variant, gate, what, two",
    [
        ("one interface", "nft", ["SIGKILL", "SIGSTOP"], 0),
        ("addresses by hand on a backup", "none", ["on eth0 of a backup, then SIGTERM"], 1),
    ],
)
def test_trials_see_two_answerers_where_there_are_two(
    tmp_path: Path, variant: str, gate: str, what: list[str], two: int
):
    out = tmp_path / "out.json"
    argv = ["--variant", variant, "--trials", str(len(what)), "--gate", gate, "--out", str(out)]
    done = CliRunner().invoke(main, argv)
    assert done.exit_code == min(two, 1), done.output
    (row,) = json.loads(out.read_text())
    assert (row["trials"], row["spoiled"], row["two_answered"]) == (len(what), [], two)
    assert [trial["what"] for trial in row["done"]] == what
    if two:
        assert row["longest_ms"] > 100
        assert all(len(trial["ways"]) == 2 for trial in row["done"])
