"""The peers' streams of a simulated cluster: messages between agents, in order, late, or lost with their stream.

A message reaches every host on which an agent of that name runs: of two machines with one name, either may have the
stream. What is under way when a link is cut is lost, or arrives when the cut is over, long after it was said.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from haagent.core.heartbeat import HeartbeatReceived, PromiseReceived
from haagent.core.units import MS, Duration, Instant

if TYPE_CHECKING:
    from tests.sim.host import Agent, Host
    from tests.sim.world import World

Said = HeartbeatReceived | PromiseReceived


class Peers:
    """Who hears whom. `cut_until`: by the names of two hosts, one way. `loss`: of messages, with their streams."""

    def __init__(self, world: World) -> None:
        self.random = Random(f"peers in {world.seed}")
        self.delay: Duration = 1 * MS
        self.loss = 0.0
        self.cut_until: dict[tuple[str, str], Instant] = {}
        self._world = world
        self._tails: dict[tuple[str, str], Instant] = {}

    def say(self, agent: Agent, to: str, said: Said) -> None:
        """Send it on its way to whoever goes by that name."""
        for host in self._world.hosts:
            if host is not agent.host and host.agent is not None and host.agent.name == to:
                self._send(agent.host, host, host.agent, said)

    def _send(self, source: Host, host: Host, agent: Agent, said: Said) -> None:
        world, chance = self._world, self.random.random()
        way = (source.name, host.name)
        arrives = world.now + int(self.delay * (0.5 + chance + (chance > 0.97) * 3_000 * (chance - 0.97)))
        cut = self.cut_until.get(way, 0)
        if world.now < cut:
            if self.random.random() < 0.6:
                return
            arrives = max(arrives, cut)
        elif self.loss and self.random.random() < self.loss:
            return
        arrives = self._tails[way] = max(arrives, self._tails.get(way, 0))
        world.remark("said", f"{source.name} to {host.name}: {type(said).__name__} {said.round}")
        world.at(arrives, agent.deliver, said)
