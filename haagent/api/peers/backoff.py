"""How long to wait before dialing again. Pure: chance is handed in."""

from __future__ import annotations

from typing import Final

LEAST: Final = 0.1
MOST: Final = 3.0


def pause(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row, 1 at least: doubled each time, the upper half left to chance.

    `chance` from 0 to 1. Always within `LEAST` and `MOST`.
    """
    longest = min(MOST, 2 * LEAST * 2.0 ** min(failures - 1, 16))
    return max(LEAST, longest * (0.5 + chance / 2))
