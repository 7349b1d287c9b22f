"""Many timers behave as a dict of due times would, and an operation on one costs little however many there are."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from haagent.core.timers import Timers
from haagent.core.units import NEVER

KEYS = st.sampled_from("abcdef")
INSTANTS = st.integers(0, 30)


class Model(RuleBasedStateMachine):
    """`Timers` beside a plain dict."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[str] = Timers()
        self.model: dict[str, int] = {}

    @rule(key=KEYS, due=INSTANTS)
    def arm(self, key: str, due: int) -> None:
        self.timers.set(key, due)
        self.model[key] = due

    @rule(key=KEYS, due=st.sampled_from([NEVER, NEVER + 1]))
    def disarm(self, key: str, due: int) -> None:
        self.timers.set(key, due)
        self.model.pop(key, None)

    @rule(now=INSTANTS)
    def pop(self, now: int) -> None:
        key = self.timers.pop(now)
        if key is None:
            assert all(due > now for due in self.model.values())
        else:
            assert self.model.pop(key) <= now

    @rule(now=INSTANTS)
    def drain(self, now: int) -> None:
        due_before = [due for due in self.model.values() if due <= now]
        popped: list[int] = []
        while (key := self.timers.pop(now)) is not None:
            popped.append(self.model.pop(key))
        assert popped == sorted(due_before), "the earliest first, each once"

    @invariant()
    def the_earliest_is_next(self) -> None:
        assert self.timers.next() == min(self.model.values(), default=NEVER)


TestTimersAreADict = Model.TestCase


def test_of_those_due_at_once_the_first_armed_comes_first():
    timers: Timers[str] = Timers()
    for key in "cab":
        timers.set(key, 5)
    assert [timers.pop(5) for _ in "cab"] == ["c", "a", "b"]


def test_moving_a_timer_later_again_and_again_takes_no_memory():
    timers: Timers[int] = Timers()
    for key in range(10):
        for due in range(1000):
            timers.set(key, due)
    assert len(timers._heap) == 10


def test_moving_timers_as_they_are_used_takes_bounded_memory():
    # As a node does: every event moves some timer later, and the earliest is asked for.
    timers: Timers[int] = Timers()
    for now in range(5000):
        timers.set(now % 7, now + 30)
        timers.set(7, now + 10)
        assert timers.next() > now
        assert len(timers._heap) <= 20
