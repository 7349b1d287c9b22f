"""Trials of what made two owners once: `PYTHONPATH=. .venv/bin/python tests/bench/two_owners.py` (root).

Each variant does one thing to a cluster, again and again, while the observer asks every host by every path that a
client may use. A trial says for how long two hosts answered at most, between whom, and by which path; any such moment
is a failure. `make acceptance` runs some trials of each. `--out` keeps every trial, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import click

from haagent.core.units import MS
from haagent.lab.commands import LabError, now
from tests.bench.ends import ENDS
from tests.bench.histories import HISTORIES
from tests.bench.owning import Bed, Variant, bed

VARIANTS: Final[dict[str, Variant]] = {**ENDS, **HISTORIES}


@click.command(help=__doc__)
@click.option("--variant", "names", multiple=True, type=click.Choice(list(VARIANTS)), help="All if not given.")
@click.option("--trials", default=5, show_default=True, help="Of each variant and ttl.")
@click.option("--ttl", "ttls", multiple=True, default=("1s",), show_default=True)
@click.option("--gate", "gates", multiple=True, help="As fence.gate, if not the variant's own; the agent's default.")
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all trials there, as JSON.")
def main(
    names: Sequence[str], trials: int, ttls: Sequence[str], gates: Sequence[str], seed: int, out: Path | None
) -> None:
    """Run the trials, a line for each variant, and exit with 1 if two ever answered or a trial did not come off."""
    rows: list[dict[str, Any]] = []
    for name in names or VARIANTS:
        for ttl in ttls:
            for gate in gates or (None,):
                rows.append(run(name, ttl, gate, trials, seed))
                if out is not None:
                    out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["two_answered"] or row["spoiled"] or not row["trials"] for row in rows))


def run(name: str, ttl: str, gate: str | None, trials: int, seed: int) -> dict[str, Any]:
    """So many trials of one variant, on as few labs as may be."""
    began = time.monotonic()
    done: list[dict[str, Any]] = []
    spoiled: list[str] = []
    chance = Random(f"{name} {ttl} {seed}")
    while len(done) < trials and len(spoiled) < 3:
        try:
            with bed(VARIANTS[name], ttl, gate, chance) as made:
                while len(done) < trials:
                    done.append(_trial(VARIANTS[name], made))
        except LabError as error:
            spoiled.append(str(error).partition("\n")[0])
            print(f"    a trial did not come off: {error}", flush=True)
    row = {
        "variant": name,
        "gate": gate or VARIANTS[name].gate,
        "ttl": ttl,
        "seed": seed,
        **_summary(done),
        "spoiled": spoiled,
    }
    row["seconds"] = round(time.monotonic() - began)
    print(_line(row), flush=True)
    return {**row, "done": done}


def _trial(variant: Variant, made: Bed) -> dict[str, Any]:
    """One trial; what is looked at begins where the last one's ended."""
    what = variant.act(made)
    timeline = made.prober.timeline(made.since)
    overlaps = timeline.overlaps()
    worst = max(overlaps, key=lambda overlap: overlap.length, default=None)
    made.since = now()
    made.prober.forget(made.since - 100 * MS)
    blind = max((stretch.end - stretch.start for stretch in timeline.blind), default=0)
    found: dict[str, Any] = {"what": what, "two_ms": None, "blind_ms": round(blind / MS, 1)}
    if worst is not None:
        ways = {node: list(those) for node, those in timeline.ways(worst).items()}
        found |= {"two_ms": round(worst.length / MS, 1), "vip": worst.vip, "ways": ways}
    return found


def _summary(done: Sequence[dict[str, Any]]) -> dict[str, Any]:
    two = [trial for trial in done if trial["two_ms"] is not None]
    worst = max(two, key=lambda trial: trial["two_ms"], default=None)
    return {
        "trials": len(done),
        "two_answered": len(two),
        "longest_ms": worst["two_ms"] if worst else None,
        "worst": worst and {"what": worst["what"], "vip": worst["vip"], "ways": worst["ways"]},
        "blind_ms": max((trial["blind_ms"] for trial in done), default=0),
    }


def _line(row: dict[str, Any]) -> str:
    head = f"{row['variant']}, gate {row['gate'] or 'by default'}, ttl {row['ttl']}: {row['trials']} trials"
    spoiled = f", {len(row['spoiled'])} did not come off" if row["spoiled"] else ""
    if not row["two_answered"]:
        return f"{head}{spoiled}, never two ({row['seconds']} s)"
    worst = row["worst"]
    ways = "; ".join(f"{node} by {_short(node, those)}" for node, those in worst["ways"].items())
    told = f"two in {row['two_answered']}, longest {row['longest_ms']:.0f} ms ({worst['what']}: {worst['vip']}, {ways})"
    return f"{head}{spoiled}, {told} ({row['seconds']} s)"


def _short(node: str, ways: Sequence[str]) -> str:
    """The paths, each with the kinds of question that were answered there."""
    paths: dict[str, list[str]] = {}
    for way in ways:
        path, _, kind = way.rpartition(" ")
        paths.setdefault(path.removeprefix(f"{node} "), []).append(kind)
    return ", ".join(f"{path} ({' '.join(kinds)})" for path, kinds in paths.items())


if __name__ == "__main__":
    main()
