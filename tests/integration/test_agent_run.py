"""`haagent run` as a real process on a host of the lab, with a real etcd: it starts, reloads, and ends as it says."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.process import Process

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
MakeLab = Callable[..., Lab]
TEXT = """
node: n1
cluster: prod
etcd: {{endpoints: ["{endpoint}"]}}
virtual_routers:
  - {{name: web, vrid: 51, interface: {interface}, addresses: [{vip}/24]}}
"""
VIP, OTHER = "10.77.0.101", "10.77.0.102"


class Agent:
    """An agent on a host, and its configuration file."""

    def __init__(self, host: Host, path: Path, text: str, code: str = "") -> None:
        self.host, self.path = host, path
        self.write(text)
        self.process = self.start("agent", code)

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def start(self, name: str, code: str = "") -> Process:
        command = [sys.executable, *(["-c", code] if code else ["-m", "haagent"]), "run", "-c", str(self.path)]
        return self.host.spawn(command, name=name, env={"PYTHONPATH": str(ROOT)})

    def reload(self, text: str, said: str) -> str:
        self.write(text)
        before = len(self.process.output())
        self.process.signal(signal.SIGHUP)
        until(lambda: said in self.process.output()[before:], self)
        return self.process.output()[before:]

    def has(self, vip: str) -> bool:
        return f" {vip}/" in self.host.run(["ip", "-o", "address"]).stdout

    def says(self, said: str) -> None:
        until(lambda: said in self.process.output(), self)


def until(so: Callable[[], bool], agent: Agent, patience: float = 20) -> None:
    give_up = time.monotonic() + patience
    while not so():
        assert time.monotonic() < give_up, agent.process.output()
        time.sleep(0.02)


def text(lab: Lab, *, vip: str = VIP, interface: str = "eth0") -> str:
    return TEXT.format(endpoint=lab.etcd.endpoints[0], vip=vip, interface=interface)


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(hosts=1, etcd=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haagent.yaml"


def test_it_takes_the_address_and_gives_it_up(lab: Lab, path: Path):
    agent = Agent(lab.hosts[0], path, text(lab))
    until(lambda: agent.has(VIP), agent)
    second = agent.start("second")
    assert second.wait() == 5
    assert second.output() == (f"haagent: another agent runs in this network namespace: pid {agent.process.pid}\n")
    assert agent.process.stop() == 0
    assert not agent.has(VIP)
    said = agent.process.output()
    assert re.search(r"info +web: BACKUP -> MASTER \(.+\) group=web epoch=1\n", said)
    assert said.endswith(" stopped\n")
    assert '"clean":true' in lab.etcd.ctl("get", "/haagent/prod/owners/web")
    # Nothing hangs on a session that ended.
    for kind in ("leases", "members"):
        assert lab.etcd.ctl("get", "--prefix", f"/haagent/prod/{kind}") == ""


def test_a_bad_file_changes_nothing_and_a_good_one_changes_what_it_says(lab: Lab, path: Path):
    agent = Agent(lab.hosts[0], path, text(lab))
    until(lambda: agent.has(VIP), agent)
    said = agent.reload(text(lab).replace("vrid: 51", "vrid: 0"), "reload refused")
    assert "error    haagent.yaml:6: virtual_routers[0].vrid: 0, must be 1 to 255\n" in said
    assert agent.has(VIP)
    agent.reload(text(lab).replace("n1", "n9").replace("prod", "test"), "a restart is needed to change node, cluster")
    agent.reload(text(lab), "reload: nothing changed")
    agent.reload(text(lab, vip=OTHER), "reload: changed web")
    until(lambda: agent.has(OTHER) and not agent.has(VIP), agent)
    renamed = text(lab).replace("web", "db")
    agent.reload(renamed, "reload: added db; removed web")
    until(lambda: agent.has(VIP) and not agent.has(OTHER), agent)
    agent.reload(renamed + "log: {level: error}\n", "reload: log level error")
    assert agent.process.stop() == 0
    assert not agent.has(VIP)


def test_a_virtual_router_moves_into_a_group_and_out_of_it(lab: Lab, path: Path):
    agent = Agent(lab.hosts[0], path, text(lab))
    until(lambda: agent.has(VIP), agent)
    grouped = text(lab) + "groups: [{name: site, routers: [web]}]\n"
    for configured, group, gone in ((grouped, "site", "web"), (text(lab), "web", "site")):
        agent.reload(configured, f"reload: added {group}; removed {gone}")
        until(lambda group=group: '"clean":false' in lab.etcd.ctl("get", f"/haagent/prod/owners/{group}"), agent)
        until(lambda gone=gone: '"clean":true' in lab.etcd.ctl("get", f"/haagent/prod/owners/{gone}"), agent)
        until(lambda: agent.has(VIP), agent)
        time.sleep(3.2)  # longer than the addresses' lifetime would be, if nobody renewed it
        assert agent.has(VIP)
    assert agent.process.stop() == 0
    assert not agent.has(VIP)


def test_it_starts_without_etcd_and_without_its_interface(lab: Lab, path: Path):
    lab.etcd.stop()
    agent = Agent(lab.hosts[0], path, text(lab, interface="late0"))
    agent.says("interface late0: down or absent")
    lab.etcd.start()
    agent.says("lease held")
    agent.host.run(["ip", "link", "add", "late0", "type", "bridge"])
    agent.host.run(["ip", "address", "add", "10.79.0.1/24", "dev", "late0"])
    agent.host.run(["ip", "link", "set", "late0", "up"])
    until(lambda: agent.has(VIP), agent)
    assert agent.process.stop() == 0


def test_it_says_that_it_could_not_give_up_in_time(lab: Lab, path: Path):
    agent = Agent(lab.hosts[0], path, text(lab))
    until(lambda: agent.has(VIP), agent)
    lab.etcd.pause()
    agent.process.signal(signal.SIGTERM)
    until(lambda: not agent.has(VIP), agent, patience=3)  # the kernel needs no etcd
    assert agent.process.wait() == 6  # 2 x ttl + 2 s, and what the adapters take to end
    said = agent.process.output()
    assert "stopped, but not cleanly: in etcd web is not given up" in said
    assert "the addresses are gone\n" in said


def test_a_second_signal_ends_it_at_once(lab: Lab, path: Path):
    agent = Agent(lab.hosts[0], path, text(lab))
    until(lambda: agent.has(VIP), agent)
    lab.etcd.pause()
    agent.process.signal(signal.SIGINT)
    agent.says("stopping")
    agent.process.signal(signal.SIGTERM)
    began = time.monotonic()
    assert agent.process.wait() == 6
    assert time.monotonic() - began < 3
    assert "a second signal ended the wait" in agent.process.output()


def test_a_stop_before_it_ever_began(lab: Lab, path: Path):
    lab.etcd.pause()
    agent = Agent(lab.hosts[0], path, text(lab))
    agent.says("haagent starts")
    assert agent.process.stop() == 0


BROKEN_AFTER_A_WHILE = """
from haagent.cli.agent import main
from haagent.core.node import Node
from haagent.core.states import Owning

def check(node):
    held = [state for state in node.groups.values() if isinstance(state, Owning) and state.ready]
    assert not held or node.now_checked < 20, "this node believes nonsense"
    node.now_checked += len(held)

Node.now_checked, Node.check = 0, check
main(prog_name="haagent")
"""


def test_a_node_that_is_wrong_holds_nothing_and_ends(lab: Lab, path: Path):
    agent = Agent(lab.hosts[0], path, text(lab), BROKEN_AFTER_A_WHILE)
    agent.says("BACKUP -> MASTER")
    assert agent.process.wait() == 1
    assert not agent.has(VIP)
    said = agent.process.output()
    assert "critical the node must not go on:" in said
    assert "this node believes nonsense" in said
    assert "Watched(" in said  # what it was fed last


def test_an_agent_without_rights_says_so(lab: Lab, path: Path):
    path.write_text(text(lab))
    bounded = ["setpriv", "--bounding-set=-net_admin,-net_raw", sys.executable, "-m", "haagent", "run", "-c", str(path)]
    process = lab.hosts[0].spawn(bounded, env={"PYTHONPATH": str(ROOT)})
    assert process.wait() == 1
    assert process.output() == "haagent: needs CAP_NET_ADMIN and CAP_NET_RAW, which root has\n"
