"""etcd is full under a cluster of real agents: promises carry the addresses, and everything names the cause.

An operator makes room by the commands that `doctor` tells, and all is as before.
"""

from __future__ import annotations

import re
import time

import pytest

from haagent.lab.cluster import Cluster
from haagent.lab.commands import now
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, one_owner, silence
from tests.integration.conftest import MakeLab

pytestmark = [pytest.mark.integration, pytest.mark.slow]

QUOTA = 8 << 20
SHORT_MS = 150.0


def test_etcd_is_full_and_room_is_made(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.etcd.limit(QUOTA)
    cluster = Cluster(lab, peers=True)
    prober = lab.probe([vip4()])
    story = Story(cluster)
    Rehearsal(cluster, prober, vip4()).cold_start()
    cluster.restore()
    owner, epoch, since = answering(prober, vip4()), cluster.epoch(), now()
    host = lab.host(owner)
    story.forget()

    lab.etcd.fill()
    story.wait(r"^alarm: etcd-silent etcd: etcd is full \(NOSPACE\)", owner)
    story.wait("^alarm: failsafe etcd", owner)
    story.wait("^etcd: space: NOSPACE: etcd is full", owner)
    time.sleep(12)  # what flips would show it
    told = re.sub(r"\s+", " ", cluster.ctl(host, "doctor", "-f", "tsv").stdout)
    assert "etcdctl defrag --cluster; etcdctl alarm disarm" in told, told
    assert "etcd does not answer" not in told
    assert "NOSPACE" in cluster.ctl(host, "status").stdout
    for each in lab.hosts:
        lines = [line.text for line in story.lines(each.name, "^etcd: ")]
        assert len(lines) <= 3, lines

    lab.etcd.make_room()
    story.wait("^alarm over: failsafe etcd", owner)
    story.wait("^etcd: space: etcd takes writes again", owner)
    assert (cluster.owner(), cluster.epoch()) == (owner, epoch)
    assert silence(prober, vip4(), since) < SHORT_MS
    one_owner(story, prober, since)
