"""etcd shows an owner or a candidate a history that is not the true one: a deletion lost, a snapshot restored."""

from __future__ import annotations

import sys
import time
from typing import Final

from haagent.core.units import S
from haagent.lab.cluster import ROOT
from haagent.lab.commands import LabError, now
from tests.bench.owning import Bed, Variant
from tests.integration import etcd_proxy
from tests.integration.clusters import key
from tests.integration.etcd_proxy import Steering

LISTEN: Final = "127.0.0.1:2399"


def behind_proxies(bed: Bed) -> None:
    """Each agent reaches etcd by a proxy of its own, which can hold watches back."""
    target = bed.lab.etcd.endpoints[0].removeprefix("http://")
    for host in bed.lab.hosts:
        bed.proxies[host.name] = Steering(bed.lab.directory / f"{host.name}-proxy")
        argv = [sys.executable, etcd_proxy.__file__, LISTEN, target, str(bed.proxies[host.name].directory)]
        host.spawn(argv, name="proxy", env={"PYTHONPATH": str(ROOT)})
        bed.cluster.differences[host.name] = {"etcd": {"endpoints": [f"http://{LISTEN}"]}}


def deletion_lost(bed: Bed) -> str:
    """The owner's record is deleted, and history compacted, between a list and the watch that should show it.

    Then the owner loses etcd, as late as its not knowing would last longest beside the next owner.
    """
    owner = bed.owner()
    steering = bed.proxies[owner.name]
    steering.hold_new_watches()
    time.sleep(min(0.1, bed.ttl / S / 20))  # the list is answered before the watch is asked for
    etcdctl = f"etcdctl --endpoints={bed.lab.etcd.endpoints[0]}"
    revision = f"{etcdctl} del {key('owners', bed.cluster.group)} -w fields | sed -n 's/\"Revision\" : //p'"
    bed.lab.host("e1").run(["env", "ETCDCTL_API=3", "sh", "-c", f"{etcdctl} compact $({revision})"])
    steering.let_go()
    deleted = now()
    bed.sleep_until(deleted + round(bed.ttl * 0.92))
    cut = bed.lab.cut_from_etcd(owner)
    bed.see_it_end(owner, deleted)
    cut.undo()
    bed.whole()
    return "record deleted and compacted, then the owner cut off from etcd"


def restored(bed: Bed) -> str:
    """etcd is restored to when another node owned, or nobody; that node's agent is started again.

    The owner is cut off from the restored etcd, and lives on what its lease and the others' promises still allow.
    """
    snapshot = bed.lab.directory / "snapshot"
    then = bed.turn(("another owned", "nobody owned"))
    first = bed.owner()
    if then == "another owned":
        bed.lab.etcd.save(snapshot)
        second = bed.others(first)[0]
        done = bed.cluster.ctl(second, "switchover", bed.cluster.group, "--to", second.name, "--force")
        if done.returncode != 0:
            raise LabError(f"haagentctl switchover: {done.stdout}{done.stderr}")
    else:
        for agent in bed.cluster.agents.values():
            agent.stop()
        bed.lab.etcd.save(snapshot)
    bed.whole()
    owner = bed.owner()
    again = first if first is not owner else bed.others(owner)[0]
    cut = bed.lab.cut_from_etcd(owner)
    bed.lab.etcd.go_back(snapshot)
    bed.lab.etcd.wait_ready()
    began = now()
    bed.again(again)
    bed.see_it_end(owner, began)
    cut.undo()
    bed.whole()
    return f"restored to when {then}, and {again.name} started again"


HISTORIES: Final[dict[str, Variant]] = {
    "record's deletion lost by etcd's watch": Variant(deletion_lost, hosts=2, prepare=behind_proxies),
    "etcd restored, a candidate started again": Variant(restored, peers=True),
}
