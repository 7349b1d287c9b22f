"""What is left of a gate closes nothing for ever, and what must stay closed does: across kinds, versions and ends.

A gate outlives its agent. So a start with another `fence.gate` removes the one that nobody opens any more, a clean end
leaves one only for an address that somebody else configured on this host, and `haagent release` removes that.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from haagent.adapters.gate import BpfGate, NftGate, remove_classifiers, remove_tables
from haagent.lab.commands import LabError
from haagent.lab.lab import Lab
from haagent.runtime.clock import boottime
from tests.integration.conftest import MakeLab
from tests.integration.gating import VIPS, Client, later
from tests.integration.namespace import in_namespace
from tests.integration.test_agent_run import ROOT, TEXT, VIP, Agent, until

pytestmark = pytest.mark.integration

SEQUENCE = ("nft", "bpf", "nft", "none", "bpf", "none", "nft")
"""Every pair of two different kinds, in both orders."""


def configured(lab: Lab, kind: str) -> str:
    return TEXT.format(endpoint=lab.etcd.endpoints[0], vip=VIP, interface="eth0") + f"fence: {{gate: {kind}}}\n"


def there(agent: Agent) -> set[str]:
    """The kinds of which anything is there."""
    host = agent.host
    listed = {
        "nft": host.run(["nft", "list", "tables"]).stdout,
        "bpf": "".join(host.run(["tc", "filter", "show", "dev", "eth0", s]).stdout for s in ("ingress", "egress")),
    }
    return {kind for kind, text in listed.items() if "haagent" in text}


def release(agent: Agent) -> str:
    """What `haagent release` says there."""
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "haagent", "release"]
    return agent.host.run(command).stdout


def test_after_a_kill_every_kind_of_gate_gives_way_to_every_other(make_lab: MakeLab, tmp_path: Path):
    lab = make_lab(hosts=1, etcd=1)
    prober = lab.probe([VIP])
    agent = Agent(lab.host("n1"), tmp_path / "haagent.yaml", configured(lab, SEQUENCE[0]))
    prober.wait_for_answer(VIP, after=0, node="n1")
    for before, after in itertools.pairwise(SEQUENCE):
        agent.process.kill()
        agent.write(configured(lab, after))
        agent.process = agent.start(f"{before}-{after}")
        agent.says("web: BACKUP -> MASTER")
        prober.wait_for_answer(VIP, after=boottime(), node="n1")
        assert there(agent) == {after} - {"none"}, (before, after)
        assert ("removed what an earlier run left" in agent.process.output()) == (before != "none")


def test_a_clean_end_leaves_the_gate_for_what_somebody_else_configured(make_lab: MakeLab, tmp_path: Path):
    """On the loopback, which no agent touches: it would answer beside the next owner from then on."""
    lab = make_lab(hosts=1, etcd=1)
    agent = Agent(lab.host("n1"), tmp_path / "haagent.yaml", configured(lab, "nft"))
    prober = lab.probe([VIP])
    prober.wait_for_answer(VIP, after=0, node="n1")
    agent.host.run(["ip", "address", "add", f"{VIP}/32", "dev", "lo"])
    with pytest.raises(LabError, match="another agent runs"):
        release(agent)
    agent.process.signal(signal.SIGTERM)
    agent.says("stopped")
    until(lambda: not agent.process.running, agent)
    assert f"the gate stays, closed, as somebody else configured {VIP} on lo" in agent.process.output()
    closed = boottime()
    assert there(agent) == {"nft"}
    time.sleep(0.3)  # asked every two milliseconds
    assert not prober.timeline(closed, boottime()).answers(VIP)
    # A start goes on with it, and an end without such an address leaves none.
    agent.process = agent.start("again")
    agent.says("web: BACKUP -> MASTER")
    prober.wait_for_answer(VIP, after=boottime(), node="n1")
    agent.process.signal(signal.SIGTERM)
    until(lambda: not agent.process.running, agent)
    released = boottime()
    assert "table inet haagent" in release(agent)
    prober.wait_for_answer(VIP, after=released, node="n1")
    assert there(agent) == set()
    assert "there was no gate" in release(agent)
    agent.host.run(["ip", "address", "del", f"{VIP}/32", "dev", "lo"])
    agent.process = agent.start("last")
    agent.says("web: BACKUP -> MASTER")
    agent.process.signal(signal.SIGTERM)
    until(lambda: not agent.process.running, agent)
    assert there(agent) == set()


OLD = """
table netdev haagent {
    comment "haagent: answers only while the lease runs (layout 1)"
    map gate4-eth0 { type ipv4_addr : verdict; elements = { 10.0.0.100 : jump shut } }
    chain shut { drop; }
    chain in-eth0 { type filter hook ingress device eth0 priority -500; arp daddr ip vmap @gate4-eth0; }
}
"""


@in_namespace
def test_the_tables_of_an_earlier_version_are_replaced():
    client = Client()
    for remains in ("replaced", "removed"):
        subprocess.run(["nft", "-f", "-"], input=OLD, text=True, check=True)
        if remains == "removed":
            assert remove_tables() == ["table netdev haagent"]
        else:
            guard = NftGate(pytest.fail)
            guard.protect(VIPS)
            assert all(client.silent(each) for each in VIPS)
            guard.open({"g": VIPS}, later())
            assert all(client.answered(each) for each in VIPS)
            guard.remove()
        assert all(client.answered(each) for each in VIPS)


@in_namespace
def test_classifiers_are_removed_from_all_interfaces_but_those_that_are_guarded():
    first, _second = Client(), Client("eth1", "p1", "1")
    guard = BpfGate(pytest.fail)
    guard.protect(VIPS, ["eth1"])
    guard.leave()
    again = BpfGate(pytest.fail)
    again.protect(VIPS)
    assert remove_classifiers(again.interfaces) == ["classifiers of eth1"]
    assert all(first.silent(each) for each in VIPS)
    again.leave()
    assert remove_classifiers() == ["classifiers of eth0"]
    assert remove_classifiers() == []
    assert all(first.answered(each) for each in VIPS)
