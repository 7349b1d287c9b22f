"""Hundreds of groups on the hosts of a lab: one virtual router and one address each.

An interface has 255 virtual routers at the most, so eth0 carries the first ones and macvlans on eth0 the others. These
are all on one wire, where a VRID means one virtual router: so the adverts go to the other hosts' own addresses.
"""

from __future__ import annotations

from typing import Any, Final

from haagent.lab.cluster import Cluster, web_router
from haagent.lab.commands import ip_batch
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.topology import many4

EACH: Final = 200
"""Groups on one interface."""


def crowd(lab: Lab, count: int, ttl: str) -> Cluster:
    """A cluster of so many groups, `g0000` and on, whose interfaces are there; nothing is started."""
    cluster = Cluster(lab, ttl=ttl, group="g0000", peers=len(lab.hosts) > 1)
    for host in lab.hosts:
        ip_batch(_interfaces(host, count), namespace=host.namespace)
        others = [other for other in lab.hosts if other is not host]
        cluster.differences[host.name] = {"virtual_routers": [_router(number, others) for number in range(count)]}
    return cluster


def _interfaces(host: Host, count: int) -> list[str]:
    commands: list[str] = []
    for number in range(1, -(-count // EACH)):
        name = f"mac{number}"
        commands += [f"link add link eth0 name {name} type macvlan mode bridge", f"link set {name} up"]
        commands.append(f"address add {_own(host, number)}/24 dev {name}")
    return commands


def _own(host: Host, number: int) -> str:
    """The host's own address on one of the interfaces."""
    return f"10.{80 + number}.0.{host.ip.rpartition('.')[2]}" if number else host.ip


def _router(number: int, others: list[Host]) -> dict[str, Any]:
    where, at = divmod(number, EACH)
    address = f"10.{80 + where}.0.{41 + at}" if where else many4(EACH)[at]
    return web_router(
        name=f"g{number:04}",
        vrid=1 + at,
        interface=f"mac{where}" if where else "eth0",
        addresses=[f"{address}/24"],
        **({"unicast_peers": [_own(other, where) for other in others]} if others else {}),
    )
