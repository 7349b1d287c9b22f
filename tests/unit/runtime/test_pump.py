"""The pump: one event at a time, effects in their order, one timer, and no further step once the node is wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

import pytest

from haagent.core.heartbeat import Meet, SendHeartbeat, SendPromise
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    Alarm,
    Announce,
    Ask,
    Asking,
    Commit,
    Committed,
    Effect,
    Event,
    ExtendAddresses,
    Fence,
    GateClosed,
    InstallAddresses,
    InterfaceChanged,
    KernelFailed,
    LeaseChanged,
    Look,
    RemoveAddresses,
    Resign,
    Resolve,
    Resync,
    Role,
    RoleChanged,
    Rules,
    RulesChanged,
    SendAdvert,
    StopRequested,
    TimePassed,
    Watched,
)
from haagent.core.units import MS, NEVER, Instant
from haagent.runtime.ports import RouterWire
from haagent.runtime.pump import LONGEST, WAITING_MOST, Pump

RULES = Rules(node="n1", incarnation="i1", host="h1", version="0", groups={})
ASK = Ask(Asking.RENEW, "n1", 1)
COMMIT = Commit(ASK, (), (), (), MS)


class Mind:
    """A node that answers each event with the effects it is given, and notes what it was fed, and when."""

    def __init__(self, **answers: list[Effect]) -> None:
        self.rules = RULES
        self.fed: list[tuple[str, Instant]] = []
        self.due_at: Instant = NEVER
        self.wrong = ""
        self._answers = answers

    def start(self, now: Instant, open_until: Mapping[str, Instant]) -> Iterable[Effect]:
        return self._take("start", now)

    def feed(self, event: Event, now: Instant) -> Iterable[Effect]:
        if isinstance(event, RulesChanged):
            self.rules = event.rules
        return self._take(type(event).__name__, now)

    def due(self) -> Instant:
        return self.due_at

    def check(self) -> None:
        assert not self.wrong, self.wrong

    def _take(self, name: str, now: Instant) -> list[Effect]:
        self.fed.append((name, now))
        return self._answers.get(name, [])


class World:
    """All ports and the timer: notes what is asked of them; `on` may answer at once, in the middle of the call.

    `left`: what the next flushes say, the last first; False from then on.
    """

    def __init__(self) -> None:
        self.done: list[object] = []
        self.flushed: list[bool] = []
        self.left: list[bool] = []
        self.on: Callable[[object], None] = lambda what: None
        self.store = self.kernel = self.fencer = self.peers = self
        self.speaker = Voice(self._note)

    def _note(self, what: object) -> None:
        self.done.append(what)
        self.on(what)

    def commit(self, effect: Commit) -> None:
        self._note(effect)

    def look(self, effect: Look) -> None:
        self._note(effect)

    def resync(self, broken: bool = False) -> None:
        self._note("resync broken" if broken else "resync")

    async def resign(self) -> None:
        raise AssertionError("who wired the pump resigns")

    def install(self, effect: InstallAddresses) -> None:
        self._note(effect)

    def remove(self, effect: RemoveAddresses) -> None:
        self._note(effect)

    def extend(self, effect: ExtendAddresses) -> None:
        self._note(effect)

    def flush(self, *, opening: bool = True) -> bool:
        self.flushed.append(opening)
        return bool(self.left) and bool(opening) and self.left.pop()

    def configure(self, rules: Rules) -> None:
        self._note(("configure", rules))

    def changed(self) -> None:
        self._note("changed")

    def fence(self, effect: Fence) -> None:
        self._note(effect)

    def meet(self, effect: Meet) -> None:
        self._note(effect)

    def heartbeat(self, effect: SendHeartbeat) -> None:
        self._note(effect)

    def promise(self, effect: SendPromise) -> None:
        self._note(effect)

    def arm(self, at: Instant) -> None:
        self._note(("arm", at))


class Voice:
    """The speaker."""

    def __init__(self, note: Callable[[object], None]) -> None:
        self._note = note

    def configure(self, routers: Iterable[RouterWire]) -> None:
        raise AssertionError("who wired the pump configures the speaker")

    def advert(self, router: str, priority: int) -> None:
        self._note(("advert", router, priority))

    def announce(self, router: str, *, refresh: bool) -> None:
        self._note(("announce", router, refresh))

    def resolve(self, router: str) -> None:
        self._note(("resolve", router))


class Clock:
    """Goes on by a millisecond whenever it is read."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> Instant:
        self.now += MS
        return self.now


