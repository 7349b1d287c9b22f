"""Stories of an owner that promises carry: etcd away from all, or from some, or changed behind its back."""

from __future__ import annotations

from haagent.core.heartbeat import Offer
from haagent.core.records import Key, Kind
from haagent.core.states import Owning
from haagent.core.units import MS, NEVER, S
from tests.sim.host import Host
from tests.sim.telling import agent_of, cut_off, holders, owned, owned_by_first, run_until
from tests.sim.world import World


def etcd_is_away(world: World) -> None:
    """For a minute, from everybody: the owner goes on by the same epoch, and when etcd is back as before."""
    owned_by_first(world, 1 * S, 0, 0, 0, gated=True, failsafe=300 * S)
    epoch = world.checker.epoch("g0")
    world.etcd_down_until = world.now + 60 * S
    _held_by(world, world.hosts[0], until=world.etcd_down_until + 5 * S)
    assert world.checker.epoch("g0") == epoch
    assert not agent_of(world.hosts[0]).node.failsafe.since


def etcd_is_away_and_a_candidate_dies(world: World) -> None:
    """The owner lets go when the promises end, and nobody else begins. When etcd is back, somebody owns."""
    owned_by_first(world, 1 * S, 0, 0, 0, gated=True, failsafe=300 * S)
    world.etcd_down_until = world.now + 60 * S
    _held_by(world, world.hosts[0], until=world.now + 5 * S)
    world.crash(agent_of(world.hosts[2]))
    world.run(world.now + 1 * S)
    while world.now < world.etcd_down_until:
        assert not holders(world)
        world.run(world.now + 100 * MS)
    world.run(world.now + 3 * S)
    owned(world)


def only_the_owner_is_cut_off(world: World) -> None:
    """Everybody else has etcd, and sees the owner's lease run out there: they have promised, and wait."""
    owned_by_first(world, 1 * S, 0, 0, 0, gated=True, failsafe=300 * S)
    cut_off(world.hosts[0])
    _held_by(world, world.hosts[0], until=world.now + 15 * S)


def slow_promises(world: World) -> None:
    """Promises take their time to come back; while none is under way, the owner is cut off from its peers, too."""
    owned_by_first(world, 3 * S, 0, 0, failsafe=300 * S)
    first, second = world.hosts
    rounds = agent_of(first).node.failsafe._rounds
    world.peers.delay = 200 * MS
    cut_off(first)
    _held_by(world, first, until=world.now + 9 * S)
    run_until(world, lambda: not rounds, within=3 * S)
    _deaf(world, first, second)
    world.run(world.now + 9 * S)
    owned(world, not_by=first)


def a_newcomer_waits(world: World) -> None:
    """The owner and its one candidate are cut off from etcd. A node that nobody asked for a promise comes up."""
    first = _cut_off_from_a_newcomer(world)
    _held_by(world, first, until=world.now + 18 * S)
    world.run(world.now + 5 * S)
    owned(world, not_by=first)


def two_by_one_name(world: World) -> None:
    """Owner and candidates are cut off from etcd; another machine takes over a candidate's name there."""
    cluster = owned_by_first(world, 1 * S, 0, 0, failsafe=20 * S)
    first, second = world.hosts
    cut_off(first)
    cut_off(second)
    twin = cluster.add_host("t2", 0)
    _deaf(world, twin, first)
    cluster.boot(twin, "n2")
    _held_by(world, first, until=world.now + 15 * S)


def added_unseen(world: World) -> None:
    """The record names a new candidate, but its owner is never shown that, nor can it reach him."""
    cluster = owned_by_first(world, 1 * S, 0, 0, 0, boot=2, failsafe=20 * S)
    first, third = world.hosts[0], world.hosts[2]
    _deaf(world, first, third)
    cluster.boot(third, "n3")
    run_until(world, lambda: bool(_offer(first).names), within=3 * S, step=20_000)
    first.link.watch_stalled_until = first.link.answers_cut_until = NEVER
    world.run(world.now + 1 * MS)
    first.link.asking_cut_until = NEVER
    world.run(world.now + 10 * S)
    owned(world, not_by=first)


