"""The socket that owns the gate's tables outlives its agent: whoever flushes nftables then changes nothing.

With the keeper's process, and with the service manager's descriptor store (its stand-in, `manager.py`).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from haagent.adapters.gate import NftGate, keeper_process
from haagent.adapters.gate.keeper import Keeper
from haagent.adapters.systemd import ServiceManager
from haagent.core.units import MS
from haagent.runtime.ports import GateFailedError
from tests.integration.clusters import resident
from tests.integration.gating import VIPS, Client, nft
from tests.integration.manager import Manager
from tests.integration.namespace import ROOT, Neighbour, in_namespace, sh, unshare

pytestmark = pytest.mark.integration

PATIENCE = 2
ADDRESSES = ("10.0.0.100", "fd00::100")
RELOADS = ("flush ruleset", *(f"delete table {family} haagent" for family in ("netdev", "inet", "arp")))


def held_by(seconds: float, *, patience: int = PATIENCE) -> list[str]:
    """The words to start an agent's gate with."""
    return [sys.executable, str(Path(__file__).with_name("keeping.py")), str(patience), str(seconds), *ADDRESSES]


@contextmanager
def agent(seconds: float = 30, *, manager: Manager | None = None) -> Generator[subprocess.Popen[bytes]]:
    """A process that has the gate open for so long; killed at the end, at the latest."""
    if manager is None:
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(held_by(seconds), stdout=subprocess.PIPE, env=env, bufsize=0)
    else:
        process = manager.start(held_by(seconds))
    with process:
        try:
            yield process
        finally:
            process.kill()


def says(process: subprocess.Popen[bytes]) -> Sequence[str]:
    """The next line. Nothing is buffered here: what `select` does not see has not come."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 20)[0]
    return process.stdout.readline().decode().rstrip().split(", ")


def keepers() -> list[int]:
    """The keepers that hold sockets of this network namespace."""
    here = Path("/proc/self/ns/net").stat().st_ino
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() == keeper_process.NAME and (entry / "ns/net").stat().st_ino == here:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def keeper() -> int:
    """The one that there is, once it has named itself."""
    until(lambda: len(keepers()) == 1)
    return keepers()[0]


def open_files(pid: int) -> list[str]:
    """What each of its descriptors is."""
    return [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]


def until(condition: object, seconds: float = 10) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def reload_firewall() -> None:
    """What others do to nftables, one after the other."""
    for each in RELOADS:
        nft(each)
    subprocess.run(["nft", "-f", "-"], input="flush ruleset\n", text=True, check=True)


def there() -> bool:
    return "haagent" in nft("list tables")


@in_namespace
def test_a_reload_after_the_agents_death_changes_nothing():
    client = Client()
    with agent(0.5) as first:
        end = int(says(first)[3])
        first.kill()
        first.wait()
        reload_firewall()
        assert there()
        last = client.last_answer(VIPS[0], end)
        assert last is None or last <= end + 5 * MS
        reload_firewall()
        assert all(client.silent(each) for each in VIPS), "and after the end it is shut as before"


@in_namespace
def test_the_next_agent_goes_on_with_the_same_socket():
    client = Client()
    holders: list[str] = []
    for turn in range(3):
        with agent() as process:
            _, holder, how, _ = says(process)
            assert how == ("made" if turn == 0 else "taken")
            holders.append(holder)
            assert client.answered(VIPS[0])
        reload_firewall()
        assert client.answered(VIPS[0]), "open until its time, and owned"
    assert len(set(holders)) == 1
    assert len(keepers()) == 1


@in_namespace
def test_a_keeper_that_nobody_needs_ends_and_leaves_the_table():
    Client()
    with agent(0.1) as process:
        says(process)
        time.sleep(PATIENCE + 1)
        assert len(keepers()) == 1, "it ends only when the agent has"
    began = time.monotonic()
    until(lambda: not keepers())
    assert time.monotonic() - began > PATIENCE - 0.1
    assert there()

    def gone() -> bool:
        nft(RELOADS[0])
        return not there()

    until(gone)  # nobody owns it any more, once the kernel has ended the socket of a process that is gone


@in_namespace
def test_a_keeper_is_small_and_has_nothing_of_the_agents():
    Client()
    with agent() as process, socket.socket() as other:
        os.set_inheritable(other.fileno(), True)
        says(process)
        pid = keeper()
        until(lambda: len(open_files(pid)) == 6)
        links = open_files(pid)
        assert links.count("/dev/null") == 3
        assert sum(each.startswith("socket:") for each in links) == 3, "what it holds, where it listens, the agent"
        assert os.getsid(pid) == pid != os.getsid(process.pid)
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
        assert "haagent-keeper" in sh(f"ps -o comm= -p {pid}")
        assert resident(pid) < 16 * 1024
        os.killpg(process.pid, signal.SIGTERM) if os.getpgid(process.pid) == process.pid else process.terminate()
        process.wait()
        assert keepers() == [pid]


@in_namespace
def test_a_keeper_that_is_killed_is_noticed_and_replaced():
    client = Client()
    with agent() as process:
        before = says(process)[1]
        pid = keeper()
        os.kill(pid, signal.SIGKILL)
        (now,) = says(process)
        assert now.startswith("now keeper process ")
        assert now != f"now {before}"
        process.kill()
        process.wait()
        reload_firewall()
        assert client.answered(VIPS[0])


@in_namespace
def test_a_keeper_that_hangs_is_ended_by_the_next_agent():
    client = Client()
    with agent() as process:
        says(process)
    pid = keeper()
    until(lambda: len(open_files(pid)) == 5)  # the name is its own, and the agent gone
    os.kill(pid, signal.SIGSTOP)
    with agent() as process:
        assert says(process)[2] == "made"
        assert pid not in keepers()
        assert client.answered(VIPS[0])


@in_namespace
def test_only_root_is_given_the_socket():
    Client()
    with agent() as process:
        says(process)
        code = f"""
