"""An agent that has no file descriptors left: said in plain lines, without a traceback, and over when it has some."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from contextlib import ExitStack

import pytest

from haagent.lab.cluster import PORT, Cluster
from haagent.lab.commands import now
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, one_owner
from tests.integration.conftest import MakeLab

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FEW = 64


def test_connections_take_every_descriptor(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=2)
    cluster = Cluster(lab, peers=True)
    prober = lab.probe([vip4()])
    story = Story(cluster)
    Rehearsal(cluster, prober, vip4()).cold_start()
    cluster.restore()
    owner, since = answering(prober, vip4()), now()
    host = lab.host(owner)
    pid = cluster.agents[owner].pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW, before[1]))
    with ExitStack() as opened:
        for _ in range(400):
            with host.inside():
                one = opened.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.connect((host.control_ip, PORT))
        time.sleep(4)
    said = [line.text for line in story.lines(owner, "LimitNOFILE|Too many open files")]
    assert 1 <= len(said) <= 10, said
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    cluster.wait(lambda: cluster.ctl(host, "list").returncode == 0, "the agent answers operators again")
    assert cluster.owner() == owner
    one_owner(story, prober, since)
