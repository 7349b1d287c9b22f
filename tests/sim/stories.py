"""Worlds that are told, not drawn: coincidences that a rule is for, and that chance brings about too rarely.

Each story plays on a plain cluster in which n1 owns `g0`, and ends well; the checker judges it at every event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from haagent.core.lease import Held
from haagent.core.planned import Damping
from haagent.core.records import ORDERS, Key, Kind, LeaseValue, Orders
from haagent.core.units import MS, NEVER, S
from tests.sim import failsafe_stories, history_stories
from tests.sim.cluster import SKEW, Cluster
from tests.sim.host import Host
from tests.sim.kernel import SLOWEST
from tests.sim.telling import agent_of, claim_at, cut_off, holders, owned, owned_by_first, run_until
from tests.sim.world import World

Story = Callable[[World], None]


def drift(world: World) -> None:
    """The owner's clock is slow, the challengers' are fast, the ttl is long: only the 1 % keeps them apart."""
    cluster = owned_by_first(world, 12 * S, -SKEW, SKEW, SKEW)
    world.run(world.now + cluster.ttl // 2)  # the newest evidence is a renewal, not the record
    cut_off(world.hosts[0])
    world.run(world.now + 3 * cluster.ttl)
    owned(world, not_by=world.hosts[0])


def longer_ttl(world: World) -> None:
    """The owner's ttl was made longer; then etcd drops its lease key, and a node comes that has the shorter one yet."""
    cluster = owned_by_first(world, 300 * MS, 0, 0)
    owner, newcomer = world.hosts
    cluster.ttl = 3 * S
    cluster.reload(agent_of(owner))
    world.run(world.now + 500 * MS)
    lease = agent_of(owner).node.lease
    assert isinstance(lease, Held)
    assert lease.held_until > owner.clock(world.now) + 2 * S
    cut_off(owner)
    world.revoke_session(agent_of(owner))
    world.crash(agent_of(newcomer))
    cluster.ttl = 300 * MS
    cluster.boot(newcomer, "n2")
    world.run(world.now + 10 * S)
    owned(world, not_by=owner)


def restless_watch(world: World) -> None:
    """The owner dies while everybody's watch breaks again and again, and all is listed anew each time."""
    cluster = owned_by_first(world, 1 * S, 0, 0, 0)
    world.crash(agent_of(world.hosts[0]))
    ends = world.now + 4 * cluster.ttl
    while world.now < ends:
        for host in world.hosts[1:]:
            world.relist(agent_of(host), 1 * MS)
        world.run(world.now + 300 * MS)
    owned(world, not_by=world.hosts[0])


def key_gone_twice(world: World) -> None:
    """A challenger sees the owner's lease key vanish, misses its return, and asks when it has just vanished again."""
    owned_by_first(world, 1 * S, 0, 0)
    owner, challenger = world.hosts
    world.revoke_session(agent_of(owner))
    world.run(world.now + 5 * MS)
    challenger.link.watch_stalled_until = world.now + 2 * S
    run_until(world, lambda: claim_at(challenger) <= world.now + 2 * MS, within=3 * S)
    assert world.etcd.keys.get(Key(Kind.LEASES, "n1")) is not None
    owner.link.watch_stalled_until = world.now + 500 * MS
    world.revoke_session(agent_of(owner))
    world.run(world.now + 5 * S)
    owned(world)


def wish_of_the_dead(world: World) -> None:
    """A switchover to a node that dies at once: the owner hands over at most once, and somebody owns soon."""
    cluster = owned_by_first(world, 1 * S, 0, 0, 0)
    epoch = world.checker.epoch("g0")
    cluster.switch_over("g0", "n2")
    world.crash(agent_of(world.hosts[1]))
    world.run(world.now + 4 * cluster.ttl)
    owned(world)
    assert world.checker.epoch("g0") <= epoch + 2


def unconfigured_meanwhile(world: World) -> None:
    """The owner is killed, its group taken from its configuration, another owns it; then the dead one comes back."""
    cluster = owned_by_first(world, 300 * MS, 0, 0, gated=True)
    first = world.hosts[0]
    world.crash(agent_of(first))
    world.run(world.now + 600 * MS)
    owned(world, not_by=first)
    assert first.kernel.entry("g0").present, "the address is still there, behind the gate"
    first.kernel.slowness = SLOWEST
    cluster.groups.clear()
    cluster.boot(first, "n1")
    world.run(world.now + 1 * S)
    owned(world, not_by=first)
    assert not first.kernel.entry("g0").present


def stalled_in_a_call(world: World) -> None:
    """Renewing its gate, the owner stops between the clock and the kernel, and soon after for good."""
    owned_by_first(world, 1 * S, 0, 0, gated=True)
    first = world.hosts[0]
    assert first.gate is not None
    first.gate.absolute = False
    world.restart = lambda agent: None
    first.gate.script = [0, 200 * MS, 0, 5 * S]
    world.run(world.now + 6 * S)
    assert world.totals["dead-man"] == 1
    owned(world, not_by=first)


