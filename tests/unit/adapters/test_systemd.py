"""What the service manager is sent, through real sockets; and when it is asked to watch."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from haagent.adapters.systemd import ServiceManager
from haagent.core.units import S


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path):
    """A socket as the manager has it, and its name as the environment has it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@haagent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(5)
        yield listening, name


def test_what_is_said(listener: tuple[socket.socket, str]):
    listening, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"})
    before = time.monotonic_ns() // 1000
    manager.ready()
    manager.status("web MASTER epoch 42; db BACKUP")
    manager.status("web MASTER epoch 42; db BACKUP")
    manager.status("two\nREADY=1")
    manager.reloading()
    manager.pet()
    manager.stopping()
    manager.close(clean=True)
    manager.pet()
    said = [listening.recv(4096).decode() for _ in range(6)]
    reload = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", said.pop(3))
    assert reload is not None
    assert before <= int(reload[1]) <= time.monotonic_ns() // 1000
    assert said == [
        "READY=1",
        "STATUS=web MASTER epoch 42; db BACKUP",
        "STATUS=two?READY=1",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(4096)


def test_nobody_listens(tmp_path: Path):
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "relative"}):
        manager = ServiceManager({**environment, "WATCHDOG_USEC": "1000"})
        manager.ready()
        manager.status("x")
        manager.pet()
        manager.close(clean=False)


def test_a_manager_that_does_not_read_holds_up_nobody(listener: tuple[socket.socket, str]):
    _, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000"})
    for _ in range(10_000):
        manager.pet()
    manager.close(clean=True)


@pytest.mark.parametrize(
    "environment, patience",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "5000000"}, 5 * S),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid())}, 5 * S),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "much"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_when_it_watches(environment: dict[str, str], patience: int | None):
    assert ServiceManager(environment).patience == patience


def test_it_is_not_petted_unless_it_watches(listener: tuple[socket.socket, str]):
    listening, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    manager.pet()
    manager.stopping()
    assert listening.recv(4096) == b"STOPPING=1"
    manager.close(clean=True)


def test_what_it_stores(listener: tuple[socket.socket, str]):
    listening, name = listener
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    with socket.socket() as one:
        assert manager.store("kept", one.fileno(), polled=False)
        assert manager.store("watched", one.fileno(), polled=True)
        said, descriptors, _, _ = socket.recv_fds(listening, 4096, 4)
        assert said == b"FDSTORE=1\nFDNAME=kept\nFDPOLL=0"
        assert os.path.samestat(os.fstat(descriptors[0]), os.fstat(one.fileno()))
        os.close(descriptors[0])
        said, descriptors, _, _ = socket.recv_fds(listening, 4096, 4)
        assert (said, len(descriptors)) == (b"FDSTORE=1\nFDNAME=watched", 1)
        os.close(descriptors[0])
    manager.forget("kept")
    assert listening.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=kept"
    manager.close(clean=True)
    assert not manager.store("kept", 0, polled=False)
    assert not ServiceManager({}).store("kept", 0, polled=False)


def test_what_it_gives_back():
    """In a process whose first descriptors are free for it."""
    code = """
import os
from haagent.adapters.systemd import ServiceManager
one, other = os.pipe()
for at, each in enumerate((one, other, one, one)):
    os.dup2(each, 40 + at)
for at in range(4):
    os.dup2(40 + at, 3 + at)
given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "4", "LISTEN_FDNAMES": "kept:other:kept:"}
manager = ServiceManager(given)
assert manager.inherited("kept") == [3, 5]
assert manager.inherited("kept") == []
assert manager.inherited("other") == [4]
assert not any(os.get_inheritable(each) for each in range(3, 7))
for wrong in ({"LISTEN_PID": "1"}, {"LISTEN_FDS": "many"}, {"LISTEN_FDS": "9999", "LISTEN_FDNAMES": "x"}):
    assert ServiceManager(given | wrong).inherited("kept") == []
assert ServiceManager({}).inherited("kept") == []
"""
    subprocess.run([sys.executable, "-c", code], check=True)
