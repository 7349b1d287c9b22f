"""The fencing plug-in of a node: confirms, refuses, takes too long or falls silent, by chance, until the world heals.

What it confirms is not made true: no kernel is closed by it. So whatever a confirmation lets happen that the leases do
not allow is seen by the checker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from haagent.core.fencing import OVERDUE
from haagent.core.model import Event, Fence, FenceConfirmed, FenceRefused, FenceTimedOut

if TYPE_CHECKING:
    from tests.sim.host import Agent


def fence(agent: Agent, effect: Fence) -> None:
    """Be asked; the answer comes by and by, if one does."""
    world, real = agent.world, agent.host.real
    now = world.now
    until, overdue = max(now, real(effect.until)), max(now, real(effect.until + OVERDUE))  # who slept asks late
    chance, part = world.random(), world.random()
    in_time = now + int((until - now) * part)
    answer: Event = FenceConfirmed(effect.ask)
    at = in_time
    if now < world.heals_at:
        if chance < 0.2:
            answer = FenceRefused(effect.ask, "no such outlet")
        elif chance < 0.3:
            answer, at = FenceTimedOut(effect.ask), until
        elif chance < 0.4:
            at = until + int(2 * (overdue - until) * part)  # too late, or later than anybody waits
        elif chance < 0.45:
            return
    world.remark("fence", f"{effect.node} ({effect.incarnation}) by {agent}: {type(answer).__name__}")
    world.at(at, _answered, agent, effect, answer)


def _answered(agent: Agent, effect: Fence, answer: Event) -> None:
    if isinstance(answer, FenceConfirmed):
        agent.fenced.add(effect.incarnation)
    agent.deliver(answer)
