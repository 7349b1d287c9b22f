"""The outer layers around real agents: what the service manager hears, watchdogs that are missing, fencing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from itertools import pairwise
from pathlib import Path

import pytest

from haagent.lab.cluster import Cluster
from haagent.lab.lab import Lab
from haagent.lab.process import Process
from tests.integration.clusters import Story, held
from tests.integration.test_agent_run import ROOT, VIP, text

pytestmark = pytest.mark.integration

MakeLab = Callable[..., Lab]
WATCHDOG_USEC = 1_000_000


class Manager:
    """The socket of a service manager, and what came in; `pets` counts WATCHDOG=1, `said` has the rest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pets = 0
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def read(self) -> None:
        while True:
            try:
                lines = self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return
            if lines == ["WATCHDOG=1"]:
                self.pets += 1
            else:
                self.said.append(lines[0])

    def wait(self, so: Callable[[], bool], process: Process) -> None:
        give_up = time.monotonic() + 20
        while not so():
            assert time.monotonic() < give_up, (self.said, process.output())
            time.sleep(0.02)
            self.read()

    def pets_more(self, process: Process) -> None:
        self.read()
        before = self.pets
        self.wait(lambda: self.pets > before + 2, process)

    def start(self, lab: Lab, path: Path) -> Process:
        env = {"PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(WATCHDOG_USEC)}
        return lab.hosts[0].spawn([*_HAAGENT, "run", "-c", str(path)], name="agent", env=env)


_HAAGENT = (sys.executable, "-m", "haagent")


@pytest.fixture
def manager() -> Generator[Manager]:
    # Not in the test's own directory: the path of a socket has 107 bytes at the most.
    directory = Path(tempfile.mkdtemp(prefix="haagent-test-"))
    made = Manager(directory / "notify")
    yield made
    made.close()
    shutil.rmtree(directory)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haagent.yaml"


def test_the_manager_hears_how_it_is(make_lab: MakeLab, path: Path, manager: Manager):
    lab = make_lab(hosts=1, etcd=1)
    lab.etcd.stop()
    path.write_text(text(lab))
    agent = manager.start(lab, path)
    # It is ready, and well, although etcd is down.
    manager.wait(lambda: "READY=1" in manager.said, agent)
    manager.pets_more(agent)
    lab.etcd.start()
    manager.wait(lambda: "STATUS=web MASTER epoch 1" in manager.said, agent)
    agent.signal(signal.SIGHUP)
    manager.wait(lambda: manager.said[-2:] == ["RELOADING=1", "READY=1"], agent)
    path.write_text("nonsense")
    agent.signal(signal.SIGHUP)
    manager.wait(lambda: manager.said[-4:] == ["RELOADING=1", "READY=1"] * 2, agent)
    manager.pets_more(agent)
    assert agent.stop() == 0
    manager.read()
    statuses = [line for line in manager.said if line.startswith("STATUS=")]
    assert all(one != after for one, after in pairwise(statuses)), "on change only"
    assert manager.said.index("READY=1") < manager.said.index("STATUS=web MASTER epoch 1")
    last = [line for line in manager.said if line != "FDSTOREREMOVE=1"]
    assert "STOPPING=1" in last[-2:]


def test_an_agent_that_hangs_gives_no_sign_and_is_restarted(make_lab: MakeLab, path: Path, manager: Manager):
    """As systemd does it: no word for WATCHDOG_USEC, so it is killed, and started again; which then has the address."""
    lab = make_lab(hosts=1, etcd=1)
    path.write_text(text(lab))
    agent = manager.start(lab, path)
    manager.wait(lambda: VIP in held(lab.hosts[0]), agent)
    manager.pets_more(agent)
    agent.signal(signal.SIGSTOP)
    manager.read()
    before = manager.pets
    time.sleep(WATCHDOG_USEC / 1e6)
    manager.read()
    assert manager.pets == before
    agent.kill()
    again = manager.start(lab, path)
    manager.wait(lambda: VIP in held(lab.hosts[0]) and "STATUS=web MASTER epoch 2" in manager.said, again)
    assert again.stop() == 0


def test_it_does_not_start_without_the_watchdog_that_it_must_have(make_lab: MakeLab, path: Path):
    lab = make_lab(hosts=1, etcd=1)
    for device, why in (("/dev/null", "not a watchdog"), (str(path.parent / "absent"), "No such file or directory")):
        path.write_text(text(lab) + f"fence: {{watchdog: {device}}}\n")
        agent = lab.hosts[0].spawn([*_HAAGENT, "run", "-c", str(path)], env={"PYTHONPATH": str(ROOT)})
        assert agent.wait() == 1
        assert f"cannot start: {device}: {why}" in agent.output()
    assert VIP not in held(lab.hosts[0])


def test_a_program_that_others_may_change_is_an_error(make_lab: MakeLab, path: Path):
    lab = make_lab(hosts=1, etcd=1)
    program = path.parent / "fence"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    path.write_text(text(lab) + f"fence: {{exec: {{command: [{program}]}}}}\n")
    for command in ("check", "run"):
        agent = lab.hosts[0].spawn([*_HAAGENT, command, "-c", str(path)], name=command, env={"PYTHONPATH": str(ROOT)})
        assert agent.wait() == 3
        assert f"haagent.yaml: fence.exec: {program}: " in agent.output()
        assert "can be written by others than root" in agent.output()


@pytest.fixture
def place() -> Generator[Path]:
    made = Path(tempfile.mkdtemp(prefix=f"haagent-test-{os.getpid()}-", dir="/run"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_nothing_is_claimed_before_the_plug_in_has_confirmed(make_lab: MakeLab, place: Path):
    """The owner is killed. The plug-in refuses, then confirms: until then nobody owns, and an alarm says why."""
    lab = make_lab(hosts=2, etcd=1)
    program = place / "fence"
    program.write_text(
        f"#!/bin/sh\necho $HAAGENT_BY fences $HAAGENT_NODE for $HAAGENT_GROUP >> {place}/log\n"
        f"[ -e {place}/open ] || {{ echo no such outlet >&2; exit 1; }}\n"
    )
    program.chmod(0o755)
    cluster = Cluster(lab, keys={"fence": {"exec": {"command": [str(program)], "timeout": "2s"}}})
    story = Story(cluster)
    cluster.restore()
    assert not (place / "log").exists(), "nothing lapsed"
    owner, epoch = cluster.owner(), cluster.epoch()
    (other,) = (host for host in lab.hosts if host.name != owner)
    cluster.agents[owner].kill()
    story.wait(f"alarm: fencing {owner}: refused: no such outlet", other.name)
    assert cluster.epoch() == epoch
    time.sleep(2)
    assert (cluster.owner(), cluster.epoch()) == (owner, epoch)
    (place / "open").touch()
    cluster.wait(lambda: cluster.owner() == other.name, "the other one owns")
    assert cluster.epoch() == epoch + 1
    for said in (f"web: fencing {owner}", "fencing confirmed", f"alarm over: fencing {owner}", "BACKUP -> MASTER"):
        story.wait(said, other.name)
    lines = (place / "log").read_text().splitlines()
    assert set(lines) == {f"{other.name} fences {owner} for web"}
    assert len(lines) >= 2
    # A clean release asks nobody.
    cluster.start(cluster.missing())
    cluster.wait(lambda: len(cluster.candidates()) == 2, "both are candidates")
    assert cluster.agents[other.name].stop() == 0
    cluster.wait(lambda: cluster.epoch() == epoch + 2 and cluster.owner() == owner, "the first one owns again")
    assert (place / "log").read_text().splitlines() == lines


@pytest.mark.parametrize("gate, capabilities", [("nft", 2), ("bpf", 3)])
def test_it_runs_with_the_rights_that_the_unit_gives(make_lab: MakeLab, path: Path, gate: str, capabilities: int):
    """Those of CapabilityBoundingSet, in that order, that the file says are for everybody, or for this gate."""
    lab = make_lab(hosts=1, etcd=1)
    unit = (ROOT / "docs" / "systemd" / "haagent.service").read_text()
    granted = next(line.split("=")[1].split() for line in unit.splitlines() if line.startswith("CapabilityB"))
    bounded = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in granted[:capabilities])
    path.write_text(text(lab) + f"fence: {{gate: {gate}}}\n")
    confined = ["setpriv", "--no-new-privs", f"--bounding-set=-all,{bounded}"]
    agent = lab.hosts[0].spawn([*confined, *_HAAGENT, "run", "-c", str(path)], env={"PYTHONPATH": str(ROOT)})
    give_up = time.monotonic() + 20
    while VIP not in held(lab.hosts[0]):
        assert agent.running, agent.output()
        assert time.monotonic() < give_up, agent.output()
        time.sleep(0.05)
    assert agent.stop() == 0
    assert VIP not in held(lab.hosts[0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path):
    unit = (ROOT / "docs" / "systemd" / "haagent.service").read_text()
    copy = tmp_path / "haagent.service"
    copy.write_text(unit.replace("/usr/local/bin/haagent", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
