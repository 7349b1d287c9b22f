"""How often a place may be repaired: somebody else may take an address as fast as we put it back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from haagent.adapters.netlink.plan import Place
from haagent.core.units import MS, NEVER, Duration, Instant, S


class Limiter:
    """A bucket of `BURST` repairs for each place, filled by one every `REFILL`; `take_due` names what had to wait."""

    def __init__(self) -> None:
        self._free_at: dict[Place, Instant] = {}
        self._later: dict[Place, Instant] = {}

    @property
    def due(self) -> Instant:
        """When something that had to wait may be looked at again."""
        return min(self._later.values(), default=NEVER)

    def may(self, place: Place, now: Instant) -> bool:
        """Whether to repair now; if not, `take_due` will name the place in time."""
        free_at = max(self._free_at.get(place, 0), now - BURST * REFILL)
        if free_at + REFILL > now:
            self._later.setdefault(place, free_at + REFILL)
            return False
        self._free_at[place] = free_at + REFILL
        return True

    def delay(self, place: Place, now: Instant) -> None:
        """The kernel refused: try again in a while."""
        self._later[place] = now + RETRY

    def take_due(self, now: Instant) -> list[Place]:
        """The places whose time has come."""
        due = [place for place, at in self._later.items() if at <= now]
        for place in due:
            del self._later[place]
        return due

    def forget(self, places: Iterable[Place]) -> None:
        """Nobody wants these any more."""
        for place in places:
            self._free_at.pop(place, None)
            self._later.pop(place, None)


BURST: Final = 10
REFILL: Final[Duration] = 250 * MS
RETRY: Final[Duration] = 1 * S
