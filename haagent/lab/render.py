"""A timeline for human eyes, as lines of text, and for machines, as a dictionary that JSON can hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from haagent.core.units import MS, Instant
from haagent.lab.timeline import Gap, Overlap, Timeline

_ANSWERS, _SILENT = "█", "·"


def as_text(timeline: Timeline, *, marks: Mapping[str, Instant] | None = None, width: int = 80) -> str:
    """One bar for each address and node, a line for each run, overlap and gap; times in ms since it was first
    watched.

    `marks` are events, by name, that are put in a line of their own above the bars. A cell of a bar is filled
    if the node was answering at any time of its part of the whole.
    """
    start, end = timeline.watched
    span = max(end - start, 1)

    def column(at: Instant) -> int:
        return min(max((at - start) * width // span, 0), width - 1)

    def ms(at: Instant) -> str:
        return f"{(at - start) / MS:.1f}"

    margin = max((len(node) for node in timeline.nodes), default=0) + 2
    lines = [f"{'':{margin}}0 ms{f'{span / MS:.0f} ms':>{max(width - 4, 0)}}"]
    for name, at in sorted((marks or {}).items(), key=lambda mark: mark[1]):
        lines.append(f"{'':{margin}}{'':{column(at)}}▼ {name} ({ms(at)})")
    for vip in timeline.vips:
        lines.append(vip)
        for node in timeline.nodes:
            bar = [_SILENT] * width
            for run in timeline.runs(vip):
                if run.node == node:
                    first, last = column(run.first), column(run.last)
                    bar[first : last + 1] = _ANSWERS * (last - first + 1)
            lines.append(f"{node:{margin}}{''.join(bar)}")
        lines += [
            f"  {run.node} answered {ms(run.first)} to {ms(run.last)} ({run.answers} answers)"
            for run in timeline.runs(vip)
        ]
        lines += [f"  gap {_describe(gap)}" for gap in timeline.gaps(vip)]
        lines += [
            f"  OVERLAP {' and '.join(overlap.nodes)} {ms(overlap.start)} to {ms(overlap.end)}: "
            f"{ways(timeline, overlap)}"
            for overlap in timeline.overlaps(vip)
        ]
    return "\n".join(lines) + "\n"


def as_json(timeline: Timeline) -> dict[str, Any]:
    """Runs, gaps and overlaps for each address; instants and durations in nanoseconds (CLOCK_BOOTTIME)."""
    return {
        "watched": list(timeline.watched),
        "join": timeline.join,
        "blind": [list(stretch) for stretch in timeline.blind],
        "most_at_once": timeline.most_at_once(),
        "addresses": {
            vip: {
                "most_at_once": timeline.most_at_once(vip),
                "runs": [
                    {"node": run.node, "first": run.first, "last": run.last, "answers": run.answers}
                    for run in timeline.runs(vip)
                ],
                "gaps": [
                    {
                        "start": gap.start,
                        "end": gap.end,
                        "before": gap.before,
                        "after": gap.after,
                        "blind": gap.blind,
                    }
                    for gap in timeline.gaps(vip)
                ],
                "overlaps": [
                    {
                        "nodes": list(overlap.nodes),
                        "start": overlap.start,
                        "end": overlap.end,
                        "ways": timeline.ways(overlap),
                    }
                    for overlap in timeline.overlaps(vip)
                ],
            }
            for vip in timeline.vips
        },
    }


def ways(timeline: Timeline, overlap: Overlap) -> str:
    """How each node was reached while both answered."""
    return "; ".join(f"{node} by {', '.join(ways)}" for node, ways in timeline.ways(overlap).items())


def _describe(gap: Gap) -> str:
    assert gap.length is not None, "a gap between two answers has a length"
    blind = f", prober blind for {gap.blind / MS:.1f} of it" if gap.blind else ""
    return f"{gap.length / MS:.1f} ms between {gap.before} and {gap.after}{blind}"
