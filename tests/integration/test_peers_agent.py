"""The agent and its peers: what of their configuration is refused before it runs, what a reload takes, the end."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from haagent.config.load import Invalid, Loaded
from haagent.lab.certificates import make_ca
from haagent.lab.cluster import PORT, Cluster
from haagent.lab.lab import Lab
from haagent.prepare import prepare

pytestmark = pytest.mark.integration

WITHOUT = """
node: n1
cluster: prod
etcd: {endpoints: ["http://127.0.0.1:2379"]}
virtual_routers:
  - {name: web, vrid: 51, interface: eth0, addresses: [10.0.0.100]}
"""
PORTS = '%s: {listen: "127.0.0.1:8501", ca: ca.pem, cert: n1.pem, key: n1.key}\n'
NOT_OURS = "is for n2, n3, not for the node n1"


@pytest.mark.parametrize("section", ["peers", "control"])
def test_files_that_can_not_work_are_refused(tmp_path: Path, section: str):
    text = WITHOUT + PORTS % section
    authority = make_ca(tmp_path)
    good, other = authority.issue("n1"), authority.issue("n2", ["n2", "n3"])
    expired, foreign = authority.expire(good), make_ca(tmp_path / "foreign").issue("n1")
    path = tmp_path / "haagent.yaml"
    path.write_text(text)
    assert isinstance(prepare(path), Loaded)
    for old, new, why in (
        ("cert: n1.pem", f"cert: {expired.certificate}", f"cert: {expired.certificate}: certificate has expired"),
        ("n1.key", "n2.key", f"cert and key: {good.certificate}, {other.key}: the key is not that of the certificate"),
        ("n1.pem, key: n1", "n2.pem, key: n2", f"cert: {other.certificate}: {NOT_OURS}"),
        (
            "n1.pem, key: n1.key",
            f"{foreign.certificate}, key: {foreign.key}",
            f"cert: {foreign.certificate}: unable to get local issuer certificate",
        ),
        ("ca.pem", "n1.key", f"ca: {good.key}: no certificate in PEM form"),
        ("n1.key", "haagent.yaml", f"cert and key: {good.certificate}, {path}: no certificate or no key in PEM"),
    ):
        path.write_text(text.replace(old, new))
        if section == "control" and why.endswith(NOT_OURS):
            assert isinstance(prepare(path), Loaded), "operators go by the name of the host"
        else:
            assert prepare(path) == Invalid((f"haagent.yaml: {section}.{why}",))


def test_a_cluster_with_peers(make_lab: Callable[..., Lab]):
    lab = make_lab(hosts=2, etcd=1)
    cluster = Cluster(lab, peers=True)
    cluster.start()
    cluster.wait(lambda: cluster.record() is not None, "one owns the group")
    n1 = lab.host("n1")
    agent = cluster.agents["n1"]
    assert re.search(rf"\b{n1.control_ip}\]?:{PORT}\b", n1.run(["ss", "-Htln"]).stdout)

    def says(pattern: str) -> bool:
        end = time.monotonic() + 10
        while not re.search(pattern, agent.output()):
            assert time.monotonic() < end, agent.output()
            time.sleep(0.02)
        return True

    says("peers: n2: connected")
    agent.signal(signal.SIGHUP)
    says("reload: nothing changed")
    keys = yaml.safe_load(cluster.config(n1).read_text())["peers"]
    make_ca(Path(keys["ca"]).parent).issue("n1")  # the same files, another CA
    agent.signal(signal.SIGHUP)
    says("reload: the peers' certificates")
    cluster.reload(n1, peers={**keys, "listen": f"{n1.control_ip}:1"})
    says("a restart is needed to change peers.listen")
    Path(keys["key"]).write_text("nothing")
    agent.signal(signal.SIGHUP)
    says(r"n1\.yaml: peers\.cert and key: .*: no certificate or no key in PEM")
    for each in cluster.agents.values():
        assert each.stop() == 0
        assert "Traceback" not in each.output()


def test_insecure_is_said_at_the_start(make_lab: Callable[..., Lab]):
    lab = make_lab(hosts=1, etcd=1)
    cluster = Cluster(lab, keys={"peers": {"listen": f"{lab.host('n1').control_ip}:{PORT}", "insecure": True}})
    cluster.start()
    cluster.wait(lambda: cluster.record() is not None, "it owns the group")
    agent = cluster.agents["n1"]
    assert agent.stop() == 0
    assert re.search("warning .*whoever reaches this port can pose as any node", agent.output())
