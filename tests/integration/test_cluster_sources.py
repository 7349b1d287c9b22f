"""A virtual address is never what the owner's own connections come from, whatever its prefix: they outlive a move.

The agents talk with each other over IPv6, on the network of the virtual address, which is configured with /64.
"""

from __future__ import annotations

import pytest

from haagent.lab.cluster import Cluster, both_families
from haagent.lab.commands import now
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4, vip6
from tests.integration.clusters import Story, answering, one_owner, others, silence
from tests.integration.conftest import MakeLab, Measure

pytestmark = [pytest.mark.integration, pytest.mark.slow]

GAP_MS = 400
"""A planned move takes some 15 ms; over connections that broke with the address it takes a second."""


def test_a_planned_move_breaks_no_connection_of_the_owners_own(make_lab: MakeLab, measure: Measure):
    lab = make_lab(hosts=2)
    cluster = Cluster(lab, keys=both_families())
    for host in lab.hosts:
        cluster.differences[host.name] = {"peers": {"listen": f"[{host.ip6}]:8501", "insecure": True}}
    prober = lab.probe([vip4(), vip6()])
    story = Story(cluster)
    Rehearsal(cluster, prober, vip4()).cold_start()
    since = now()
    for _ in range(2):
        owner = answering(prober, vip6())
        here, (there,) = lab.host(owner), others(cluster, owner)
        route = here.run(["ip", "-6", "route", "get", there.ip6]).stdout
        assert f"src {here.ip6} " in route, route
        moved = cluster.ctl(here, "switchover", "web", "--to", there.name, "--force")
        assert moved.returncode == 0, moved.stdout + moved.stderr
        assert answering(prober, vip6()) == there.name
        streams = there.run(["ss", "-Htn"]).stdout
        assert there.ip6 in streams, streams
        assert vip6() not in streams, streams
    gaps = [round(silence(prober, vip, since)) for vip in (vip4(), vip6())]
    measure("gaps_ms", gaps)
    assert max(gaps) < GAP_MS
    one_owner(story, prober, since)
