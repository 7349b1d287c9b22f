"""haagent.yaml as a file: whatever cannot be read is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from haagent.config.load import Invalid, Loaded
from haagent.config.read import LARGEST, read

TEXT = """
node: n1
cluster: prod
etcd: {endpoints: ["https://10.0.0.1:2379"], ca: tls/ca.pem}
virtual_routers:
  - {name: web, vrid: 51, interface: eth0, addresses: [10.0.0.100]}
"""


def errors(path: Path) -> tuple[str, ...]:
    result = read(path)
    assert isinstance(result, Invalid)
    return result.errors


def test_paths_are_relative_to_the_file(tmp_path: Path):
    path = tmp_path / "haagent.yaml"
    path.write_text("\ufeff" + TEXT)  # Windows editors begin with a byte order mark
    ca = tmp_path / "tls" / "ca.pem"
    assert errors(path) == (f"haagent.yaml: etcd.ca: {ca}, no such file or directory",)
    ca.parent.mkdir()
    ca.write_text("certificate")
    result = read(path)
    assert isinstance(result, Loaded)
    assert result.config.etcd.ca == str(ca)


def test_the_peers_files_are_looked_for_too(tmp_path: Path):
    path = tmp_path / "haagent.yaml"
    path.write_text(TEXT.replace(", ca: tls/ca.pem", "") + 'peers: {listen: "10.0.0.1:8501", ca: a, cert: b, key: c}\n')
    missing = [("ca", "a"), ("cert", "b"), ("key", "c")]
    assert errors(path) == tuple(
        f"haagent.yaml: peers.{key}: {tmp_path / name}, no such file or directory" for key, name in missing
    )


def test_no_such_file(tmp_path: Path):
    path = tmp_path / "haagent.yaml"
    assert errors(path) == (f"{path}: no such file or directory",)


def test_a_directory(tmp_path: Path):
    assert errors(tmp_path) == (f"{tmp_path}: is a directory",)


def test_a_file_that_never_ends():
    assert errors(Path("/dev/zero")) == ("zero: larger than 1 MiB",)


@pytest.mark.parametrize(
    "data, said",
    [
        (b"x" * (LARGEST + 1), "haagent.yaml: larger than 1 MiB"),
        (b"node: n1\nname: \xff", "haagent.yaml:2: not UTF-8: byte 0xff"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, said: str):
    path = tmp_path / "haagent.yaml"
    path.write_bytes(data)
    assert errors(path) == (said,)
