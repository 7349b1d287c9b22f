"""The page docs/MEASURED.md, from the rows that the trials left in docs/MEASURED.json."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from tests.bench import failsafe
from tests.bench.failsafe import Summary


def page(rows: Sequence[Summary]) -> str:
    """The whole page: faults, etcd away, moves on purpose, and what dies in the middle of one."""
    carried = [row for row in rows if "etcd" in row]
    kinds = {kind: [row for row in rows if row.get("kind") == kind] for kind in ("move", "death")}
    lines = [*_head(), *(_fault(row) for row in rows if "etcd" not in row and "kind" not in row)]
    if carried:
        lines += ["", *failsafe.table(carried)]
    if kinds["move"]:
        lines += [*_move_head(), *map(_move, kinds["move"])]
    lines += [line for row in rows if row.get("kind") == "list" for line in _list(row)]
    if kinds["death"]:
        lines += [*_death_head(), *map(_death, kinds["death"])]
    return "\n".join(lines) + "\n"


def _head() -> list[str]:
    return [
        "# Measured",
        "",
        "Written by `make bench ARGS='--out docs/MEASURED'`, not by hand: three nodes, one etcd and a client in",
        f"namespaces of one machine ({os.cpu_count()} shared cores, kernel {platform.release()}, Python",
        f"{platform.python_version()}). *Gap*: the longest time in which the client, asking each 2 ms by ARP and ICMP,",
        "had no answer. *Unnoticed*: trials in which that was 6 ms at most, apart from times when the client itself",
        "did not get to ask. *Took*: from the event to the new owner's first answer. *Overlaps*: trials in which two",
        "nodes answered at one instant, and for how long at the most.",
        "",
        "| scenario | ttl | trials | gap median | worst | unnoticed | took median | worst | overlaps | longest |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]


def _fault(s: Summary) -> str:
    gap = f"{s['gap_median_ms']:g} ms | {s['gap_worst_ms']:g} ms | {s.get('unnoticed', '')}"
    took = f"{s['took_median_ms']:g} ms | {s['took_worst_ms']:g} ms"
    return f"| {s['scenario']} | {s['ttl']} | {s['trials']} | {gap} | {took} | {_overlaps(s)} |"


def _move_head() -> list[str]:
    return [
        "",
        "## Moves on purpose",
        "",
        "By `haagentctl switchover` and `haagentctl drain`, the nodes talking with each other, all on one machine. Of",
        "many addresses or groups the client asks for the first, the middle and the last; *gap* is the longest of",
        "theirs. *Told*: the gap that haagentctl said, of several groups the longest of all. It is of the whole group,",
        "from when the first of its addresses ceased to answer until the last one answered again. *More*: by how much",
        "that was longer than what the client saw. *Took*: all commands, from their start to their end.",
        "",
        "| scenario | ttl | trials | gap median | p95 | worst | told median | more | took median | overlaps |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]


def _move(s: Summary) -> str:
    gap = f"{s['gap_median_ms']:g} ms | {s['gap_p95_ms']:g} ms | {s['gap_worst_ms']:g} ms"
    told = f"{s['told_median_ms']:g} ms | {s['told_more_median_ms']:g} ms | {s['took_median_ms']:g} ms"
    return f"| {s['scenario']} | {s['ttl']} | {s['trials']} | {gap} | {told} | {s['overlaps']} |"


def _list(s: Summary) -> list[str]:
    took = f"{s['took_median_ms']:g} ms in the median of {s['trials']}, {s['took_worst_ms']:g} ms at the most"
    return ["", f"`haagentctl list` of three nodes, from its start to its end: {took}."]


def _death_head() -> list[str]:
    return [
        "",
        "## Something dies in the middle of a switchover",
        "",
        "The agent that gives, the agent that takes, or the command, 0 to 40 ms after the wish was seen in etcd, more",
        "often early; every third trial asks the agent that is killed. The client's *gap* may be a lease and 300 ms.",
        "*Codes*: what haagentctl ended with, and how often. *Wrong*: trials with a longer gap, or in which it said",
        "more than was verified.",
        "",
        "| what dies | ttl | trials | gap median | worst | codes | wrong | overlaps | longest |",
        "|---|---|---:|---:|---:|---|---:|---:|---:|",
    ]


def _death(s: Summary) -> str:
    gap = f"{s['gap_median_ms']:g} ms | {s['gap_worst_ms']:g} ms"
    codes = ", ".join(f"{code}: {count}" for code, count in s["codes"].items())
    return f"| {s['scenario']} | {s['ttl']} | {s['trials']} | {gap} | {codes} | {s['wrong']} | {_overlaps(s)} |"


def _overlaps(s: Summary) -> str:
    return f"{s['overlaps']} | {s['longest_overlap_ms']:g} ms"
