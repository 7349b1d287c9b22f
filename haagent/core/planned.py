"""What planned work needs: the wall clock and failback windows, as events; what a group's decision knows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from haagent.core.units import Duration, Instant, Wall


class Damping(NamedTuple):
    """A node that lost a group so often `within` that time goes last for it; `losses` 0: it never does."""

    losses: int = 0
    within: Duration = 0


NEVER_DAMPED: Final = Damping()


@dataclass(frozen=True, slots=True)
class WallClockRead:
    """The wall clock was read: it is `offset` ahead of the clock that instants are read from."""

    offset: Duration


@dataclass(frozen=True, slots=True)
class WindowChanged:
    """The time in which a better node may take the group back has begun, or is over. At the start it is over."""

    group: str
    open: bool


class Plans(NamedTuple):
    """What one group's decision knows of planned work beside etcd's orders and intents.

    `wall_ahead`: how far the wall clock is ahead, None until it was read. `window`: whether failback is allowed now.
    `damped_until`: this node goes last for the group until then; 0 if it does not.
    """

    wall_ahead: Duration | None = None
    window: bool = False
    damped_until: Instant = 0

    def reached(self, wall: Wall, now: Instant) -> bool:
        """Whether the wall clock shows that time, or later. Never before it was read."""
        return self.wall_ahead is not None and now + self.wall_ahead >= wall


UNPLANNED: Final = Plans()
