"""Nodes that do not agree on which group an address belongs to: two own it (SAFETY, A5), and neither keeps silent."""

from __future__ import annotations

import json

import pytest

from haagent.lab.cluster import GROUP, Cluster
from haagent.lab.host import Host
from tests.integration.conftest import MakeLab

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_two_groups_with_one_address_are_told_by_both_owners(make_lab: MakeLab):
    cluster = Cluster(make_lab(hosts=2), ttl="500ms", peers=True)
    n1, n2 = cluster.lab.hosts
    cluster.differences["n2"] = {"groups": [{"name": "www", "routers": [GROUP]}]}
    cluster.start()

    def tells(host: Host, *wanted: str) -> bool:
        asked = cluster.ctl(host, "doctor", "-f", "json")
        found = [f"{one['level']} {one['subject']} {one['text']}" for one in json.loads(asked.stdout or "[]")]
        return asked.returncode == 5 and all(any(one in line for line in found) for one in wanted)

    for host, other, group in ((n1, n2, "www"), (n2, n1, GROUP)):
        elsewhere = f"WRONG {GROUP} address-elsewhere: {other.mac}"
        differs = f"WARNING {other.name} has the group {group}, which this node has not"
        cluster.wait(lambda wanted=(host, elsewhere, differs): tells(*wanted), f"{host.name} tells of {other.name}")
        assert f"ADDRESS ELSEWHERE, as {host.name} hears: {other.mac}" in cluster.ctl(host, "list").stdout
