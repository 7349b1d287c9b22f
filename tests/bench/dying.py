"""Who has a part in a switchover dies in its middle: the source's agent, the target's, or the command itself.

At moments spread over the move, from when the wish stands in etcd. The client must never see two, and see one again
within a lease and 300 ms; and a command that lives says no more than is known.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from haagent.core.units import MS, Duration, Instant
from haagent.lab.cluster import GROUP, NAME
from haagent.lab.commands import LabError, now
from haagent.lab.process import Process
from tests.bench.failsafe import Summary
from tests.bench.moving import Bed, spread
from tests.bench.moving import bed as bed_of

SPREAD: Duration = 40 * MS
"""The last moment, from when the wish is seen."""
EXTRA: Duration = 300 * MS
"""What an owner may take beyond the lease."""


class Victim(Enum):
    """Who dies, and how."""

    SOURCE_KILLED = "source SIGKILL"
    SOURCE_STOPPED = "source SIGSTOP"
    TARGET_KILLED = "target SIGKILL"
    TARGET_STOPPED = "target SIGSTOP"
    COMMAND_KILLED = "command SIGKILL"


KILLED: Final = (Victim.SOURCE_KILLED, Victim.TARGET_KILLED, Victim.COMMAND_KILLED)
"""Who hangs keeps a command that asked it waiting for long."""


@dataclass(frozen=True)
class Ended:
    """What became of it, in milliseconds. `code`: the command's, None if it died. `lie`: what it may not say."""

    gap: float
    most: int
    overlap: float
    code: int | None
    said: str
    lie: str


class Wishes:
    """When somebody writes a wish, as etcd's watch tells; a millisecond late at the most."""

    def __init__(self, bed: Bed) -> None:
        lab = bed.cluster.lab
        self._log = lab.directory / "wishes"
        endpoints = f"--endpoints={','.join(lab.etcd.endpoints)}"
        argv = ["etcdctl", endpoints, "watch", "--prefix", f"/haagent/{NAME}/intents/"]
        self._watching = lab.hosts[-1].spawn(argv, log=self._log)
        time.sleep(0.5)
        self.forget()

    def forget(self) -> None:
        """Wait for the next one."""
        self._seen = self._log.stat().st_size

    def wait(self, command: Process) -> Instant:
        """When the command has written it. LabError if it ends without."""
        while self._log.stat().st_size == self._seen:
            if not command.running:
                raise LabError(f"haagentctl wished nothing: {command.output()}")
            time.sleep(0.0003)
        return now()

    def close(self) -> None:
        self._watching.kill()


@contextmanager
def wishes(bed: Bed) -> Generator[Wishes]:
    """For as long as it is needed."""
    made = Wishes(bed)
    try:
        yield made
    finally:
        made.close()


def measure(addresses: int, victim: Victim, ttl: str, trials: int) -> Summary:
    """So many trials, each in a later moment; every third one asks the agent that is killed."""
    ended: list[Ended] = []
    wrong = 0
    with bed_of(addresses, ttl=ttl) as bed, wishes(bed) as seen:
        for trial in range(trials):
            # More of them early, where the move is.
            after = int(SPREAD * (trial / max(1, trials - 1)) ** 2)
            ended.append(one := die(bed, seen, victim, after, ask_victim=trial % 3 == 2 and victim in KILLED))
            if one.lie or one.gap * MS > bed.ttl + EXTRA:
                wrong += 1
                print(f"{victim.value}, {after / MS:.0f} ms after the wish: {one.gap:.0f} ms, {one.lie}\n{one.said}")
    codes = Counter(str(each.code) for each in ended if each.code is not None)
    return {
        "kind": "death",
        "scenario": f"{victim.value}, {addresses} address{'es' if addresses > 1 else ''}",
        "ttl": ttl,
        "trials": trials,
        **spread("gap", [each.gap for each in ended]),
        "codes": dict(sorted(codes.items())),
        "wrong": wrong,
        "most_at_once": max(each.most for each in ended),
        "overlaps": sum(each.most > 1 for each in ended),
        "longest_overlap_ms": round(max(each.overlap for each in ended), 1),
    }


def die(bed: Bed, seen: Wishes, victim: Victim, after: Duration, *, ask_victim: bool = False) -> Ended:
    """One switchover, and the victim's end so long after the wish. All is whole again afterwards.

    The command asks the third node's agent, or the victim's own.
    """
    hosts = {host.name: host for host in bed.cluster.lab.hosts}
    owner = bed.cluster.owner()
    source = hosts[owner]
    target = hosts["n2" if owner == "n1" else "n1"]
    third = next(host for host in hosts.values() if host not in (source, target))
    dying = source if victim in (Victim.SOURCE_KILLED, Victim.SOURCE_STOPPED) else target
    asked = dying if ask_victim else third
    seen.forget()
    began = now()
    words = bed.command("switchover", GROUP, "--to", target.name, "--force", "-f", "json", asked=asked)
    output = bed.cluster.lab.directory / "command"
    output.unlink(missing_ok=True)
    command = third.spawn(words, log=output)
    at = seen.wait(command) + after
    while (left := at - now()) > 0:
        time.sleep(left / 1e9 if left > MS else 0)
    struck = now()
    match victim:
        case Victim.COMMAND_KILLED:
            command.begin_kill()
        case Victim.SOURCE_KILLED | Victim.TARGET_KILLED:
            bed.cluster.agents[dying.name].begin_kill()
        case Victim.SOURCE_STOPPED | Victim.TARGET_STOPPED:
            bed.cluster.agents[dying.name].pause()
    code = command.wait(30.0)
    ended = _ended(bed, victim, began, struck, None if victim is Victim.COMMAND_KILLED else code, output)
    if victim in (Victim.SOURCE_STOPPED, Victim.TARGET_STOPPED):
        bed.cluster.agents[dying.name].resume()
        time.sleep(bed.ttl / 1e9)  # it ends, or renews its lease again
    bed.cluster.restore()
    bed.whole()
    return ended


def _ended(bed: Bed, victim: Victim, began: Instant, struck: Instant, code: int | None, output: Path) -> Ended:
    # Until whoever died has lapsed for good, and somebody could have claimed beside.
    while now() < struck + bed.ttl + 2 * EXTRA:
        time.sleep(0.05)
    vips = bed.vips[GROUP]
    for vip in vips:
        bed.prober.wait_for_answer(vip, after=now(), timeout=10.0)
    timeline = bed.prober.timeline(began - 100 * MS)
    gaps = [timeline.gap(vip, began) for vip in vips]
    worst = max(gaps, key=lambda gap: gap.length or 0)
    text = output.read_text()
    return Ended(
        gap=(worst.length or 0) / MS,
        most=timeline.most_at_once(),
        overlap=sum(overlap.length for overlap in timeline.overlaps()) / MS,
        code=code,
        said=text,
        lie=_lie(code, text),
    )


def _lie(code: int | None, text: str) -> str:
    """What a command said that it may not say; empty if nothing."""
    if code is None:
        return ""
    start = text.find("{")
    if code == 0:
        said: dict[str, Any] = json.loads(text[start : text.rfind("}") + 1]) if start >= 0 else {}
        known = said.get("moves") and all(move.get("verified") or move.get("known") for move in said["moves"])
        return "" if known else "0, and not verified"
    if code not in (1, 3):
        return f"ended with {code}"
    return "" if "Error: " in text else "ended without a word"
