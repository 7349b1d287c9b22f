"""Why there is no stream with a peer, why one ended, why a message was dropped: named, counted, logged now and then.

Counted by peer and reason, in bounded memory whatever names strangers come with.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from haagent.core.units import Duration, Instant, S

_LOG: Final = logging.getLogger("haagent.peers")

QUIET: Final[Duration] = 60 * S
COUNTED_MOST: Final = 4096
"""Pairs of peer and reason that are counted apart; what is beyond is counted as of nobody known."""
NOBODY: Final = "?"
"""Stands for a peer that did not prove who it is."""


class Reason(StrEnum):
    """One word for each way of being refused."""

    # Connecting.
    ENDPOINT = "bad-endpoint"
    UNREACHABLE = "unreachable"
    PLAIN = "plain-text"
    TLS = "tls-wanted"
    AUTHORITY = "wrong-ca"
    EXPIRED = "expired"
    NAME = "wrong-name"
    OURS = "certificate-refused"
    BROKEN_OFF = "broken-off"
    CROWDED = "too-many"
    # Greeting.
    NO_HELLO = "no-hello"
    CLUSTER = "wrong-cluster"
    NODE = "wrong-node"
    DIRECTION = "wrong-direction"
    VERSION = "no-common-version"
    REFUSED = "refused-by-peer"
    # Messages.
    GARBAGE = "garbage"
    OVERSIZED = "oversized"
    TEXT = "bad-text"
    NUMBER = "bad-number"
    TENURES = "too-many-tenures"
    INCARNATION = "wrong-incarnation"
    UNEXPECTED = "unexpected"
    RATE = "too-fast"
    # The end of a stream.
    FLOOD = "flood"
    SILENT = "silent"
    REPLACED = "replaced"
    RENEWED = "ca-changed"
    CLOSED = "closed"
    STOPPED = "stopped"
    MISTAKE = "mistake"


EXPECTED: Final = frozenset({Reason.REPLACED, Reason.RENEWED, Reason.CLOSED, Reason.STOPPED})
"""Ends of a stream that nobody is to blame for: told as information."""


@dataclass(frozen=True, slots=True)
class Refused:
    """`detail` is for people: what came, and what was allowed."""

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


class Refusals:
    """`counted`: by (peer, reason). One log line for each pair in `QUIET`, with how many were kept back."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, Reason]] = Counter()
        self._lines: dict[tuple[str, Reason], _Line] = {}

    def note(self, peer: str, refused: Refused, now: Instant) -> None:
        """Count it; log it unless the like was logged less than `QUIET` ago."""
        key = (peer, refused.reason)
        if key not in self.counted and len(self.counted) >= COUNTED_MOST:
            key = (NOBODY, refused.reason)
        self.counted[key] += 1
        line = self._lines.setdefault(key, _Line())
        if now < line.quiet_until:
            line.suppressed += 1
            return
        more = f"; {line.suppressed} more since the last such line" if line.suppressed else ""
        level = logging.INFO if refused.reason in EXPECTED else logging.WARNING
        whom = "somebody" if key[0] == NOBODY else key[0]
        _LOG.log(level, "peers: %s: %s%s", whom, refused, more)
        line.quiet_until = now + QUIET
        line.suppressed = 0


@dataclass(slots=True)
class _Line:
    """Until when nothing like what was logged is logged, and how much of it was kept back."""

    quiet_until: Instant = 0
    suppressed: int = 0
