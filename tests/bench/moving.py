"""Moves on purpose, with the real haagentctl: what the client saw of them, and what the command said.

One group of many addresses, or twenty groups of one. The client asks for a few of the addresses (all would keep it, and
the machine, busy): the first, the middle and the last.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

import haagent
from haagent.config.durations import duration
from haagent.core.units import MS, Duration, Instant
from haagent.lab.cluster import GROUP, Cluster, web_router
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.topology import many4
from haagent.v1 import status_pb2
from tests.bench.failsafe import Summary

ROOT = Path(haagent.__file__).parents[1]
SETTLE = 0.4
"""Seconds for which the client goes on asking after a command has ended."""


@dataclass(frozen=True)
class Moved:
    """What came of a trial, in milliseconds: the client's gap, what haagentctl said that it was, how long it took."""

    gap: float
    told: float
    took: float
    most: int
    overlap: float


@dataclass
class Bed:
    """A cluster that is moved. `vips`: those that the client asks for, by group; `groups`: how many there are."""

    cluster: Cluster
    prober: Prober
    vips: dict[str, list[str]]
    groups: int
    ttl: Duration

    def command(self, *words: str, asked: Host | None = None) -> list[str]:
        """haagentctl, asking that host's agent, or the last one's."""
        host = asked or self.cluster.lab.hosts[-1]
        file = self.cluster.lab.directory / f"{host.name}.yaml"
        path = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "haagent.cli.ctl"]
        return [*path, *words, "--endpoint", f"unix:{self.cluster.socket(host)}", "-c", str(file)]

    def ctl(self, *words: str, asked: Host | None = None) -> subprocess.CompletedProcess[str]:
        return self.cluster.lab.hosts[-1].run(self.command(*words, asked=asked), check=False, timeout=60)

    def owners(self) -> dict[str, str]:
        """Who owns each group, as an agent has it."""
        listed = self.ctl("list", "-f", "json").stdout
        return {row["group"]: row["node"] for row in json.loads(listed)["rows"] if row["role"] == "MASTER"}

    def whole(self) -> None:
        """Wait until every group has an owner, and all agents hear each other."""
        self.cluster.wait(self._is_whole, "all own, and the agents hear each other", timeout=30)

    def _is_whole(self) -> bool:
        return all(self._hears_all(host) for host in self.cluster.lab.hosts)

    def _hears_all(self, host: Host) -> bool:
        """Whether its agent says that all groups have owners, and has streams to all, whose clocks it knows."""
        with grpc.insecure_channel(f"unix:{self.cluster.socket(host)}") as channel:
            ask = channel.unary_unary("/haagent.v1.Control/GetStatus", None, status_pb2.Status.FromString)
            try:
                status = ask(b"", timeout=3)
            except grpc.RpcError:
                return False
        others = [member.peer for member in status.members if member.node != host.name]
        heard = all(peer.connected and peer.round_trip_ns > 0 for peer in others)
        return heard and len(others) == 2 and all(group.owner for group in status.groups)

    def moved(self, began: Instant, said: Sequence[dict[str, Any]]) -> Moved:
        """What became of the addresses since then; the longest gap of any, and the longest that was said."""
        ended = now()
        time.sleep(SETTLE)
        timeline = self.prober.timeline(began - 100 * MS)
        gaps = [timeline.gap(vip, began).length for those in self.vips.values() for vip in those]
        assert None not in gaps, "nobody answers any more"
        return Moved(
            gap=max(gap or 0 for gap in gaps) / MS,
            told=max(move["gap_ns"] for move in said) / MS,
            took=(ended - began) / MS,
            most=timeline.most_at_once(),
            overlap=sum(overlap.length for overlap in timeline.overlaps()) / MS,
        )


