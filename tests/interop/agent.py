"""haagent on a host of the lab: how it is started here, and what its log says."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from haagent.core.units import MS, Duration
from haagent.lab.cluster import Cluster
from haagent.lab.commands import LabError
from haagent.lab.host import Host
from haagent.lab.lab import Lab

TTL: Final = "500ms"
SLACK: Final[Duration] = 500 * MS
"""What a busy machine may add to a timer of either side; the timers themselves are told apart by what is logged."""
EARLY: Final[Duration] = 20 * MS
"""A timer counts from when a packet was sent or read, the capture from when it passed."""


class Agent:
    """The agent of one host, from its start."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self.host = host
        cluster.start([host])
        self.process = cluster.agents[host.name]

    def wait(self, pattern: str, *, count: int = 1, timeout: float = 15.0) -> None:
        """Wait until its log has so many lines with it."""
        end = time.monotonic() + timeout
        while len(self.lines(pattern)) < count:
            if time.monotonic() > end:
                raise LabError(f"{self.host}: no {pattern!r} within {timeout:g} s:\n{self.process.output()}")
            time.sleep(0.01)

    def lines(self, pattern: str) -> list[str]:
        """The lines of its log that the pattern is found in."""
        return [line for line in self.process.output().splitlines() if re.search(pattern, line)]

    @property
    def roles(self) -> list[str]:
        """The roles that it took, in order."""
        return re.findall(r" web: \w+ -> (\w+) ", self.process.output())

    @property
    def refusals(self) -> list[str]:
        """The reasons for which it refused packets, one a line of its log."""
        return re.findall(r"refused (\w+) from", self.process.output())


def one_agent(lab: Lab, host: Host, router: Mapping[str, Any], *, ttl: str = TTL) -> tuple[Cluster, Agent]:
    """A cluster of one node."""
    cluster = Cluster(lab, ttl=ttl, routers=[router])
    return cluster, Agent(cluster, host)


def agents(lab: Lab, routers: Mapping[str, Mapping[str, Any]], *, ttl: str = TTL) -> tuple[Cluster, Sequence[Agent]]:
    """A cluster whose virtual router differs by host name."""
    cluster = Cluster(lab, ttl=ttl)
    cluster.differences = {name: {"virtual_routers": [dict(router)]} for name, router in routers.items()}
    return cluster, [Agent(cluster, lab.host(name)) for name in routers]