def with_pump(mind: Mind, world: World, body: Callable[[Pump], Awaitable[None]]) -> None:
    async def run() -> None:
        pump = Pump(mind, world, Clock())
        pump.start(world)
        await body(pump)

    asyncio.run(run())


def test_effects_are_performed_in_their_order_the_kernels_first():
    install = InstallAddresses("web", 1, (), NEVER)
    remove = RemoveAddresses("web", 2)
    look = Look(ASK, (), MS)
    fence = Fence(Ask(Asking.FENCE, "i2", 1), "web", "n2", "i2", 7, NEVER)
    every: list[Effect] = [
        COMMIT,
        look,
        Resync(),
        install,
        remove,
        ExtendAddresses(5),
        SendAdvert("web", 0),
        Announce("web", refresh=True),
        Resolve("web"),
        fence,
        RoleChanged("web", Role.INIT, Role.BACKUP, "why", 0),
        Alarm("kind", "subject", "detail", True),
        LeaseChanged(True, "why"),
        Resign(),
    ]
    mind, world = Mind(start=every), World()

    async def body(pump: Pump) -> None:
        assert pump.resigned.done()
        assert not pump.failed.done()
        assert pump.checked == 1

    with_pump(mind, world, body)
    assert world.done == [
        install,
        remove,
        ExtendAddresses(5),
        COMMIT,
        look,
        "resync",
        ("advert", "web", 0),
        ("announce", "web", True),
        ("resolve", "web"),
        fence,
        "changed",
        ("arm", NEVER),
    ]


def test_what_is_delivered_before_the_start_waits_for_it():
    mind, world = Mind(), World()

    async def run() -> None:
        pump = Pump(mind, world, Clock())
        pump.deliver(StopRequested())
        assert mind.fed == []
        pump.start(world)

    asyncio.run(run())
    assert mind.fed == [("start", 1 * MS), ("StopRequested", 2 * MS)]


def test_observers_hear_before_the_node_and_see_each_effect_before_it_is_performed():
    story: list[object] = []

    class Observer:
        def heard(self, event: Event, now: Instant) -> None:
            story.append((type(event).__name__, now, len(mind.fed)))

        def done(self, effect: Effect, now: Instant) -> None:
            story.append((effect, now, len(world.done)))

    mind, world = Mind(StopRequested=[COMMIT]), World()

    async def run() -> None:
        pump = Pump(mind, world, Clock(), (Observer(), Observer()))
        pump.start(world)
        pump.deliver(StopRequested())

    asyncio.run(run())
    assert story == 2 * [("StopRequested", 2 * MS, 1)] + 2 * [(COMMIT, 2 * MS, 1)]


def test_an_observer_that_raises_is_told_no_more_and_the_node_goes_on(caplog: pytest.LogCaptureFixture):
    heard: list[Event] = []

    class Observer:
        def heard(self, event: Event, now: Instant) -> None:
            heard.append(event)
            raise ValueError

        def done(self, effect: Effect, now: Instant) -> None:
            raise AssertionError("it is told no more")

    mind, world = Mind(StopRequested=[COMMIT]), World()

    async def run() -> None:
        pump = Pump(mind, world, Clock(), (Observer(),))
        pump.start(world)
        pump.deliver(StopRequested())
        pump.deliver(StopRequested())
        assert not pump.failed.done()

    asyncio.run(run())
    assert len(heard) == 1
    assert world.done.count(COMMIT) == 2
    assert "Observer ended" in caplog.text


