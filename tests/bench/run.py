"""`make bench`: trials of each scenario in the lab, and what they measured, as JSON and as the page docs/MEASURED.md.

Speed lives here, not in the tests: the machine's noise is part of every number, and the page says how it was made.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from haagent.core.units import MS
from haagent.lab.cluster import Cluster, both_families
from haagent.lab.faults import Direction
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Outcome, Rehearsal
from haagent.lab.topology import vip4, vip6
from tests.bench import failsafe
from tests.bench.failsafe import Summary

SCENARIOS: dict[str, Callable[[Rehearsal], Outcome]] = {
    "graceful stop": Rehearsal.graceful_stop,
    "SIGKILL": Rehearsal.kill,
    "SIGSTOP, SIGCONT": Rehearsal.stop_and_continue,
    "SIGKILL, restarted at once": Rehearsal.restart,
    "host lost": Rehearsal.lose_host,
    "cut off from etcd": Rehearsal.cut_from_etcd,
    "cut off from etcd and peers": Rehearsal.cut_from_cluster,
    "cut, only outgoing": partial(Rehearsal.cut_from_cluster, direction=Direction.OUT),
    "cut, only incoming": partial(Rehearsal.cut_from_cluster, direction=Direction.IN),
    "cut off from everything": Rehearsal.isolate,
}


LOST = 6 * MS
"""So long without an answer, while it asked each 2 ms, and the client has lost a probe."""


@dataclass
class Row:
    """One scenario with one ttl: its trials' outcomes."""

    scenario: str
    ttl: str
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def summary(self) -> Summary:
        """Milliseconds; `took` from the event to the new owner's first answer."""
        gaps = sorted(outcome.gap / MS for outcome in self.outcomes)
        took = sorted(outcome.took / MS for outcome in self.outcomes)
        return {
            "scenario": self.scenario,
            "ttl": self.ttl,
            "trials": len(self.outcomes),
            "gap_median_ms": round(statistics.median(gaps), 1),
            "gap_worst_ms": round(gaps[-1], 1),
            "unnoticed": sum(outcome.gap - outcome.blind <= LOST for outcome in self.outcomes),
            "took_median_ms": round(statistics.median(took), 1),
            "took_worst_ms": round(took[-1], 1),
            "most_at_once": max(outcome.most for outcome in self.outcomes),
            "overlaps": sum(outcome.most > 1 for outcome in self.outcomes),
            "longest_overlap_ms": round(max(outcome.overlap for outcome in self.outcomes) / MS, 1),
        }


@click.command()
@click.option("--trials", default=20, show_default=True, help="Trials of each scenario and ttl.")
@click.option("--ttl", "ttls", multiple=True, default=("1s", "300ms"), show_default=True)
@click.option("--only", default="", help="Only scenarios whose name contains this.")
@click.option("--dual", is_flag=True, help="One group of an IPv4 and an IPv6 address, and both must have one owner.")
@click.option("--out", type=click.Path(path_type=Path), help="Write <out>.json and <out>.md, rows of other runs kept.")
def main(trials: int, ttls: Sequence[str], only: str, dual: bool, out: Path | None) -> None:
    """Measure, print a line for each scenario, and write the page if asked to."""
    rows: list[Row] = []
    for ttl in ttls:
        if only in "cold start":
            rows.append(_cold_starts(ttl, trials, dual))
            print(_line(rows[-1]), flush=True)
        rows += _trials(ttl, trials, only, dual)
    summaries = [*(row.summary() for row in rows), *failsafe.measure(trials, only)]
    if out is not None:
        _write(out, summaries)


def _write(out: Path, fresh: Sequence[Summary]) -> None:
    file = out.with_suffix(".json")
    kept: list[Summary] = json.loads(file.read_text()) if file.exists() else []
    rows = {(row["ttl"], row["scenario"], row.get("etcd")): row for row in [*kept, *fresh]}
    file.write_text(json.dumps(list(rows.values()), indent=2) + "\n")
    out.with_suffix(".md").write_text(_page(list(rows.values())))


def _cold_starts(ttl: str, trials: int, dual: bool) -> Row:
    row = Row("cold start", ttl)
    for _ in range(trials):
        with Lab(hosts=3, etcd=1) as lab:
            row.outcomes.append(_rehearsal(lab, ttl, dual).cold_start())
    return row


def _rehearsal(lab: Lab, ttl: str, dual: bool) -> Rehearsal:
    cluster = Cluster(lab, ttl=ttl, keys=both_families() if dual else None)
    return Rehearsal(cluster, lab.probe([vip4(), vip6()] if dual else [vip4()]), vip4())


def _trials(ttl: str, trials: int, only: str, dual: bool) -> list[Row]:
    rows: list[Row] = []
    with Lab(hosts=3, etcd=1) as lab:
        rehearsal = _rehearsal(lab, ttl, dual)
        rehearsal.cold_start()
        for name, act in SCENARIOS.items():
            if only not in name:
                continue
            rows.append(Row(f"{name}, IPv4 and IPv6" if dual else name, ttl))
            for _ in range(trials):
                rows[-1].outcomes.append(act(rehearsal))
                rehearsal.cluster.restore()
            print(_line(rows[-1]), flush=True)
    return rows


def _line(row: Row) -> str:
    return "  ".join(f"{key}={value}" for key, value in row.summary().items())


def _page(rows: Sequence[Summary]) -> str:
    lines = [
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
    for s in (row for row in rows if "etcd" not in row):
        gap = f"{s['gap_median_ms']:g} ms | {s['gap_worst_ms']:g} ms | {s.get('unnoticed', '')}"
        took = f"{s['took_median_ms']:g} ms | {s['took_worst_ms']:g} ms"
        tail = f"{s['overlaps']} | {s['longest_overlap_ms']:g} ms"
        lines.append(f"| {s['scenario']} | {s['ttl']} | {s['trials']} | {gap} | {took} | {tail} |")
    carried = [row for row in rows if "etcd" in row]
    return "\n".join([*lines, "", *failsafe.table(carried)] if carried else lines) + "\n"


if __name__ == "__main__":
    main()
