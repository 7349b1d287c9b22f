"""Every order of events with at most so many deviations, depth first; worlds that are equal are looked at once.

A world that was reached with as many deviations left, or more, is not looked at again. So with a budget of `k`, all
that can be reached within the world's time by `k` deviations has been seen when the search ends by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from haagent.core.units import MS
from tests.explore.fingerprint import forget_kept
from tests.explore.moves import Menu, Move, apply, options, thing
from tests.explore.state import IdleError, State, Violation
from tests.explore.store import forget_values
from tests.explore.worlds import Small


@dataclass(slots=True)
class Found:
    """What came of a search. `complete`: nothing within the budget was left out. `violation`: the first one, if any."""

    world: str
    budget: int
    states: int = 0
    moves: int = 0
    branching: float = 0.0
    depth: int = 0
    seconds: float = 0.0
    complete: bool = False
    violation: str = ""
    deviations: int = 0
    steps: int = 0
    path: tuple[Move, ...] = ()

    @property
    def rate(self) -> float:
        """Distinct states a second."""
        return self.states / self.seconds if self.seconds else 0.0


def search(small: Small, budget: int, most: int) -> Found:
    """Look at everything that `budget` deviations can bring about, or at `most` distinct states."""
    found = Found(small.name, budget)
    began = time.monotonic()
    forget_kept()
    forget_values()
    try:
        state, menu, first, ends = small.begin()
        _explore(found, state, menu, (first, ends), most)
    except Violation as error:
        found.violation = str(error)
    except Exception as error:  # noqa: BLE001 - whatever the core raises would end an agent
        found.violation = f"raises: {error!r}"
    found.seconds = time.monotonic() - began
    return found


def _explore(found: Found, state: State, menu: Menu, times: tuple[int, int], most: int) -> None:
    first, ends = times
    best: dict[int, int] = {state.mark(): found.budget}
    choices = 0
    stack: list[tuple[State, int, Iterator[tuple[int, Move]]]] = []
    stack.append((state, found.budget, options(state, found.budget, ends, menu)))
    while stack:
        state, budget, moves = stack[-1]
        step = next(moves, None)
        if step is None:
            stack.pop()
            continue
        cost, move = step
        last = move in LAST  # the last of the moves: nobody needs the state any more
        if last:
            stack.pop()
        after, left = state if last else state.copied(), budget - cost
        try:
            ahead = _go_on(found, after, left, move, menu, ends)
        except IdleError:
            continue
        except Exception as error:  # noqa: BLE001 - see `search`
            _tell(found, after, left, error)
            break
        mark = after.mark()
        if best.get(mark, -1) >= left:
            continue
        best[mark] = left
        if left == found.budget and after.now > first:
            continue  # as it was a renewal before
        choices += bool(ahead)
        found.branching += len(ahead)
        found.depth = max(found.depth, after.steps)
        if len(best) >= most:
            break
        stack.append((after, left, iter(ahead)))
    else:
        found.complete = True
    found.states = len(best)
    found.branching /= max(choices, 1)


def _go_on(found: Found, state: State, left: int, move: Move, menu: Menu, ends: int) -> list[tuple[int, Move]]:
    """Make the move, and those after it that have no alternative; returns the alternatives that come then.

    States without an alternative at the same instant are looked at, but not remembered.
    """
    while True:
        apply(state, move, menu)
        found.moves += 1
        ahead = list(options(state, left, ends, menu))
        if ahead != ONLY:
            return ahead
        move = LAST[0]


LAST: tuple[Move, ...] = (("go",), ("advance",))
ONLY: list[tuple[int, Move]] = [(0, ("go",))]


def _tell(found: Found, state: State, left: int, error: Exception) -> None:
    found.violation = str(error) if isinstance(error, Violation) else f"raises: {error!r}"
    found.deviations = found.budget - left
    path: list[Move] = []
    at = state.path
    while at is not None:
        at, move = at
        path.append(move)
    found.steps = len(path)
    found.path = tuple(reversed(path))


def retold(small: Small, path: tuple[Move, ...]) -> list[str]:
    """What happened on the way to a violation, move by move; times in ms."""
    lines: list[str] = []
    state, menu, *_ = small.begin()
    began = state.now
    for move in path:
        one = thing(state)
        what = f"{one[0]} of {_whose(state, one)}" if move == ("go",) and one is not None else " ".join(map(str, move))
        if move != ("advance",):
            lines.append(f"{(state.now - began) / MS:10.3f}  {what}")
        try:
            apply(state, move, menu)
        except Violation as error:
            lines.append(f"{(state.now - began) / MS:10.3f}  VIOLATION {error}")
    return lines


def _whose(state: State, one: tuple[str, int]) -> str:
    what, number = one
    if what == "question":
        question = state.questions[number]
        ask = question.effect.ask
        return f"{state.hosts[question.host].name}: {ask.kind} {ask.name} #{ask.number}"
    if what == "word":
        to, said = state.said[number]
        return f"{state.hosts[to].name}: {type(said).__name__} {said.round}"
    return state.hosts[number].name
