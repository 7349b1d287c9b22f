"""What was refused: counted by whose and why, logged now and then, in bounded memory whatever addresses are forged."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Final

from haagent.core.units import Duration, Instant, S
from haagent.wire.inet import to_text
from haagent.wire.rejection import Reason, Rejected

log = logging.getLogger("haagent.vrrp")

QUIET: Final[Duration] = 10 * S
SOURCES_MOST: Final = 64
"""So many pairs of reason and source are told apart in the log; the sources beyond share one line a reason."""


class Rejections:
    """`counted`: by (router, or interface where no router is meant; reason). Both are bounded by the configuration."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, Reason]] = Counter()
        self._lines: dict[tuple[str, Reason, bytes], _Line] = {}
        self._purge_at: Instant = 0

    def note(self, subject: str, source: bytes, rejected: Rejected, now: Instant) -> None:
        """Count it; log it unless the like was logged less than `QUIET` ago."""
        self.counted[subject, rejected.reason] += 1
        key = subject, rejected.reason, source
        line = self._lines.get(key)
        if line is None:
            line = self._new_line(key, now)
        if now < line.quiet_until:
            line.suppressed += 1
            return
        more = f"; {line.suppressed} more since the last such line" if line.suppressed else ""
        whom = "from many sources" if line.shared else f"from {_text(source)}"
        log.warning("%s: refused %s %s: %s%s", subject, rejected.reason, whom, rejected.detail, more)
        line.quiet_until = now + QUIET
        line.suppressed = 0

    def sum_up(self, received: int, unread: int) -> None:
        """Log all that was refused, by name, of so many packets; and how many came too fast to be read."""
        parts = [f"{subject} {reason} {count}" for (subject, reason), count in sorted(self.counted.items())]
        if parts or unread:
            words = "refused in all, of %d packets: %s; %d more came too fast to be read"
            log.info(words, received, ", ".join(parts) or "none", unread)

    def _new_line(self, key: tuple[str, Reason, bytes], now: Instant) -> _Line:
        if now >= self._purge_at:
            self._purge_at = now + QUIET
            self._lines = {k: line for k, line in self._lines.items() if now < line.quiet_until + QUIET}
        if len(self._lines) < SOURCES_MOST:
            return self._lines.setdefault(key, _Line())
        subject, reason, _ = key
        return self._lines.setdefault((subject, reason, b""), _Line(shared=True))


@dataclass(slots=True)
class _Line:
    """What was logged, until when nothing like it is logged, and how much of it was kept back."""

    shared: bool = False
    quiet_until: Instant = 0
    suppressed: int = 0


def _text(source: bytes) -> str:
    return to_text(source) if len(source) in (4, 16) else "unknown"