def dropped_unseen(world: World) -> None:
    """A candidate has been away for long; that it is dropped never reaches etcd, which it reaches again itself."""
    owned_by_first(world, 1 * S, 0, 0, 0, failsafe=20 * S)
    first, third = world.hosts[0], world.hosts[2]
    _deaf(world, first, third)
    cut_off(third)
    world.revoke_session(agent_of(third))
    run_until(world, lambda: _offer(first).away_since is not None, within=1 * S)
    since = _offer(first).away_since
    assert since is not None
    world.run(first.real(since) + 4 * S - 50 * MS)
    first.link.asking_cut_until = NEVER
    world.run(world.now + 100 * MS)
    assert _offer(first).names
    third.link.asking_cut_until = third.link.answers_cut_until = third.link.watch_stalled_until = 0
    world.break_watch(agent_of(third), resume=False)
    world.run(world.now + 10 * S)
    owned(world, not_by=first)


def wiped_behind_the_owner(world: World) -> None:
    """etcd is wiped while promises carry an owner that can not see that. Who was no candidate of it knows no better."""
    first = _cut_off_from_a_newcomer(world)
    _held_by(world, first, until=world.now + 3 * S)
    world.rewind(1_000_000, {})
    _held_by(world, first, until=world.now + 10 * S)


def deleted_behind_the_owner(world: World) -> None:
    """The record is deleted while promises carry its owner, and a node that promised nothing sees that."""
    first = _cut_off_from_a_newcomer(world)
    world.run(world.now + 3 * S)
    assert holders(world) == [first]
    world.checker.meddled("g0")
    world.etcd.write((), (Key(Kind.OWNERS, "g0"),), 0)
    _held_by(world, first, until=world.now + 10 * S)


def first_owner_dies_alone(world: World) -> None:
    """A cold start: the first node owns, and dies before its record can name those that start a moment later."""
    cluster = owned_by_first(world, 1 * S, 0, 0, 0, boot=1, failsafe=300 * S)
    first, second, third = world.hosts
    world.crash(agent_of(first))
    cluster.boot(second, "n2")
    cluster.boot(third, "n3")
    world.run(world.now + 2 * S)
    owned(world)


def alone_for_long(world: World) -> None:
    """An owner that has been alone for a while needs nobody's promise: it outlives etcd."""
    owned_by_first(world, 1 * S, 0, boot=1, failsafe=300 * S)
    world.run(world.now + 5 * S)
    world.etcd_down_until = world.now + 30 * S
    _held_by(world, world.hosts[0], until=world.etcd_down_until + 2 * S)


STORIES = (
    first_owner_dies_alone,
    alone_for_long,
    etcd_is_away,
    etcd_is_away_and_a_candidate_dies,
    only_the_owner_is_cut_off,
    slow_promises,
    a_newcomer_waits,
    two_by_one_name,
    added_unseen,
    dropped_unseen,
    wiped_behind_the_owner,
    deleted_behind_the_owner,
)


def _cut_off_from_a_newcomer(world: World) -> Host:
    """The owner, and its one candidate, reach each other and no etcd, where a third node comes up."""
    cluster = owned_by_first(world, 1 * S, 0, 0, boot=2, failsafe=20 * S)
    first, second = world.hosts
    cut_off(first)
    cut_off(second)
    cluster.boot(cluster.add_host("n3", 0), "n3")
    return first


def _held_by(world: World, host: Host, until: int) -> None:
    while world.now < until:
        assert holders(world) == [host], f"at {world.now / S:.3f} s: {holders(world)}"
        world.run(world.now + 50 * MS)


def _deaf(world: World, one: Host, other: Host) -> None:
    world.peers.cut_until[one.name, other.name] = world.peers.cut_until[other.name, one.name] = NEVER


def _offer(host: Host) -> Offer:
    state = agent_of(host).node.groups["g0"]
    assert isinstance(state, Owning)
    return state.offer
