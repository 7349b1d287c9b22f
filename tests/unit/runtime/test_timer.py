"""The one timer: it fires once, not before its instant, for the last instant that it was armed for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from haagent.core.units import MS, NEVER, Instant, S
from haagent.runtime.clock import boottime
from haagent.runtime.timer import BoottimeTimer


def fired(arm: Callable[[BoottimeTimer], None], count: int = 1, wait: float = 5.0) -> list[Instant]:
    """The instants at which the timer fired, until it did `count` times."""

    async def run() -> list[Instant]:
        at: list[Instant] = []
        done = asyncio.Event()

        def note() -> None:
            at.append(boottime())
            if len(at) == count:
                done.set()

        timer = BoottimeTimer(note)
        arm(timer)
        await asyncio.wait([asyncio.create_task(done.wait())], timeout=wait)
        timer.close()
        return at

    return asyncio.run(run())


def test_not_before_its_instant():
    due = boottime() + 20 * MS
    (at,) = fired(lambda timer: timer.arm(due))
    assert at >= due


def test_the_past_fires_soon():
    for past in (-5, 0, 1, boottime() - S):
        assert len(fired(lambda timer, past=past: timer.arm(past))) == 1


def test_the_last_arming_counts():
    def arm(timer: BoottimeTimer) -> None:
        timer.arm(boottime() + 3600 * S)
        timer.arm(boottime() + MS)

    assert len(fired(arm)) == 1


def test_never_disarms():
    def arm(timer: BoottimeTimer) -> None:
        timer.arm(boottime() + 5 * MS)
        timer.arm(NEVER)

    assert fired(arm, wait=0.05) == []


def test_it_can_be_armed_for_the_same_instant_again():
    def arm(timer: BoottimeTimer) -> None:
        timer.arm(1)
        asyncio.get_running_loop().call_later(0.01, timer.arm, 1)

    assert len(fired(arm, count=2)) == 2
