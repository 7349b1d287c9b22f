"""A host: a clock of its own, a kernel, a link to etcd, and at most one agent at a time; and the agent, as its pump.

The agent feeds one event at a time to the real core and performs the effects in order. While it is paused, events
queue up and timers wait; when it goes on it meets them all with the clock as it is then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from haagent.core.heartbeat import HeartbeatReceived, Meet, PromiseReceived, SendHeartbeat, SendPromise
from haagent.core.model import (
    AdvertReceived,
    Alarm,
    Announce,
    Commit,
    Effect,
    Event,
    ExtendAddresses,
    Fence,
    InstallAddresses,
    InterfaceChanged,
    LeaseChanged,
    Look,
    RemoveAddresses,
    Resign,
    Resolve,
    Resync,
    RoleChanged,
    Rules,
    SendAdvert,
    StopRequested,
    TimePassed,
    Watched,
)
from haagent.core.node import Node
from haagent.core.ownership import group_addresses
from haagent.core.units import MS, NEVER, NOTHING_OPEN, US, Duration, Instant
from haagent.runtime.gated import GatedKernel
from tests.sim.etcd import NO_SESSION, Session
from tests.sim.gate import KernelGate, KilledError, gated
from tests.sim.kernel import Kernel
from tests.sim.plug_in import fence

if TYPE_CHECKING:
    from tests.sim.world import World

MILLION = 1_000_000
INTERFACE = "eth0"


class Link:
    """How a host reaches etcd now. The `..._until` are real times; the others hold until changed."""

    def __init__(self) -> None:
        self.asking_cut_until: Instant = 0
        self.answers_cut_until: Instant = 0
        self.watch_stalled_until: Instant = 0
        self.asking: Duration = 300 * US
        self.answering: Duration = 300 * US
        self.watching: Duration = 300 * US
        self.loss = 0.0
        self.traps: dict[str, tuple[str, Instant]] = {}


class Host:
    """A machine. `rate` is its clock's speed in millionths of real time."""

    def __init__(self, world: World, name: str, index: int, offset: Instant, rate: int) -> None:
        self.world = world
        self.name = name
        self.address = bytes([10, 0, index // 250, 1 + index % 250])
        self.offset = offset
        self.rate = rate
        self.kernel = Kernel(self)
        self.gate: KernelGate | None = None
        self.link = Link()
        self.agent: Agent | None = None
        self.last: Rules | None = None

    def clock(self, real: Instant) -> Instant:
        """What the host's clock shows at a real time."""
        return self.offset + real * self.rate // MILLION

    def real(self, local: Instant) -> Instant:
        """The first real time at which the host's clock shows at least that."""
        return -(-(local - self.offset) * MILLION // self.rate)

    def absent(self) -> bool:
        """Whether nothing runs here that could act."""
        return self.agent is None or self.agent.paused


class Agent:
    """One incarnation of the agent on a host."""

    def __init__(self, world: World, host: Host, rules: Rules) -> None:
        self.world = world
        self.host = host
        self.node = Node(rules)
        self.name = rules.node
        self.alive = True
        self.paused = False
        self.pauses: list[tuple[Instant, Instant]] = []
        self.session: Session = NO_SESSION
        self.stall_next: Duration = 0
        self.stream = 0
        self.streaming = False
        self.streamed = 0
        self.life = 0
        self.breaks = 0
        self.listed_in = 0
        self.must_list = True
        self.stream_tail: Instant = 0
        self.said: dict[SendAdvert, AdvertReceived] = {}
        self.said_by: Rules | None = None
        self.fenced: set[str] = set()
        self.gated: GatedKernel | None = gated(self, host.gate) if host.gate is not None else None
        self._rules = rules
        self._begun = False
        self._busy = False
        self._inbox: deque[Event] = deque()
        self._unperformed: list[Effect] = []
        self._wake_at: Instant = NEVER

    def __repr__(self) -> str:
        return f"{self.name}@{self.host.name}"

    def start(self) -> None:
        """Begin to run: sweep what is not in the rules; where there is a gate, before that lets go of it."""
        self._busy = True
        self._sweep()
        if self.gated is not None:
            self._begin_when_swept()
        else:
            self._begin()

    def _sweep(self) -> None:
        kernel, mine = self.host.kernel, self.node.rules.groups
        for entry in kernel.entries.values():
            if entry.group not in mine:
                kernel.request(self, RemoveAddresses(entry.group, 0))

    def _begin_when_swept(self) -> None:
        if not self.alive:
            return
        world, kernel, mine = self.world, self.host.kernel, self.node.rules.groups
        left = [entry for entry in kernel.entries.values() if entry.group not in mine]
        if not self.paused and not any(entry.present or entry.busy for entry in left):
            self._protect()
            self._begin()
            return
        if not self.paused and not any(entry.busy for entry in left):
            self._sweep()  # the kernel refused
        world.at(world.now + 1 * MS, self._begin_when_swept)

    def _begin(self) -> None:
        """List, and learn of the interfaces."""
        world, host = self.world, self.host
        left = self.gated.left_until() if self.gated is not None else NOTHING_OPEN
        effects = self.node.start(host.clock(world.now), left)
        world.note(self, "start", effects)
        self._perform(effects)
        self._busy = False
        self._begun = True
        if not self.alive:
            return
        self._arm()
        world.grant_session(self, 0)
        world.relist(self, 1 * MS)
        self.interface_changed()
        self._drain()

    def interface_changed(self) -> None:
        """The kernel tells how its interface is."""
        host = self.host
        up = host.kernel.up
        event = InterfaceChanged(INTERFACE, up, host.address if up else None, None)
        self.world.tell(self, event, 100 * US)

    def deliver(self, event: Event) -> None:
        """An event has reached the host."""
        if self.alive:
            self._inbox.append(event)
            self._drain()

    def tell_self(self, event: Event) -> None:
        """What the agent's own ports deliver: fed after the present step."""
        self.world.tell(self, event, 0)

    def _drain(self) -> None:
        while self._inbox and self.alive and not self.paused and not self._busy:
            self._step(self._inbox.popleft())

    def deliver_stream(self, stream: int, watched: Watched) -> None:
        """The watch shows a change, unless it broke meanwhile."""
        if stream == self.stream and self.alive:
            self.streamed = watched.revision
            self.deliver(watched)

    def pause(self, lasts: Duration) -> None:
        """Stop running for so long, but not beyond the healing."""
        world = self.world
        lasts = min(lasts, world.heals_at - world.now)
        if self.paused or not self.alive or lasts <= 0:
            return
        self.paused = True
        self.pauses.append((world.now, world.now + lasts))
        world.remark("pause", f"{self} {lasts // MS} ms")
        self.host.kernel.abandoned(self, None)
        world.at(world.now + lasts, self._resume)

    def stall(self, lasts: Duration) -> None:
        """Stop in the midst of what is being done, while the world goes on. KilledError: for ever."""
        world = self.world
        lasts = min(lasts, world.heals_at - world.now)
        if lasts <= 0:
            return
        began = world.now
        self.paused = True
        self.pauses.append((began, began + lasts))
        world.remark("stall", f"{self} {lasts / MS:.3f} ms")
        self.host.kernel.abandoned(self, None)
        world.go_on(world.now + lasts)
        if not self.alive:
            raise KilledError
        self.paused = False
        self.pauses[-1] = (began, world.now)  # longer, if others stopped meanwhile
        self.host.kernel.resumed()
        world.remark("stall over", f"{self}")

    def die(self) -> None:
        """The process is gone, what it had begun in its kernel goes on."""
        self.alive = self.paused = False
        self.stream += 1
        self.streaming = False
        if self.host.agent is self:
            self.host.agent = None

    def absent_at(self, since: Instant, until: Instant) -> bool:
        """Whether the agent slept at some moment between."""
        return any(begin <= until and end >= since for begin, end in self.pauses)

    def _resume(self) -> None:
        if not self.alive:
            return
        world = self.world
        self.paused = False
        world.remark("resume", f"{self}")
        self.host.kernel.resumed()
        if not self._begun:
            return
        unperformed, self._unperformed = self._unperformed, []
        self._busy = True
        self._perform(unperformed)
        self._busy = False
        if world.random() < 0.5 and self.alive:
            self._wake_if_due()
        self._drain()
        if self.alive and not self.paused:
            self._wake_if_due()
            self._arm()

    def _step(self, event: Event) -> None:
        host, node, world = self.host, self.node, self.world
        self._busy = True
        effects = node.feed(event, host.clock(world.now))
        if world.tracing:
            world.note(self, event, effects)
        node.check()
        if self.stall_next and effects:
            lasts, self.stall_next = self.stall_next, 0
            self.pause(lasts)
        if self.paused:
            self._unperformed = list(effects)
        world.checker.stepped(self)
        if not self.paused:
            self._perform(effects)
        self._busy = False
        if self.alive:
            self._arm()
        if event.__class__ is StopRequested:
            world.remark("stop", f"{self}")

    def _perform(self, effects: list[Effect] | tuple[Effect, ...]) -> None:
        if self._rules is not self.node.rules:
            self._rules = self.node.rules
            self._protect()
        try:
            for effect in effects:
                if self.alive:
                    _PERFORM[type(effect)](self, effect)
            if self.gated is not None and self.alive:
                self.gated.flush(opening=not self._inbox)  # what opens waits while there are events, as in the pump
        except KilledError:
            pass  # whatever was still to be done is not

    def _protect(self) -> None:
        if self.gated is not None:
            groups = self.node.rules.groups.values()
            self.gated.protect({group.name: group_addresses(group) for group in groups}, (INTERFACE,))

    def _arm(self) -> None:
        due = self.node.due()
        if due >= NEVER:
            return
        world = self.world
        at = self.host.real(due)
        at = max(at, world.now)
        at += int(world.random() * world.lateness)
        if at < self._wake_at:
            self._wake_at = at
            world.at(at, self._wake, at)

    def _wake(self, at: Instant) -> None:
        if at != self._wake_at:
            return
        self._wake_at = NEVER
        if self.alive and not self.paused:
            self._wake_if_due()
            self._drain()
            self._arm()

    def _wake_if_due(self) -> None:
        if self.node.due() <= self.host.clock(self.world.now):
            self._step(TimePassed())

    # --- effects

    def _commit(self, effect: Commit) -> None:
        self.world.checker.asked(self, effect)
        self.world.ask(self, effect)

    def _look(self, effect: Look) -> None:
        self.world.ask(self, effect)

    def _resync(self, effect: Resync) -> None:
        self.breaks += effect.broken
        self.world.relist(self, 1 * MS)

    def _install(self, effect: InstallAddresses) -> None:
        if self.gated is not None:
            self.gated.install(effect)
        else:
            self.host.kernel.request(self, effect)

    def _remove(self, effect: RemoveAddresses) -> None:
        if self.gated is not None:
            self.gated.remove(effect)
        else:
            self.host.kernel.request(self, effect)

    def _extend(self, effect: ExtendAddresses) -> None:
        if self.gated is not None:
            self.gated.extend(effect)
        else:
            self.host.kernel.extend(effect.until)

    def _advert(self, effect: SendAdvert) -> None:
        self.world.checker.advertised(self, effect)
        self.world.advertise(self, effect)

    def _heartbeat(self, effect: SendHeartbeat) -> None:
        said = HeartbeatReceived(self.name, effect.incarnation, effect.round, effect.ttl, effect.tenures)
        for name in effect.to:
            self.world.peers.say(self, name, said)

    def _promise(self, effect: SendPromise) -> None:
        said = PromiseReceived(self.name, effect.machine, effect.incarnation, effect.round, effect.tenures)
        self.world.peers.say(self, effect.to, said)

    def _resign(self, _: Resign) -> None:
        self.world.resigned(self)

    def _nothing(self, _: Effect) -> None:
        pass


_PERFORM: dict[type[Effect], Callable[[Agent, Any], None]] = {
    Commit: Agent._commit,
    Look: Agent._look,
    Resync: Agent._resync,
    InstallAddresses: Agent._install,
    RemoveAddresses: Agent._remove,
    ExtendAddresses: Agent._extend,
    SendAdvert: Agent._advert,
    Announce: Agent._nothing,
    Resolve: Agent._nothing,
    RoleChanged: Agent._nothing,
    Alarm: Agent._nothing,
    LeaseChanged: Agent._nothing,
    Meet: Agent._nothing,
    SendHeartbeat: Agent._heartbeat,
    SendPromise: Agent._promise,
    Resign: Agent._resign,
    Fence: fence,
}
