"""What a node knows of who may still hold, by incarnation and by group, and how long a challenger waits for that."""

from __future__ import annotations

from dataclasses import dataclass

from haagent.core.records import OwnerRecord
from haagent.core.units import Duration, Instant


@dataclass(frozen=True, slots=True)
class Evidence:
    """Until when an incarnation may still hold: by its newest lease renewal seen, and by records that name it.

    `seen_at`: when the newest of either was seen. Promises of others may let it hold beyond what etcd shows.
    """

    node: str
    by_lease: Instant
    by_record: Instant
    ttl: Duration
    seen_at: Instant

    @property
    def expires_at(self) -> Instant:
        return self.by_lease if self.by_lease > self.by_record else self.by_record


@dataclass(frozen=True, slots=True)
class Given:
    """A promise of ours: to claim nothing from who owns by this epoch, until then."""

    epoch: int
    until: Instant


@dataclass(frozen=True, slots=True)
class Lost:
    """The last record of a group that has none now. `followed`: the stream showed that record, and then its end."""

    record: OwnerRecord
    followed: bool


def patience(ttl: Duration, guard: Duration) -> Duration:
    """How long a challenger waits after the newest evidence of a holder with this ttl.

    The two clocks' rates differ by less than 1 %, so the holder's ttl has run out on any clock; `guard` covers what
    the kernel takes to stop answering. `held_until` lies a `margin` before that (docs/SAFETY.md has the arithmetic).
    """
    return ttl + ttl // 100 + guard
