"""What people and tools do to hosts and to etcd behind the agents' backs, each with how it is undone, if it is.

Nothing here waits for agents or judges them. Who calls it may be in the middle of other faults, so whatever of it
cannot be done any more, as the host or etcd is gone, is left undone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from haagent.lab import topology
from haagent.lab.chaos.cluster import ChaosCluster
from haagent.lab.commands import LabError
from haagent.lab.host import Host

Undo = Callable[[], object]


def flush_firewall(host: Host) -> None:
    """As a reload of the host's own firewall does it."""
    host.run(["nft", "flush", "ruleset"], check=False)


def delete_qdiscs(host: Host) -> None:
    """As a tool for traffic control does it."""
    for port in host.station.ports:
        host.run(["tc", "qdisc", "del", "dev", port.interface, "clsact"], check=False)


def change_mac(host: Host) -> Undo:
    """As a bond does it whose first interface fails."""

    def change(mac: str) -> None:
        host.run(["ip", "link", "set", "eth0", "address", mac], check=False)

    change(f"02:99{host.mac[5:]}")
    return lambda: change(host.mac)


def configure_by_hand(host: Host, place: str) -> Undo:
    """The virtual addresses, as if they were the host's own."""
    addresses = (f"{topology.vip4()}/32", f"{topology.vip6()}/128")

    def each(word: str, *flags: str) -> None:
        for address in addresses:
            host.run(["ip", "address", word, address, "dev", place, *flags], check=False)

    each("add")
    return lambda: each("del")


def change_gate(cluster: ChaosCluster, host: Host, gate: str) -> Undo:
    """Another kind of gate is configured, and the agent killed, so that it comes back with it."""
    mine = cluster.differences.setdefault(host.name, {})
    before = mine.get("fence")
    mine["fence"] = {"gate": gate}
    cluster.agents[host.name].begin_kill()

    def back() -> None:
        there = cluster.differences.get(host.name, {})
        there.pop("fence", None)
        if before is not None:
            there["fence"] = before
        cluster.agents[host.name].begin_kill()

    return back


def delete_record_in_a_gap(cluster: ChaosCluster) -> None:
    """etcd is started again, which ends all watches; the record is deleted, and history compacted, as they come back.

    Not waited for: etcd may be down.
    """
    etcd = cluster.lab.etcd
    member = etcd.members[0]
    if member.running:
        member.kill()
        member.start()
    control = f"etcdctl --command-timeout=200ms --endpoints={member.endpoint}"
    deletion = f"{control} del /haagent/lab/owners/{cluster.group} -w fields"
    script = (
        f'for i in $(seq 40); do r=$({deletion} | sed -n \'s/"Revision" : //p\'); [ -z "$r" ] || break; done; '
        f'[ -z "$r" ] || {control} compact $r'
    )
    argv = ["sh", "-c", script]
    cluster.lab.host(member.name).spawn(argv, name="gap", env={"ETCDCTL_API": "3", **cluster.credentials()})


def restore_etcd(cluster: ChaosCluster, snapshot: Path, again: Sequence[Host]) -> None:
    """etcd knows only what a snapshot says, and these hosts' agents are killed, so that they begin with that."""
    cluster.lab.etcd.go_back(snapshot)
    for host in again:
        cluster.agents[host.name].begin_kill()


def change_password(cluster: ChaosCluster) -> None:
    """In etcd first, then in the file that the agents read."""
    with contextlib.suppress(LabError):
        cluster.change_password()
