"""What goes wrong, and when: chance with a bias towards coincidence.

Each world draws a handful of kinds of fault and how often they come ("swarm testing": a world in which everything
happens is one in which nothing lasts). Most kinds look at when a holder's right ends, or a challenger's wait, and
strike around that moment.
"""

from __future__ import annotations

from collections.abc import Callable

from haagent.core.records import Garbage, Key, Kind, Revision, Seen
from haagent.core.states import Following
from haagent.core.units import MS, NEVER, Duration, Instant, S
from tests.sim.cluster import SKEW, STRONGEST, Cluster
from tests.sim.host import Agent, Host
from tests.sim.kernel import SLOWEST


class Faults:
    """Strikes a cluster from `start` until `until`."""

    def __init__(self, cluster: Cluster, until: Instant) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.until = until
        rng = self.world.rng
        kinds = [kind for kind, weight in KINDS for _ in range(weight)]
        self._kinds = [rng.choice(kinds) for _ in range(rng.choice((3, 5, 8, 14)))]
        self._mean = rng.choice((150, 300, 600, 1_200)) * MS * max(1, cluster.ttl // (2 * S))
        self._backups: list[tuple[Revision, dict[Key, Seen]]] = [(1, {})]

    def start(self) -> None:
        """From now on."""
        self.world.at(self.world.now, self._strike)

    def _strike(self) -> None:
        world = self.world
        if world.now >= self.until:
            return
        world.rng.choice(self._kinds)(self)
        if world.random() < 0.25:
            world.at(world.now + 1, self._strike_beside)
        world.at(world.now + int(world.rng.expovariate(1 / self._mean)) + 1, self._strike)

    def _strike_beside(self) -> None:
        self.world.rng.choice(self._kinds)(self)

    # --- whom, and when

    def _agent(self) -> Agent | None:
        """Somebody; mostly who holds something."""
        rng = self.world.rng
        holders = self.cluster.holders()
        if holders and rng.random() < 0.6:
            return rng.choice(holders)[2]
        running = [host.agent for host in self.world.hosts if host.agent is not None]
        return rng.choice(running) if running else None

    def _host(self) -> Host:
        agent = self._agent()
        return agent.host if agent is not None else self.world.rng.choice(self.world.hosts)

    def _group(self) -> str:
        return self.world.rng.choice(sorted(self.cluster.groups))

    def _moment(self) -> Instant:
        """A time worth being around: the end of somebody's right, or of somebody's wait."""
        now, rng = self.world.now, self.world.rng
        moments = [until for until, _, _ in self.cluster.holders()]
        for host in self.world.hosts:
            states = host.agent.node.groups.values() if host.agent is not None else ()
            moments += [
                host.real(one.claim_at) for one in states if isinstance(one, Following) and one.claim_at < NEVER
            ]
        moments = [one for one in moments if one > now]
        chosen = rng.choice(moments) if moments else now + self.cluster.ttl
        return max(now + 1, chosen + rng.randint(-20 * MS, 60 * MS))

    def _lasting(self) -> Duration:
        """How long something lasts: a moment, until just around a deadline, some ttls, or long; not beyond the end."""
        rng, now = self.world.rng, self.world.now
        chance = rng.random()
        if chance < 0.2:
            lasts = rng.randrange(1 * MS, 60 * MS)
        elif chance < 0.65:
            lasts = self._moment() - now
        elif chance < 0.9:
            lasts = int(self.cluster.ttl * 3 * rng.random()) + 1
        else:
            lasts = rng.randrange(1 * S, 10 * S)
        return max(1, min(lasts, self.until - now))

    # --- agents

    def pause(self) -> None:
        agent = self._agent()
        if agent is not None:
            agent.pause(self._lasting())

    def stall(self) -> None:
        """The agent stops between deciding and doing."""
        agent = self._agent()
        if agent is not None:
            agent.stall_next = self._lasting()

    def crash(self) -> None:
        agent = self._agent()
        if agent is not None:
            self.world.crash(agent)
            again = self.world.rng.choice((10 * MS, 200 * MS, self._lasting(), self._lasting()))
            self.world.at(self.world.now + again, self.cluster.boot, agent.host, agent.name)

    def stop(self) -> None:
        agent = self._agent()
        if agent is not None:
            self.cluster.stop(agent, self._lasting())

    def twin(self) -> None:
        """Another machine comes up under a node's name, while that one may still run."""
        cluster, world = self.cluster, self.world
        if len(world.hosts) > cluster.size:
            return
        agent = self._agent()
        if agent is None:
            return
        twin = cluster.add_host(f"t{cluster.size + 1}", self.world.rng.randint(-SKEW, SKEW))
        world.remark("twin", f"{agent} on {twin.name}")
        cluster.boot(twin, agent.name)
        if world.random() < 0.5:
            world.crash(agent)
        world.at(world.now + self._lasting() + self.cluster.ttl, cluster.remove_host, twin)

    # --- etcd and the way to it

    def cut(self) -> None:
        """One direction or both, and perhaps the watch."""
        link, now, rng = self._host().link, self.world.now, self.world.rng
        lasts = self._lasting()
        which = rng.choice(("asking", "answers", "both", "all", "all"))
        self.world.remark("cut", f"{which} for {lasts / MS:.1f} ms")
        if which != "answers":
            link.asking_cut_until = now + lasts
        if which != "asking":
            link.answers_cut_until = now + lasts
        if which == "all":
            link.watch_stalled_until = now + lasts

    def strand(self) -> None:
        """A holder is cut off just after a renewal was done; its own watch shows that one late. Nobody is slow."""
        holders = self.cluster.holders()
        if not holders:
            return
        rng, now = self.world.rng, self.world.now
        _, host, agent = rng.choice(holders)
        ttl = agent.node.rules.ttl
        asks_at = max(now, host.real(agent.node.lease.questions.next_at))
        cut = asks_at + rng.randrange(1 * MS, max(2 * MS, ttl // 4))
        shows = cut + int(ttl * rng.random())
        until = min(self.until, cut + 2 * ttl)
        self.world.remark("stranded", f"{agent} from {cut / MS:.1f} ms, watch stalls until {shows / MS:.1f} ms")
        host.link.watch_stalled_until = min(shows, until)
        self.world.at(cut, self._cut_asking, host, until)
        if rng.random() < 0.3:
            host.kernel.slowness = SLOWEST

    def _cut_asking(self, host: Host, until: Instant) -> None:
        host.link.asking_cut_until = until

    def stall_watch(self) -> None:
        host = self._host()
        lasts = self._lasting()
        self.world.remark("watch stalls", f"{host.name} for {lasts / MS:.1f} ms")
        host.link.watch_stalled_until = self.world.now + lasts

    def break_watch(self) -> None:
        agent = self._agent()
        if agent is not None:
            resume = self.world.random() >= self.world.compacts
            self.world.remark("watch breaks", f"{agent}{'' if resume else ', compacted'}")
            self.world.break_watch(agent, resume)

    def lossy(self) -> None:
        link = self._host().link
        link.loss = 0.0 if link.loss else self.world.rng.choice((0.05, 0.3, 0.7))

    def trap(self) -> None:
        """One question of some kind: it, or its answer, arrives around a deadline; or is done after it was given up."""
        host, rng = self._host(), self.world.rng
        if rng.random() < 0.3:
            host = rng.choice(self.world.hosts)
        kind = rng.choice(("renew", "claim", "claim", "release", "member", "intent"))
        how = rng.choice(("ask", "answer", "late"))
        host.link.traps[kind] = (how, self.world.now + self._lasting())

    def outage(self) -> None:
        world = self.world
        lasts = min(self._lasting(), 5 * S)
        world.etcd_frozen = world.random() < 0.6
        world.etcd_down_until = world.now + lasts
        world.remark("etcd frozen" if world.etcd_frozen else "etcd down", f"for {lasts / MS:.1f} ms")
        if not world.etcd_frozen and world.random() < 0.5:
            for host in world.hosts:
                if host.agent is not None:
                    world.break_watch(host.agent, resume=world.random() >= world.compacts)

    def revoke(self) -> None:
        agent = self._agent()
        if agent is not None:
            self.world.revoke_session(agent)

    def rewind(self) -> None:
        """Wiped, or restored from a backup."""
        rng, etcd = self.world.rng, self.world.etcd
        if rng.random() < 0.6:
            self._backups = [*self._backups[-3:], etcd.snapshot()]
            return
        if rng.random() < 0.4:
            watchers = [host for host in self.world.hosts if host.agent is not None]
            for host in watchers:
                if rng.random() < 0.3:
                    host.link.watch_stalled_until = self.world.now + self._lasting()
        # No revision is used twice, as after `etcdctl snapshot restore --bump-revision`: a guard by a revision of the
        # old history could hold by coincidence (docs/SAFETY.md).
        revision, keys = rng.choice((self._backups[0], *self._backups))
        if rng.random() < 0.4 and self._all_renewed_since(revision):
            self.world.rewind(etcd.revision + rng.randrange(1, 1_000), keys, same=True, resume=rng.random() < 0.5)
            return
        revision = rng.randrange(1, 1_000) * 1_000_000 if not keys else revision + 100_000 * rng.randrange(1, 1_000)
        self.world.rewind(revision, keys)

    def _all_renewed_since(self, backup: Revision) -> bool:
        """Whether every agent that has observed anything knows of a renewal of its own that the backup lacks.

        Who knows of none cannot notice a restore under the same cluster id, and ahead (docs/SAFETY.md).
        """
        agents = [host.agent for host in self.world.hosts if host.agent is not None]
        return all(
            one.node.view.observed_since == NEVER or one.node.view.lease_revision(one.name) > backup for one in agents
        )

    # --- operators

    def meddle(self) -> None:
        """An operator deletes a key, or writes rubbish into it."""
        rng, etcd = self.world.rng, self.world.etcd
        keys = [key for key in etcd.keys if key.kind in (Kind.OWNERS, Kind.OWNERS, Kind.LEASES, Kind.MEMBERS)]
        if not keys:
            return
        key = rng.choice(keys)
        if key.kind is Kind.OWNERS:
            self.world.checker.meddled(key.name)
        if rng.random() < 0.5:
            self.world.remark("deleted by hand", "/".join(key))
            etcd.write((), (key,), 0)
        else:
            self.world.remark("rubbish by hand", "/".join(key))
            etcd.scribble(key, Garbage("not JSON"))

    def switchover(self) -> None:
        self.cluster.switch_over(self._group(), f"n{self.world.rng.randint(1, self.cluster.size)}")

    def reload(self) -> None:
        rng, cluster = self.world.rng, self.cluster
        changes = [
            *(cluster.change_ttl, cluster.change_priorities, cluster.change_addresses, cluster.change_groups),
            cluster.change_failsafe,
        ]
        if Faults.rewind in self._kinds:
            del changes[0]  # docs/SAFETY.md: do not change ttl while etcd loses its memory
        change = rng.choice(changes)
        change()
        self.world.remark("reload", f"{change.__name__} ttl {cluster.ttl // MS} ms")
        everybody = rng.random() < 0.5
        for host in self.world.hosts:
            if host.agent is not None and (everybody or rng.random() < 0.5):
                cluster.reload(host.agent)

    # --- networks and kernels

    def estrange(self) -> None:
        """Some peers do not hear some others: one way, or both; or their streams break now and then."""
        world = self.world
        peers, names = world.peers, [host.name for host in world.hosts]
        rng = peers.random
        if rng.random() < 0.2:
            peers.loss = rng.choice((0.0, 0.05, 0.3))
            return
        until = world.now + self._lasting()
        one = rng.choice(names)
        for other in names:
            if rng.random() < 0.7:
                peers.cut_until[one, other] = until
                if rng.random() < 0.5:
                    peers.cut_until[other, one] = until
        world.remark("estranged", f"{one} until {until / MS:.1f} ms")

    def partition(self) -> None:
        """Adverts of some hosts do not reach some others: one way, or both."""
        rng, world = self.world.rng, self.world
        names = [host.name for host in world.hosts] + ["stranger"]
        until = world.now + self._lasting()
        one = rng.choice(names)
        for other in names:
            if rng.random() < 0.7:
                world.net_cut[one, other] = until
                if rng.random() < 0.5:
                    world.net_cut[other, one] = until

    def lose_adverts(self) -> None:
        self.world.net_loss = self.world.rng.choice((0.0, 0.2, 0.8))

    def stranger(self) -> None:
        """A router that is no member, or pretends to be one, speaks up on one of our VRIDs."""
        group, rng = self.cluster.groups[self._group()], self.world.rng
        router = rng.choice(group.routers)
        source = rng.choice((bytes([10, 0, 0, 0]), STRONGEST, rng.choice(self.world.hosts).address))
        until = self.world.now + self._lasting()
        self.cluster.intrude(router, source, rng.choice((0, 1, 100, 200, 255)), until)

    def kernel(self) -> None:
        kernel = self._host().kernel
        kernel.trouble = self.world.rng.choice(("fail", "slow"))
        kernel.trouble_until = self.world.now + min(self._lasting(), 5 * S)

    def flap(self) -> None:
        """An interface is down for a moment; the release that this causes may be told lost, and be done later."""
        host, rng = self._host(), self.world.rng
        now = self.world.now
        if rng.random() < 0.7:
            host.link.traps["release"] = (rng.choice(("late", "late", "ask", "answer")), now + rng.randrange(100 * MS))
        self.cluster.set_up(host, False)
        self.world.at(now + rng.randrange(1 * MS, 60 * MS), self.cluster.set_up, host, True)

    def interface(self) -> None:
        host = self._host()
        self.cluster.set_up(host, False)
        self.world.at(self.world.now + self._lasting(), self.cluster.set_up, host, True)


KINDS: tuple[tuple[Callable[[Faults], None], int], ...] = (
    (Faults.pause, 5),
    (Faults.stall, 2),
    (Faults.crash, 4),
    (Faults.stop, 3),
    (Faults.twin, 1),
    (Faults.cut, 6),
    (Faults.strand, 6),
    (Faults.stall_watch, 6),
    (Faults.break_watch, 3),
    (Faults.lossy, 2),
    (Faults.trap, 8),
    (Faults.outage, 3),
    (Faults.revoke, 5),
    (Faults.rewind, 2),
    (Faults.meddle, 3),
    (Faults.switchover, 5),
    (Faults.reload, 4),
    (Faults.partition, 2),
    (Faults.estrange, 3),
    (Faults.lose_adverts, 1),
    (Faults.stranger, 2),
    (Faults.kernel, 3),
    (Faults.interface, 3),
    (Faults.flap, 3),
)
