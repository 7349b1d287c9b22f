"""The gate of a simulated host, as its port promises it, under the product's own `GatedKernel`.

What is in the kernel (`KernelGate`) outlives the agent: a group that is guarded is closed unless it has a pass, and a
pass ends by the host's clock, whoever is alive. What the agent has of it (`GatePort`) is synchronous. It may stop
between any two of its steps, for moments or beyond a deadline, while the world goes on; and be killed there.

Two makes. Relative: a timeout is computed, put, and looked at again before anything passes by it (as nftables does it);
it ends as late as that allows. Absolute: the deadline itself is written (as eBPF does it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from haagent.core.model import ExtendAddresses, InstallAddresses, RemoveAddresses, VirtualAddress
from haagent.core.units import MS, NEVER, Duration, Instant
from haagent.runtime.gated import GatedKernel
from haagent.runtime.ports import GateClosedError

if TYPE_CHECKING:
    from tests.sim.host import Agent, Host

SLACK: Duration = 10 * MS
"""How much earlier than asked the relative gate means to close: for a stall that goes unseen, and for TICK."""
TICK: Duration = 2 * MS
"""How late the kernel lets a timeout end, at the most: here always."""


class KilledError(Exception):
    """The process was killed inside of a call: nothing that comes after is done."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What lets a group pass between two real times, put there by an incarnation."""

    begins: Instant
    ends: Instant
    by: str


class KernelGate:
    """One host's kernel rules. `late`: how late it opens, at most.

    `stalls`: how likely an agent stops at a step. `script`: for how long it stops at the next ones, instead.
    """

    def __init__(self, host: Host, seed: str) -> None:
        self.random = Random(seed)
        self.absolute = self.random.random() < 0.4
        self.stalls = self.random.choice((0.0, 0.0, 0.01, 0.04))
        self.late: Duration = self.random.choice((0, 0, 3 * MS))
        self.guarded: set[str] = set()
        self.passes: dict[str, Pass] = {}
        self.starved = False
        self.script: list[Duration] = []
        self._host = host
        self._looks: dict[str, Instant] = {}

    def lets_pass(self, group: str) -> bool:
        """Whether the group's packets pass now."""
        if group not in self.guarded:
            return True
        found = self.passes.get(group)
        return found is not None and found.begins <= self._host.world.now < found.ends

    def guard(self, groups: set[str]) -> None:
        """Guard these groups and no others; those that stay keep what they have."""
        changed, self.guarded = self.guarded ^ groups, groups
        for group in changed:
            self.passes.pop(group, None)
            self._tell(group)

    def put(self, groups: Iterable[str], new: Pass) -> None:
        """Let these groups pass by it, and by no other."""
        for group in groups:
            self.passes[group] = new
            self._tell(group)
            if new.begins > self._host.world.now:
                self._host.world.at(new.begins, self._tell, group)
            self._look_at_end(group)

    def shut(self, groups: Iterable[str]) -> None:
        """Let nothing of these groups pass."""
        for group in list(groups):
            if self.passes.pop(group, None) is not None:
                self._tell(group)

    def _tell(self, group: str) -> None:
        self._host.world.checker.kernel_changed(self._host, group)

    def _look_at_end(self, group: str) -> None:
        ends = self.passes[group].ends
        if self._host.world.now < ends < self._looks.get(group, NEVER):
            self._looks[group] = ends
            self._host.world.at(ends, self._look, group, ends)

    def _look(self, group: str, at: Instant) -> None:
        if self._looks.get(group) != at:
            return
        del self._looks[group]
        self._tell(group)
        if group in self.passes:
            self._look_at_end(group)


