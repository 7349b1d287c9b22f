"""Signs of life are given only after the loop turned and the node's check passed; and the status, in one line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from haagent.core.model import Effect, Event, Role, Rules
from haagent.core.units import MS, NEVER, Duration, Instant
from haagent.runtime.outer import Outer, Status, told
from haagent.runtime.pump import Pump

PATIENCE: Duration = 80 * MS


class Mind:
    """A node without groups, which is right until it is told to be wrong."""

    def __init__(self) -> None:
        self.rules = Rules("n1", "i1", "h1", "0", {})
        self.wrong = False
        self.sleeps = 0.0

    def start(self, now: Instant, open_until: Mapping[str, Instant]) -> Iterable[Effect]:
        return ()

    def feed(self, event: Event, now: Instant) -> Iterable[Effect]:
        time.sleep(self.sleeps)
        return ()

    def due(self) -> Instant:
        return NEVER

    def check(self) -> None:
        assert not self.wrong


class Watch:
    """Manager and device in one: notes what it is told."""

    def __init__(self, patience: Duration | None) -> None:
        self.patience = patience
        self.pets = 0
        self.said: list[str] = []

    def pet(self) -> None:
        self.pets += 1

    def close(self, *, clean: bool) -> None:
        self.said.append(f"close {clean}")

    def ready(self) -> None:
        self.said.append("ready")

    def reloading(self) -> None:
        self.said.append("reloading")

    def stopping(self) -> None:
        self.said.append("stopping")

    def status(self, text: str) -> None:
        self.said.append(text)

    def arm(self, at: Instant) -> None:
        pass


Scene = Callable[[Mind, Watch, Watch, Outer], Awaitable[None]]


def play(scene: Scene, manager: Duration | None = None, device: Duration | None = PATIENCE) -> tuple[Watch, Watch]:
    async def run() -> tuple[Watch, Watch]:
        mind, watches = Mind(), (Watch(manager), Watch(device))
        ports: Any = SimpleNamespace(kernel=SimpleNamespace(flush=lambda opening=True: False))
        pump = Pump(mind, ports, lambda: 0)  # this node has no effects
        outer = Outer(watches[0], pump)
        outer.add(watches[1])
        pump.start(watches[0])
        outer.start()
        await scene(mind, *watches, outer)
        return watches

    return asyncio.run(run())


async def pets(watch: Watch, more: int) -> None:
    wanted, give_up = watch.pets + more, time.monotonic() + 10
    while watch.pets < wanted:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.001)


def test_an_idle_node_lives():
    async def scene(mind: Mind, manager: Watch, device: Watch, outer: Outer) -> None:
        await pets(device, 5)
        assert manager.pets == device.pets, "the manager hears as often; its adapter knows whether it wants to"
        outer.close(clean=True)

    manager, device = play(scene)
    assert manager.said == ["ready", "close True"]
    assert device.said == ["close True"]


def test_a_node_that_is_wrong_gives_no_sign():
    async def scene(mind: Mind, manager: Watch, device: Watch, outer: Outer) -> None:
        await pets(device, 2)
        mind.wrong = True
        before = device.pets
        await asyncio.sleep(3 * PATIENCE / 1e9)
        assert device.pets == before
        outer.close(clean=False)

    assert play(scene)[1].said == ["close False"]


def test_a_loop_that_hangs_gives_no_sign():
    """Nothing beats while the loop does not turn; when it turns again, one beat makes up for all that were missed."""

    async def scene(mind: Mind, manager: Watch, device: Watch, outer: Outer) -> None:
        await pets(device, 2)
        before = device.pets
        time.sleep(3 * PATIENCE / 1e9)  # noqa: ASYNC251 - this is the hang
        assert device.pets == before
        await asyncio.sleep(0)
        assert device.pets <= before + 1
        outer.close(clean=True)

    play(scene)


def test_nobody_waits_so_nothing_beats():
    async def scene(mind: Mind, manager: Watch, device: Watch, outer: Outer) -> None:
        await asyncio.sleep(0.05)
        assert manager.pets == device.pets == 0
        outer.close(clean=True)

    play(scene, device=None)


def test_the_status():
    roles = {"web": Role.MASTER, "db": Role.BACKUP}
    assert told(roles, {"web": 42}) == "web MASTER epoch 42; db BACKUP"
    many = {f"g{number}": Role.MASTER if number % 2 else Role.BACKUP for number in range(1000)}
    assert told(many, {}).endswith("g9 MASTER epoch 0; 990 more, 500 MASTER in all")
    assert told({}, {}) == ""


def test_many_changes_are_one_status():
    async def run() -> None:
        watch, roles = Watch(None), {"web": Role.BACKUP}
        status = Status(watch, roles, {"web": 7})
        status.changed()
        roles["web"] = Role.MASTER
        status.changed()
        await asyncio.sleep(0)
        assert watch.said == ["web MASTER epoch 7"]

    asyncio.run(run())