@contextmanager
def bed(addresses: int = 1, groups: int = 1, ttl: str = "1s", logs: Path | None = None) -> Generator[Bed]:
    """A lab with an owner for each group, whose agents talk with each other. `logs`: where these are kept."""
    vips = many4(addresses * groups)
    names = [GROUP] if groups == 1 else [f"web{number + 1}" for number in range(groups)]
    routers = [
        web_router(
            name=name, vrid=51 + at, addresses=[f"{vip}/24" for vip in vips[at * addresses : (at + 1) * addresses]]
        )
        for at, name in enumerate(names)
    ]
    asked = {name: _some(vips[at * addresses : (at + 1) * addresses]) for at, name in enumerate(names)}
    if groups > 1:
        asked = {name: asked[name] for name in _some(names)}
    with Lab(hosts=3, etcd=1, logs=logs) as lab:
        cluster = Cluster(lab, ttl=ttl, routers=routers, group=names[0], peers=True)
        prober = lab.probe([vip for those in asked.values() for vip in those])
        made = Bed(cluster, prober, asked, len(names), duration(ttl))
        cluster.restore()
        made.whole()
        yield made


def _some(them: Sequence[Any]) -> list[Any]:
    """The first, the middle and the last."""
    return sorted({them[0], them[len(them) // 2], them[-1]}, key=list(them).index)


def switchover(made: Bed) -> Moved:
    """The first group, which is asked about all along, goes to the other one of the first two nodes."""
    return _switchovers(made, [made.cluster.group])


def one_by_one(made: Bed) -> Moved:
    """All groups go to the other one of the first two nodes, a command for each."""
    return _switchovers(made, sorted(made.owners()))


def drain(made: Bed) -> Moved:
    """Everything goes off the node that has most, by one command; it may own again afterwards."""
    owners = list(made.owners().values())
    node = max(sorted(set(owners)), key=owners.count)
    began = now()
    said = _done(made.ctl("drain", node, "--force", "-f", "json"))
    assert len(said) == owners.count(node), said
    moved = made.moved(began, said)
    _done(made.ctl("undrain", node, "-f", "json"))
    time.sleep(0.3)
    return moved


MOVES: Final[dict[str, tuple[int, int, Callable[[Bed], Moved]]]] = {
    "switchover, 1 address": (1, 1, switchover),
    "switchover, 20 addresses": (20, 1, switchover),
    "switchover, 200 addresses": (200, 1, switchover),
    "switchover, 20 groups, one by one": (1, 20, one_by_one),
    "drain, 20 groups": (1, 20, drain),
    "drain, 20 groups of 10 addresses": (10, 20, drain),
}
"""Addresses in a group, groups, and what is done with them."""


def measure(name: str, ttl: str, trials: int) -> Summary:
    """So many trials of one of MOVES."""
    addresses, groups, act = MOVES[name]
    with bed(addresses, groups, ttl) as made:
        moves = [act(made) for _ in range(trials)]
    return {
        "kind": "move",
        "scenario": name,
        "ttl": ttl,
        "trials": trials,
        **spread("gap", [move.gap for move in moves]),
        **spread("told", [move.told for move in moves]),
        **spread("told_more", [move.told - move.gap for move in moves]),
        **spread("took", [move.took for move in moves]),
        "most_at_once": max(move.most for move in moves),
        "overlaps": sum(move.most > 1 for move in moves),
        "longest_overlap_ms": round(max(move.overlap for move in moves), 1),
    }


def listing(ttl: str, trials: int) -> Summary:
    """How long `haagentctl list` takes."""
    with bed(ttl=ttl) as made:
        took: list[float] = []
        for _ in range(trials):
            began = now()
            assert made.ctl("list").returncode == 0
            took.append((now() - began) / MS)
    return {"kind": "list", "scenario": "list", "ttl": ttl, "trials": trials, **spread("took", took)}


def spread(name: str, values: Sequence[float]) -> Summary:
    """Median, 95th percentile and the worst, for the page."""
    ordered = sorted(values)
    found = {
        "median": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))],
        "worst": ordered[-1],
    }
    return {f"{name}_{which}_ms": round(value, 1) for which, value in found.items()}


def _switchovers(made: Bed, groups: Sequence[str]) -> Moved:
    owners, began = made.owners(), now()
    said: list[dict[str, Any]] = []
    for group in groups:
        to = "n2" if owners[group] == "n1" else "n1"
        said += _done(made.ctl("switchover", group, "--to", to, "--force", "-f", "json"))
    return made.moved(began, said)


def _done(command: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The moves that a command says are done and verified."""
    assert command.returncode == 0, command
    return json.loads(command.stdout)["moves"]
