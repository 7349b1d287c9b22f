"""What people and machines are shown of a timeline."""

from __future__ import annotations

import json

from haagent.core.units import MS
from haagent.lab.probes import Kind
from haagent.lab.render import as_json, as_text
from haagent.lab.timeline import Answer, Timeline

VIP = "10.77.0.101"


def timeline(second_from: int) -> Timeline:
    first = [Answer(at * MS, VIP, "n1", Kind.ICMP) for at in range(0, 41, 2)]
    second = [Answer(at * MS, VIP, "n2", Kind.ICMP) for at in range(second_from, 101, 2)]
    return Timeline([*first, *second], watched=(0, 100 * MS))


def test_bars_runs_and_gaps_as_text() -> None:
    assert as_text(timeline(60), marks={"stop": 42 * MS}, width=20) == (
        "    0 ms          100 ms\n"
        "            ▼ stop (42.0)\n"
        "10.77.0.101\n"
        "n1  █████████···········\n"
        "n2  ············████████\n"
        "  n1 answered 0.0 to 40.0 (21 answers)\n"
        "  n2 answered 60.0 to 100.0 (21 answers)\n"
        "  gap 20.0 ms between n1 and n2\n"
    )


def test_an_overlap_is_shouted() -> None:
    assert "OVERLAP n1 and n2 30.0 to 40.0: n1 by wire ICMP; n2 by wire ICMP" in as_text(timeline(30))


def test_nothing_seen_can_be_shown_too() -> None:
    assert as_text(Timeline([])).startswith("  0 ms")


def test_json_holds_everything() -> None:
    shown = json.loads(json.dumps(as_json(timeline(30))))
    assert shown["most_at_once"] == 2
    address = shown["addresses"][VIP]
    assert [run["node"] for run in address["runs"]] == ["n1", "n2"]
    ways = {"n1": ["wire ICMP"], "n2": ["wire ICMP"]}
    assert address["overlaps"] == [{"nodes": ["n1", "n2"], "start": 30 * MS, "end": 40 * MS, "ways": ways}]
    assert address["gaps"] == []
