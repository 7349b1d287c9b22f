"""What tests of whole clusters share: the agents' logs as values, and the one promise as an assertion.

`Story` reads what the agents of a lab have logged. `one_owner` asserts that never more than one node answered and that
no two logs claim one epoch, whatever this machine's other work did to the agents' processes.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from haagent.core.units import MS, Instant, S
from haagent.lab.cluster import NAME, Cluster
from haagent.lab.commands import LabError, now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.scenarios import Rehearsal
from haagent.lab.timeline import Overlap
from haagent.lab.topology import vip4


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of an agent's log; `at` in CLOCK_BOOTTIME, to the millisecond. What is no entry has the level `raw`."""

    node: str
    at: Instant
    level: str
    text: str


class Story:
    """What the agents of a lab log, from its making on, or from the last `forget`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._skip: dict[str, int] = {}
        self._wall_less_boot = time.time_ns() - now()
        self.forget()

    def forget(self) -> None:
        """Begin here: what was logged before is not told again."""
        self._skip = {host.name: len(self._read(host.name)) for host in self._cluster.lab.hosts}

    def lines(self, node: str | None = None, pattern: str = "", *, whole: bool = False) -> list[Line]:
        """The entries of one agent, or of all, that the pattern is found in; `whole`: from the lab's beginning."""
        found = [
            line
            for host in self._cluster.lab.hosts
            if node in (None, host.name)
            for line in self._parse(host.name, 0 if whole else self._skip[host.name])
            if re.search(pattern, line.text)
        ]
        return sorted(found, key=lambda line: line.at)

    def wait(self, pattern: str, node: str | None = None, timeout: float = 10.0) -> Line:
        """The first such entry, waiting for it."""
        end = time.monotonic() + timeout
        while not (found := self.lines(node, pattern)):
            if time.monotonic() > end:
                told = "\n".join(f"{line.node} {line.level} {line.text}" for line in self.lines(node))
                raise LabError(f"nobody logged {pattern!r} within {timeout:g} s:\n{told}")
            time.sleep(0.02)
        return found[0]

    def masters(self) -> dict[tuple[str, int], set[str]]:
        """Which agents ever said that they are MASTER, by group and epoch."""
        claimed: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for line in self.lines(pattern="-> MASTER ", whole=True):
            match = re.match(r"(\S+): \S+ -> MASTER .*epoch=(\d+)", line.text)
            assert match is not None, line
            claimed[match[1], int(match[2])].add(line.node)
        return dict(claimed)

    def _parse(self, node: str, skip: int) -> list[Line]:
        found: list[Line] = []
        for raw in self._read(node)[skip:].splitlines():
            match = _ENTRY.match(raw)
            if match is None:
                found.append(Line(node, found[-1].at if found else 0, "raw", raw))
            else:
                found.append(Line(node, _wall_ns(match[1]) - self._wall_less_boot, match[2], match[3]))
        return found

    def _read(self, node: str) -> str:
        log = self._cluster.lab.logs / f"{node}-agent.log"
        return log.read_text(errors="replace") if log.exists() else ""


class Stage:
    """A cluster in which somebody owns, a client that asks for its address all the time, and what the agents log."""

    def __init__(self, lab: Lab, *, peers: bool = False) -> None:
        self.lab = lab
        self.cluster = Cluster(lab, ttl="1s", peers=peers)
        self.prober = lab.probe([vip4()])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, vip4()).cold_start()


def one_owner(story: Story, prober: Prober, since: Instant) -> None:
    """Never two that answer, never two that claim one epoch, and nothing in the logs that no agent should ever say."""
    shared = {key: nodes for key, nodes in story.masters().items() if len(nodes) > 1}
    assert not shared, f"two agents became MASTER by one epoch: {shared}"
    sick = [line for line in story.lines(whole=True) if line.level == "critical" or "Traceback" in line.text]
    assert not sick, f"an agent must not go on: {sick}"
    overlaps = prober.timeline(since).overlaps()
    assert not overlaps, f"two nodes answered: {_told(overlaps[0])}\n{_around(story, overlaps[0])}"


def answering(prober: Prober, vip: str, node: str | None = None, *, timeout: float = 15.0) -> str:
    """Who answers for the address from now on; waits for anybody, or for that node."""
    return prober.wait_for_answer(vip, after=now(), node=node, timeout=timeout).node


def silence(prober: Prober, vip: str, since: Instant) -> float:
    """The longest time without an answer since then, in milliseconds; what the prober itself slept is not counted.

    0 if answers came closer together than the timeline's `join`. AssertionError if nobody answers any more.
    """
    timeline = prober.timeline(since - 100 * MS)
    assert timeline.gap(vip, since).length is not None, f"nobody answers for {vip}"
    silent = [(gap.length or 0) - gap.blind for gap in timeline.gaps(vip) if (gap.end or 0) >= since]
    return max(silent, default=0) / MS


def key(kind: str, name: str) -> str:
    """Where something stands in the lab's etcd."""
    return f"/haagent/{NAME}/{kind}/{name}"


def value(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    """What stands there."""
    return json.loads(cluster.lab.etcd.ctl("get", "--print-value-only", key(kind, name)))


def others(cluster: Cluster, owner: str) -> Sequence[Host]:
    """The hosts that are not the owner."""
    return [host for host in cluster.lab.hosts if host.name != owner]


def held(host: Host, interface: str = "eth0") -> set[str]:
    """The addresses that the host's kernel has there, without their prefix lengths."""
    shown = json.loads(host.run(["ip", "-j", "address", "show", "dev", interface]).stdout)
    return {info["local"] for link in shown for info in link.get("addr_info", ())}


def resident(pid: int) -> int:
    """The memory that a process holds now, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1])  # pyright: ignore[reportOptionalSubscript]


def _told(overlap: Overlap) -> str:
    return f"{overlap.vip} by {' and '.join(overlap.nodes)} for {overlap.length / MS:.1f} ms"


def _around(story: Story, overlap: Overlap) -> str:
    near = [line for line in story.lines(whole=True) if abs(line.at - overlap.start) < 2 * S]
    return "\n".join(f"{(line.at - overlap.start) / MS:8.0f} ms  {line.node} {line.level} {line.text}" for line in near)


def _wall_ns(stamp: str) -> int:
    whole, _, milli = stamp.removesuffix("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * S + int(milli) * MS


_ENTRY: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\w+) +(.*)")
