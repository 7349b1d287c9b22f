"""A cluster that is used again and again: who owns, whose agent ends, and until when there is something to be seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from haagent.config.durations import duration
from haagent.core.units import MS, Duration, Instant, S
from haagent.lab.cluster import Cluster, both_group, both_routers
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.topology import Extra, vip4, vip6
from tests.integration.etcd_proxy import Steering

VIPS: Final = (vip4(), vip6())
QUIET: Final[Duration] = 300 * MS
"""The new owner has answered, and the old one has not, for so long: then it is over."""
LONGEST: Final[Duration] = 4 * S
"""An address outlives its lease by less, whatever else fails."""


class Bed:
    """A lab, its cluster, and the observer."""

    def __init__(self, lab: Lab, cluster: Cluster, ttl: Duration, chance: Random) -> None:
        self.lab, self.cluster, self.ttl, self.chance = lab, cluster, ttl, chance
        self.trials = 0
        self.prober: Prober
        self.proxies: dict[str, Steering] = {}
        self.since: Instant = 0

    def whole(self) -> None:
        """Wait until somebody owns and answers, and all are candidates."""
        self.cluster.restore()
        for vip in VIPS:
            self.prober.wait_for_answer(vip, after=now(), timeout=20.0)

    def owner(self) -> Host:
        """Who owns and answers; at least one other runs and could own."""
        running = {name for name, agent in self.cluster.agents.items() if agent.running}
        self.cluster.wait(lambda: self._could_move(running), "one owns, and another could", timeout=30.0)
        owner = self.lab.host(self.cluster.owner())
        for vip in VIPS:
            self.prober.wait_for_answer(vip, after=now(), node=owner.name, timeout=20.0)
        return owner

    def others(self, host: Host) -> list[Host]:
        """All hosts but this one."""
        return [other for other in self.lab.hosts if other is not host]

    def turn(self, choices: Sequence[Any]) -> Any:
        """One after the other, a trial each."""
        self.trials += 1
        return choices[(self.trials - 1) % len(choices)]

    def sleep_until(self, at: Instant) -> None:
        """Sleep until then."""
        time.sleep(max(0, at - now()) / S)

    def see_it_end(self, old: Host, since: Instant) -> None:
        """Wait until another has answered for all addresses, and the old owner no longer does, or never stops."""
        firsts = [self.prober.wait_for_answer(vip, after=since, other_than=old.name, timeout=30.0) for vip in VIPS]
        settled = max(first.at for first in firsts) + QUIET
        self.sleep_until(settled)
        while self.prober.last(old.name) > now() - QUIET and now() < settled + LONGEST:
            time.sleep(0.02)

    def again(self, host: Host) -> None:
        """Whatever has become of its agent, it begins again."""
        agent = self.cluster.agents[host.name]
        agent.kill()
        self.cluster.start([host])

    def _could_move(self, running: set[str]) -> bool:
        record = self.cluster.record()
        if record is None or record["clean"] or record["node"] not in running:
            return False
        return len(self.cluster.candidates() & running) > 1


Act = Callable[[Bed], str]
"""Does one trial, until there is nothing more to be seen; returns what was done."""


@dataclass(frozen=True)
class Variant:
    """A kind of trial. `extras` of the hosts; `routers`: more for each of them; `gate` if it is about that one.

    `prepare` is done to the lab before the agents start.
    """

    act: Act
    extras: Sequence[Extra] = ()
    routers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    gate: str | None = None
    hosts: int = 3
    peers: bool = False
    prepare: Callable[[Bed], None] = lambda _: None
    cluster: type[Cluster] = Cluster


@contextmanager
def bed(variant: Variant, ttl: str, gate: str | None, chance: Random) -> Generator[Bed]:
    """For as long as trials come off."""
    with Lab(hosts=variant.hosts, etcd=1, extras=variant.extras) as lab:
        keys: dict[str, Any] = {"groups": both_group()}
        if kind := gate or variant.gate:
            keys["fence"] = {"gate": kind}
        routers = both_routers(**variant.routers)
        cluster = variant.cluster(lab, ttl=ttl, routers=routers, keys=keys, peers=variant.peers)
        made = Bed(lab, cluster, duration(ttl), chance)
        variant.prepare(made)
        made.prober = lab.observe(VIPS)
        made.since = now()
        cluster.start()
        made.whole()
        yield made