def test_an_answer_within_the_question_waits_until_all_effects_are_done():
    mind = Mind(StopRequested=[RemoveAddresses("web", 1), SendAdvert("web", 0)], AddressesRemoved=[COMMIT])
    world = World()

    async def body(pump: Pump) -> None:
        def answer(what: object) -> None:
            if isinstance(what, RemoveAddresses):
                pump.deliver(AddressesRemoved("web", 1))

        world.on = answer
        pump.deliver(StopRequested())

    with_pump(mind, world, body)
    assert [name for name, _ in mind.fed] == ["start", "StopRequested", "AddressesRemoved"]
    without_timer = [what for what in world.done if what != ("arm", NEVER)]
    assert without_timer == [RemoveAddresses("web", 1), ("advert", "web", 0), COMMIT]


def test_the_clock_is_read_for_each_event():
    mind = Mind(StopRequested=[COMMIT])
    world = World()

    async def body(pump: Pump) -> None:
        world.on = lambda what: pump.deliver(KernelFailed("web", 1, "no")) if what is COMMIT else None
        pump.deliver(StopRequested())

    with_pump(mind, world, body)
    assert [now for _, now in mind.fed] == [1 * MS, 2 * MS, 3 * MS]


def test_the_one_timer_is_armed_after_each_event():
    mind, world = Mind(), World()

    async def body(pump: Pump) -> None:
        mind.due_at = 7 * MS
        pump.tick()
        mind.due_at = 3 * MS
        pump.deliver(StopRequested())

    with_pump(mind, world, body)
    assert [name for name, _ in mind.fed] == ["start", "TimePassed", "StopRequested"]
    assert world.done == [("arm", NEVER), ("arm", 7 * MS), ("arm", 3 * MS)]


def test_new_rules_are_configured_before_their_effects():
    mind, world = Mind(RulesChanged=[SendAdvert("web", 100)]), World()
    rules = replace(RULES, version="1")

    async def body(pump: Pump) -> None:
        pump.deliver(RulesChanged(rules))

    with_pump(mind, world, body)
    assert world.done[1:] == [("configure", rules), ("advert", "web", 100), ("arm", NEVER)]


def test_a_long_row_of_events_lets_the_loop_have_its_turn():
    mind = Mind(TimePassed=[COMMIT])
    world = World()
    turns: list[int] = []

    async def body(pump: Pump) -> None:
        def answer(what: object) -> None:
            if what is COMMIT and len(mind.fed) < 200:
                time.sleep(0.001)
                pump.deliver(TimePassed())

        world.on = answer
        pump.tick()
        while len(mind.fed) < 200:
            turns.append(len(mind.fed))
            await asyncio.sleep(0)

    with_pump(mind, world, body)
    assert 200 * MS // LONGEST <= len(turns) < 200


def test_a_turn_of_many_deliveries_is_bounded_like_one():
    """A port that has a hundred answers delivers them one by one: the first ones are fed at once, the rest waits."""
    mind, world = Mind(AddressesInstalled=[COMMIT]), World()

    async def body(pump: Pump) -> None:
        world.on = lambda what: time.sleep(0.001)
        for number in range(100):
            pump.deliver(AddressesInstalled(f"g{number}", 1))
        assert 1 < len(mind.fed) < 60
        for _ in range(100):
            await asyncio.sleep(0)

    with_pump(mind, world, body)
    assert [name for name, _ in mind.fed] == ["start", *(100 * ["AddressesInstalled"])]


