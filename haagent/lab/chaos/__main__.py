"""`make chaos`: trials of random faults on real agents, each told in a line, each that failed drawn.

Trials have the seeds SEED, SEED + 1 and so on; `--seed N --trials 1` does the same faults again, to a cluster whose
scheduling is its own. Exit code 0 only if never more than one node answered, and every trial recovered.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from haagent.core.units import MS, Duration
from haagent.lab.chaos.cluster import VIPS
from haagent.lab.chaos.picture import picture
from haagent.lab.chaos.plan import SAME_LAB, etcd_members, peers, plan, secured
from haagent.lab.chaos.trial import Stage, Trial
from haagent.lab.commands import LabError

FAILED_GO_TO: Final = Path("out/chaos")
LEFT_OUT: Final = {
    "memory pressure": "it would have to be kept inside a memory cgroup, and the one we run in is not ours to divide",
    "all gates removed where the agent is dead": "then only the addresses' lifetimes are left, in whole seconds",
    "an address by hand on a host that boots": "before its agent runs nothing of haagent's is there to hold it",
}
WIDTH: Final = 160
"""Where the output goes to no terminal."""


@click.command(help=__doc__)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(0), help="Of the first trial; by chance if not given.")
@click.option("--ttl", type=click.IntRange(300, 60_000), default=1000, show_default=True, help="Milliseconds.")
@click.option(
    "--gate", type=click.Choice(["auto", "nft", "bpf", "none"]), help="As fence.gate; the agent's default if not given."
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Draw every trial, there. Else only those that failed, in {FAILED_GO_TO}.",
)
def main(trials: int, seed: int | None, ttl: int, gate: str | None, keep: Path | None) -> None:
    """Run the trials."""
    seed = random.randrange(1_000_000) if seed is None else seed
    run = Run(ttl * MS, gate, keep)
    began = time.monotonic()
    try:
        run.trials(range(seed, seed + trials))
    finally:
        summary = {"seed": seed, "asked": trials, "ttl_ms": ttl, "gate": gate, **run.summary(trials)}
        summary["seconds"] = round(time.monotonic() - began)
        run.write("summary.json", json.dumps(summary, indent=2) + "\n")
        run.say(_closing(summary))
    sys.exit(0 if summary["passed"] else 1)


class Run:
    """Many trials, and what came of them."""

    def __init__(self, ttl: Duration, gate: str | None, keep: Path | None) -> None:
        self.results: list[dict[str, Any]] = []
        self._ttl, self._gate, self._keep = ttl, gate, keep
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)

    def say(self, text: str) -> None:
        """A line for who watches."""
        self._console.print(text, soft_wrap=True)

    def write(self, name: str, text: str) -> Path:
        """Put a file where the run's files go."""
        directory = self._keep or FAILED_GO_TO
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / name
        path.write_text(text)
        return path

    def trials(self, seeds: range) -> None:
        """Run them all, on as few labs as may be: a failed trial leaves nothing that another could trust."""
        with ExitStack() as labs:
            stage: Stage | None = None
            for seed in seeds:
                if stage is None or seed % SAME_LAB == 0:
                    labs.close()
                    made = Stage(
                        ttl=self._ttl,
                        members=etcd_members(seed),
                        gate=self._gate,
                        peers=peers(seed),
                        secured=secured(seed),
                    )
                    stage = labs.enter_context(made)
                if not self._trial(stage, seed):
                    stage = None

    def summary(self, asked: int) -> dict[str, Any]:
        """For machines; passed only if all that were asked for were run."""
        recoveries = [result["recovery_ms"] for result in self.results if result.get("recovery_ms") is not None]
        gaps = [result["gap_ms"] for result in self.results if result.get("gap_ms") is not None]
        return {
            "passed": len(self.results) == asked and all(result["passed"] for result in self.results),
            "trials": len(self.results),
            "failed": [result["seed"] for result in self.results if not result["passed"]],
            "most_at_once": max((result.get("most_at_once", 0) for result in self.results), default=0),
            "longest_overlap_ms": max((result.get("overlap_ms", 0) for result in self.results), default=0),
            "gap_ms": _spread(gaps),
            "recovery_ms": _spread(recoveries),
            "faults": sum(len(result["faults"]) for result in self.results),
            "left_out": LEFT_OUT,
            "results": self.results,
        }

    def _trial(self, stage: Stage, seed: int) -> bool:
        actions = plan(seed, self._ttl)
        began = time.monotonic()
        result: dict[str, Any] = {"seed": seed, "etcd_members": etcd_members(seed), "peers": peers(seed)}
        result["secured"] = secured(seed)
        try:
            trial = stage.run(actions)
        except LabError as error:
            result |= {"passed": False, "failures": [f"the lab failed: {error}"]}
            result["faults"] = [str(action) for action in actions]
            self.results.append(result)
            self.say(f"[bold red]seed {seed:<6} the lab failed:[/] {error}")
            return False
        result |= trial.verdict.document()
        result["faults"] = [_fault(trial, index) for index in range(len(trial.deeds))]
        result["seconds"] = round(time.monotonic() - began, 1)
        self.results.append(result)
        self.say(_line(result))
        if self._keep is not None or not result["passed"]:
            self._show(trial, result)
        return bool(result["passed"])

    def _show(self, trial: Trial, result: dict[str, Any]) -> None:
        seed = result["seed"]
        passed = "one at a time, recovered" if result["passed"] else "FAILED"
        title = f"Chaos, seed {seed}: {passed}"
        svg = picture(trial, title=title, subtitle=_subtitle(result), vips=VIPS, nodes=("n1", "n2", "n3"))
        path = self.write(f"{seed}.svg", svg)
        told = (
            f"{(line.at - trial.began) / MS:9.0f} ms  {line.node} {line.level:8} {line.text}" for line in trial.lines
        )
        self.write(f"{seed}.log", "".join(f"{line}\n" for line in told))
        self.say(f"             [dim]{path}[/]")


