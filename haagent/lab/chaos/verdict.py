"""The judgement of a trial, from what the client saw. Pure.

The rule is strict, and knows no excuse: if the old owner's last answer for an address comes after the new owner's
first, two answered. What the agents say of themselves is told beside it and changes nothing, but for one thing that
the client may have been too slow to see: two that were MASTER by the same epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from haagent.core.units import MS, Duration, Instant
from haagent.lab import render
from haagent.lab.chaos import journal
from haagent.lab.chaos.journal import Line, Tenure
from haagent.lab.timeline import Overlap, Timeline


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a trial ended: healed at `healed`; `owner`, by `epoch`, answered for everything from `answering` on.

    Both None if it never came to that within `bound`, or if not every node became a candidate again: `trouble` has why.
    """

    healed: Instant
    bound: Duration
    answering: Instant | None = None
    owner: str | None = None
    epoch: int = 0
    trouble: str = ""

    @property
    def took(self) -> Duration | None:
        """From the healing on; 0 if the owner answered all along."""
        return None if self.answering is None else max(self.answering - self.healed, 0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`most` nodes answered for one address at one instant, in `overlaps`.

    `gap` is the longest time in which an address had no answer, faults included; None if it never ended. For `blind`
    of the whole trial the client itself did not get to ask. `stalls` and `sick` are the agents' own words.
    """

    most: int
    overlaps: tuple[Overlap, ...]
    gap: Duration | None
    blind: Duration
    recovery: Recovery
    tenures: tuple[Tenure, ...]
    stalls: tuple[str, ...]
    sick: tuple[str, ...]
    ways: str = ""
    """How the two were reached in the longest overlap."""

    @property
    def overlap(self) -> Duration:
        """The longest."""
        return max((overlap.length for overlap in self.overlaps), default=0)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the trial failed; empty if it passed."""
        found: list[str] = []
        if self.most > 1:
            found.append(f"{self.most} nodes answered at once, for {self.overlap / MS:.0f} ms ({self.ways})")
        if shared := journal.shared_epochs(self.tenures):
            found.append(f"two nodes were MASTER by epoch {', '.join(map(str, shared))}")
        took = self.recovery.took
        if took is None or took > self.recovery.bound or self.recovery.trouble:
            why = self.recovery.trouble.partition("\n")[0]
            after = "" if took is None else f"{took / MS:.0f} ms, "
            found.append(f"not recovered in time: {after}{why or f'bound {self.recovery.bound / MS:.0f} ms'}")
        return tuple(found)

    def document(self) -> dict[str, Any]:
        """For machines; durations in milliseconds."""
        took = self.recovery.took
        return {
            "passed": not self.failures,
            "failures": list(self.failures),
            "most_at_once": self.most,
            "overlap_ms": round(self.overlap / MS, 1),
            "gap_ms": None if self.gap is None else round(self.gap / MS, 1),
            "blind_ms": round(self.blind / MS, 1),
            "recovery_ms": None if took is None else round(took / MS, 1),
            "owner": self.recovery.owner,
            "epochs": [tenure.epoch for tenure in self.tenures],
            "stalls": list(self.stalls),
            "sick": list(self.sick),
        }


def judge(
    timeline: Timeline, vips: Sequence[str], recovery: Recovery, lines: Sequence[Line], tenures: Iterable[Tenure]
) -> Verdict:
    """What the trial comes to; `timeline` from a little before its beginning to its end."""
    worst = max(timeline.overlaps(), key=lambda overlap: overlap.length, default=None)
    gaps = [timeline.gap(vip, timeline.watched[0]) for vip in vips]
    lengths = [gap.length for gap in gaps]
    return Verdict(
        most=timeline.most_at_once(),
        overlaps=timeline.overlaps(),
        gap=None if None in lengths else max(length or 0 for length in lengths),
        blind=sum(stretch.end - stretch.start for stretch in timeline.blind),
        recovery=recovery,
        tenures=tuple(tenures),
        stalls=journal.stalls(lines),
        sick=journal.sick(lines),
        ways="" if worst is None else render.ways(timeline, worst),
    )


def answering_since(timeline: Timeline, vips: Sequence[str], owner: str, healed: Instant) -> Instant | None:
    """From when on `owner` answered for every address until the end; None if it does not.

    A silence of up to a tenth of a second is the machine's.
    """
    since = healed
    for vip in vips:
        runs = [run for run in timeline.runs(vip) if run.node == owner]
        if not runs or timeline.watched[1] - runs[-1].last > _SILENCE:
            return None
        begin = runs[-1].first
        for run in runs[-2::-1]:
            if begin - run.last > _SILENCE:
                break
            begin = run.first
        since = max(since, begin)
    return since


_SILENCE = 100 * MS