def test_what_the_lease_rests_on_goes_before_all_else_that_waits():
    mind, world = Mind(StopRequested=[COMMIT]), World()
    claim, renewal = Committed(Ask(Asking.CLAIM, "web", 1), 7), Committed(ASK, 8)
    watched = Watched(9, ())

    async def body(pump: Pump) -> None:
        def answer(what: object) -> None:
            if what is COMMIT:
                for event in (AddressesInstalled("web", 1), claim, watched, renewal, GateClosed("why")):
                    pump.deliver(event)

        world.on = answer
        pump.deliver(StopRequested())

    with_pump(mind, world, body)
    order = ["start", "StopRequested", "Watched", "Committed", "GateClosed", "AddressesInstalled", "Committed"]
    assert [name for name, _ in mind.fed] == order


def test_what_closes_is_done_with_its_event_and_what_opens_when_no_event_waits():
    mind, world = Mind(StopRequested=[COMMIT]), World()

    async def body(pump: Pump) -> None:
        world.on = lambda what: pump.deliver(AddressesInstalled("web", 1)) if what is COMMIT else None
        world.flushed.clear()
        pump.deliver(StopRequested())
        assert world.flushed == [False, False, True]

    with_pump(mind, world, body)


def test_what_is_left_to_open_is_opened_in_the_next_turns():
    mind, world = Mind(), World()

    async def body(pump: Pump) -> None:
        world.flushed.clear()
        world.left = [True, True]
        pump.deliver(StopRequested())
        assert world.flushed == [False, True]
        for _ in range(5):
            await asyncio.sleep(0)
        assert world.flushed == [False, True, True, True]

    with_pump(mind, world, body)


def wrong_invariant(mind: Mind, world: World) -> None:
    mind.wrong = "web: owned by no record"


def raising_port(mind: Mind, world: World) -> None:
    def refuse(what: object) -> None:
        raise OSError("web: owned by no record")

    world.on = refuse


@pytest.mark.parametrize("break_it", [wrong_invariant, raising_port])
def test_a_node_that_is_wrong_is_not_fed_again(
    break_it: Callable[[Mind, World], None], caplog: pytest.LogCaptureFixture
):
    mind, world = Mind(StopRequested=[COMMIT], InterfaceChanged=[COMMIT]), World()

    async def body(pump: Pump) -> None:
        pump.deliver(AddressesInstalled("web", 41))
        break_it(mind, world)
        pump.deliver(StopRequested())
        world.on = lambda what: None
        pump.deliver(InterfaceChanged("eth0", True, None, None))
        assert "owned by no record" in pump.failed.result()

    with_pump(mind, world, body)
    assert [name for name, _ in mind.fed] == ["start", "AddressesInstalled", "StopRequested"]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "the node must not go on" in said[0]
    # The report says what came before.
    assert any("serial=41" in line for line in said)
    assert any("Commit(" in line for line in said)


def test_a_wrong_node_does_nothing_more():
    mind, world = Mind(StopRequested=[COMMIT]), World()

    async def body(pump: Pump) -> None:
        mind.wrong = "no"
        pump.deliver(StopRequested())

    with_pump(mind, world, body)
    assert COMMIT not in world.done


def test_an_endless_queue_is_a_fault():
    mind = Mind(StopRequested=[COMMIT])
    world = World()

    async def body(pump: Pump) -> None:
        def flood(what: object) -> None:
            for _ in range(WAITING_MOST + 1):
                pump.deliver(TimePassed())

        world.on = flood
        pump.deliver(StopRequested())
        assert pump.failed.result() == f"{WAITING_MOST} events wait, the next is {TimePassed()}"

    with_pump(mind, world, body)
    assert len(mind.fed) == 2


def test_diverted_events_reach_whoever_asked():
    mind, world, heard = Mind(), World(), list[Event]()

    async def body(pump: Pump) -> None:
        pump.divert(heard.append)
        pump.deliver(StopRequested())

    with_pump(mind, world, body)
    assert heard == [StopRequested()]
    assert [name for name, _ in mind.fed] == ["start"]
