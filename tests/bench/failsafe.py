"""What clients see while etcd is away and promises carry the address.

`make bench ARGS='--only "etcd away"'` runs just this.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from haagent.core.units import MS
from haagent.lab.cluster import Cluster
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Outcome, Rehearsal
from haagent.lab.topology import vip4

LOST = 6 * MS
"""So long without an answer, while it asked each 2 ms, and the client has lost a probe."""

Summary = dict[str, Any]

TTL = "1s"
STAYS: dict[str, tuple[Callable[[Rehearsal], Outcome], int]] = {
    "etcd away for 10 s": (partial(Rehearsal.etcd_away, seconds=10), 10),
    "etcd away for 60 s": (partial(Rehearsal.etcd_away, seconds=60), 3),
}
"""And how many trials at the most: they take their time."""
LETS_GO = "etcd away, then a candidate killed"


def measure(trials: int, only: str) -> list[Summary]:
    """With one etcd and with three, a line for each scenario as it is done."""
    rows: list[Summary] = []
    wanted = [name for name in (*STAYS, LETS_GO) if only in name]
    for members in (1, 3) if wanted else ():
        with Lab(hosts=3, etcd=members) as lab:
            rehearsal = Rehearsal(Cluster(lab, ttl=TTL, peers=True), lab.probe([vip4()]), vip4())
            rehearsal.cold_start()
            for name in wanted:
                act, most = STAYS.get(name, (Rehearsal.etcd_away_and_candidate_dead, trials))
                outcomes = [_whole(rehearsal, act) for _ in range(min(trials, most))]
                summary = _lets_go(outcomes) if name == LETS_GO else _stays(outcomes)
                rows.append({"scenario": name, "ttl": TTL, "etcd": members, "trials": len(outcomes), **summary})
                print("  ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    return rows


def table(rows: list[Summary]) -> list[str]:
    """The rows as Markdown."""
    lines = [
        "Failsafe: all of etcd stopped (SIGSTOP) under three nodes that hear each other. *Lost*: trials in which",
        f"a probe was lost (more than {LOST // MS} ms without an answer, while the client got to ask). *Moved*: after",
        "which the owner or the epoch was another. *Last answer*: after the candidate was killed; a lease is one ttl.",
        "",
        "| scenario | etcd | ttl | trials | lost | longest silence | moved | last answer, median | worst | overlaps |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        head = f"| {row['scenario']} | {row['etcd']} | {row['ttl']} | {row['trials']}"
        if row["scenario"] == LETS_GO:
            told = f" | | | | {row['last_median_ms']:g} ms | {row['last_worst_ms']:g} ms"
        else:
            told = f" | {row['lost']} | {row['silence_worst_ms']:g} ms | {row['moved']} | | "
        lines.append(f"{head}{told} | {row['overlaps']} |")
    return lines


def _whole(rehearsal: Rehearsal, act: Callable[[Rehearsal], Outcome]) -> Outcome:
    rehearsal.cluster.restore()
    epoch = rehearsal.cluster.epoch()
    outcome = act(rehearsal)
    # Another epoch is a move, whoever has it.
    return outcome if outcome.epoch == epoch else replace(outcome, after=f"{outcome.after} anew")


def _stays(outcomes: list[Outcome]) -> Summary:
    return {
        "lost": sum(outcome.gap - outcome.blind > LOST for outcome in outcomes),
        "silence_worst_ms": round(max(outcome.gap - outcome.blind for outcome in outcomes) / MS, 1),
        "moved": sum(outcome.after != outcome.before for outcome in outcomes),
        "overlaps": sum(outcome.most > 1 for outcome in outcomes),
    }


def _lets_go(outcomes: list[Outcome]) -> Summary:
    last = [outcome.took / MS for outcome in outcomes]
    return {
        "last_median_ms": round(statistics.median(last), 1),
        "last_worst_ms": round(max(last), 1),
        "overlaps": sum(outcome.most > 1 for outcome in outcomes),
    }
