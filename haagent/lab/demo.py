"""`make demo`: three nodes, a real etcd and a client on this one machine, and what happens to them, told as it happens.

Exit code 0 only if never more than one node answered for the address, and every step recovered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from haagent.core.units import MS
from haagent.lab.cluster import Cluster
from haagent.lab.commands import LabError
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Outcome, Rehearsal
from haagent.lab.topology import vip4

TTL = "1s"
WIDTH = 120
"""Where the output goes to no terminal."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens: `story` says what the reader is about to see, and why it should come out well."""

    name: str
    story: str
    act: Callable[[Rehearsal], Outcome]


STEPS = (
    Step(
        "cold start",
        "Three agents start at once. Somebody may have owned before, so they wait one ttl; then the best claims.",
        Rehearsal.cold_start,
    ),
    Step(
        "graceful stop",
        "SIGTERM to the owner. It removes the address, says goodbye in VRRP, writes the release: the next claims.",
        Rehearsal.graceful_stop,
    ),
    Step("restart", "The stopped agent comes back. Nothing moves: preemption is a wish, and off.", Rehearsal.heal),
    Step(
        "kill -9",
        "The owner's agent dies at once; its address stays in the kernel. The kernel itself stops answering in time.",
        Rehearsal.kill,
    ),
    Step("restart", "It comes back, finds another owner's record, sweeps the kernel, and follows.", Rehearsal.heal),
    Step(
        "SIGSTOP",
        "The owner's agent hangs, and wakes up when another node owns. It must not go on as if nothing had happened.",
        Rehearsal.stop_and_continue,
    ),
    Step("restart", "The kernel has ended the process that hung. A new one follows.", Rehearsal.heal),
    Step(
        "kill -9, restarted at once",
        "As a service manager does it. The kernel kept the address until the old deadline; the new agent goes on.",
        Rehearsal.restart,
    ),
    Step(
        "host lost",
        "The owner's cables are pulled and its processes die at once. Its lease runs out; only then may another claim.",
        Rehearsal.lose_host,
    ),
    Step("host back", "It boots, sweeps, and follows.", Rehearsal.heal),
    Step(
        "cut off from etcd",
        "The owner is alive and clients reach it, but it can not renew. It lets go by itself before anyone may claim.",
        Rehearsal.cut_from_etcd,
    ),
    Step("healed", "It finds another owner's record, and follows.", Rehearsal.heal),
    Step(
        "cut off from everything",
        "The owner hears nobody: plain VRRP would make two masters here when only the backups are cut off.",
        Rehearsal.isolate,
    ),
    Step("healed", "The old owner lapsed long ago. Its addresses are gone before the network is back.", Rehearsal.heal),
)


@click.command(help=__doc__)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end, for machines.")
def main(as_json: bool) -> None:
    """Run the story."""
    console = Console(stderr=as_json, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    try:
        outcomes = _play(console)
    except LabError as error:
        console.print(f"[bold red]The demo could not be finished:[/] {error}", soft_wrap=True)
        sys.exit(1)
    most = max(outcome.most for _, outcome in outcomes)
    passed = most <= 1
    if as_json:
        print(json.dumps({"passed": passed, "most_at_once": most, "ttl": TTL, "steps": _document(outcomes)}, indent=2))
    else:
        console.print(_table(outcomes))
        verdict = "[bold green]Never two owners.[/]" if passed else f"[bold red]{most} nodes answered at once.[/]"
        console.print(f"{verdict} Every step recovered." if passed else verdict)
    sys.exit(0 if passed else 1)


def _play(console: Console) -> list[tuple[Step, Outcome]]:
    vip = vip4()
    with Lab(hosts=3, etcd=1) as lab, console.status("setting up") as status:
        console.print(
            f"[bold]n1 n2 n3[/] with etcd, and a client that asks for [bold]{vip}[/] every 2 ms. ttl {TTL}.\n"
        )
        rehearsal = Rehearsal(Cluster(lab, ttl=TTL), lab.probe([vip]), vip)
        outcomes: list[tuple[Step, Outcome]] = []
        for step in STEPS:
            console.print(f"[bold cyan]{step.name}[/]  {step.story}")
            status.update(step.name)
            outcome = step.act(rehearsal)
            outcomes.append((step, outcome))
            console.print(f"  {_sentence(outcome)}\n")
        return outcomes


def _sentence(outcome: Outcome) -> str:
    answered = f"[red]{outcome.most} answered at once[/]" if outcome.most > 1 else "one at a time"
    if outcome.before == outcome.after:
        still = f"[green]{outcome.after}[/] still owns by epoch {outcome.epoch}"
        return f"{still}; longest silence {_ms(outcome.gap)}, {answered}"
    moved = f"{outcome.before} -> [green]{outcome.after}[/]" if outcome.before else f"[green]{outcome.after}[/] owns"
    return f"{moved}, epoch {outcome.epoch}, {_ms(outcome.gap)} without an answer, {answered}"


def _table(outcomes: list[tuple[Step, Outcome]]) -> Table:
    table = Table(title="What the client saw", title_justify="left")
    for column in ("step", "owner"):
        table.add_column(column)
    for column in ("epoch", "gap", "new owner after", "most at once"):
        table.add_column(column, justify="right")
    for step, outcome in outcomes:
        moved = outcome.before != outcome.after
        owner = f"{outcome.before or '-'} -> {outcome.after}" if moved else outcome.after
        took = _ms(outcome.took) if moved else ""
        table.add_row(step.name, owner, str(outcome.epoch), _ms(outcome.gap), took, str(outcome.most))
    return table


def _document(outcomes: list[tuple[Step, Outcome]]) -> list[dict[str, Any]]:
    return [{"step": step.name, **asdict(outcome)} for step, outcome in outcomes]


def _ms(duration: int) -> str:
    return f"{duration / MS:.0f} ms"


if __name__ == "__main__":
    main()
