"""An etcd that loses a deletion in the gap between a list and its watch: the owner must not own on without a record.

etcd before 3.4.36 and 3.5.18 says nothing of a deletion at the revision to which history was compacted just before a
watch begins there. The owner's watch is broken once; after its list, its record is deleted and history compacted; then
the owner loses etcd, as late as its unawareness would last longest beside the next owner.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from haagent.lab.cluster import ROOT, Cluster
from haagent.lab.commands import now
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, key, one_owner
from tests.integration.conftest import MakeLab
from tests.integration.etcd_proxy import Steering

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TTL = 4.0
CUT_AFTER = 3.7
LISTEN = "127.0.0.1:2399"


@pytest.mark.parametrize("peers", [False, True], ids=["alone", "with peers"])
def test_the_owners_record_is_deleted_in_a_gap_of_its_watch(make_lab: MakeLab, tmp_path: Path, peers: bool) -> None:
    lab = make_lab(hosts=2)
    steering = Steering(tmp_path / "proxy")
    first = lab.hosts[0]
    target = lab.etcd.endpoints[0].removeprefix("http://")
    proxy = first.spawn(
        [sys.executable, str(Path(__file__).with_name("etcd_proxy.py")), LISTEN, target, str(steering.directory)],
        name="proxy",
        env={"PYTHONPATH": str(ROOT)},
    )
    cluster = Cluster(lab, ttl=f"{TTL:g}s", peers=peers)
    cluster.differences[first.name] = {"etcd": {"endpoints": [f"http://{LISTEN}"]}}
    prober = lab.probe([vip4()])
    story = Story(cluster)
    cluster.start([first])
    answering(prober, vip4(), first.name, timeout=30)
    cluster.restore()
    since = now()

    steering.hold_new_watches()
    time.sleep(0.1)  # the list is answered before the watch is asked for, so it has passed
    told = lab.etcd.ctl("del", key("owners", "web"), "--write-out=fields")
    revision = re.search(r'"Revision" : (\d+)', told)
    assert revision is not None
    lab.etcd.ctl("compact", revision[1])
    steering.let_go()
    deleted = time.monotonic()
    time.sleep(max(0.0, deleted + CUT_AFTER - time.monotonic()))
    proxy.kill()
    time.sleep(2 * TTL)
    answering(prober, vip4())
    one_owner(story, prober, since)
    story.wait(r"^etcd: watch: ended \(history was compacted", first.name)
    assert cluster.owner() == lab.hosts[1].name
