"""Every port of real agents under attack by who has a certificate: forged promises, floods, garbage, crowds.

Nobody promises, nobody's role changes, memory stays bounded, and what is refused is counted by its reason. What
strangers without a good certificate get: test_peers_refused, unit/api/test_control, unit/api/test_server.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import haagent
from haagent.lab.cluster import GROUP, PORT, Cluster
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, one_owner, resident, silence
from tests.integration.conftest import MakeLab, Measure
from tests.integration.storming import Orders, Report

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(haagent.__file__).parents[1]
CONTROL = 8502
GROWN_KIB = 64 * 1024


def test_a_storm_at_every_port_changes_nothing(make_lab: MakeLab, measure: Measure):
    lab = make_lab(hosts=2)
    cluster = Cluster(lab, ttl="2s", peers=True)
    assert cluster._authority is not None
    ca, mischief = cluster._authority.own.certificate, cluster._authority.issue("m0")  # before n1: so it may dial
    door = cluster._authority.issue("control")
    files = {"ca": str(ca), "cert": str(door.certificate), "key": str(door.key)}
    for host in lab.hosts:
        listen = {"listen": f"{host.control_ip}:{CONTROL}", "viewers": ["m0"], **files}
        cluster.differences[host.name] = {"control": {"socket": str(cluster.socket(host)), **listen}}
    prober, story = lab.probe([vip4()]), Story(cluster)
    Rehearsal(cluster, prober, vip4()).cold_start()
    answering(prober, vip4())
    cluster.wait(cluster.carried, "the candidates promise")
    record = cluster.record()
    assert record is not None
    before = {name: resident(agent.pid) for name, agent in cluster.agents.items()}
    began = now()
    story.forget()

    def storm(host: Host) -> Report:
        orders = Orders(
            node=host.name,
            peers=f"{host.control_ip}:{PORT}",
            control=f"{host.control_ip}:{CONTROL}",
            socket=str(cluster.socket(host)),
            http="127.0.0.1:8500",
            name="m0",
            ca=str(ca),
            certificate=str(mischief.certificate),
            key=str(mischief.key),
            group=GROUP,
            incarnation=record["incarnation"],
            epoch=record["epoch"],
        )
        argv = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.integration.storming"]
        return json.loads(host.run(argv, stdin=json.dumps(orders), timeout=60).stdout)

    with ThreadPoolExecutor() as pool:
        reports = dict(zip(lab.hosts, pool.map(storm, lab.hosts), strict=True))
    for host, report in reports.items():
        assert report["promises"] == 0
        assert report["ended"]
        assert report["sent"] < 99_000
        # More at once than are served: refused by gRPC, before anything looks at them (HTTP/2's REFUSED_STREAM).
        assert report["answers"].keys() <= {"OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
        measure(f"{host.name}_answers", sum(report["answers"].values()))
        measure(f"{host.name}_grown_kib", grown := resident(cluster.agents[host.name].pid) - before[host.name])
        assert grown < GROWN_KIB
        assert len(story.lines(host.name)) < 40, "it is said now and then"
    measure("silence_ms", silence(prober, vip4(), began))
    one_owner(story, prober, began)
    assert cluster.record() == record
    assert story.lines(pattern="lapsed") == []
    cluster.wait(cluster.carried, "the candidates still promise")
    for host in lab.hosts:
        status = json.loads(cluster.ctl(host, "status", "-f", "json").stdout)
        assert int(status["counters"]["peers_refused_flood"]) == 1
        assert int(status["counters"]["peers_refused_too-fast"]) >= 2000
        assert status["self"]["node"] == host.name
