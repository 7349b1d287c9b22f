"""The owner is killed, its host's firewall reloaded 100 ms later: `PYTHONPATH=. python tests/bench/layers.py` (root).

With each gate alone and with both, by each way in which others take rules away: does anybody answer beside the next
owner, and for how long? A line for each, with the longest overlap in milliseconds; it fails if both gates allow one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final

import click

from haagent.core.units import MS
from haagent.lab.cluster import Cluster
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4, vip6

FLUSH: Final = ("nft flush ruleset",)
WAYS: Final[dict[str, Sequence[str]]] = {
    "nothing": (),
    "flush": FLUSH,
    "delete": tuple(f"nft delete table {family} haagent" for family in ("arp", "inet", "netdev")),
    "clsact": ("tc qdisc del dev eth0 clsact",),
    "flush and clsact": (*FLUSH, "tc qdisc del dev eth0 clsact"),
}


@click.command()
@click.option("--trials", default=5, show_default=True)
@click.option("--ttl", default="1s", show_default=True)
@click.option("--gate", "gates", multiple=True, default=("auto", "nft", "bpf"), show_default=True)
@click.option("--way", "ways", multiple=True, type=click.Choice(list(WAYS)), default=tuple(WAYS))
def main(trials: int, ttl: str, gates: Sequence[str], ways: Sequence[str]) -> None:
    """Print what was seen."""
    failed = False
    for gate in gates:
        with Lab(hosts=2, etcd=1) as lab:
            cluster = Cluster(lab, ttl=ttl, keys={"fence": {"gate": gate}})
            prober = lab.probe([vip4(), vip6()])
            Rehearsal(cluster, prober, vip4()).cold_start()
            for way in ways:
                seen = [_trial(cluster, prober, way) for _ in range(trials)]
                print(
                    f"{gate}, {ttl}, {way}: {sum(each > 0 for each in seen)} of {trials}, {max(seen):.0f} ms",
                    flush=True,
                )
                failed |= gate == "auto" and max(seen) > 0
    sys.exit(failed)


def _trial(cluster: Cluster, prober: Prober, way: str) -> float:
    cluster.restore()
    owner: Host = next(host for host in cluster.lab.hosts if host.name == cluster.owner())
    began = now()
    cluster.agents[owner.name].begin_kill()
    time.sleep(0.1)
    for each in WAYS[way]:
        owner.run(each.split(), check=False)
    time.sleep(3)
    timeline = prober.timeline(began)
    return sum(each.length for each in timeline.overlaps()) / MS


if __name__ == "__main__":
    main()
