"""Endpoints by name, while the host's nameserver is dead: what /etc/hosts says is enough, and a wait is said to be one.

A process in a mount namespace of its own has other files in /etc. Its nameserver is a socket of ours that nobody reads.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from haagent.lab.cluster import ROOT
from haagent.lab.etcd import loopback_etcd

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NAMESERVER = "127.9.9.9"
SECONDS = 5.0
"""In which a list must come: gRPC's own lookups took 12 and more."""

CONNECT = """
import asyncio, logging, sys, time
from pathlib import Path
from haagent.adapters.etcd import EtcdSettings, EtcdStore
from haagent.core.model import Listed

async def connect():
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    listed = asyncio.Event()
    files = dict(zip(("ca", "certificate", "key"), map(Path, sys.argv[2:])))
    settings = EtcdSettings((sys.argv[1],), "test", **files)
    store = EtcdStore(settings, lambda event: listed.set() if isinstance(event, Listed) else None)
    running = asyncio.create_task(store.run())
    began = time.monotonic()
    try:
        async with asyncio.timeout(SECONDS):
            await listed.wait()
        print("listed after", time.monotonic() - began)
    except TimeoutError:
        print("no list")
    running.cancel()

asyncio.run(connect())
print("ended", flush=True)
""".replace("SECONDS", str(SECONDS))


@pytest.fixture
def dead_nameserver(tmp_path: Path) -> Generator[Path]:
    """A directory with the files that are to be in /etc."""
    if os.geteuid() != 0:
        pytest.skip("mount namespaces need root")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost etcd.example\n")
    (tmp_path / "resolv.conf").write_text(f"nameserver {NAMESERVER}\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((NAMESERVER, 53))
        yield tmp_path


def connect(etc: Path, *words: str) -> list[str]:
    mounts = [f"mount --bind {etc / name} /etc/{name}" for name in ("hosts", "resolv.conf", "nsswitch.conf")]
    script = " && ".join([*mounts, 'exec "$@"'])
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", CONNECT, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_name_in_the_hosts_file_needs_no_nameserver(dead_nameserver: Path, tls: bool) -> None:
    with loopback_etcd(tls=tls) as etcd:
        port = etcd.endpoints[0].rpartition(":")[2]
        name = "localhost" if tls else "etcd.example"  # what the certificate is for
        files = () if etcd.tls is None else (etcd.tls.ca, etcd.tls.client.certificate, etcd.tls.client.key)
        said = connect(dead_nameserver, f"http{'s' if tls else ''}://{name}:{port}", *map(str, files))
        taken = [float(line.rpartition(" ")[2]) for line in said if line.startswith("listed after")]
        assert taken, said
        assert taken[0] < SECONDS, said


def test_a_name_that_only_the_dead_nameserver_knows_is_said_to_be_waited_for(dead_nameserver: Path) -> None:
    said = connect(dead_nameserver, "http://elsewhere.example:2379")
    waits = [line for line in said if "the lookup of its name has no answer" in line]
    assert len(waits) == 1, said
    assert waits[0].startswith("etcd: elsewhere.example:2379: not connected (the lookup"), waits
    assert "check the nameservers in /etc/resolv.conf" in waits[0]
    assert said[-1] == "ended", "a lookup under way must not keep the process"
