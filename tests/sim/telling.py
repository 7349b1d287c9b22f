"""What stories are told with: a plain cluster whose first node owns `g0`, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Callable

from haagent.core.states import Following
from haagent.core.units import MS, NEVER, Duration, Instant
from tests.sim.checker import Violation
from tests.sim.cluster import Cluster
from tests.sim.host import Agent, Host
from tests.sim.world import World


def owned_by_first(
    world: World, ttl: Duration, *skews: int, gated: bool = False, failsafe: Duration = 0, boot: int = 9
) -> Cluster:
    """One host for each skew, in millionths; the first `boot` of them run, and the first of these owns."""
    cluster = Cluster.plain(world, ttl, *skews, gated=gated)
    cluster.failsafe = failsafe
    world.expire_sessions()
    for number, host in enumerate(world.hosts[:boot]):
        cluster.boot(host, f"n{number + 1}")
    world.run(2 * ttl)
    if [host for _, host, _ in cluster.holders()] != world.hosts[:1]:
        cluster.switch_over("g0", "n1")  # a slow clock came too late
        world.run(world.now + 100 * MS)
    assert [host for _, host, _ in cluster.holders()] == world.hosts[:1]
    return cluster


def agent_of(host: Host) -> Agent:
    """The agent that runs there."""
    assert host.agent is not None
    return host.agent


def cut_off(host: Host) -> None:
    """From etcd, for good."""
    host.link.asking_cut_until = host.link.answers_cut_until = host.link.watch_stalled_until = NEVER


def claim_at(host: Host) -> Instant:
    """When it means to claim; NEVER if it does not."""
    state = agent_of(host).node.groups["g0"]
    return host.real(state.claim_at) if isinstance(state, Following) and state.claim_at < NEVER else NEVER


def run_until(world: World, done: Callable[[], bool], within: Duration, step: Duration = 1 * MS) -> None:
    """Go on until it is so, in steps."""
    ends = world.now + within
    while not done():
        assert world.now < ends, "it does not happen"
        world.run(world.now + step)


def holders(world: World) -> list[Host]:
    """Who has a right now."""
    return [host for _, host, _ in world.checker.holders()]


def owned(world: World, not_by: Host | None = None) -> None:
    """Violation: nobody owns, or he does."""
    by = holders(world)
    if not by or not_by in by:
        raise Violation(f"liveness: g0 is owned by {[host.name for host in by] or 'nobody'}")
