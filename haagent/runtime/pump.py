"""The pump: events in, one at a time; effects out, in their order, the kernel's first; one timer.

Before each event the clock is read, not earlier: what waited in the queue is judged by the time at which it is fed. An
event that a port delivers while another is being handled waits its turn.

With many groups many events come at once, and the lease must be renewed meanwhile. So what the lease rests on (URGENT)
is fed before all else that waits: a port's answer may come later than news which came after it, as it may on any
network. And after a `SHARE`th of the ttl the event loop has its turn, to read sockets, send answers and hear signals.
What closes the gate is done with the event that asks for it; what opens it, at the end of such a turn.

A node that raises, or whose invariants do not hold, is not fed again (`failed` says why): whatever it would do next is
founded on nothing. Who wired the pump then takes the addresses away, and ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeVar, assert_never

from haagent.core.heartbeat import HeartbeatReceived, PromiseReceived
from haagent.core.model import (
    Alarm,
    Announce,
    Asking,
    Commit,
    Committed,
    Effect,
    Event,
    ExtendAddresses,
    Fence,
    GateClosed,
    InstallAddresses,
    LeaseChanged,
    Listed,
    Look,
    Meet,
    Refused,
    RemoveAddresses,
    Resign,
    Resolve,
    Resync,
    RoleChanged,
    Rules,
    RulesChanged,
    SendAdvert,
    SendHeartbeat,
    SendPromise,
    StopRequested,
    TimePassed,
    Unanswered,
    Watched,
)
from haagent.core.units import MS, NOTHING_OPEN, Duration, Instant, S
from haagent.runtime.ports import Deliver, Fencer, Kernel, Peers, Speaker, Store
from haagent.runtime.recorder import Recorder

_LOG: Final = logging.getLogger("haagent")

T = TypeVar("T")

WAITING_MOST: Final = 100_000
"""Events in the queue. Ports deliver a few at a time: more is a loop between a port and the node."""
SHARE: Final = 20
"""In one turn of the event loop, events are handled for a ttl divided by this, and not longer than LONGEST."""
LONGEST: Final[Duration] = 25 * MS
URGENT: Final = (
    TimePassed | Watched | Listed | GateClosed | StopRequested | RulesChanged | HeartbeatReceived | PromiseReceived
)
"""What the lease rests on, with the answers to renewals. These keep their order among themselves."""
KERNELS: Final = InstallAddresses | RemoveAddresses | ExtendAddresses
"""Effects that are performed before the others of the same event, in their order."""


class Mind(Protocol):
    """What the pump feeds: `haagent.core.node.Node`."""

    @property
    def rules(self) -> Rules:
        """What it goes by; another object after a change."""
        ...

    def start(self, now: Instant, open_until: Mapping[str, Instant]) -> Iterable[Effect]:
        """Begin. `open_until`: until when the kernel lets pass what an earlier incarnation held, by group."""
        ...

    def feed(self, event: Event, now: Instant) -> Iterable[Effect]:
        """Take in an event."""
        ...

    def due(self) -> Instant:
        """When it wants TimePassed."""
        ...

    def check(self) -> None:
        """Raise AssertionError if its invariants do not hold."""
        ...


class Timer(Protocol):
    """Calls the pump's `tick` once the instant has come."""

    def arm(self, at: Instant) -> None:
        """In place of what was armed before; an instant that is past fires soon, NEVER does not."""
        ...


class Ports(Protocol):
    """What effects are performed through."""

    @property
    def store(self) -> Store: ...
    @property
    def kernel(self) -> Kernel: ...
    @property
    def speaker(self) -> Speaker: ...
    @property
    def fencer(self) -> Fencer: ...
    @property
    def peers(self) -> Peers: ...

    def configure(self, rules: Rules) -> None:
        """The node goes by these rules from now on: called before the effects of the event that changed them."""
        ...

    def changed(self) -> None:
        """Some group has another role than before."""
        ...


class Observer(Protocol):
    """Hears what the node hears, and sees what it does, in order; it must do neither I/O nor anything slow."""

    def heard(self, event: Event, now: Instant) -> None:
        """An event is about to be fed."""
        ...

    def done(self, effect: Effect, now: Instant) -> None:
        """An effect is about to be performed; `now` is that of the event that led to it."""
        ...


