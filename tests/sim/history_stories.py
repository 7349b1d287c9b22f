"""Stories of an etcd that forgets: restored or wiped, under another cluster id, or under the same one and ahead."""

from __future__ import annotations

from haagent.core.records import ORDERS, Key, Kind, Orders, Revision, Seen
from haagent.core.units import MS, NEVER, S
from tests.sim.cluster import Cluster
from tests.sim.host import Host
from tests.sim.telling import agent_of, cut_off, holders, owned, owned_by_first, run_until
from tests.sim.world import World

Backup = tuple[Revision, dict[Key, Seen]]


def restored_and_restarted(world: World) -> None:
    """n2 owned when the backup was made. n1 owns, and is cut off from the restored etcd; n2's agent is restarted."""
    cluster = owned_by_first(world, 3 * S, 0, 0, gated=True)
    first, second = world.hosts
    cluster.switch_over("g0", "n2")
    world.run(world.now + 100 * MS)
    assert holders(world) == [second]
    backup = world.etcd.snapshot()
    cluster.switch_over("g0", "n1")
    world.run(world.now + 4 * S)
    assert holders(world) == [first]
    _restored_for(world, cluster, backup, second)


def restored_clean_and_restarted(world: World) -> None:
    """Everybody had let go when the backup was made. n1 owns, and is cut off from the restored etcd; n2 restarts."""
    cluster = owned_by_first(world, 3 * S, 0, 0, gated=True)
    first, second = world.hosts
    cluster.stop(agent_of(second), 5 * S)
    world.run(world.now + 100 * MS)
    cluster.stop(agent_of(first), 1 * S)
    world.run(world.now + 500 * MS)
    backup = world.etcd.snapshot()
    run_until(world, lambda: holders(world) == [first] and second.agent is not None, within=9 * S)
    _restored_for(world, cluster, backup, second)


def restored_ahead(world: World) -> None:
    """Under the same cluster id, and with a higher revision than anybody has seen. Somebody owns soon."""
    owned_by_first(world, 1 * S, 0, 0, 0)
    backup = world.etcd.snapshot()
    world.run(world.now + 3 * S)
    world.rewind(world.etcd.revision + 500, backup[1], same=True, resume=True)
    world.run(world.now + 3 * S)
    world.checker.settled({"g0": True})


def wiped_ahead(world: World) -> None:
    """The same with nothing in it: the owner knows that nobody else holds by the record that is gone, and owns soon.

    Watches go on, and show neither that the other nodes' member keys are gone nor that anything is: they are written
    again all the same.
    """
    owned_by_first(world, 1 * S, 0, 0, 0, failsafe=300 * S)
    world.rewind(world.etcd.revision + 500, {}, same=True, resume=True)
    world.run(world.now + 3 * S)
    owned(world)
    assert sum(key.kind is Kind.MEMBERS for key in world.etcd.keys) == 3


def claimed_in_a_lost_history(world: World) -> None:
    """A pause ends, n2 claims what n1 released. Before n3 is shown that, etcd is restored, under the same id."""
    cluster = owned_by_first(world, 3 * S, 0, 0, 0)
    first, second, third = world.hosts
    world.etcd.scribble(ORDERS, Orders(paused="anna"))
    cluster.stop(agent_of(first), NEVER)
    world.run(world.now + 100 * MS)
    backup = world.etcd.snapshot()
    world.run(world.now + 3 * S)
    world.etcd.scribble(ORDERS, Orders())
    run_until(world, lambda: not agent_of(third).node.view.orders.paused, within=1 * S, step=10_000)
    third.link.watch_stalled_until = world.now + 1 * S
    run_until(world, lambda: holders(world) == [second], within=1 * S, step=10_000)
    record = agent_of(third).node.view.record("g0")
    assert record is not None
    assert record.clean
    cut_off(second)
    world.rewind(world.etcd.revision + 500, backup[1], same=True)
    third.link.watch_stalled_until = 0
    world.run(world.now + 1 * S)
    assert holders(world) == [second]
    world.run(world.now + 9 * S)
    world.etcd.scribble(ORDERS, Orders())
    world.run(world.now + 4 * S)
    owned(world, not_by=second)


def lost_deletion(world: World) -> None:
    """The record is deleted while the owner's watch is broken, and etcd, just compacted, does not show it that."""
    owned_by_first(world, 3 * S, 0, 0)
    first = world.hosts[0]
    world.forgetful = True
    agent = agent_of(first)
    run_until(world, lambda: agent.streamed == world.etcd.revision, within=1 * S, step=100_000)
    world.break_watch(agent, resume=True)
    world.checker.meddled("g0")
    world.etcd.write((), (Key(Kind.OWNERS, "g0"),), 0)
    world.run(world.now + 2_900 * MS)
    cut_off(first)
    world.run(world.now + 9 * S)
    owned(world, not_by=first)


STORIES = (
    restored_and_restarted,
    restored_clean_and_restarted,
    restored_ahead,
    wiped_ahead,
    claimed_in_a_lost_history,
    lost_deletion,
)


def _restored_for(world: World, cluster: Cluster, backup: Backup, restarted: Host) -> None:
    """etcd is restored for everybody but its owner, who holds on by the history that was lost; an agent restarts."""
    (owner,) = holders(world)
    cut_off(owner)
    world.rewind(backup[0] + 100_000, backup[1])
    world.crash(agent_of(restarted))
    cluster.boot(restarted, "n2")
    world.run(world.now + 9 * S)
    owned(world, not_by=owner)
