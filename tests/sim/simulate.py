"""One seed: a cluster is drawn, suffers for two thirds of its time, heals, and must settle."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from haagent.core.units import Duration, S
from tests.sim.checker import Violation
from tests.sim.cluster import Cluster
from tests.sim.faults import Faults
from tests.sim.plans import Plans
from tests.sim.world import World

LASTS: Duration = 60 * S


@dataclass(slots=True)
class Outcome:
    """What came of a seed. `violation` is empty if all went well; `trace` only if one was asked for."""

    seed: int
    violation: str
    totals: Counter[str]
    trace: list[str] = field(default_factory=list[str])


def simulate(
    seed: int,
    tracing: bool = False,
    lasts: Duration = LASTS,
    gated: bool | None = None,
    promises: bool | None = None,
) -> Outcome:
    """Run one world drawn from the seed to its end, or to its first violation.

    `gated`: whether hosts have a gate; `promises`: whether they may carry an owner. None: by chance.
    """
    return play(lambda world: _live(world, lasts, gated, promises), seed, tracing)


def play(story: Callable[[World], None], seed: int = 0, tracing: bool = False) -> Outcome:
    """Let a story happen in a new world, until its end or its first violation."""
    world = World(seed, tracing)
    violation = ""
    try:
        story(world)
    except Violation as error:
        violation = f"{error} (after {world.now / S:.6f} s)"
    except Exception as error:  # noqa: BLE001 - whatever the core raises would end an agent
        where = traceback.extract_tb(error.__traceback__)[-1]
        violation = f"{error!r} in {where.name}: {where.line} (after {world.now / S:.6f} s)"
    if violation:
        world.remark("VIOLATION", violation)
    return Outcome(seed, violation, world.totals, list(world.lines))


def _live(world: World, lasts: Duration, gated: bool | None, promises: bool | None) -> None:
    cluster = Cluster.drawn(world, gated, promises)
    plans = Plans(cluster, until=lasts * 2 // 3)
    world.remark("cluster", f"{cluster.size} nodes, {', '.join(cluster.groups)}, ttl {cluster.ttl // 1_000_000} ms")
    world.expire_sessions()
    cluster.boot_all()
    healed = lasts * 2 // 3
    world.heals_at = healed
    Faults(cluster, until=healed).start()
    plans.start()
    world.run(healed)
    cluster.heal()
    plans.heal()
    expected = cluster.intrude_for_good()
    settled = healed + cluster.patience() + plans.patience()
    world.run(settled)
    _settle(cluster, expected)
    world.checker.calm({name: group.preempt for name, group in cluster.groups.items()})
    world.run(max(lasts, world.now + 2 * S))
    _settle(cluster, expected)


def _settle(cluster: Cluster, expected: dict[str, bool]) -> None:
    """Everybody agrees who owns what; where candidates preempt each other, now or a second later."""
    world = cluster.world
    try:
        world.checker.settled(expected)
    except Violation:
        if not any(group.preempt for group in cluster.groups.values()):
            raise
        world.run(world.now + 1 * S)
        world.checker.settled(expected)
