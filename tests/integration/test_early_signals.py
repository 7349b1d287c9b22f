"""Signals at every moment of a start, from the agent's first line on: SIGHUP never ends it, SIGTERM ends it cleanly.

A moment is counted from when the process heeds SIGHUP, which is before it imports anything that takes time.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from haagent.lab.cluster import ROOT, Cluster
from haagent.lab.lab import Lab
from haagent.lab.process import Process

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MOMENTS = [0.04 * number for number in range(20)]


@pytest.fixture
def cluster(make_lab: Callable[..., Lab]) -> Cluster:
    return Cluster(make_lab(hosts=1, etcd=1))


def test_a_reload_that_is_asked_for_during_the_start_comes_after_it(cluster: Cluster):
    for moment in MOMENTS:
        agent = heeding(cluster, f"hup-{moment:.2f}")
        time.sleep(moment)
        agent.signal(signal.SIGHUP)
        wait_for(agent, "reload: nothing changed")
        wait_for(agent, "-> MASTER")
        assert agent.stop() == 0, agent.output()


def test_a_stop_at_any_moment_of_the_start_is_clean(cluster: Cluster):
    early = 0
    for moment in MOMENTS:
        agent = heeding(cluster, f"term-{moment:.2f}")
        time.sleep(moment)
        assert agent.stop() == 0, agent.output()
        assert "Traceback" not in agent.output()
        early += "came before the agent began" in agent.output()
    assert early, "these are not the moments that are meant"


def heeding(cluster: Cluster, name: str) -> Process:
    """An agent that has just begun to heed signals."""
    host = cluster.lab.hosts[0]
    agent = host.spawn(
        [sys.executable, "-m", "haagent", "run", "-c", str(cluster.config(host))],
        name=name,
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""},
    )
    status = Path(f"/proc/{agent.pid}/status")
    give_up = time.monotonic() + 10
    while not int(re.findall(r"SigCgt:\s+(\w+)", status.read_text())[0], 16) & 1 << signal.SIGHUP - 1:
        assert time.monotonic() < give_up, agent.output()
        time.sleep(0.001)
    return agent


def wait_for(agent: Process, said: str) -> None:
    give_up = time.monotonic() + 20
    while said not in agent.output():
        assert agent.running, f"it ended with {agent.returncode}: {agent.output()}"
        assert time.monotonic() < give_up, agent.output()
        time.sleep(0.01)
