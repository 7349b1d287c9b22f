"""`make demo`: three nodes, a real etcd and a client on this one machine, and what happens to them, told as it happens.

Exit code 0 only if never more than one node answered for the address, every step recovered, and what should stay did.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from haagent.core.units import MS, Duration
from haagent.lab.cluster import Cluster
from haagent.lab.commands import LabError
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Outcome, Rehearsal
from haagent.lab.topology import vip4

TTL = "1s"
WIDTH = 120
"""Where the output goes to no terminal."""


NOTICED: Duration = 100 * MS
"""A longer silence than that is not the machine's."""


class Expect(StrEnum):
    """What should become of the address."""

    MOVES = "another node owns it, by a higher epoch"
    STAYS = "the same node owns it by the same epoch, and answered all the time"
    CLAIMED = "somebody has claimed it anew: the same node, if its new agent is in time"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens: `story` says what the reader is about to see, and why it should come out well."""

    name: str
    story: str
    act: Callable[[Rehearsal], Outcome]
    expect: Expect


@dataclass(frozen=True, slots=True)
class Done:
    """A step, what came of it, and what of that is not as it should be; empty if all is."""

    step: Step
    outcome: Outcome
    wrong: str


STEPS = (
    Step(
        "cold start",
        "Three agents start at once. Somebody may have owned before, so they wait one ttl; then the best claims.",
        Rehearsal.cold_start,
        Expect.MOVES,
    ),
    Step(
        "switchover",
        "An operator moves it by haagentctl: one write in etcd, verified in the kernels of both nodes.",
        Rehearsal.switchover,
        Expect.MOVES,
    ),
    Step(
        "graceful stop",
        "SIGTERM to the owner. It removes the address, says goodbye in VRRP, writes the release: the next claims.",
        Rehearsal.graceful_stop,
        Expect.MOVES,
    ),
    Step(
        "restart",
        "The stopped agent comes back. Nothing moves: preemption is a wish, and off.",
        Rehearsal.heal,
        Expect.STAYS,
    ),
    Step(
        "kill -9",
        "The owner's agent dies at once; its address stays in the kernel. The kernel itself stops answering in time.",
        Rehearsal.kill,
        Expect.MOVES,
    ),
    Step(
        "restart",
        "It comes back, finds another owner's record, sweeps the kernel, and follows.",
        Rehearsal.heal,
        Expect.STAYS,
    ),
    Step(
        "SIGSTOP",
        "The owner's agent hangs, and wakes up when another node owns. It must not go on as if nothing had happened.",
        Rehearsal.stop_and_continue,
        Expect.MOVES,
    ),
    Step("restart", "The kernel has ended the process that hung. A new one follows.", Rehearsal.heal, Expect.STAYS),
    Step(
        "kill -9, restarted at once",
        "As a service manager does it. The kernel kept the address until the old deadline; the new agent goes on.",
        Rehearsal.restart,
        Expect.CLAIMED,
    ),
    Step(
        "host lost",
        "The owner's cables are pulled and its processes die at once. Its lease runs out; only then may another claim.",
        Rehearsal.lose_host,
        Expect.MOVES,
    ),
    Step("host back", "It boots, sweeps, and follows.", Rehearsal.heal, Expect.STAYS),
    Step(
        "etcd away for 5 s",
        "All of etcd hangs, five times as long as the lease. The other nodes promise the owner to wait: it stays.",
        Rehearsal.etcd_away,
        Expect.STAYS,
    ),
    Step(
        "owner without etcd",
        "Only the owner is cut off from etcd. The others see its lease end there, and have promised: it stays.",
        Rehearsal.owner_without_etcd,
        Expect.STAYS,
    ),
    Step("healed", "It renews in etcd again, by the same epoch.", Rehearsal.heal, Expect.STAYS),
    Step(
        "cut off from everything",
        "The owner hears nobody: no etcd, no promises. It lets go by itself, before anyone may claim.",
        Rehearsal.isolate,
        Expect.MOVES,
    ),
    Step(
        "healed",
        "The old owner lapsed long ago. Its addresses are gone before the network is back.",
        Rehearsal.heal,
        Expect.STAYS,
    ),
)


@click.command(help=__doc__)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end, for machines.")
def main(as_json: bool) -> None:
    """Run the story."""
    console = Console(stderr=as_json, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    try:
        done = _play(console)
    except LabError as error:
        console.print(f"[bold red]The demo could not be finished:[/] {error}", soft_wrap=True)
        sys.exit(1)
    most = max(each.outcome.most for each in done)
    passed = not any(each.wrong for each in done)
    if as_json:
        print(json.dumps({"passed": passed, "most_at_once": most, "ttl": TTL, "steps": _document(done)}, indent=2))
    else:
        console.print(_table(done))
        console.print(_verdict(most, passed))
    sys.exit(0 if passed else 1)


def _play(console: Console) -> list[Done]:
    vip = vip4()
    with Lab(hosts=3, etcd=1) as lab, console.status("setting up") as status:
        console.print(
            f"[bold]n1 n2 n3[/] with etcd, and a client that asks for [bold]{vip}[/] every 2 ms. ttl {TTL}.\n"
        )
        rehearsal = Rehearsal(Cluster(lab, ttl=TTL, peers=True), lab.probe([vip]), vip)
        done: list[Done] = []
        for step in STEPS:
            console.print(f"[bold cyan]{step.name}[/]  {step.story}")
            status.update(step.name)
            outcome = step.act(rehearsal)
            done.append(Done(step, outcome, judge(step.expect, outcome, done[-1].outcome.epoch if done else 0)))
            console.print(f"  {_sentence(done[-1])}")
            if outcome.said:
                console.print(f"  haagentctl said: {outcome.said}")
            console.print()
        return done


def judge(expect: Expect, outcome: Outcome, epoch: int) -> str:
    """What is not as expected; `epoch` is the one before."""
    if outcome.most > 1:
        return f"{outcome.most} answered at once"
    match expect:
        case Expect.MOVES:
            right = outcome.after != outcome.before and outcome.epoch > epoch
        case Expect.STAYS:
            same = (outcome.after, outcome.epoch) == (outcome.before, epoch)
            right = same and outcome.gap - outcome.blind <= NOTICED
        case Expect.CLAIMED:
            right = outcome.epoch > epoch
    return "" if right else f"expected: {expect}"


def _verdict(most: int, passed: bool) -> str:
    if most > 1:
        return f"[bold red]{most} nodes answered at once.[/]"
    return "[bold green]Never two owners.[/] " + (
        "Every step recovered, and what should stay did." if passed else "[bold red]Not all was as expected.[/]"
    )


def _sentence(done: Done) -> str:
    outcome = done.outcome
    answered = f"[red]{outcome.most} answered at once[/]" if outcome.most > 1 else "one at a time"
    wrong = f"  [bold red]{done.wrong}[/]" if done.wrong else ""
    if outcome.before == outcome.after:
        still = f"[green]{outcome.after}[/] still owns by epoch {outcome.epoch}"
        return f"{still}; longest silence {_ms(outcome.gap)}, {answered}{wrong}"
    moved = f"{outcome.before} -> [green]{outcome.after}[/]" if outcome.before else f"[green]{outcome.after}[/] owns"
    return f"{moved}, epoch {outcome.epoch}, {_ms(outcome.gap)} without an answer, {answered}{wrong}"


def _table(done: list[Done]) -> Table:
    table = Table(title="What the client saw", title_justify="left")
    for column in ("step", "owner"):
        table.add_column(column)
    for column in ("epoch", "gap", "new owner after", "most at once"):
        table.add_column(column, justify="right")
    for step, outcome, wrong in ((each.step, each.outcome, each.wrong) for each in done):
        moved = outcome.before != outcome.after
        owner = f"{outcome.before or '-'} -> {outcome.after}" if moved else outcome.after
        took = _ms(outcome.took) if moved else ""
        cells = (step.name, owner, str(outcome.epoch), _ms(outcome.gap), took, str(outcome.most))
        table.add_row(*cells, style="red" if wrong else None)
    return table


def _document(done: list[Done]) -> list[dict[str, Any]]:
    return [
        {"step": each.step.name, "expected": each.step.expect.name.lower(), "wrong": each.wrong, **asdict(each.outcome)}
        for each in done
    ]


def _ms(duration: int) -> str:
    return f"{duration / MS:.0f} ms"


if __name__ == "__main__":
    main()