import os, socket
os.setgid(65534); os.setuid(65534)
link = socket.socket(socket.AF_UNIX); link.settimeout(5); link.connect("\\0{keeper_process.NAME}")
assert socket.recv_fds(link, 64, 1)[:2] == (b"", []), "it was sent something"
"""
        subprocess.run([sys.executable, "-c", code], check=True)
        assert len(keepers()) == 1


@in_namespace
def test_a_socket_is_taken_from_root_only():
    Client()
    code = f"""
import os, socket, time
held = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
os.setgid(65534); os.setuid(65534)
name = socket.socket(socket.AF_UNIX); name.bind("\\0{keeper_process.NAME}"); name.listen(8)
print("there", flush=True)
while True:
    try: socket.send_fds(name.accept()[0], [b"x"], [held.fileno()])
    except OSError: pass
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as squatter:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        with agent() as process:
            assert says(process)[:3] == ["open", "", "made"], "it goes on without a keeper"
        squatter.kill()


@in_namespace
def test_keepers_of_two_namespaces_do_not_meet():
    Client()
    with agent() as process:
        says(process)
        far = Neighbour("eth9", "p9")
        assert far.run(lambda: Keeper(ServiceManager({})).take()) is None
        assert Keeper(ServiceManager({})).take() is not None


@in_namespace
def test_a_socket_of_another_namespace_or_kind_is_not_taken():
    unshare()
    far = Neighbour("eth0", "p0")
    wrong = [
        far.run(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        socket.socket(socket.AF_UNIX),
    ]

    class Store(ServiceManager):
        def inherited(self, name: str) -> list[int]:
            return [each.detach() for each in wrong] if name == "haagent-gate" else []

    assert Keeper(Store({})).take() is None


@in_namespace
def test_without_a_gate_there_is_no_keeper():
    Client()
    keeping = Keeper(ServiceManager({}), patience=PATIENCE)
    gate = NftGate(pytest.fail, opened=keeping.take())
    keeping.keep(gate.owner)
    keeper()
    gate.remove()
    keeping.release()
    until(lambda: not keepers())
    assert not there()


# The service manager's store.


@contextmanager
def managed(most: int) -> Generator[Manager]:
    with tempfile.TemporaryDirectory() as directory:
        manager = Manager(Path(directory), most)
        try:
            yield manager
        finally:
            manager.close()


@in_namespace
def test_the_service_manager_stores_the_socket():
    client = Client()
    with managed(4) as manager:
        for turn in range(3):
            with agent(manager=manager) as process:
                assert says(process)[:3] == ["open", "the service manager", "taken" if turn else "made"]
                until(lambda: sorted(manager.stored()) == ["haagent-gate", "haagent-gate-witness"])
                assert not keepers()
            reload_firewall()
            assert client.answered(VIPS[0]), "open until its time, and owned"
        until(lambda: manager.stored() == ["haagent-gate"])
        with pytest.raises(GateFailedError, match="EPERM"):
            NftGate(pytest.fail)


@pytest.mark.parametrize("most", [0, 1])
def test_a_manager_that_refuses_is_noticed_and_a_keeper_started(most: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HAAGENT_TEST_MOST", str(most))
    _refused()


@in_namespace
def _refused():
    client = Client()
    with managed(int(os.environ["HAAGENT_TEST_MOST"])) as manager:
        with agent(manager=manager) as process:
            assert says(process)[0] == "open"
            assert says(process)[0].startswith("now keeper process ")
            process.kill()
            process.wait()
            reload_firewall()
            assert client.answered(VIPS[0])
        with agent(manager=manager) as process:
            assert says(process)[2] == "taken"


@in_namespace
def test_what_is_stored_is_given_back_when_the_gate_is_removed():
    Client()
    with managed(4) as manager:
        keeping = Keeper(ServiceManager({"NOTIFY_SOCKET": manager.path}), patience=PATIENCE)
        gate = NftGate(pytest.fail, opened=keeping.take())
        keeping.keep(gate.owner)
        until(lambda: "haagent-gate" in manager.stored())
        gate.remove()
        keeping.release()
        until(lambda: not manager.stored())
        assert not keepers()
