"""A lab leaves nothing behind, however it ends: no namespace, no process, no directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from haagent.lab import namespaces
from haagent.lab.commands import LabError
from haagent.lab.lab import Lab

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

ROOT = Path(__file__).resolve().parents[2]

# A lab of its own process, which tells the pids of what runs in it, an agent's child too, and waits to be ended.
STANDALONE = """
import signal, sys, time
from pathlib import Path
from haagent.lab import namespaces
from haagent.lab.lab import Lab

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
with Lab(hosts=2, etcd=1) as lab:
    lab.host("n1").spawn(["sh", "-c", "sleep 600 & exec sleep 600"])
    prober = lab.probe(["10.77.0.101"])
    names = [host.namespace for host in (*lab.hosts, lab.client, lab.host("e1"))]
    while len(pids := namespaces.pids_inside(names)) < 4:
        time.sleep(0.01)
    print(lab.directory.name, *pids, flush=True)
    time.sleep(600)
"""


def named_after(pid: int) -> list[str]:
    """Namespaces and directories that a process made."""
    places = (Path("/run/netns"), Path("/dev/shm"), Path("/tmp"))
    return [str(entry) for place in places if place.is_dir() for entry in place.glob(f"hlab-{pid}-*")]


def alive(pids: list[int]) -> list[int]:
    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return [pid for pid in pids if runs(pid)]


def start_standalone() -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", STANDALONE], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline().split()
    assert line, process.communicate()[1]
    return process, [int(pid) for pid in line[1:]]


def test_nothing_stays_after_a_lab() -> None:
    with Lab(hosts=3, etcd=1) as lab:
        sleeper = lab.host("n1").spawn(["sleep", "600"])
        lab.probe(["10.77.0.101"])
        assert len(named_after(os.getpid())) == 8  # sw, n1-n3, e1, c1, o1; and the directory
    assert not sleeper.running
    assert named_after(os.getpid()) == []


def test_an_exception_ends_a_lab_and_tells_where_the_logs_are() -> None:
    def fail(lab: Lab) -> None:
        lab.host("n1").spawn(["echo", "some words"], name="agent").wait()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught, Lab(hosts=1, etcd=0) as lab:
        fail(lab)
    assert named_after(os.getpid()) == []
    (note,) = caught.value.__notes__
    logs = Path(note.rpartition(" ")[2])
    assert (logs / "n1-agent.log").read_text() == "some words\n"
    for log in logs.iterdir():
        log.unlink()
    logs.rmdir()


def test_a_lab_that_can_not_be_made_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise LabError("no etcd today")

    monkeypatch.setattr("haagent.lab.etcd.Etcd.start", refuse)
    with pytest.raises(LabError, match="no etcd today"), Lab(hosts=2, etcd=1):
        pass
    assert named_after(os.getpid()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_lab(number: int) -> None:
    process, pids = start_standalone()
    assert alive(pids) == pids
    process.send_signal(number)
    process.send_signal(number)  # the impatient: it does not break into the tearing down
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert alive(pids) == []
    assert named_after(process.pid) == []


@pytest.mark.alone  # any lab that starts would be the next
def test_after_sigkill_processes_die_and_the_next_lab_removes_the_rest() -> None:
    process, pids = start_standalone()
    process.kill()
    process.communicate()
    # etcd, the prober and the agent die with the lab; the agent's child does not, but the sweep finds it.
    give_up = time.monotonic() + 10
    while len(alive(pids)) > 1 and time.monotonic() < give_up:
        time.sleep(0.01)
    assert len(alive(pids)) <= 1
    assert named_after(process.pid) != []
    with Lab(hosts=1, etcd=0):
        assert named_after(process.pid) == []
        assert alive(pids) == []


def test_a_sweep_spares_the_living() -> None:
    with Lab(hosts=1, etcd=0) as lab:
        sleeper = lab.host("n1").spawn(["sleep", "600"])
        namespaces.sweep()
        assert sleeper.running
        with Lab(hosts=1, etcd=0) as other:
            assert other.host("n1").run(["ping", "-c1", "-W1", other.client.ip]).returncode == 0
        assert lab.host("n1").run(["ping", "-c1", "-W1", lab.client.ip]).returncode == 0


def test_the_machines_own_network_is_not_touched() -> None:
    def links() -> str:
        return subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout

    before = links()
    with Lab(hosts=2, etcd=0):
        assert links() == before
    assert links() == before


@pytest.mark.parametrize("hosts,etcd", [(0, 1), (100, 1), (3, 2)])
def test_impossible_labs_are_refused(hosts: int, etcd: int) -> None:
    with pytest.raises(LabError, match="must be"):
        Lab(hosts, etcd)


def test_signal_handlers_are_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Lab(hosts=1, etcd=0):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_lab_without_etcd_says_so() -> None:
    with Lab(hosts=1, etcd=0) as lab, pytest.raises(LabError, match="has no etcd"):
        lab.etcd.compact()