def refused_by_the_gate(world: World) -> None:
    """The owner stops until its gate has closed, but not for as long as its lease, which was renewed just before."""
    owned_by_first(world, 1 * S, 0, 0, gated=True)
    gate = world.hosts[0].gate
    assert gate is not None
    gate.script = [800 * MS]
    world.run(world.now + 4 * S)
    world.checker.settled({"g0": True})
    assert world.totals["dead-man"] == 0


def shorter_ttl_unseen(world: World) -> None:
    """The ttl was made shorter; that stands in etcd, but its owner is shown nothing, and asks in vain from then on."""
    first, cluster = _shorter_in_etcd(world, gated=False)
    first.link.asking_cut_until = NEVER
    cluster.switch_over("g0", "nobody")  # has the challenger look at the new ttl
    world.run(world.now + 2 * S)
    owned(world, not_by=first)


def longer_ttl_unwritten(world: World) -> None:
    """The owner is cut off, and then its ttl is made longer: nobody else knows of that."""
    cluster = owned_by_first(world, 300 * MS, 0, 0)
    first = world.hosts[0]
    cut_off(first)
    cluster.ttl = 3 * S
    cluster.reload(agent_of(first))
    world.run(world.now + 2 * S)
    owned(world, not_by=first)


def behind_the_stream(world: World) -> None:
    """A challenger's watch stalls after it has shown its own renewal, and before it shows the owner's next one."""
    cluster = owned_by_first(world, 1 * S, 0, 0)
    first, second = world.hosts
    world.crash(agent_of(second))
    world.run(world.now + 1_375 * MS)
    cluster.boot(second, "n2")
    world.run(world.now + 2 * S)
    first.link.watching = 40 * MS
    node = agent_of(second).node
    asked = node.lease.questions.round
    run_until(world, lambda: node.lease.questions.round > asked, within=1 * S)
    world.run(world.now + 3 * MS)
    second.link.watch_stalled_until = world.now + 3 * S
    for _ in range(60):
        world.run(world.now + 50 * MS)
        assert holders(world) == [first]


def name_taken(world: World) -> None:
    """Another host writes the owner's lease key, so that it asks for nothing; and then nothing is heard of at all."""
    owned_by_first(world, 300 * MS, 0, 0)
    first = world.hosts[0]
    world.etcd.scribble(Key(Kind.LEASES, "n1"), LeaseValue("x1", "elsewhere", 60 * S, 1))
    world.run(world.now + 5 * MS)
    cut_off(first)
    world.run(world.now + 2 * S)
    owned(world, not_by=first)


def shorter_ttl(world: World) -> None:
    """The ttl was made shorter; the owner stops when that stands in etcd, and before it was shown to it."""
    first, cluster = _shorter_in_etcd(world, gated=True)
    world.restart = lambda agent: None
    agent_of(first).pause(5 * S)
    cluster.switch_over("g0", "nobody")  # has the challenger look at the new ttl
    world.run(world.now + 4 * S)
    owned(world, not_by=first)


def paused_owner_dies(world: World) -> None:
    """Nobody takes over in a pause, however long; when it is over, somebody does at once."""
    cluster = owned_by_first(world, 1 * S, 0, 0, 0)
    world.etcd.scribble(ORDERS, Orders(paused="anna"))
    world.run(world.now + 100 * MS)
    world.crash(agent_of(world.hosts[0]))
    world.run(world.now + 5 * cluster.ttl)
    assert not world.checker.holders()
    world.etcd.scribble(ORDERS, Orders())
    world.run(world.now + 300 * MS)
    owned(world, not_by=world.hosts[0])


def upgraded_in_a_pause(world: World) -> None:
    """The owner's agent is killed and started anew in a pause: the group stays where it is."""
    cluster = owned_by_first(world, 1 * S, 0, 0, 0, gated=True)
    world.etcd.scribble(ORDERS, Orders(paused="anna"))
    world.run(world.now + 100 * MS)
    first = world.hosts[0]
    world.crash(agent_of(first))
    cluster.boot(first, "n1")
    world.run(world.now + 1 * S)
    assert [host for _, host, _ in world.checker.holders()] == [first]


def drained_and_restarted(world: World) -> None:
    """A drained owner hands over, stays drained when it is started anew, and takes nothing even if the others die."""
    cluster = owned_by_first(world, 1 * S, 0, 0)
    first, second = world.hosts
    world.etcd.scribble(ORDERS, Orders(drained=("n1",)))
    world.run(world.now + 200 * MS)
    owned(world, not_by=first)
    world.crash(agent_of(first))
    cluster.boot(first, "n1")
    world.run(world.now + 3 * S)
    world.crash(agent_of(second))
    world.run(world.now + 5 * S)
    assert not world.checker.holders(), "drained is drained"
    world.etcd.scribble(ORDERS, Orders())
    world.run(world.now + 300 * MS)
    owned(world, not_by=second)


