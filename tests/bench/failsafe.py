"""What clients see while etcd is away and promises carry the address.

`make bench ARGS='--only "etcd away"'` runs just this.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from haagent.core.units import MS
from haagent.lab.cluster import Cluster
from haagent.lab.lab import Lab
from haagent.lab.probes import Kind
from haagent.lab.scenarios import Outcome, Rehearsal
from haagent.lab.topology import vip4

Summary = dict[str, Any]

TTL = "1s"
STAYS: dict[str, tuple[Callable[[Rehearsal], Outcome], int]] = {
    "etcd away for 10 s": (partial(Rehearsal.etcd_away, seconds=10), 10),
    "etcd away for 60 s": (partial(Rehearsal.etcd_away, seconds=60), 3),
}
"""And how many trials at the most: they take their time."""
LETS_GO = "etcd away, then a candidate killed"


class Trial(NamedTuple):
    """What came of a trial; `lost` are probes that nobody answered, from a little before it to its end."""

    outcome: Outcome
    stayed: bool
    probes: int
    lost: int


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
                done = [_trial(rehearsal, act) for _ in range(min(trials, most))]
                summary = _lets_go(done) if name == LETS_GO else _stays(done)
                rows.append({"scenario": name, "ttl": TTL, "etcd": members, "trials": len(done), **summary})
                print("  ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    return rows


def table(rows: list[Summary]) -> list[str]:
    """The rows as Markdown."""
    lines = [
        "Failsafe: all of etcd stopped (SIGSTOP) under three nodes that hear each other, and continued. *Probes*: how",
        "often the client asked, by ICMP each 2 ms, in all trials; *lost*: how often nobody answered. *Moved*: after",
        "so many trials the owner or the epoch was another. *Last answer*: after the candidate was killed; the owner's",
        "right ends a ttl after it last asked for promises.",
        "",
        "| scenario | etcd | ttl | trials | probes | lost | moved | last answer, median | worst | overlaps |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        head = f"| {row['scenario']} | {row['etcd']} | {row['ttl']} | {row['trials']}"
        if row["scenario"] == LETS_GO:
            told = f" | | | | {row['last_median_ms']:g} ms | {row['last_worst_ms']:g} ms"
        else:
            told = f" | {row['probes']} | {row['lost']} | {row['moved']} | | "
        lines.append(f"{head}{told} | {row['overlaps']} |")
    return lines


def _trial(rehearsal: Rehearsal, act: Callable[[Rehearsal], Outcome]) -> Trial:
    cluster = rehearsal.cluster
    cluster.restore()
    epoch = cluster.epoch()
    prober = cluster.lab.probe([vip4()])
    outcome = act(rehearsal)
    probes = prober.stop().steps
    answered = sum(answer.kind is Kind.ICMP for answer in prober.timeline().answers(vip4()))
    return Trial(outcome, outcome.after == outcome.before and outcome.epoch == epoch, probes, probes - answered)


def _stays(trials: list[Trial]) -> Summary:
    return {
        "probes": sum(trial.probes for trial in trials),
        "lost": sum(trial.lost for trial in trials),
        "moved": sum(not trial.stayed for trial in trials),
        "overlaps": sum(trial.outcome.most > 1 for trial in trials),
    }


def _lets_go(trials: list[Trial]) -> Summary:
    last = [trial.outcome.took / MS for trial in trials]
    return {
        "last_median_ms": round(statistics.median(last), 1),
        "last_worst_ms": round(max(last), 1),
        "overlaps": sum(trial.outcome.most > 1 for trial in trials),
    }
