"""What may happen next in a small world, and what each of it costs.

`go` lets what is next happen, at no cost; so do `heal`, `resume` and `restart`, which end what a deviation began, at
any later instant. Everything else is a deviation and costs one: something on its way is held back or lost, a node is
killed or stopped (also between deciding and doing), a kernel refuses, and what the world's `menu` has: operators,
reloads, etcd's sessions and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from haagent.core.model import (
    Asking,
    Commit,
    Committed,
    Event,
    InterfaceChanged,
    Look,
    Refused,
    TimePassed,
    Unanswered,
)
from haagent.core.records import Kind, OwnerRecord
from haagent.core.units import NEVER, Instant
from tests.explore.state import (
    ANSWERS,
    ASKS,
    CUT_OFF,
    JUST_BEFORE,
    KERNEL,
    PEERS,
    STREAM,
    Host,
    Question,
    State,
    Violation,
)

Move = tuple[Any, ...]
Thing = tuple[str, int]
"""What is next, and at which host (or of which question, or word)."""
INTERFACE = "eth0"
_CHANNEL = {"kernel": KERNEL, "question": ASKS, "answer": ANSWERS, "stream": STREAM, "word": PEERS}


def thing(state: State) -> Thing | None:
    """What is next at this instant; None: nothing more, time may go on."""
    for index, host in enumerate(state.hosts):
        if host.pending and not host.paused and not host.stalled & KERNEL:
            return "kernel", index
    for number, question in enumerate(state.questions):
        if not state.hosts[question.host].stalled & ASKS:
            return "question", number
    return _shown_next(state) or _due(state)


def _shown_next(state: State) -> Thing | None:
    """What etcd or a peer says next."""
    for index, host in enumerate(state.hosts):
        if host.runs():
            if host.answers and not host.stalled & ANSWERS:
                return "answer", index
            if not host.stalled & STREAM and (host.shown is None or host.shown < len(state.store.log)):
                return "stream", index
    for number, (to, _) in enumerate(state.said):
        if not state.hosts[to].paused and not state.hosts[to].stalled & PEERS:
            return "word", number
    return None


def _due(state: State) -> Thing | None:
    for index, host in enumerate(state.hosts):
        if host.runs():
            if any(until <= state.now for _, until in host.waits):
                return "timeout", index
            if host.due() <= state.now:
                return "timer", index
    return None


def next_instant(state: State) -> Instant:
    """When something is due next: a timer, the end of somebody's patience, a gate's end and the moment before."""
    now, found = state.now, NEVER
    for host in state.hosts:
        moments: list[Instant] = [until for _, until in host.waits]
        if host.runs():
            moments.append(host.due())
        if host.present:
            ends = host.real(host.gate)
            moments += [ends - JUST_BEFORE, ends]
        for moment in moments:
            if now < moment < found:
                found = moment
    return found


def options(state: State, budget: int, ends: Instant, menu: Menu) -> Iterator[tuple[int, Move]]:
    """Every move that is possible now within the budget, with its cost. What costs nothing comes last."""
    one = thing(state)
    if one is not None:
        if budget > 0:
            yield from ((1, move) for move in _deviations(state, one) if menu.admits(state, move))
        yield 0, ("go",)
        return
    if budget > 0:
        yield from ((1, move) for move in menu.choices(state))
    for index, host in enumerate(state.hosts):
        if host.stalled:
            yield 0, ("heal", index)
        if host.paused:
            yield 0, ("resume", index)
        if host.node is None and host.boot < menu.boots:
            yield 0, ("restart", index)
    if next_instant(state) <= ends:
        yield 0, ("advance",)


def _deviations(state: State, one: Thing) -> Iterator[Move]:
    what, number = one
    index = _at(state, one)
    channel = _CHANNEL.get(what, 0)
    host = state.hosts[index]
    if channel:
        yield "stall", index, channel
    if what in ("question", "answer", "stream") and not host.stalled:
        yield "stall", index, CUT_OFF
    if what in ("question", "word"):
        yield "lose", what, number
    if what == "stream" and host.shown is not None:
        yield "relist", index
    if what == "kernel":
        yield ("refuse", index)
    elif what != "question" and host.runs():
        yield "pause", index
        yield "halfway", index
        yield "crash", index


def _at(state: State, one: Thing) -> int:
    what, number = one
    if what == "question":
        return state.questions[number].host
    return state.said[number][0] if what == "word" else number


def apply(state: State, move: Move, menu: Menu) -> None:
    """Let it happen. Violation: it must never."""
    what, *arguments = move
    state.path = (state.path, move)
    state.steps += 1
    _DO[what](state, menu, *arguments)
    state.only_one_answers()


# --- what happens by itself


def _go(state: State, menu: Menu, halfway: bool = False) -> None:
    one = thing(state)
    assert one is not None
    what, number = one
    if what == "kernel":
        state.kernel(number)
    elif what == "question":
        question = state.questions[number]
        state.questions = state.questions[:number] + state.questions[number + 1 :]
        _at_etcd(state, question)
    else:
        index, event = _event(state, one)
        if event is not None:
            state.feed(index, event, halfway)


def _event(state: State, one: Thing) -> tuple[int, Event | None]:
    """Take what is next off its way: to whom, and what."""
    what, number = one
    if what == "word":
        to, said = state.said[number]
        state.said = state.said[:number] + state.said[number + 1 :]
        return to, said if state.hosts[to].node is not None else None
    host = state.host(number)
    match what:
        case "answer":
            event, *rest = host.answers
            host.answers = tuple(rest)
            if isinstance(event, Committed | Refused | Unanswered):
                if all(ask != event.ask for ask, _ in host.waits):
                    return number, None  # it was given up meanwhile
                host.waits = tuple(one for one in host.waits if one[0] != event.ask)
            return number, event
        case "stream":
            return number, _shown(state, host)
        case "timeout":
            ask = next(ask for ask, until in host.waits if until <= state.now)
            host.waits = tuple(one for one in host.waits if one[0] != ask)
            return number, Unanswered(ask, "no answer in time")
        case _:
            return number, TimePassed()


def _shown(state: State, host: Host) -> Event:
    store = state.store
    if host.shown is None or host.history != store.history:
        host.shown, host.history = len(store.log), store.history
        return store.list()
    host.shown += 1
    return store.log[host.shown - 1]


def _at_etcd(state: State, question: Question) -> None:
    store, ask, effect = state.store, question.effect.ask, question.effect
    answer: Event
    if question.history != store.history:
        answer = Unanswered(ask, "connection lost")
    elif isinstance(effect, Look):
        answer = Refused(ask, store.revision, store.show(effect.keys))
    elif store.holds(effect.guards):
        _look_at_write(state, question, effect)
        answer = Committed(ask, state.etcd().write(effect.puts, effect.deletes))
    else:
        answer = Refused(ask, store.revision, store.show(guard.key for guard in effect.guards))
    host = state.hosts[question.host]
    if host.node is None or host.boot != question.boot or all(ask != one for one, _ in host.waits):
        return
    if host.history not in (0, store.history):
        answer = Unanswered(ask, "of another history")
    state.host(question.host).answers += (answer,)


def _look_at_write(state: State, question: Question, effect: Commit) -> None:
    """A transaction is about to be done: a release follows the fact, and epochs grow."""
    host = state.hosts[question.host]
    if effect.ask.kind is Asking.RELEASE and host.present:
        raise Violation(f"records: {host.name} gives up while its kernel has the addresses")
    for put in effect.puts:
        before = state.store.keys.get(put.key)
        if put.key.kind is not Kind.OWNERS or before is None or not isinstance(put.value, OwnerRecord):
            continue
        if isinstance(before.value, OwnerRecord):
            same = before.value.incarnation == put.value.incarnation
            if put.value.epoch < before.value.epoch or (put.value.epoch == before.value.epoch and not same):
                raise Violation(f"records: {host.name} writes epoch {put.value.epoch} after {before.value.epoch}")


def _advance(state: State, menu: Menu) -> None:
    state.now = next_instant(state)


# --- deviations, and their ends


def _stall(state: State, menu: Menu, index: int, channels: int) -> None:
    state.host(index).stalled |= channels


def _heal(state: State, menu: Menu, index: int) -> None:
    state.host(index).stalled = 0


def _lose(state: State, menu: Menu, what: str, number: int) -> None:
    if what == "word":
        state.said = state.said[:number] + state.said[number + 1 :]
    else:
        state.questions = state.questions[:number] + state.questions[number + 1 :]


def _relist(state: State, menu: Menu, index: int) -> None:
    state.host(index).shown = None


def _refuse(state: State, menu: Menu, index: int) -> None:
    state.kernel(index, fails=True)


def _pause(state: State, menu: Menu, index: int) -> None:
    state.host(index).paused = True


def _resume(state: State, menu: Menu, index: int) -> None:
    host = state.host(index)
    host.paused = False
    undone, host.undone = host.undone, ()
    state.perform(index, undone)


def _crash(state: State, menu: Menu, index: int) -> None:
    state.crash(index)


def _restart(state: State, menu: Menu, index: int) -> None:
    start(state, menu, index)


def start(state: State, menu: Menu, index: int) -> None:
    """Boot the host's agent, by the rules of this world; its interface is up."""
    host = state.host(index)
    state.boot(index, menu.rules(host.name, f"{host.name}.{host.boot + 1}"))
    state.feed(index, InterfaceChanged(INTERFACE, True, bytes([10, 0, 0, 1 + index]), None))


