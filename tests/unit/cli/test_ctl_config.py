"""`haagentctl config`: about the file alone. What is shown is what it means: every default, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from haagent.cli.ctl.main import cli

GOOD = """
node: n1
cluster: prod
etcd: {endpoints: [http://10.0.0.1:2379], user: u, password: hush}
virtual_routers:
  - {name: web, vrid: 51, interface: eth0, addresses: [10.0.0.100/24], version: 2, auth_pass: secret}
  - {name: six, vrid: 52, interface: eth0, addresses: ["fe80::1/64", {address: 2001:db8::1, interface: eth1}]}
groups:
  - {name: site, routers: [web, six], preempt: true, preempt_delay: 90s}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "haagent.yaml"
    path.write_text(GOOD)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["config", *map(str, words)])


def test_check(path: Path):
    result = run("check", "-c", path)
    assert (result.exit_code, result.stdout) == (0, "haagent.yaml: ok, 2 virtual routers in 1 group\n")


def test_check_tells_every_error(path: Path):
    path.write_text(GOOD.replace("vrid: 51", "vrid: 0").replace("eth0, addresses: [10", "/, addresses: [10"))
    result = run("check", "-c", path)
    assert result.exit_code == 1
    assert "haagent.yaml:6: virtual_routers[0].vrid: 0, must be 1 to 255\n" in result.stderr
    assert result.stderr.count("\n") == 2


@pytest.mark.parametrize("strict, code", [((), 0), (("--strict",), 1)])
def test_check_of_what_is_questionable(path: Path, strict: tuple[str, ...], code: int):
    path.write_text(GOOD.replace("preempt: true, ", ""))
    result = run("check", *strict, "-c", path)
    assert result.exit_code == code
    assert "has no effect without preempt: true" in result.stderr


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_file_that_is_not_there(tmp_path: Path, command: str):
    result = run(command, "-c", tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml: no such file or directory\n" in result.stderr


def test_show(path: Path):
    result = run("show", "-c", path)
    assert result.exit_code == 0
    shown = yaml.safe_load(result.stdout)
    assert shown["lease"] == {"ttl": "1s", "margin": "30ms", "guard": "20ms"}
    assert shown["groups"][0]["preempt_delay"] == "90s"
    assert shown["virtual_routers"][0]["auth_pass"] == shown["etcd"]["password"] == "***"
    assert shown["virtual_routers"][1]["addresses"] == [
        {"address": "fe80::1/64", "interface": None, "without_lease": "nothing"},
        {"address": "2001:db8::1/128", "interface": "eth1", "without_lease": "nothing"},
    ]
    assert json.loads(run("show", "-f", "json", "-c", path).stdout) == shown


def test_show_refuses_what_cannot_be_used(path: Path):
    path.write_text(GOOD.replace("vrid: 51", "vrid: 0"))
    result = run("show", "-c", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "must be 1 to 255" in result.stderr


def test_schema():
    assert json.loads(run("schema").stdout)["title"] == "haagent.yaml"
