"""A small world at one moment: clocks, kernels, etcd, what is under way, and the real nodes.

Everything takes no time until something is held back: what arrives at an instant is taken in at that instant, in one
order (`thing` says what is next). Time goes from one instant at which a node, a deadline or a gate has something due
to the next. Every other order, every delay and every fault is a deviation from that (`tests.explore.moves`).

One group, `g0`. The gate closes at its deadline by the host's clock, whatever the agent does, and outlives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from haagent.core.heartbeat import HeartbeatReceived, PromiseReceived, SendHeartbeat, SendPromise
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    Ask,
    Commit,
    Effect,
    Event,
    ExtendAddresses,
    GateClosed,
    InstallAddresses,
    KernelFailed,
    Look,
    RemoveAddresses,
    Resign,
    Resync,
    Rules,
)
from haagent.core.node import Node
from haagent.core.states import Owning
from haagent.core.units import MS, NEVER, Duration, Instant
from tests.explore.fingerprint import copied, keep, number_of
from tests.explore.store import Store

MILLION = 1_000_000
GROUP = "g0"
ASKS, ANSWERS, STREAM, PEERS, KERNEL = 1, 2, 4, 8, 16
"""What may be held back on its way from or to a host; peers' messages on their way to it."""
CUT_OFF = ASKS | ANSWERS | STREAM
JUST_BEFORE: Duration = 1 * MS
"""So long before a gate closes time stops once more, for what comes at the last moment."""


class Violation(Exception):  # noqa: N818 - it is what an explorer looks for
    """Two answer, or what leads there."""


class IdleError(Exception):
    """A node would stop between deciding and doing, and has decided nothing: that is to stop before what comes next."""


@dataclass(frozen=True, slots=True)
class Question:
    """On its way to etcd: whose, of which start of it, and what."""

    host: int
    boot: int
    history: int
    effect: Commit | Look
    mark: int


