"""A cluster drawn by chance: nodes, clocks, groups and their rules; how it boots, changes and heals."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from haagent.core.fencing import LONGEST_PAUSE
from haagent.core.model import (
    AdvertReceived,
    GroupRules,
    RouterRules,
    Rules,
    RulesChanged,
    StopRequested,
    Strangers,
    VirtualAddress,
)
from haagent.core.records import Intent, Key, Kind
from haagent.core.units import MS, NEVER, US, Duration, Instant, S
from tests.sim.gate import KernelGate
from tests.sim.host import INTERFACE, MILLION, Agent, Host
from tests.sim.world import World

NODES = (3, 3, 3, 3, 3, 4, 4, 5, 5, 7)
STRONGEST = bytes([10, 0, 0, 255])
"""The source of a stranger that wins every tie."""
GATED = 0.75
"""How many worlds have a gate."""
FENCING = (0, 0, 0, 0, 200 * MS, 1 * S)
"""How long the fencing plug-in may take, where there is one."""
FAILSAFE = (0, 2, 5, 10, 30)
"""For how many ttls promises carry what is owned."""
FORGETFUL = 0.3
"""In how many worlds etcd loses deletions to a watch that begins where it was just compacted."""
LONG_TTL = 12 * S
"""In some worlds: so long that drift alone exceeds margin and guard."""
TTLS = (300 * MS, 600 * MS, 1 * S, 1 * S, 1 * S, 2 * S, 3 * S, 3 * S)
INTERVALS = (250 * MS, 500 * MS, 1 * S, 1 * S)
SKEW = 4_950
"""Clock rates lie within so many millionths of real time: any two differ by less than 1 %."""


class Cluster:
    """The operators' side of a world: what each node's rules are now, and its life."""

    def __init__(self, world: World, ttl: Duration = 1 * S, strangers: Strangers = Strangers.ALARM) -> None:
        self.world = world
        world.restart = self._restart
        self.ttl = ttl
        self.longest = ttl
        self.strangers = strangers
        self.size = 0
        self.fence: Duration = 0
        self.failsafe: Duration = 0
        self.most_failsafe: Duration = 0
        self.promises = True
        self.groups: dict[str, GroupRules] = {}
        self.priorities: dict[tuple[str, str], int] = {}
        self._boots = 0
        self._vrid = 0

    @classmethod
    def drawn(cls, world: World, gated: bool | None = None, promises: bool | None = None) -> Cluster:
        """Of any size, with any rules; three of four have a gate, and as many failsafe, unless told."""
        rng = world.rng
        by_chance = Random(f"a gate in {world.seed}").random() < GATED  # of its own: see `fence` below
        world.gated = by_chance if gated is None else gated
        ttl = LONG_TTL if rng.random() < 0.07 else rng.choice(TTLS)
        made = cls(world, ttl, Strangers.YIELD if rng.random() < 0.15 else Strangers.ALARM)
        for number in range(rng.choice((1, 1, 2, 2, 3))):
            made._draw_group(f"g{number}")
        edge = rng.random() < 0.5
        made.size = rng.choice(NODES)
        for number in range(made.size):
            # At the edge, a clock is as fast or as slow as any may be.
            made.add_host(f"n{number + 1}", rng.choice((-SKEW, SKEW)) if edge else rng.randint(-SKEW, SKEW))
        _draw_delays(world)
        apart = Random(f"fencing in {world.seed}")  # a draw more would make another world of every seed
        made.fence = apart.choice(FENCING)
        made.promises = promises is not False
        world.forgetful = Random(f"compaction in {world.seed}").random() < FORGETFUL
        chosen = Random(f"failsafe in {world.seed}").choice(FAILSAFE[1:] if promises else FAILSAFE)
        made.failsafe = chosen * ttl * made.promises
        made.most_failsafe = made.failsafe
        return made

    @classmethod
    def plain(cls, world: World, ttl: Duration, *skews: int, gated: bool = False) -> Cluster:
        """One node for each skew (millionths), the first one preferred; one group `g0` of one router; nothing slow."""
        made = cls(world, ttl)
        world.gated = gated
        addresses = (VirtualAddress(bytes([10, 9, 0, 1]), 24, INTERFACE),)
        router = RouterRules("g0r0", 1, 3, 4, INTERFACE, 100, 1 * S, addresses)
        made.groups["g0"] = GroupRules("g0", (router,))
        for number, skew in enumerate(skews):
            name = f"n{number + 1}"
            made.priorities[name, "g0"] = 200 - number
            host = made.add_host(name, skew)
            host.kernel.slowness = 1 * MS
            if host.gate is not None:
                host.gate.stalls = 0.0
            host.link.asking = host.link.answering = host.link.watching = 200 * US
        made.size = len(skews)
        return made

    # --- growing it

    def add_host(self, name: str, skew: int) -> Host:
        """A machine whose clock is off by so many millionths."""
        world, rng = self.world, self.world.rng
        host = Host(world, name, len(world.hosts), rng.randrange(1_000_000 * S), MILLION + skew)
        host.kernel.slowness = int(25 * MS * rng.random() ** 2)
        if world.gated:
            host.gate = KernelGate(host, f"the gate of {name} in {world.seed}")
        link = host.link
        link.asking, link.answering, link.watching = (
            int(rng.choice((100 * US, 300 * US, 1 * MS, 4 * MS))) for _ in "abc"
        )
        world.hosts.append(host)
        return host

    def remove_host(self, host: Host) -> None:
        """The machine is gone, with all that it held."""
        if host in self.world.hosts:
            if host.agent is not None:
                self.world.crash(host.agent)
            host.kernel.clear()
            self.world.checker.gone(host)
            self.world.hosts.remove(host)

    def boot_all(self) -> None:
        """All nodes start within a second, or one much later."""
        for number, host in enumerate(list(self.world.hosts)):
            self.world.at(self.world.rng.randrange(1 * S), self.boot, host, f"n{number + 1}")

    def boot(self, host: Host, node: str) -> None:
        """Start the node's agent on a host, unless one runs there."""
        if host.agent is None and host in self.world.hosts:
            self._boots += 1
            incarnation = f"{node}.{self._boots}"
            self.world.boot(host, self.rules(node, incarnation, host.name))

    def _restart(self, agent: Agent) -> None:
        again = self.world.rng.choice((10 * MS, 100 * MS, 1 * S))
        self.world.at(self.world.now + again, self.boot, agent.host, agent.name)

    def rules(self, node: str, incarnation: str, host: str) -> Rules:
        """What a node's configuration says now."""
        groups = {
            name: replace(
                group,
                routers=tuple(replace(one, priority=self._priority(node, name)) for one in group.routers),
            )
            for name, group in self.groups.items()
        }
        return Rules(
            *(node, incarnation, host, "1", groups),
            ttl=self.ttl,
            fence=self.fence,
            failsafe=self.failsafe,
            endpoint=f"{node}:8501",
            machine=host,
        )

    def _priority(self, node: str, group: str) -> int:
        found = self.priorities.get((node, group))
        if found is None:
            found = self.priorities[node, group] = self.world.rng.choice((50, 100, 100, 100, 150, 200, 254, 255))
        return found

    def _draw_group(self, name: str) -> None:
        rng = self.world.rng
        interval = rng.choice(INTERVALS)
        routers: list[RouterRules] = []
        for number in range(rng.choice((1, 1, 1, 2, 3))):
            self._vrid += 1
            addresses = (VirtualAddress(bytes([10, 9, 0, self._vrid]), 24, INTERFACE),)
            router = f"{name}r{number}"
            routers.append(RouterRules(router, self._vrid, 3, 4, INTERFACE, 100, interval, addresses, self.strangers))
        preempt = rng.random() < 0.35
        self.groups[name] = GroupRules(name, tuple(routers), preempt, rng.choice((0, 0, 500 * MS)))

    # --- operators

    def reload(self, agent: Agent) -> None:
        """SIGHUP: the node takes the configuration as it is now, unless it is on its way out."""
        if agent.alive and not agent.node.stopping:
            rules = agent.node.rules
            self.world.tell(agent, RulesChanged(self.rules(agent.name, rules.incarnation, rules.host)), 0)

    def switch_over(self, group: str, to: str) -> None:
        """Wish for another owner."""
        self.world.remark("switchover", f"{group} to {to}")
        intent = Intent(to, self.world.checker.epoch(group), "operator")
        self.world.etcd.scribble(Key(Kind.INTENTS, group), intent)

    def change_ttl(self) -> None:
        """A new ttl for everybody who reloads."""
        if self.ttl < LONG_TTL:
            self.ttl = self.world.rng.choice(TTLS)
        self.longest = max(self.longest, self.ttl)

    def change_failsafe(self) -> None:
        """Promises carry for longer, or shorter, or not at all, for everybody who reloads."""
        self.failsafe = self.world.rng.choice(FAILSAFE) * self.ttl * self.promises
        self.most_failsafe = max(self.most_failsafe, self.failsafe)

    def change_priorities(self) -> None:
        """New priorities for everybody who reloads."""
        self.priorities.clear()

    def change_addresses(self) -> None:
        """Another address for some group."""
        name = self.world.rng.choice(sorted(self.groups))
        group = self.groups[name]
        self._vrid += 1
        address = VirtualAddress(bytes([10, 9, self._vrid // 250, self._vrid % 250]), 24, INTERFACE)
        first = replace(group.routers[0], addresses=(address,))
        self.groups[name] = replace(group, routers=(first, *group.routers[1:]))

    def change_groups(self) -> None:
        """A group goes, or comes (back)."""
        rng = self.world.rng
        if len(self.groups) > 1 and rng.random() < 0.5:
            del self.groups[rng.choice(sorted(self.groups))]
        else:
            missing = [f"g{number}" for number in range(3) if f"g{number}" not in self.groups]
            if missing:
                self._draw_group(missing[0])

    def stop(self, agent: Agent, again_after: Duration) -> None:
        """SIGTERM, and a new start once it is down."""
        if agent.alive and not agent.node.stopping:
            self.world.tell(agent, StopRequested(), 0)
            self.world.at(self.world.now + again_after, self._boot_when_down, agent)

    def _boot_when_down(self, agent: Agent) -> None:
        if agent.alive:
            self.world.at(self.world.now + 100 * MS, self._boot_when_down, agent)
        else:
            self.boot(agent.host, agent.name)

    # --- strangers

    def intrude(self, router: RouterRules, source: bytes, priority: int, until: Instant) -> None:
        """Somebody advertises the virtual router from now on."""
        addresses = tuple(address.address for address in router.addresses)
        event = AdvertReceived(router.name, source, priority, router.advert_interval, addresses)
        self.world.remark("stranger", f"{router.name} priority {priority} from {'.'.join(map(str, source))}")
        self._advertise(event, until)

    def _advertise(self, event: AdvertReceived, until: Instant) -> None:
        if self.world.now < until:
            self.world.spread(None, event)
            self.world.at(self.world.now + event.interval, self._advertise, event, until)

    def intrude_for_good(self) -> dict[str, bool]:
        """Perhaps a strong stranger stays; says which groups must have an owner then, and which none."""
        expected = dict.fromkeys(self.groups, True)
        rng = self.world.rng
        if rng.random() < 0.25:
            group = self.groups[rng.choice(sorted(self.groups))]
            self.intrude(group.routers[0], STRONGEST, 255, NEVER)
            if self.strangers is Strangers.YIELD:
                expected[group.name] = False
        return expected

    # --- healing

    def heal(self) -> None:
        """All links good, etcd and kernels up, every node running by the same rules. Time alone must do the rest."""
        world = self.world
        world.remark("heal", f"ttl {self.ttl // MS} ms")
        world.etcd_down_until = 0
        world.net_cut.clear()
        world.peers.cut_until.clear()
        world.peers.loss = 0.0
        world.net_loss = 0.0
        for host in world.hosts[self.size :]:
            self.remove_host(host)
        for number, host in enumerate(world.hosts):
            link = host.link
            link.asking_cut_until = link.answers_cut_until = link.watch_stalled_until = 0
            link.loss = 0.0
            link.traps.clear()
            host.kernel.trouble_until = 0
            self.set_up(host, True)
            if host.agent is None:
                world.at(world.now + 100 * MS, self.boot, host, f"n{number + 1}")
            else:
                host.agent.stall_next = 0
                self.reload(host.agent)

    def set_up(self, host: Host, up: bool) -> None:
        """The host's interface goes up or down."""
        kernel = host.kernel
        if kernel.up is not up:
            kernel.up = up
            self.world.remark("interface up" if up else "interface down", host.name)
            for name in list(kernel.entries):
                self.world.checker.kernel_changed(host, name)
            if host.agent is not None:
                host.agent.interface_changed()

    def patience(self) -> Duration:
        """How long after healing every group must have its owner."""
        listening = 4 * max(INTERVALS) + 1 * S if self.strangers is Strangers.YIELD else 0
        fencing = LONGEST_PAUSE + self.size * self.fence if self.fence else 0
        return 3 * self.longest + 2 * S + listening + fencing + self.most_failsafe

    def holders(self) -> list[tuple[Instant, Host, Agent]]:
        """Who has the right to a group now, and until when (real time)."""
        return self.world.checker.holders()


def _draw_delays(world: World) -> None:
    rng = world.rng
    world.lateness = int(rng.choice((100 * US, 1 * MS, 5 * MS)))
    world.net_delay = int(rng.choice((100 * US, 1 * MS, 5 * MS)))
    world.session_ttl = rng.choice((2 * S, 5 * S, 10 * S))
    world.compacts = rng.random()