def drained_alone(world: World) -> None:
    """Nobody else is able: a drained owner keeps the group, through a lapse too, until somebody is."""
    cluster = owned_by_first(world, 1 * S, 0, 0)
    first, second = world.hosts
    world.crash(agent_of(second))
    world.run(world.now + 2 * S)
    world.etcd.scribble(ORDERS, Orders(drained=("n1",)))
    world.run(world.now + 2 * S)
    owned(world, not_by=second)
    first.link.asking_cut_until = world.now + 3 * S
    world.run(world.now + 2 * S)
    assert not world.checker.holders()
    world.run(world.now + 4 * S)
    owned(world, not_by=second)
    cluster.boot(second, "n2")
    world.run(world.now + 3 * S)
    owned(world, not_by=first)


def adopter_is_overtaken(world: World) -> None:
    """The owner's agent is killed and started again at once; its claim is under way until another node has claimed."""
    cluster = owned_by_first(world, 1 * S, 0, 0, gated=True)
    first = world.hosts[0]
    world.restart = lambda agent: None
    world.crash(agent_of(first))
    cluster.boot(first, "n1")
    first.link.traps["claim"] = ("ask", world.now + 2 * S)
    world.run(world.now + 4 * S)
    owned(world, not_by=first)


def overtaken_wish(world: World) -> None:
    """A better node returns; while its wish is under way, the owner writes its record again, to name it."""
    cluster = owned_by_first(world, 1 * S, 0, 0, failsafe=60 * S)
    first, second = world.hosts
    cluster.groups["g0"] = replace(cluster.groups["g0"], preempt=True)
    cluster.reload(agent_of(second))
    cluster.stop(agent_of(first), 6 * S)
    world.run(world.now + 1 * S)
    run_until(world, lambda: first.agent is not None, within=9 * S)
    first.link.traps["intent"] = ("ask", world.now + 100 * MS)
    world.run(world.now + 1 * S)
    owned(world, not_by=second)


def killed_and_restarted(world: World) -> None:
    """The owner's agent is killed and started again while the gate is open: it goes on, without a gap."""
    cluster = owned_by_first(world, 1 * S, 0, 0, gated=True)
    first = world.hosts[0]
    world.restart = lambda agent: None
    world.crash(agent_of(first))
    cluster.boot(first, "n1")
    for _ in range(20):
        world.run(world.now + 50 * MS)
        assert first.kernel.answers("g0")
    owned(world, not_by=world.hosts[1])


def everybody_flaps(world: World) -> None:
    """All are damped, again and again: each time somebody owns within a ttl and a turn."""
    cluster = owned_by_first(world, 1 * S, 0, 0, 0)
    cluster.groups["g0"] = replace(cluster.groups["g0"], damping=Damping(1, 60 * S))
    for host in world.hosts:
        cluster.reload(agent_of(host))
    for _ in range(6):
        world.run(world.now + 500 * MS)
        (host,) = [one for _, one, _ in world.checker.holders()]
        cluster.set_up(host, False)
        world.at(world.now + 100 * MS, cluster.set_up, host, True)
        world.run(world.now + cluster.ttl + 100 * MS)
        owned(world)


STORIES: dict[str, Story] = {
    story.__name__: story
    for story in (
        *failsafe_stories.STORIES,
        *history_stories.STORIES,
        drift,
        longer_ttl,
        longer_ttl_unwritten,
        name_taken,
        behind_the_stream,
        shorter_ttl_unseen,
        restless_watch,
        key_gone_twice,
        wish_of_the_dead,
        unconfigured_meanwhile,
        stalled_in_a_call,
        refused_by_the_gate,
        shorter_ttl,
        paused_owner_dies,
        upgraded_in_a_pause,
        drained_and_restarted,
        drained_alone,
        everybody_flaps,
        killed_and_restarted,
        adopter_is_overtaken,
        overtaken_wish,
    )
}


def _shorter_in_etcd(world: World, gated: bool) -> tuple[Host, Cluster]:
    """All made their ttl shorter, and the owner's watch does not show it that this stands in etcd."""
    cluster = owned_by_first(world, 3 * S, 0, 0, gated=gated)
    world.run(world.now + 4 * S)  # the newest evidence is a renewal, not the record
    first = world.hosts[0]
    first.link.watch_stalled_until = NEVER
    cluster.ttl = 300 * MS
    for host in world.hosts:
        cluster.reload(agent_of(host))
    world.run(world.now + 5 * MS)
    return first, cluster
