"""A host: a clock of its own, a kernel, a link to etcd, and at most one agent at a time; and the agent, as its pump.

The agent feeds one event at a time to the real core and performs the effects in order. While it is paused, events
queue up and timers wait; when it goes on it meets them all with the clock as it is then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    Resync,
    RoleChanged,
    Rules,
    SendAdvert,
    StopRequested,
    TimePassed,
    Watched,
)
from haagent.core.node import Node
from haagent.core.units import MS, NEVER, US, Duration, Instant
from tests.sim.etcd import NO_SESSION, Session
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
        self.history = 0
        self.stream_tail: Instant = 0
        self.said: dict[SendAdvert, AdvertReceived] = {}
        self.said_by: Rules | None = None
        self.fenced: set[str] = set()
        self._inbox: list[Event] = []
        self._unperformed: list[Effect] = []
        self._wake_at: Instant = NEVER

    def __repr__(self) -> str:
        return f"{self.name}@{self.host.name}"

    def start(self) -> None:
        """Begin to run: sweep, list, and learn of the interfaces."""
        world, host = self.world, self.host
        for entry in host.kernel.entries.values():
            if entry.group not in self.node.rules.groups:
                host.kernel.request(self, RemoveAddresses(entry.group, 0))
        effects = self.node.start(host.clock(world.now))
        world.note(self, "start", effects)
        self._perform(effects)
        self._arm()
        world.grant_session(self, 0)
        world.relist(self, 1 * MS)
        self.interface_changed()

    def interface_changed(self) -> None:
        """The kernel tells how its interface is."""
        host = self.host
        up = host.kernel.up
        event = InterfaceChanged(INTERFACE, up, host.address if up else None, None)
        self.world.tell(self, event, 100 * US)

    def deliver(self, event: Event) -> None:
        """An event has reached the host."""
        if self.paused:
            self._inbox.append(event)
        elif self.alive:
            self._step(event)

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
        inbox, self._inbox = self._inbox, []
        unperformed, self._unperformed = self._unperformed, []
        self._perform(unperformed)
        if world.random() < 0.5:
            self._wake_if_due()
        for event in inbox:
            self.deliver(event)
        if self.alive and not self.paused:
            self._wake_if_due()
            self._arm()

    def _step(self, event: Event) -> None:
        host, node, world = self.host, self.node, self.world
        effects = node.feed(event, host.clock(world.now))
        if world.tracing:
            world.note(self, event, effects)
        node.check()
        if self.stall_next and effects:
            lasts, self.stall_next = self.stall_next, 0
            self.pause(lasts)
        if self.paused:
            self._unperformed = list(effects)
        else:
            for effect in effects:
                _PERFORM[type(effect)](self, effect)
        world.checker.stepped(self)
        if self.alive:
            self._arm()
        if event.__class__ is StopRequested:
            world.remark("stop", f"{self}")

    def _perform(self, effects: list[Effect] | tuple[Effect, ...]) -> None:
        for effect in effects:
            if self.alive:
                _PERFORM[type(effect)](self, effect)

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

    def _resync(self, _: Resync) -> None:
        self.world.relist(self, 1 * MS)

    def _kernel(self, effect: InstallAddresses | RemoveAddresses) -> None:
        self.host.kernel.request(self, effect)

    def _extend(self, effect: ExtendAddresses) -> None:
        self.host.kernel.extend(effect.until)

    def _advert(self, effect: SendAdvert) -> None:
        self.world.checker.advertised(self, effect)
        self.world.advertise(self, effect)

    def _resign(self, _: Resign) -> None:
        self.world.resigned(self)

    def _nothing(self, _: Effect) -> None:
        pass


_PERFORM: dict[type[Effect], Callable[[Agent, Any], None]] = {
    Commit: Agent._commit,
    Look: Agent._look,
    Resync: Agent._resync,
    InstallAddresses: Agent._kernel,
    RemoveAddresses: Agent._kernel,
    ExtendAddresses: Agent._extend,
    SendAdvert: Agent._advert,
    Announce: Agent._nothing,
    RoleChanged: Agent._nothing,
    Alarm: Agent._nothing,
    LeaseChanged: Agent._nothing,
    Resign: Agent._resign,
    Fence: fence,
}