class Pump:
    """Feeds one node. `resigned` is done when the node has given up everything, `failed` when it must not go on.

    `checked`: after how many steps the node's invariants were found to hold.
    """

    def __init__(
        self, node: Mind, ports: Ports, clock: Callable[[], Instant], observers: Sequence[Observer] = ()
    ) -> None:
        loop = asyncio.get_running_loop()
        self.resigned: asyncio.Future[None] = loop.create_future()
        self.failed: asyncio.Future[str] = loop.create_future()
        self.checked = 0
        self._node = node
        self._ports = ports
        self._clock = clock
        self._rules = node.rules
        self._urgent: deque[Event] = deque()
        self._waiting: deque[Event] = deque()
        self._busy = True  # until `start`, events wait
        self._turn_ends: float | None = None
        self._recorder = Recorder()
        self._observers = tuple(observers)
        self._timer: Timer | None = None
        self._open_until = NOTHING_OPEN
        self._loop = loop
        self._diverted: Deliver | None = None

    def start(self, timer: Timer, open_until: Mapping[str, Instant] = NOTHING_OPEN) -> None:
        """Start the node, then feed it what has been delivered so far. Its rules have been configured.

        `open_until`: by group, until when the kernel lets pass what an earlier incarnation held.
        """
        self._timer = timer
        self._open_until = open_until
        self._handle(None)
        self._drain()

    def deliver(self, event: Event) -> None:
        """Feed an event, now or after those that wait. `Deliver`, for the adapters; on the event loop only."""
        if self._diverted is not None:
            self._diverted(event)
            return
        if self.failed.done():
            return
        (self._urgent if _is_urgent(event) else self._waiting).append(event)
        if len(self._waiting) + len(self._urgent) > WAITING_MOST:
            self._fail(f"{WAITING_MOST} events wait, the next is {(self._urgent or self._waiting)[0]}")
        elif not self._busy:
            self._drain()

    def divert(self, heard: Deliver) -> None:
        """Feed the node no more, whatever waits: from now on events go to `heard`."""
        self._forget_events()
        self._diverted = heard

    def tick(self) -> None:
        """The timer fired."""
        self.deliver(TimePassed())

    def _drain(self) -> None:
        """Feed what waits, for as long as one turn of the event loop may take; then open what is to be opened."""
        self._busy = True
        if self._turn_ends is None:
            self._turn_ends = self._loop.time() + min(self._rules.ttl // SHARE, LONGEST) / S
            self._loop.call_soon(self._end_turn)
        over = self._loop.time() >= self._turn_ends  # by events that were delivered earlier in this turn
        while not over and (self._urgent or self._waiting):
            self._handle((self._urgent or self._waiting).popleft())
            over = self._loop.time() >= self._turn_ends
        more = not self.failed.done() and self._safely(self._ports.kernel.flush)
        if more or self._urgent or self._waiting:
            self._loop.call_soon(self._drain)
        else:
            self._busy = False

    def _end_turn(self) -> None:
        self._turn_ends = None

    def _handle(self, event: Event | None) -> None:
        self._safely(lambda: self._step(event))

    def _safely(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - whatever it is, what the node believes is no longer what is so
            self._fail("".join(traceback.format_exception(error)).rstrip())
            return None

    def _step(self, event: Event | None) -> None:
        node, now = self._node, self._clock()
        entry = self._recorder.begin(now, event)
        if event is not None:
            self._tell(lambda observer: observer.heard(event, now))
        effects = tuple(node.start(now, self._open_until) if event is None else node.feed(event, now))
        entry.effects = effects
        node.check()
        self.checked += 1
        if node.rules is not self._rules:
            self._rules = node.rules
            self._ports.configure(node.rules)
        # The kernel's first: when a lease lapses there is one for each group, as there are lines to log and to count.
        first = [effect for effect in effects if isinstance(effect, KERNELS)]
        self._perform_all(first, now)
        self._ports.kernel.flush(opening=False)
        self._perform_all(effects if not first else [one for one in effects if not isinstance(one, KERNELS)], now)
        assert self._timer is not None, "started"
        self._timer.arm(node.due())

    def _perform_all(self, effects: Iterable[Effect], now: Instant) -> None:
        for effect in effects:
            self._tell(lambda observer, effect=effect: observer.done(effect, now))
            self._perform(effect)

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        """An observer that raises is told no more: what it is for is not worth an address."""
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:  # noqa: BLE001 - whatever it is, it says nothing of the node
                _LOG.exception("%s ended; the node goes on", type(observer).__name__)
                self._observers = tuple(one for one in self._observers if one is not observer)

    def _perform(self, effect: Effect) -> None:  # noqa: C901, PLR0912 - one case an effect
        ports = self._ports
        match effect:
            case Commit():
                ports.store.commit(effect)
            case Look():
                ports.store.look(effect)
            case Resync(broken):
                ports.store.resync(broken)
            case InstallAddresses():
                ports.kernel.install(effect)
            case RemoveAddresses():
                ports.kernel.remove(effect)
            case ExtendAddresses():
                ports.kernel.extend(effect)
            case SendAdvert(router=router, priority=priority):
                ports.speaker.advert(router, priority)
            case Resolve(router):
                ports.speaker.resolve(router)
            case Announce(router, refresh):
                ports.speaker.announce(router, refresh=refresh)
            case Fence():
                ports.fencer.fence(effect)
            case Meet():
                ports.peers.meet(effect)
            case SendHeartbeat():
                ports.peers.heartbeat(effect)
            case SendPromise():
                ports.peers.promise(effect)
            case RoleChanged():
                ports.changed()
            case Alarm() | LeaseChanged():
                pass  # for the observers
            case Resign():
                if not self.resigned.done():
                    self.resigned.set_result(None)
            case _:
                assert_never(effect)

    def _fail(self, why: str) -> None:
        """The node's word counts for nothing any more: say all that is known, once."""
        _LOG.critical("the node must not go on: %s", why)
        for line in self._recorder.report():
            _LOG.critical("  %s", line)
        self._forget_events()
        if not self.failed.done():
            self.failed.set_result(why)

    def _forget_events(self) -> None:
        self._urgent.clear()
        self._waiting.clear()


def _is_urgent(event: Event) -> bool:
    if isinstance(event, Committed | Refused | Unanswered):
        return event.ask.kind is Asking.RENEW
    return isinstance(event, URGENT)