def _fault(trial: Trial, index: int) -> str:
    deed = trial.deeds[index]
    end = "" if deed.ended is None or not deed.action.lasts else f" to {(deed.ended - trial.began) / MS:.0f}"
    return f"{f'{deed.target} {deed.action}'.strip()}, {(deed.began - trial.began) / MS:.0f}{end} ms"


def _line(result: dict[str, Any]) -> str:
    mark = "[green]ok[/]    " if result["passed"] else "[bold red]FAILED[/]"
    stalled = f"  [yellow]stalled: {', '.join(result['stalls'])}[/]" if result["stalls"] else ""
    sick = f"  [bold magenta]{'; '.join(result['sick'])}[/]" if result["sick"] else ""
    why = f"  [bold red]{'; '.join(result['failures'])}[/]" if result["failures"] else ""
    return (
        f"seed {result['seed']:<6} {mark}  most {result['most_at_once']}  overlap {result['overlap_ms']:5.0f} ms  "
        f"gap {_ms(result['gap_ms'])}  recovery {_ms(result['recovery_ms'])}{why}{stalled}{sick}  "
        f"[dim]{result['etcd_members']} etcd, {result['peers']}: {' · '.join(result['faults'])}[/]"
    )


def _subtitle(result: dict[str, Any]) -> str:
    members = result["etcd_members"]
    stalled = f" · stalled by their own word: {', '.join(result['stalls'])}" if result["stalls"] else ""
    return (
        f"most at once {result['most_at_once']} · longest overlap {result['overlap_ms']:.0f} ms · "
        f"longest gap {_ms(result['gap_ms']).strip()} · recovery {_ms(result['recovery_ms']).strip()} · "
        f"{members} etcd member{'s' if members > 1 else ''}, {result['peers']}{stalled}"
    )


def _closing(summary: dict[str, Any]) -> str:
    most = summary["most_at_once"]
    never = "[bold green]Never two answerers.[/]" if most <= 1 else f"[bold red]{most} nodes answered at once.[/]"
    failed = summary["failed"]
    which = "every trial recovered" if not failed else f"[bold red]failed: {', '.join(map(str, failed))}[/]"
    gap, recovery = summary["gap_ms"], summary["recovery_ms"]
    left_out = "\n".join(f"Left out: {what}: {why}." for what, why in summary["left_out"].items())
    return (
        f"\n{never} {summary['trials']} trials with {summary['faults']} faults from seed {summary['seed']}: {which}. "
        f"Gap median {gap['median']} ms, worst {gap['worst']} ms; "
        f"recovery median {recovery['median']} ms, worst {recovery['worst']} ms; {summary['seconds']} s.\n{left_out}"
    )


def _spread(values: list[float]) -> dict[str, float | None]:
    return {"median": round(statistics.median(values), 1), "worst": max(values)} if values else _NOTHING


def _ms(value: float | None) -> str:
    return "    never" if value is None else f"{value:6.0f} ms"


_NOTHING: Final[dict[str, float | None]] = {"median": None, "worst": None}

if __name__ == "__main__":
    main()
