"""The lab's side of the prober: starts the probing process, reads what it saw, names who it was.

`haagent.lab.probing` is the process, `haagent.lab.timeline` what its answers are turned into.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import haagent
from haagent.core.units import MS, Duration, Instant
from haagent.lab import sightings
from haagent.lab.commands import LabError
from haagent.lab.probes import Kind
from haagent.lab.probing import PERIOD, QUESTIONS, Orders, PathOrders, Statistics
from haagent.lab.process import Process
from haagent.lab.timeline import DEFAULT_JOIN, WIRE, Answer, Blind, Timeline

DEFAULT_STEP: Duration = 2 * MS


class Asker(NamedTuple):
    """The client: its namespace, its addresses, and how often it asks."""

    namespace: str
    ipv4: str
    ipv6: str
    step: Duration = DEFAULT_STEP


T = TypeVar("T")


class Spawn(Protocol):
    """Starts a process where the prober shall run."""

    def __call__(self, argv: Sequence[str], *, name: str, env: Mapping[str, str]) -> Process: ...


class Prober:
    """Asks for `vips` every step until it is stopped, and remembers who answered."""

    def __init__(
        self,
        spawn: Spawn,
        directory: Path,
        *,
        asker: Asker,
        vips: Sequence[str],
        hosts: Mapping[str, str],
        paths: Mapping[str, PathOrders],
    ) -> None:
        """Return when probing has begun.

        `directory` is for its files, `hosts` are the hosts' MAC addresses (`02:77:..`) and `paths` what is asked beside
        the client's own wire, both by name.
        """
        self.vips = tuple(vips)
        self._hosts = tuple(hosts)
        self._paths = (WIRE, *paths)
        # Each kind of question comes again after so long; two that got lost do not split a run.
        self._join_paths = 3 * PERIOD * len(QUESTIONS) * asker.step
        self._answers: list[Answer] = []
        self._last: dict[str, Instant] = {}
        self._blind: list[Blind] = []
        self._began: Instant | None = None
        self._record = directory / "record"
        self._statistics_path = directory / "statistics.json"
        orders = Orders(
            namespace=asker.namespace,
            interface="eth0",
            ipv4=asker.ipv4,
            ipv6=asker.ipv6,
            vips=list(vips),
            hosts={name: mac.replace(":", "") for name, mac in hosts.items()},
            paths=list(paths.values()),
            step=asker.step,
            record=str(self._record),
            statistics=str(self._statistics_path),
        )
        self._read_until = 0
        self._last_seen = 0
        # The process imports this package from where we have it, installed or not.
        env = {"PYTHONPATH": str(Path(haagent.__file__).parents[1])}
        argv = [sys.executable, "-m", "haagent.lab.probing", json.dumps(orders)]
        self._process = spawn(argv, name="prober", env=env)
        self._until(lambda: self._began, timeout=10.0, what="probing did not begin")

    @property
    def pid(self) -> int:
        return self._process.pid

    def timeline(
        self, since: Instant | None = None, until: Instant | None = None, *, join: Duration = DEFAULT_JOIN
    ) -> Timeline:
        """What was answered until now, or in [since, until]."""
        self._read()
        assert self._began is not None
        watched = (self._began, max(self._last_seen, self._began))
        timeline = Timeline(self._answers, join=join, join_paths=self._join_paths, blind=self._blind, watched=watched)
        if since is None and until is None:
            return timeline
        return timeline.between(watched[0] if since is None else since, watched[1] if until is None else until)

    def wait_for_answer(
        self,
        vip: str,
        *,
        after: Instant,
        node: str | None = None,
        other_than: str | None = None,
        timeout: float = 10.0,
    ) -> Answer:
        """The first answer to the client after an instant, by anybody, by `node`, or by anybody `other_than` one.

        Waits for it if there is none yet; LabError after `timeout` seconds.
        """
        looked_at = 0

        def look() -> Answer | None:
            nonlocal looked_at
            fresh, looked_at = range(looked_at, len(self._answers)), len(self._answers)
            return min(
                (
                    answer
                    for answer in map(self._answers.__getitem__, fresh)
                    if answer.vip == vip
                    and answer.path == WIRE
                    and answer.at > after
                    and node in (None, answer.node)
                    and answer.node != other_than
                ),
                default=None,
            )

        whose = f"by {node}" if node else f"by another than {other_than}" if other_than else "by anybody"
        return self._until(look, timeout=timeout, what=f"no answer for {vip} {whose} after {after}")

    def latest(self, vip: str) -> Answer | None:
        """The answer to the client that came in last, by now."""
        self._read()
        return next((each for each in reversed(self._answers) if each.vip == vip and each.path == WIRE), None)

    def last(self, node: str) -> Instant:
        """When a node last answered for anything by any path, by now; 0 if it never did."""
        self._read()
        return self._last.get(node, 0)

    def forget(self, before: Instant) -> None:
        """What was answered before an instant is not needed any more: who watches for long would keep all of it."""
        self._read()
        self._answers = [answer for answer in self._answers if answer.at >= before]
        self._blind = [blind for blind in self._blind if blind.end >= before]

    def stop(self) -> Statistics:
        """End probing; what was seen stays readable."""
        self._process.stop()
        self._read()
        if self._process.returncode != 0:
            raise LabError(f"the prober failed: {self._process.output().strip()}")
        return Statistics(**json.loads(self._statistics_path.read_text()))

    def _until(self, look: Callable[[], T | None], *, timeout: float, what: str) -> T:
        give_up = time.monotonic() + timeout
        while True:
            self._read()
            if (found := look()) is not None:
                return found
            if not self._process.running:
                raise LabError(f"{what}: the prober has ended: {self._process.output().strip()}")
            if time.monotonic() > give_up:
                raise LabError(f"{what}, within {timeout} s")
            time.sleep(0.005)

    def _read(self) -> None:
        try:
            with self._record.open("rb") as record:
                record.seek(self._read_until)
                data = record.read()
        except FileNotFoundError:  # the lab has ended; what was read before stays
            return
        data = data[: len(data) // sightings.SIZE * sightings.SIZE]
        self._read_until += len(data)
        for seen in sightings.unpack(data):
            self._last_seen = max(self._last_seen, seen.at)
            if seen.kind == sightings.START:
                self._began = seen.at
            elif seen.kind == sightings.BLIND:
                self._blind.append(Blind(seen.at, seen.until()))
            elif seen.kind != sightings.ASKED:
                node = seen.mac.hex(":") if seen.host == sightings.STRANGER else self._hosts[seen.host]
                self._last[node] = max(self._last.get(node, 0), seen.at)
                self._answers.append(
                    Answer(seen.at, self.vips[seen.vip], node, Kind(seen.kind), self._paths[seen.path])
                )
