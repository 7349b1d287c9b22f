"""The command `haagent` as a user runs it: what it prints where, and the exit codes that tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import haagent

ROOT = Path(__file__).resolve().parents[3]
GOOD = """
node: n1
cluster: prod
etcd: {endpoints: [http://10.0.0.1:2379]}
virtual_routers:
  - {name: web, vrid: 51, interface: lo, addresses: [10.0.0.100/24]}
  - {name: db, vrid: 52, interface: lo, addresses: [10.0.0.101/24]}
groups:
  - {name: site, routers: [web, db]}
"""


def run(*words: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "haagent", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haagent.yaml"


def test_version():
    assert run("--version") == (0, f"haagent {haagent.__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("run",), ("check",)])
def test_help_tells_the_exit_codes(words: tuple[str, ...]):
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert "\n      5  another agent runs in this network namespace\n" in out


def test_usage():
    code, out, err = run("check", "--strickt")
    assert (code, out) == (2, "")
    assert "--strict" in err


def test_a_good_file(path: Path):
    path.write_text(GOOD)
    assert run("check", "-c", str(path)) == (0, "haagent.yaml: ok, 2 virtual routers in 1 group\n", "")


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_file(path: Path, command: str):
    path.write_text(GOOD.replace("vrid: 52", "vrid: 0"))
    said = "haagent.yaml:7: virtual_routers[1].vrid: 0, must be 1 to 255\n"
    assert run(command, "-c", str(path)) == (3, "", said)


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_certificate_that_is_none(path: Path, command: str):
    path.with_name("ca.pem").write_text("nothing")
    path.write_text(GOOD.replace("http://10.0.0.1:2379]", "https://10.0.0.1:2379], ca: ca.pem"))
    code, out, err = run(command, "-c", str(path))
    assert (code, out) == (3, "")
    assert err.startswith("haagent.yaml: etcd: ca: ")
    assert err.count("\n") == 1


def test_a_questionable_file(path: Path):
    path.write_text(GOOD.replace("[web, db]}", "[web, db], preempt_delay: 5s}"))
    said = "haagent.yaml:9: groups[0].preempt_delay: 5s, has no effect without preempt: true\n"
    out = "haagent.yaml: ok, 2 virtual routers in 1 group\n"
    assert run("check", "-c", str(path)) == (0, out, said)
    assert run("check", "--strict", "-c", str(path)) == (4, out, said)


def test_the_schema():
    code, out, _ = run("check", "--schema")
    assert code == 0
    schema = json.loads(out)
    router = schema["$defs"]["RouterKeys"]
    assert router["properties"]["vrid"] == {"maximum": 255, "minimum": 1, "title": "Vrid", "type": "integer"}
    assert router["required"] == ["name", "vrid", "interface", "addresses"]
    assert router["additionalProperties"] is False
