"""haagentctl over TCP: with certificates from the command line or the file, and refused without."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from haagent.cli.ctl.main import cli
from haagent.lab.certificates import Authority, make_ca
from tests.unit.cli.canned import serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def endpoint(tmp_path: Path, authority: Authority) -> Generator[str]:
    own = authority.issue("server", ["127.0.0.1"])
    pair = (own.key.read_bytes(), own.certificate.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.own.certificate.read_bytes(), True)
    with serving(tmp_path, credentials) as served:
        yield f"127.0.0.1:{served.port}"


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def test_certificates_from_the_command_line(endpoint: str, authority: Authority):
    anna = authority.issue("anna")
    files = ("--ca", authority.own.certificate, "--cert", anna.certificate, "--key", anna.key)
    result = run("list", "--endpoint", endpoint, *files)
    assert (result.exit_code, result.stderr) == (0, "")


def test_an_operators_own_file_names_the_port_and_certificates_relative_to_itself(
    endpoint: str, authority: Authority, tmp_path: Path
):
    anna = authority.issue("anna")
    for name, source in (("ca", authority.own.certificate), ("anna", anna.certificate), ("key", anna.key)):
        (tmp_path / f"{name}.pem").write_bytes(source.read_bytes())
    keys = f"socket: off, listen: '{endpoint}', ca: ca.pem, cert: anna.pem, key: key.pem"
    path = tmp_path / "own.yaml"
    path.write_text(f"cluster: prod\ncontrol: {{{keys}}}\n")
    assert run("list", "-c", path).exit_code == 0


@pytest.mark.parametrize("what", ["plain text", "no certificate", "another authority's"])
def test_refused(endpoint: str, authority: Authority, tmp_path: Path, what: str):
    other = make_ca(tmp_path / "other").issue("anna")
    files: dict[str, tuple[object, ...]] = {
        "plain text": (),
        "no certificate": ("--ca", authority.own.certificate),
        "another authority's": ("--ca", authority.own.certificate, "--cert", other.certificate, "--key", other.key),
    }
    result = run("list", "--endpoint", endpoint, *files[what])
    assert result.exit_code == 4
    assert f"Error: {endpoint}: " in result.stderr


def test_a_file_that_is_not_there(endpoint: str):
    result = run("list", "--endpoint", endpoint, "--ca", "/nonexistent/ca.pem")
    assert (result.exit_code, result.stderr) == (1, "Error: /nonexistent/ca.pem: no such file or directory\n")
