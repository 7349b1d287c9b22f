"""haagentctl against real agents: quick, believed by its exit code, and still of use when every agent is dead."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import haagent
from haagent.lab.cluster import GROUP, Cluster
from haagent.lab.host import Host
from haagent.lab.topology import vip4
from tests.integration.clusters import held, others, value
from tests.integration.conftest import MakeLab, Measure

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(haagent.__file__).parents[1]
QUICK_MS = 1500
"""Three hundred on a machine that does nothing else; here others run beside it."""


def command(cluster: Cluster, host: Host, *words: str) -> list[str]:
    """haagentctl, with the configuration of that host's agent."""
    return [sys.executable, "-m", "haagent.cli.ctl", *words, "-c", str(cluster.config(host))]


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a command says for programs; its exit code must say the same."""
    said = json.loads(done.stdout)
    codes = {"DONE": 0, "REFUSED": 1, "FAILED": 1, "UNKNOWN": 3}
    assert done.returncode == codes[said["result"]], done
    # Moved, and verified if the nodes hear each other; else nobody could look into the other's kernel.
    assert said["result"] == "DONE" if all(move["verified"] for move in said["moves"]) else said["result"] == "UNKNOWN"
    return said


def test_looking_and_moving(make_lab: MakeLab, measure: Measure):
    cluster = Cluster(make_lab(3), peers=True)
    cluster.restore()
    hosts = {host.name: host for host in cluster.lab.hosts}
    first = hosts[cluster.owner()]
    second, third = others(cluster, first.name)

    took: list[float] = []
    for _ in range(10):
        began = time.monotonic()
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command(cluster, third, "list"), env=env, capture_output=True, text=True, check=True)
        took.append((time.monotonic() - began) * 1000)
        assert f"│ web   │ {first.name}   │" in done.stdout
    measure("list_ms", round(statistics.median(took)))
    assert min(took) < QUICK_MS

    # Asked of a node that has no part in it.
    moved = outcome(cluster.ctl(third, "switchover", GROUP, "--to", second.name, "--force", "-f", "json"))["moves"][0]
    assert (moved["from_node"], moved["to_node"], moved["to_epoch"]) == (first.name, second.name, 2)
    assert cluster.owner() == second.name
    assert vip4() in held(second)
    assert vip4() not in held(first)

    again = cluster.ctl(third, "switchover", GROUP, "--to", second.name, "--force")
    assert again.returncode == 1
    assert "Refused: already-owner" in again.stderr

    outcome(cluster.ctl(third, "drain", second.name, "--force", "-f", "json"))
    assert cluster.owner() != second.name
    assert vip4() not in held(second)
    refused = cluster.ctl(third, "switchover", GROUP, "--to", second.name, "--force")
    assert refused.returncode == 1
    assert "Refused: target-drained" in refused.stderr
    assert f" Drained: {second.name}\n" in cluster.ctl(first, "list").stdout
    assert cluster.ctl(first, "undrain", second.name).returncode == 0
    assert "Drained" not in cluster.ctl(first, "list").stdout

    # By etcd alone: it moves, and nobody can say what the kernels have.
    nobody = ("--endpoint", "unix:/nonexistent")
    assert json.loads(cluster.ctl(third, "list", "-f", "json", *nobody).stdout)["answered"] == "etcd"
    done = cluster.ctl(third, "switchover", GROUP, "--to", second.name, "--force", *nobody)
    assert done.returncode == 3
    assert "Outcome unknown: not-verified" in done.stderr
    assert cluster.owner() == second.name


def test_without_peers_and_without_agents(make_lab: MakeLab):
    cluster = Cluster(make_lab(2))
    cluster.restore()
    host = cluster.lab.hosts[0]

    # Without peers the new owner's own agent can say that it has the addresses, and the record that the old one let go.
    owner, other = cluster.lab.host(cluster.owner()), others(cluster, cluster.owner())[0]
    done = cluster.ctl(other, "switchover", GROUP, "--to", other.name, "--force")
    assert done.returncode == 0, done
    assert f"{owner.name} could not be asked, it wrote the new record" in done.stdout
    done = cluster.ctl(other, "switchover", GROUP, "--to", owner.name, "--force")
    assert done.returncode == 3, done
    assert "no stream to it: ask there" in done.stderr

    # Without agents etcd is asked.
    for agent in cluster.agents.values():
        agent.kill()
    listed = cluster.ctl(host, "list", "-f", "json")
    assert listed.returncode == 5
    assert listed.stderr == f"no agent answers on unix:{cluster.socket(host)}; asking etcd\n"
    seen = json.loads(listed.stdout)
    assert seen["answered"] == "etcd"
    assert seen["without_owner"][GROUP].startswith("last n")
    assert {row["state"] for row in seen["rows"]} == {"gone"}

    assert cluster.ctl(host, "pause").returncode == 0
    assert value(cluster, "orders", "cluster")["paused"]
    assert "there was no owner" in cluster.ctl(host, "history").stdout
    assert cluster.ctl(host, "reload").returncode == 4
    assert cluster.ctl(host, "doctor").returncode == 5

    cluster.lab.etcd.stop()
    nobody = cluster.ctl(host, "list", "--timeout", "200ms")
    assert nobody.returncode == 4
    assert "; etcd: " in nobody.stderr
