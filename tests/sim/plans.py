"""Operators at work in some of the worlds: they pause, drain and schedule at bad moments; wall clocks step by hours.

Drawn from a generator of its own, so that worlds without operators stay the worlds that they were. Groups get
policies (minimum hold, damping, failback windows) there too. When the world heals everything is resumed, undrained
and set right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from haagent.core.model import GroupRules, WallClockRead, WindowChanged
from haagent.core.planned import Damping
from haagent.core.records import ORDERS, Intent, Key, Kind, Orders
from haagent.core.units import MS, Duration, S
from tests.sim.cluster import Cluster
from tests.sim.host import Agent, Host

WORLDS = 0.4
"""In how many of them operators are at work."""
NOON = 1_800_000_000 * S
"""What a wall clock that is right shows when the world begins."""
HOUR: Duration = 3_600 * S
READ_EVERY: Duration = 5 * S
STEPS = (0, 0, 100 * MS, -1 * S, HOUR, -HOUR, 26 * HOUR)


class Plans:
    """Strikes a cluster like `tests.sim.faults`, as its operators do; nothing at all in most worlds."""

    def __init__(self, cluster: Cluster, until: int) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.until = until
        self.rng = Random(f"operators in {self.world.seed}")
        self.at_work = self.rng.random() < WORLDS
        self._steps: dict[Host, Duration] = {}
        self._kinds = [self.rng.choice(KINDS) for _ in range(self.rng.choice((2, 4, 6)))]
        self._mean = self.rng.choice((500, 1_000, 2_000, 4_000)) * MS
        if self.at_work:
            cluster.groups.update({name: self._with_policies(group) for name, group in cluster.groups.items()})

    def start(self) -> None:
        """From now on."""
        if self.at_work:
            self.world.remark("operators", f"{', '.join(kind.__name__ for kind in self._kinds)}")
            self._read_clocks()
            self._strike()

    def _with_policies(self, group: GroupRules) -> GroupRules:
        rng = self.rng
        losses = rng.choice((0, 1, 1, 2, 3))
        return replace(
            group,
            windowed=rng.random() < 0.3,
            min_hold=rng.choice((0, 0, 500 * MS, 3 * S)),
            damping=Damping(losses, rng.choice((5 * S, 60 * S)) if losses else 0),
        )

    def _strike(self) -> None:
        world = self.world
        if world.now < self.until:
            self.rng.choice(self._kinds)(self)
            world.at(world.now + int(self.rng.expovariate(1 / self._mean)) + 1, self._strike)

    def _lasting(self) -> Duration:
        ttl = self.cluster.ttl
        lasts = self.rng.choice((10 * MS, ttl, 3 * ttl, 8 * ttl, 10 * S))
        return max(1, min(int(lasts * (0.5 + self.rng.random())), self.until - self.world.now))

    def heal(self) -> None:
        """Everything is resumed, undrained, forgotten, and set right."""
        if self.at_work:
            self._order(Orders())
            for key in [key for key in self.world.etcd.keys if key.kind is Kind.INTENTS]:
                self.world.etcd.write((), (key,), 0)
            self._steps.clear()
            self._tell_all()

    def patience(self) -> Duration:
        """How much longer than in other worlds everything takes: who is damped lets others go first."""
        return self.cluster.longest if self.at_work else 0

    # --- orders

    def _orders(self) -> Orders:
        seen = self.world.etcd.keys.get(ORDERS)
        return seen.value if seen is not None and isinstance(seen.value, Orders) else Orders()

    def _order(self, orders: Orders) -> None:
        self.world.remark("orders", f"paused {orders.paused or 'no'}, drained {' '.join(orders.drained) or 'none'}")
        self.world.etcd.scribble(ORDERS, orders)

    def pause(self) -> None:
        self._order(replace(self._orders(), paused="anna"))
        self.world.at(self.world.now + self._lasting(), self._resume)

    def _resume(self) -> None:
        self._order(replace(self._orders(), paused=""))

    def drain(self) -> None:
        """Some node; mostly one that owns something."""
        holders = [agent.name for _, _, agent in self.cluster.holders()]
        anybody = f"n{self.rng.randint(1, self.cluster.size)}"
        node = self.rng.choice(holders) if holders and self.rng.random() < 0.7 else anybody
        orders = self._orders()
        self._order(replace(orders, drained=tuple(sorted({*orders.drained, node}))))
        self.world.at(self.world.now + self._lasting(), self._undrain, node)

    def _undrain(self, node: str) -> None:
        orders = self._orders()
        self._order(replace(orders, drained=tuple(one for one in orders.drained if one != node)))

    def drain_all(self) -> None:
        """Nobody is able any more: whoever owns keeps what it has."""
        for number in range(self.cluster.size):
            self._order(replace(self._orders(), drained=tuple(f"n{one + 1}" for one in range(number + 1))))
        self.world.at(self.world.now + self._lasting(), self._order, Orders())

    # --- intents

    def schedule(self) -> None:
        """A switchover soon, or around the end of somebody's right; perhaps with an end, even one before its begin."""
        rng, world = self.rng, self.world
        group = rng.choice(sorted(self.cluster.groups))
        moments = [until - world.now for until, _, _ in self.cluster.holders()]
        since = max(0, rng.choice((*moments, 0, self._lasting())) + rng.randrange(-30 * MS, 30 * MS))
        until = since + rng.choice((-100 * MS, 5 * MS, self._lasting(), self._lasting()))
        true = NOON + world.now
        intent = Intent(
            f"n{rng.randint(1, self.cluster.size)}",
            world.checker.epoch(group),
            rng.choice(("anna", "anna", "preempt")),
            true + since if rng.random() < 0.8 else 0,
            true + until if rng.random() < 0.6 else 0,
        )
        world.remark("schedule", f"{group} to {intent.to} in {since / MS:.1f} ms, until {until / MS:.1f} ms")
        world.etcd.scribble(Key(Kind.INTENTS, group), intent)

    # --- clocks and windows

    def step_clock(self) -> None:
        """Somebody sets a wall clock, or several."""
        for host in self.world.hosts if self.rng.random() < 0.3 else [self.rng.choice(self.world.hosts)]:
            self._steps[host] = self.rng.choice(STEPS)
            self.world.remark("clock set", f"{host.name} by {self._steps[host] // MS} ms")
        self._tell_all()

    def _read_clocks(self) -> None:
        self._tell_all()
        self.world.at(self.world.now + READ_EVERY, self._read_clocks)

    def _tell_all(self) -> None:
        for host in self.world.hosts:
            if host.agent is not None:
                self._tell_clock(host.agent, host)

    def _tell_clock(self, agent: Agent, host: Host) -> None:
        wall = NOON + self.world.now + self._steps.get(host, 0)
        self.world.tell(agent, WallClockRead(wall - host.clock(self.world.now)), 0)

    def window(self) -> None:
        """A failback window opens, for everybody or for some."""
        group, lasts = self.rng.choice(sorted(self.cluster.groups)), self._lasting()
        for host in self.world.hosts:
            if host.agent is not None and self.rng.random() < 0.8:
                self.world.tell(host.agent, WindowChanged(group, True), 0)
                self.world.at(self.world.now + lasts, self.world.tell, host.agent, WindowChanged(group, False), 0)


KINDS: tuple[Callable[[Plans], None], ...] = (
    Plans.pause,
    Plans.pause,
    Plans.drain,
    Plans.drain,
    Plans.drain_all,
    Plans.schedule,
    Plans.schedule,
    Plans.schedule,
    Plans.step_clock,
    Plans.window,
)
