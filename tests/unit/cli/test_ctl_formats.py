"""What haagentctl prints, to the letter, in each format: what people read, and what their programs parse."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import yaml

import haagent
from haagent.core.units import S
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2 as pb
from tests.unit.cli.canned import AT, Served, group, member, moved, node, serving, three

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def served(tmp_path: Path) -> Generator[Served]:
    with serving(tmp_path) as found:
        yield found


def test_list_pretty(served: Served):
    served.answers["GetStatus"] = three(paused_by="eve")
    assert (
        served("list").stdout
        == """\
Cluster: prod (as n1 has it)
┏━━━━━━━┳━━━━━━┳━━━━━━━━┳━━━━━━━┳━━━━━━━━━━┳━━━━━━━━┳━━━━━━┳━━━━━━━━━━━┓
┃ Group ┃ Node ┃ Role   ┃ Epoch ┃ Since    ┃  Lease ┃ Prio ┃ State     ┃
┡━━━━━━━╇━━━━━━╇━━━━━━━━╇━━━━━━━╇━━━━━━━━━━╇━━━━━━━━╇━━━━━━╇━━━━━━━━━━━┩
│ web   │ n1   │ MASTER │    41 │ 11:00:00 │ 812 ms │  100 │ owning    │
│ web   │ n2   │ BACKUP │    41 │ 10:00:00 │ 812 ms │  100 │ following │
│ web   │ n3   │ BACKUP │    41 │ 10:00:00 │ 812 ms │  100 │ following │
└───────┴──────┴────────┴───────┴──────────┴────────┴──────┴───────────┘
 Maintenance mode: on (by eve)
"""
    )


def test_list_tsv(served: Served):
    served.answers["GetStatus"] = three(paused_by="eve", members=[member("n1", me=True), member("n2", alive=False)])
    result = served("list", "-f", "tsv")
    assert result.stdout.splitlines() == [
        "group\tnode\trole\tepoch\tsince\tlease_left_ms\tpriority\tstate",
        "web\tn1\tMASTER\t41\t2026-11-20T11:00:00.000Z\t812\t100\towning",
        "web\tn2\t-\t\t\t\t100\tgone",
    ]
    assert result.stderr == " Maintenance mode: on (by eve)\n"


def test_list_json_and_yaml(served: Served):
    rows = [
        {"group": "web", "node": "n1", "role": "MASTER", "epoch": 41, "since": "2026-11-20T11:00:00.000Z"}
        | {"lease_left_ms": 812, "priority": 100, "state": "owning"},
        {"group": "web", "node": "n2", "role": "FAULT", "epoch": 41, "since": "2026-11-20T10:00:00.000Z"}
        | {"lease_left_ms": 812, "priority": 100, "state": "interface eth0 is down or absent, drained"},
    ]
    faulty = member("n2", node("n2", faults=["interface eth0 is down or absent"]), drained=True)
    served.answers["GetStatus"] = three(members=[member("n1", me=True), faulty])
    expected = {
        "cluster": "prod",
        "answered": "n1",
        "at": "2026-11-20T12:00:00.000Z",
        "paused_by": None,
        "two_owners": {},
        "elsewhere": [],
        "without_owner": {},
        "unreachable": {},
        "failsafe": {},
        "etcd_away": [],
        "drained": ["n2"],
        "scheduled": [],
        "alarms": 0,
        "rows": rows,
    }
    assert json.loads(served("list", "-f", "json").stdout) == expected
    assert yaml.safe_load(served("list", "-f", "yaml").stdout) == expected


def test_options_may_stand_before_the_command(served: Served):
    assert json.loads(served("-f", "json", "list").stdout)["cluster"] == "prod"
    assert served("-f", "json", "list", "-f", "tsv").stdout.startswith("group\tnode")


def test_topology(served: Served):
    served.answers["GetStatus"] = three(
        members=[member("n2", node("n2"), priorities={"web": 150}), member("n1", me=True)]
    )
    assert (
        served("topology").stdout
        == """\
