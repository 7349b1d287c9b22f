"""The dead-man timer: whatever a process does or can not do, it is dead just after its deadline, unless it re-arms."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from haagent.adapters.deadman import Deadman
from haagent.core.units import MS, NEVER, Instant, S
from haagent.runtime.clock import boottime

pytestmark = [pytest.mark.integration, pytest.mark.alone]

LATE = 1000 * MS
"""Usually one or two; the machine is shared, and the parent must run to see it."""


def busy() -> None:
    while True:
        pass


def blocked() -> None:
    time.sleep(20)


def ignoring() -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(20)


def child(act: Callable[[Deadman], None]) -> int:
    """A process that does this, and then sleeps; if nothing kills it, it leaves with 0 in the end."""
    pid = os.fork()
    if pid == 0:
        try:
            act(Deadman())
        finally:
            os._exit(0)
    return pid


def died(pid: int) -> tuple[int, Instant]:
    """The signal that ended it (0: none), and when we saw that."""
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, boottime()


@pytest.mark.parametrize("act", [busy, blocked, ignoring])
def test_a_process_that_does_not_rearm_is_killed_at_the_deadline(act: Callable[[], None]):
    deadline = boottime() + 100 * MS

    def body(deadman: Deadman) -> None:
        deadman.arm(deadline)
        act()

    number, at = died(child(body))
    assert number == signal.SIGKILL
    assert deadline <= at <= deadline + LATE


def test_a_stopped_process_is_killed_at_the_deadline():
    for _ in range(10):
        deadline = boottime() + 60 * MS

        def body(deadman: Deadman, deadline: Instant = deadline) -> None:
            deadman.arm(deadline)
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(20)

        number, at = died(child(body))
        assert number == signal.SIGKILL
        assert deadline <= at <= deadline + LATE


def test_rearming_keeps_it_alive_and_disarming_lets_it_be():
    def body(deadman: Deadman) -> None:
        end = boottime() + 600 * MS
        while boottime() < end:
            deadman.arm(boottime() + 300 * MS)
            time.sleep(0.02)
        deadman.arm(NEVER)
        time.sleep(0.4)
        deadman.arm(boottime() + 300 * MS)
        deadman.disarm()
        time.sleep(0.4)
        deadman.arm(boottime() + 300 * MS)
        deadman.close()
        time.sleep(0.4)

    assert died(child(body))[0] == 0


@pytest.mark.parametrize("past", [0, -5, 1])
def test_an_instant_that_is_past_kills_at_once(past: int):
    began = boottime()
    number, at = died(child(lambda deadman: (deadman.arm(past), time.sleep(20))[0]))
    assert number == signal.SIGKILL
    assert at <= began + 2 * S


def test_an_earlier_instant_takes_the_place_of_a_later_one():
    began = boottime()

    def body(deadman: Deadman) -> None:
        deadman.arm(boottime() + 30 * S)
        deadman.arm(boottime() + 50 * MS)
        time.sleep(20)

    number, at = died(child(body))
    assert number == signal.SIGKILL
    assert at <= began + 2 * S
