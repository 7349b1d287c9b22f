"""`make bench`: trials of each scenario in the lab, and what they measured, as JSON and as the page docs/MEASURED.md.

Speed lives here, not in the tests: the machine's noise is part of every number, and the page says how it was made.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Generator, Sequence
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
from tests.bench import dying, failsafe, moving
from tests.bench.failsafe import Summary
from tests.bench.page import page

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
            print(_line(rows[-1].summary()), flush=True)
        rows += _trials(ttl, trials, only, dual)
    summaries = [*(row.summary() for row in rows), *failsafe.measure(trials, only)]
    for summary in () if dual else _moves(ttls[0], trials, only):
        print(_line(summary), flush=True)
        summaries.append(summary)
        if out is not None:
            _write(out, summaries)
    if out is not None:
        _write(out, summaries)


def _write(out: Path, fresh: Sequence[Summary]) -> None:
    file = out.with_suffix(".json")
    kept: list[Summary] = json.loads(file.read_text()) if file.exists() else []
    rows = {(row["ttl"], row["scenario"], row.get("etcd")): row for row in [*kept, *fresh]}
    file.write_text(json.dumps(list(rows.values()), indent=2) + "\n")
    out.with_suffix(".md").write_text(page(list(rows.values())))


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
    if not any(only in name for name in SCENARIOS):
        return rows
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
            print(_line(rows[-1].summary()), flush=True)
    return rows


def _moves(ttl: str, trials: int, only: str) -> Generator[Summary]:
    """Moves on purpose, and what dies in the middle of one: half as many trials, for they take long."""
    for name in moving.MOVES:
        if only in name:
            yield moving.measure(name, ttl, trials)
    if only in "list":
        yield moving.listing(ttl, trials)
    for addresses in (1, 200):
        for victim in dying.Victim:
            if only in victim.value:
                yield dying.measure(addresses, victim, ttl, max(1, trials // 2))


def _line(row: Summary) -> str:
    return "  ".join(f"{key}={value}" for key, value in row.items())


if __name__ == "__main__":
    main()