class Host:
    """A machine: its clock, its kernel, and the node that runs there, if one does.

    `gate`: until when the kernel lets pass, by its clock; `opened`: by the node that runs. `shown`: how much of etcd's
    log its stream has shown, None while it lists. `waits`: for which answers, until when (real time). `undone`: what a
    node that stopped in the middle still means to do.
    """

    __slots__ = (
        "answers", "boot", "gate", "history", "name", "node", "node_mark", "opened", "paused", "pending", "present",
        "rate", "right", "shown", "stalled", "undone", "waits",
    )  # fmt: skip

    name: str
    rate: int
    node: Node | None

    def __init__(self, name: str, rate: int) -> None:
        self.name, self.rate = name, rate
        self.node = None
        self.node_mark = 0
        self.boot = 0
        self.history = 0
        self.shown: int | None = None
        self.paused = False
        self.stalled = 0
        self.right: Instant = 0
        self.waits: tuple[tuple[Ask, Instant], ...] = ()
        self.answers: tuple[Event, ...] = ()
        self.pending: tuple[InstallAddresses | RemoveAddresses, ...] = ()
        self.present = False
        self.gate: Instant = 0
        self.opened = False
        self.undone: tuple[Effect, ...] = ()

    def copied(self) -> Host:
        """One that goes its own way from here."""
        made = Host.__new__(Host)
        for name in Host.__slots__:
            setattr(made, name, getattr(self, name))
        if self.node is not None:
            made.node = copied(self.node)
        return made

    def clock(self, real: Instant) -> Instant:
        """What its clock shows at a real time."""
        return real * self.rate // MILLION

    def real(self, local: Instant) -> Instant:
        """The first real time at which its clock shows at least that."""
        return -(-local * MILLION // self.rate)

    def runs(self) -> bool:
        """Whether it takes in anything."""
        return self.node is not None and not self.paused

    def due(self) -> Instant:
        """When its node wants to be woken, in real time."""
        assert self.node is not None
        due = self.node.due()
        return self.real(due) if due < NEVER else NEVER

    def answering(self, now: Instant) -> bool:
        """Whether its kernel answers for the group."""
        return self.present and self.gate > self.clock(now)

    def mark(self) -> Any:
        """Equal for hosts that will do the same."""
        if self.node is not None and not self.node_mark:
            self.node_mark = number_of(self.node)
        return (
            *(self.boot, self.node_mark, self.history, self.shown, self.paused, self.stalled, self.waits),
            *(number_of(self.answers), number_of(self.pending), self.present, self.gate, self.opened),
            number_of(self.undone),
        )


class State:
    """The world. `path`: how it came to this, newest first. Hosts and etcd are copied when they are first changed."""

    __slots__ = ("_owned", "hosts", "now", "path", "questions", "said", "spare", "steps", "store", "used")

    def __init__(self, rates: tuple[int, ...]) -> None:
        self.now: Instant = 0
        self.store = Store()
        self.hosts = [Host(f"n{number + 1}", MILLION + skew) for number, skew in enumerate(rates)]
        self.questions: tuple[Question, ...] = ()
        self.said: tuple[tuple[int, HeartbeatReceived | PromiseReceived], ...] = ()
        self.used: frozenset[str] = frozenset()
        self.spare: dict[str, Any] = {}
        self.path: tuple[Any, Any] | None = None
        self.steps = 0
        self._owned = (1 << len(rates) + 1) - 1

    def copied(self) -> State:
        """Another that begins as this one is. From now on both copy what they change."""
        made = State.__new__(State)
        made.now, made.store, made.hosts = self.now, self.store, list(self.hosts)
        made.questions, made.said, made.used = self.questions, self.said, self.used
        made.spare, made.path, made.steps = self.spare, self.path, self.steps
        made._owned = self._owned = 0
        return made

    def host(self, index: int) -> Host:
        """The host, to be changed."""
        if not self._owned >> index & 1:
            self._owned |= 1 << index
            self.hosts[index] = self.hosts[index].copied()
        return self.hosts[index]

    def etcd(self) -> Store:
        """The store, to be changed."""
        own = 1 << len(self.hosts)
        if not self._owned & own:
            self._owned |= own
            self.store = self.store.copied()
        return self.store

    def mark(self) -> int:
        """Equal for worlds in which the same will happen."""
        shown = [host.shown for host in self.hosts if host.shown is not None]
        log = self.store.log[min(shown) :] if shown else ()
        return hash(
            (
                *(self.now, self.store.mark, self.used, tuple([keep(seen) for one in log for seen in one.seen])),
                *(tuple([host.mark() for host in self.hosts]), tuple([one.mark for one in self.questions])),
                number_of(self.said),
            )
        )

    # --- a node takes something in

    def boot(self, index: int, rules: Rules) -> None:
        """Start the agent there."""
        host = self.host(index)
        host.boot += 1
        host.node, host.history, host.shown, host.opened = Node(rules), 0, None, False
        host.node_mark = 0
        clock = host.clock(self.now)
        left = {GROUP: host.gate} if host.gate > clock else {}
        self.perform(index, host.node.start(clock, left))

    def feed(self, index: int, event: Event, halfway: bool = False) -> None:
        """The node takes in an event; `halfway`: it stops before it does anything about it."""
        host = self.host(index)
        node = host.node
        assert node is not None
        host.node_mark = 0
        effects = node.feed(event, host.clock(self.now))
        try:
            node.check()
        except AssertionError as error:
            raise Violation(f"invariant: {host.name}: {error}") from error
        self._look_at_right(host)
        if halfway:
            host.paused, host.undone = True, effects
            if not effects:
                raise IdleError
            return
        self.perform(index, effects)

    def _look_at_right(self, host: Host) -> None:
        node = host.node
        assert node is not None
        owns = isinstance(node.groups.get(GROUP), Owning)
        host.right = host.real(node.right(GROUP)) if owns else 0
        if host.right > self.now:
            others = [one.name for one in self.hosts if one is not host and one.right > self.now]
            if others:
                raise Violation(f"rights: {host.name} owns while {', '.join(others)} has the right")

    def perform(self, index: int, effects: tuple[Effect, ...]) -> None:
        """Do what a node asked for."""
        host = self.host(index)
        told: list[Event] = []
        for effect in effects:
            match effect:
                case Commit() | Look():
                    self._ask(index, host, effect)
                case Resync():
                    host.shown = None
                case InstallAddresses() | RemoveAddresses() | ExtendAddresses():
                    told += self._turn(host, effect)
                case SendHeartbeat():
                    said = HeartbeatReceived(host.name, effect.incarnation, effect.round, effect.ttl, effect.tenures)
                    self.said += tuple((to, said) for to, one in enumerate(self.hosts) if one.name in effect.to)
                case SendPromise():
                    assert host.node is not None
                    said = PromiseReceived(host.name, effect.machine, effect.incarnation, effect.round, effect.tenures)
                    self.said += tuple((to, said) for to, one in enumerate(self.hosts) if one.name == effect.to)
                case Resign():
                    self.leave(index)
                    return
                case _:
                    pass  # adverts, announcements and alarms decide nothing
        for event in told:
            self.feed(index, event)

    def _ask(self, index: int, host: Host, effect: Commit | Look) -> None:
        mark = hash((index, host.boot, host.history, number_of(effect)))
        self.questions += (Question(index, host.boot, self.store.history, effect, mark),)
        host.waits += ((effect.ask, self.now + effect.patience * MILLION // host.rate),)

    def _turn(self, host: Host, effect: InstallAddresses | RemoveAddresses | ExtendAddresses) -> list[Event]:
        """Gate and kernel, as `haagent.runtime.gated` keeps their order."""
        clock = host.clock(self.now)
        match effect:
            case InstallAddresses():
                if clock >= effect.until or (host.opened and clock >= host.gate):
                    return [KernelFailed(effect.group, effect.serial, "gate: too late")]
                host.gate, host.opened = effect.until, True
                host.pending += (effect,)
            case ExtendAddresses():
                if not host.opened:
                    return []
                if clock >= host.gate or clock >= effect.until:
                    host.gate = min(host.gate, clock)
                    return [GateClosed("too late")]
                host.gate = effect.until
            case RemoveAddresses():
                host.gate, host.opened = 0, False
                host.pending += (effect,)
        return []

    def leave(self, index: int) -> None:
        """The node has given everything up: its session's keys go, and it ends."""
        host = self.host(index)
        self.revoke(index)
        self._end(host)

    def revoke(self, index: int) -> None:
        """The session of the host's node ends in etcd."""
        name = self.hosts[index].name
        gone = [key for key in self.store.keys if key.name == name and key.kind.value in ("leases", "members")]
        if gone:
            self.etcd().write((), gone)

    def crash(self, index: int) -> None:
        """kill -9. The kernel stays as it is, and so does what is on its way to etcd."""
        self._end(self.host(index))

    def _end(self, host: Host) -> None:
        host.node, host.node_mark, host.right, host.paused = None, 0, 0, False
        host.waits, host.answers, host.undone, host.shown, host.opened = (), (), (), None, False
        host.pending = ()

    # --- what the world does

    def kernel(self, index: int, fails: bool = False) -> None:
        """The kernel does the next operation, and says so."""
        host = self.host(index)
        operation, *rest = host.pending
        host.pending = tuple(rest)
        installs = isinstance(operation, InstallAddresses)
        answer: Event
        if fails or (installs and host.clock(self.now) >= operation.until):
            answer = KernelFailed(operation.group, operation.serial, "no")
        else:
            host.present = installs
            done = AddressesInstalled if installs else AddressesRemoved
            answer = done(operation.group, operation.serial)
            self.only_one_answers()
        if host.node is not None:
            host.answers += (answer,)

    def only_one_answers(self) -> None:
        """The property that all is about."""
        answering = [host.name for host in self.hosts if host.answering(self.now)]
        if len(answering) > 1:
            raise Violation(f"kernels: {' and '.join(answering)} answer at once")
