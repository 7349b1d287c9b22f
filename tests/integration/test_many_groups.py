"""Many groups: a thousand start, move, fail over and stop, and two hundred settle at the shortest ttl, without a lapse.

What is judged beside: no turn of the event loop is as long as a renewal's interval, so that none is late for it.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable

import pytest

from haagent.lab.cluster import Cluster
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from tests.integration.clusters import Story
from tests.integration.conftest import Measure
from tests.integration.crowd import crowd

pytestmark = [pytest.mark.alone, pytest.mark.integration, pytest.mark.slow]

MakeLab = Callable[..., Lab]
DONE, UNVERIFIED = 0, 3
ROLE = re.compile(r"(g\d{4}): \S+ -> (\w+) ")


def owned(cluster: Cluster, host: Host) -> int:
    """How many groups the host's agent says that it is MASTER of."""
    return list(dict(ROLE.findall(cluster.agents[host.name].output())).values()).count("MASTER")


def longest_turn(host: Host) -> float:
    """Of the event loop of the host's agent, in seconds."""
    said = host.run(["curl", "-sS", "http://127.0.0.1:8500/metrics"]).stdout
    return float(re.findall(r"^haagent_loop_longest_turn_seconds (\S+)", said, re.MULTILINE)[0])


def judged(story: Story) -> None:
    """No two claimed one epoch of a group, no lease lapsed, and nobody was wrong."""
    shared = {key: nodes for key, nodes in story.masters().items() if len(nodes) > 1}
    assert not shared
    assert not story.lines(pattern="lease lapsed", whole=True)
    assert not [line for line in story.lines(whole=True) if line.level == "critical" or "Traceback" in line.text]


@pytest.mark.timeout(120)
def test_a_thousand_groups_start_move_fail_over_and_stop(make_lab: MakeLab, measure: Measure):
    cluster = crowd(make_lab(hosts=2, etcd=1), 1000, "4s")
    n1, n2 = cluster.lab.hosts
    story = Story(cluster)

    def all_owned_by(*hosts: Host) -> float:
        began = time.monotonic()
        cluster.wait(lambda: sum(owned(cluster, host) for host in hosts) == 1000, f"owned by {hosts}", timeout=40)
        return round(time.monotonic() - began, 2)

    cluster.start()
    measure("start_s", all_owned_by(n1, n2))
    drained = cluster.ctl(n1, "drain", "n1", "--force")
    assert drained.returncode in (DONE, UNVERIFIED), drained  # that all have moved, the agents' own logs tell
    measure("drain_s", all_owned_by(n2))
    assert cluster.ctl(n1, "undrain", "n1").returncode == 0
    cluster.wait(lambda: owned(cluster, n1) == 0, "drained", timeout=5)

    measure("longest_turn_ms", [round(1000 * longest_turn(host)) for host in (n1, n2)])
    assert max(longest_turn(host) for host in (n1, n2)) < 1, (
        "a quarter of the ttl, after which nothing is renewed in time"
    )

    cluster.agents["n2"].signal(signal.SIGKILL)
    measure("killed_s", all_owned_by(n1))
    began = time.monotonic()
    assert cluster.agents["n1"].stop(timeout=20) == 0
    measure("stop_s", round(time.monotonic() - began, 2))
    assert owned(cluster, n1) == 0
    judged(story)


@pytest.mark.alone
@pytest.mark.timeout(60)
def test_two_hundred_groups_settle_at_the_shortest_ttl(make_lab: MakeLab, measure: Measure):
    cluster = crowd(make_lab(hosts=1, etcd=1), 200, "300ms")
    (n1,) = cluster.lab.hosts
    story = Story(cluster)
    cluster.start()
    cluster.wait(lambda: owned(cluster, n1) == 200, "all are owned", timeout=20)
    time.sleep(5)
    measure("longest_turn_ms", round(1000 * longest_turn(n1)))
    assert owned(cluster, n1) == 200
    assert len(story.masters()) == 200  # none of them twice
    judged(story)
    assert cluster.agents["n1"].stop() == 0