Cluster: prod (as n1 has it)
└── web: n1, epoch 41
    ├── web: VRRPv3, VRID 51 on eth0: 10.0.0.100/24
    ├── n1 MASTER, priority 100, owning: 10.0.0.1
    └── n2 BACKUP, priority 100, following: 10.0.0.2
"""
    )
    assert served("topology", "-f", "tsv").stdout.splitlines() == [
        "group\tnode\trole\tnode_addresses\tgroup_addresses",
        "web\tn1\tMASTER\t10.0.0.1\t10.0.0.100/24",
        "web\tn2\tBACKUP\t10.0.0.2\t10.0.0.100/24",
    ]
    told = json.loads(served("topology", "-f", "json").stdout)
    assert [each["node"] for each in told["groups"][0]["nodes"]] == ["n1", "n2"]


def test_status(served: Served):
    status = three(
        changes=[
            pb.Change(
                at_wall_ns=AT - 3600 * S, group="web", before=pb.BACKUP, after=pb.MASTER, why="n3 lapsed", epoch=41
            )
        ]
    )
    status.self.alarms.append(pb.Alarm(kind="stranger", subject="web", detail="10.0.0.9", since_wall_ns=AT - 60 * S))
    served.answers["GetStatus"] = status
    shown = served("status").stdout
    assert "│ n1   │ yes   │ 0.1.0   │ 812 ms of 1 s │    2 ms │ nft, owned │ answers │ itself │" in shown
    assert "│ web   │ n1    │    41 │ 2026-11-20 11:00:00 │ the lease of n3 lapsed │ n2, n3     │" in shown
    assert "│ n1   │ stranger │ web │ 10.0.0.9 │ 2026-11-20 11:59:00 │" in shown
    assert "│ 2026-11-20 11:00:00 │ web   │ BACKUP -> MASTER │    41 │ n3 lapsed │" in shown
    whole = json.loads(served("status", "-f", "json").stdout)
    assert whole["self"]["lease"] == {
        "held": True,
        "ttl_ns": 1_000_000_000,
        "left_ns": 812_000_000,
        "age_ns": 158_000_000,
        "renewal_ns": 2_000_000,
    }
    assert whole["groups"][0]["intent"] is None
    assert whole["members"][1]["status"]["groups"][0]["role"] == "BACKUP"
    assert whole["members"][1]["priorities"] == {"web": 100}


@pytest.mark.parametrize(
    "more, line",
    [
        ({}, "web: n1 -> n2, epoch 41 -> 42, 14 ms without an owner"),
        ({"gap_ns": 0}, "web: n1 -> n2, epoch 41 -> 42, gap not measured"),
        ({"gap_ns": 400_000}, "web: n1 -> n2, epoch 41 -> 42, 0.4 ms without an owner"),
        ({"gap_error_ns": 1_000_000}, "web: n1 -> n2, epoch 41 -> 42, 14 ms without an owner (± 1 ms)"),
        ({"gap_ns": 1_240_000_000, "gap_error_ns": 1_000_000}, "web: n1 -> n2, epoch 41 -> 42, 1.2 s without an owner"),
        (
            {"verified": False, "gap_ns": 0, "known": "n1 could not be asked, its lease is over"},
            "web: n1 -> n2, epoch 41 -> 42, gap not measured; n1 could not be asked, its lease is over",
        ),
        ({"from_node": ""}, "web: - -> n2, epoch 41 -> 42, 14 ms without an owner"),
    ],
)
def test_a_move(served: Served, more: dict[str, object], line: str):
    served.answers["Switchover"] = moved(**more)
    assert served("switchover", "--force", "--to", "n2").stdout.splitlines()[9] == line


def test_a_move_for_programs(served: Served):
    served.answers["Switchover"] = moved()
    words = ("switchover", "--force", "--to", "n2")
    assert served(*words, "-f", "tsv").stdout.splitlines() == [
        "group\tfrom\tto\tfrom_epoch\tto_epoch\tgap_ms\tgap_error_ms\tverified",
        "web\tn1\tn2\t41\t42\t14.200\t0.200\ttrue",
    ]
    outcome = json.loads(served(*words, "-f", "json").stdout)
    assert outcome["result"] == "DONE"
    assert outcome["moves"][0]["gap_ns"] == 14_200_000


def test_history(served: Served):
    entry = control.HistoryEntry(group="web", epoch=41, node="n1", reason="the lease of n3 lapsed", at_wall_ns=AT)
    served.answers["History"] = control.HistoryReply(entries=[entry])
    assert "│ web   │    41 │ n1    │ 2026-11-20 12:00:00 │ the lease" in served("history", "web", "-n", "3").stdout
    assert served.last(control.HistoryRequest) == control.HistoryRequest(group="web", newest=3)
    assert json.loads(served("history", "-f", "json").stdout) == [
        {
            "group": "web",
            "epoch": 41,
            "node": "n1",
            "at": "2026-11-20T12:00:00.000Z",
            "reason": "the lease of n3 lapsed",
        }
    ]


def test_version(served: Served):
    assert served("version").stdout == f"haagentctl {haagent.__version__}\n" + "".join(
        f"n{i}: haagent 0.1.0\n" for i in (1, 2, 3)
    )


def test_watching_by_lines_of_json(served: Served):
    def stream() -> Iterator[pb.Status]:
        yield three()
        yield three(groups=[group(epoch=42)], self=node("n1", faults=["x"]))
        served.server.stop(0)

    served.answers["WatchStatus"] = stream()
    lines = [json.loads(line) for line in served("watch", "-f", "json").stdout.splitlines()]
    assert [(line["node"], line["before"], line["role"]) for line in lines[:3]] == [
        ("n1", None, "MASTER"),
        ("n2", None, "BACKUP"),
        ("n3", None, "BACKUP"),
    ]
    assert (lines[3]["before"], lines[3]["role"], lines[3]["state"]) == ("MASTER", "FAULT", "x")


def test_names_can_not_steer_the_terminal(served: Served):
    served.answers["GetStatus"] = three(paused_by="\x1b[2Jeve", groups=[group("w\teb", reason="a\nb")])
    for how in ("pretty", "tsv"):
        result = served("status", "-f", how)
        assert "\x1b" not in result.output
        assert "a\nb" not in result.output


@pytest.mark.parametrize("plain", [False, True])
def test_colours_and_width_of_a_terminal(served: Served, plain: bool):
    """In 80 columns nothing is wider, and nothing is left out; NO_COLOR is respected."""
    name = "n4-far-away.example.org"
    status = three(self=node("n1"))
    status.members.append(member(name, alive=False))
    served.answers["GetStatus"] = status
    code, shown = in_terminal(served, "list", environment={"NO_COLOR": "1"} if plain else None)
    assert code == 5
    assert ("\x1b[3" in shown) is not plain  # a colour, and not only bold
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    table = [line for line in lines if line.startswith(tuple("┏┃┡│├└"))]
    assert {len(line) for line in table} == {len(table[0])}
    assert len(table[0]) <= 80
    assert "".join(line.split("│")[2].strip() for line in table[-5:] if line[0] == "│").endswith(name)
    assert " NO OWNER of web: the record names n1, which is BACKUP there" in lines


def in_terminal(
    served: Served, *words: str, answers: bytes = b"", environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run it with a pseudo-terminal of 80 columns for all three streams."""
    leader, follower = pty.openpty()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "80"}
    env |= {"HAAGENTCTL_ENDPOINT": served.endpoint, "TZ": "UTC", "SUDO_USER": "anna", **(environment or {})}
    command = ["timeout", "--foreground", "20", sys.executable, "-m", "haagent.cli.ctl", *words]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env) as process:
        os.close(follower)
        os.write(leader, answers)
        shown = b""
        while chunk := _read(leader):
            shown += chunk
        code = process.wait(30)
    os.close(leader)
    return code, shown.decode().replace("\r\n", "\n")


def _read(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # EIO: the last one who had it open is gone
        return b""