def _choose(state: State, menu: Menu, name: str, *arguments: Any) -> None:
    state.used |= {name}
    menu.entries[name](state, menu, *arguments)


_DO: dict[str, Callable[..., None]] = {
    "go": _go,
    "advance": _advance,
    "stall": _stall,
    "heal": _heal,
    "lose": _lose,
    "relist": _relist,
    "refuse": _refuse,
    "pause": _pause,
    "resume": _resume,
    "halfway": lambda state, menu, index: _go(state, menu, halfway=True),
    "crash": _crash,
    "restart": _restart,
    "choose": _choose,
}


class Menu:
    """What may happen in a world: which `kinds` of deviations, `at` which hosts (none named: all), and of operators and
    etcd what `entries` has, each once. And how agents are started in it, and how often each.
    """

    def __init__(
        self,
        rules: Callable[[str, str], Any],
        entries: dict[str, Callable[..., None]],
        kinds: frozenset[str],
        at: tuple[int, ...],
        boots: int = 2,
    ) -> None:
        self.rules = rules
        self.entries = entries
        self.kinds = kinds
        self.at = at
        self.boots = boots

    def admits(self, state: State, move: Move) -> bool:
        """Whether deviations of this kind happen in this world, and there."""
        what, number = move[0], move[-1]
        if what == "lose":
            one: Thing = (move[1], number)
            number = _at(state, one)
        elif what == "stall":
            number = move[1]
        return what in self.kinds and (not self.at or number in self.at)

    def choices(self, state: State) -> Iterator[Move]:
        """What has not happened yet."""
        for name in self.entries:
            if name not in state.used:
                yield "choose", name