class GatePort:
    """The `Gate` port of one incarnation."""

    def __init__(self, agent: Agent, kernel: KernelGate) -> None:
        self._agent = agent
        self._kernel = kernel
        self._me = agent.node.rules.incarnation
        self._mine: set[str] = set()

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str]) -> None:
        """Guard the groups that have one of these addresses."""
        held = self._having(addresses)
        self._mine &= held
        self._kernel.guard(held)

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        """Let the groups pass until then, and with them all else that is open."""
        self._turn(self._mine | groups.keys(), until)
        self._mine |= groups.keys()

    def renew(self, until: Instant) -> None:
        """Let all that is open pass until then."""
        if self._mine:
            self._turn(self._mine, until)

    def close(self, groups: Iterable[str]) -> None:
        """Let nothing of the groups pass."""
        self._step()
        self._mine.difference_update(groups)
        self._kernel.shut(groups)

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        """Close what another incarnation left open of these."""
        self._step()
        those = self._having(addresses)
        self._kernel.shut([name for name, held in self._kernel.passes.items() if held.by != self._me and name in those])

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        """Until when the passes last that another incarnation left."""
        passes = {name: self._kernel.passes.get(name) for name in groups}
        return {
            name: self._agent.host.clock(one.ends)
            for name, one in passes.items()
            if one is not None and one.by != self._me
        }

    def remove(self) -> None:
        """No story needs it."""
        raise NotImplementedError

    def leave(self) -> None:
        """What is open ends at its time."""

    def _having(self, addresses: Iterable[VirtualAddress]) -> set[str]:
        """The groups that have one of these addresses."""
        wanted = {one.address for one in addresses}
        groups = self._agent.node.rules.groups.values()
        return {
            group.name for group in groups if any(a.address in wanted for one in group.routers for a in one.addresses)
        }

    def _turn(self, groups: set[str], until: Instant) -> None:
        agent, host, kernel = self._agent, self._agent.host, self._kernel
        self._step()
        ends = host.real(until) if kernel.absolute else self._stage(until)
        self._step(until)
        if self._is_closed():
            kernel.shut(self._mine)
            raise GateClosedError("it had closed before it was renewed")
        begins = agent.world.now + int(kernel.late * kernel.random.random())
        fresh = {group for group in groups if group not in self._mine}
        kernel.put(fresh, Pass(begins, ends, self._me))
        kernel.put(groups - fresh, Pass(agent.world.now, ends, self._me))
        if agent.host.clock(agent.world.now) >= until:
            agent.world.remark("gate turned too late", f"{agent}")
        self._step()

    def _stage(self, until: Instant) -> Instant:
        """The real time at which a pass ends that was put now: fixed, whenever it is used."""
        agent, host = self._agent, self._agent.host
        for _ in range(20):
            asked_at = host.clock(agent.world.now)
            timeout = until - SLACK - asked_at
            if timeout < MS:
                break
            self._step(until)
            ends = host.real(host.clock(agent.world.now) + timeout + TICK)
            if self._in_time(asked_at):
                return ends
        raise GateClosedError("too late: there is no time left to open for")

    def _in_time(self, asked_at: Instant) -> bool:
        """Whether so little passed since the timeout was computed that its end is not too late."""
        return self._agent.host.clock(self._agent.world.now) - asked_at <= SLACK - TICK

    def _is_closed(self) -> bool:
        """Whether anything that this incarnation has open has ended."""
        now = self._agent.world.now
        return any(group not in self._kernel.passes or now >= self._kernel.passes[group].ends for group in self._mine)

    def _step(self, until: Instant = 0) -> None:
        """Between two instructions the process may stop: a little, until around a deadline, or for long."""
        kernel, agent = self._kernel, self._agent
        if kernel.script:
            agent.stall(kernel.script.pop(0))
            return
        likely = 0.5 if kernel.starved else kernel.stalls  # what stops once is likely to stop again
        kernel.starved = kernel.stalls > 0.0 and kernel.random.random() < likely
        if not kernel.starved:
            return
        host, now, ttl = agent.host, agent.world.now, agent.node.rules.ttl
        chance, part = kernel.random.random(), kernel.random.random()
        deadlines = [held.ends for held in kernel.passes.values() if held.ends > now]
        deadlines += [host.real(until)] if host.real(until) > now else []
        if chance < 0.4:
            lasts = int(2 * SLACK * part)
        elif chance < 0.8 and deadlines:
            lasts = kernel.random.choice(deadlines) - now + int((part - 0.3) * 80 * MS)
        else:
            lasts = int(2 * ttl * part)
        agent.stall(lasts)


class Deadman:
    """The timer that kills the process, of one incarnation."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._at: Instant = NEVER
        self._looks: Instant = NEVER

    def arm(self, until: Instant) -> None:
        """Kill at this instant of the host's clock, instead of the one before."""
        self._at = self._agent.host.real(until) if until < NEVER else NEVER
        self._look_then()

    def _look_then(self) -> None:
        if self._at < self._looks:
            world = self._agent.world
            self._looks = max(self._at, world.now)
            world.at(self._looks, self._look, self._looks)

    def _look(self, at: Instant) -> None:
        if self._looks != at:
            return
        self._looks = NEVER
        agent = self._agent
        if not agent.alive:
            return
        if self._at <= agent.world.now:
            agent.world.remark("dead-man", f"{agent}")
            agent.world.kill(agent)
        else:
            self._look_then()


class Addresses:
    """The `Kernel` port of one incarnation."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def install(self, effect: InstallAddresses) -> None:
        """Queued."""
        self._agent.host.kernel.request(self._agent, effect)

    def remove(self, effect: RemoveAddresses) -> None:
        """Queued."""
        self._agent.host.kernel.request(self._agent, effect)

    def extend(self, effect: ExtendAddresses) -> None:
        """At once."""
        self._agent.host.kernel.extend(effect.until)

    def flush(self, *, opening: bool = True) -> bool:
        """Nothing is gathered."""
        return False


def gated(agent: Agent, kernel: KernelGate) -> GatedKernel:
    """What an agent has in front of a gated kernel, as the product wires it."""
    grace = agent.node.rules.ttl // 4
    return GatedKernel(Addresses(agent), GatePort(agent, kernel), Deadman(agent), agent.tell_self, grace)
