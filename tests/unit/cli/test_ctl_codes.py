"""Every command of haagentctl against a cluster that is canned: its exit code tells how it ended, its text why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from haagent.cli.ctl.main import _COMMANDS, cli
from haagent.core.units import MS
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2 as pb
from tests.unit.cli.canned import Served, done, group, late, member, moved, node, refuse, serving, three

ROOT = Path(__file__).resolve().parents[3]
CHANGES: dict[str, tuple[str, ...]] = {
    "Switchover": ("switchover", "web", "--to", "n2", "--force"),
    "Failover": ("failover", "web", "--to", "n2", "--force"),
    "Pause": ("pause",),
    "Resume": ("resume",),
    "Drain": ("drain", "n1", "--force"),
    "Undrain": ("undrain", "n1"),
    "Reload": ("reload",),
}
READS = (("list",), ("topology",), ("status",), ("history",), ("doctor",), ("version",), ("watch",))


@pytest.fixture
def served(tmp_path: Path) -> Generator[Served]:
    with serving(tmp_path) as found:
        yield found


def test_every_command_is_in_the_tables():
    asked = {words[0] for words in (*CHANGES.values(), *READS)}
    assert asked | {"config"} == set(_COMMANDS), "config asks nobody: tests/unit/cli/test_ctl_config.py"


# --- what changes something


@pytest.mark.parametrize("name", CHANGES)
def test_done(served: Served, name: str):
    served.answers[name] = moved() if name in ("Switchover", "Failover", "Drain") else done()
    result = served(*CHANGES[name])
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("name", CHANGES)
def test_refused(served: Served, name: str):
    served.answers[name] = control.Outcome(result=control.REFUSED, reason="paused", text="the cluster is paused by eve")
    result = served(*CHANGES[name])
    assert (result.exit_code, result.stderr) == (1, "Error: Refused: paused: the cluster is paused by eve\n")


@pytest.mark.parametrize("name", CHANGES)
def test_failed(served: Served, name: str):
    served.answers[name] = control.Outcome(result=control.FAILED, reason="not-done", text="n1 still owns web")
    result = served(*CHANGES[name])
    assert (result.exit_code, result.stderr) == (1, "Error: Failed: not-done: n1 still owns web\n")


@pytest.mark.parametrize("name", CHANGES)
def test_unknown_says_the_agent(served: Served, name: str):
    served.answers[name] = control.Outcome(result=control.UNKNOWN, reason="unanswered", text="etcd gave no answer")
    result = served(*CHANGES[name])
    assert (result.exit_code, result.stderr) == (3, "Error: Outcome unknown: unanswered: etcd gave no answer\n")


@pytest.mark.parametrize("name", CHANGES)
def test_the_connection_is_lost_after_the_request(served: Served, name: str):
    served.answers[name] = served.cut
    result = served(*CHANGES[name])
    assert result.exit_code == 3
    assert f"Error: {served.endpoint}: the outcome is unknown, it may or may not be done: " in result.stderr


@pytest.mark.parametrize("name", CHANGES)
def test_the_deadline_passes_after_the_request(served: Served, name: str):
    served.answers[name] = late(0.8)
    waiting = ("--wait", "0") if name in ("Switchover", "Failover", "Drain") else ()
    result = served(*CHANGES[name], *waiting, "--timeout", "300ms")
    assert result.exit_code == 3
    assert "may or may not be done: no answer in time" in result.stderr


@pytest.mark.parametrize("name", CHANGES)
def test_no_permission(served: Served, name: str):
    served.answers[name] = refuse(grpc.StatusCode.PERMISSION_DENIED, "eve is a viewer, must be operator")
    result = served(*CHANGES[name])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {served.endpoint}: permission denied: eve is a viewer, must be operator\n"


@pytest.mark.parametrize("words", [*CHANGES.values(), *READS])
def test_unreachable(tmp_path: Path, words: tuple[str, ...]):
    endpoint = f"unix:{tmp_path}/control.sock"
    result = CliRunner().invoke(cli, [*words, "--endpoint", endpoint, "--endpoint", "127.0.0.1:1"])
    assert result.exit_code == 4
    said, why = result.stderr.splitlines()
    assert said == f"no agent answers on {endpoint}, 127.0.0.1:1; asking etcd"
    assert why.startswith(f"Error: {endpoint}: No such file or directory; 127.0.0.1:1: ")


def test_the_second_endpoint_answers(served: Served, tmp_path: Path):
    result = served("list", HAAGENTCTL_ENDPOINT=f"unix:{tmp_path}/nobody.sock {served.endpoint}")
    assert (result.exit_code, result.stderr) == (0, "")


def test_an_agent_that_hangs_is_left(served: Served):
    served.answers["GetStatus"] = late(1.0)
    result = served("list", "--timeout", "200ms")
    assert result.exit_code == 4
    assert "no answer within 0.2 s" in result.stderr


def test_scheduled_is_done(served: Served):
    served.answers["Switchover"] = control.Outcome(result=control.SCHEDULED, text="web to n2 at 2099-01-01T00:00:00Z")
    result = served(*CHANGES["Switchover"], "--scheduled", "2099-01-01T00:00Z")
    assert result.exit_code == 0
    assert "Scheduled: web to n2 at 2099-01-01T00:00:00Z\n" in result.stdout
    request = served.last(control.SwitchoverRequest)
    assert (request.not_before_wall_ns, request.wait_ms) == (4_070_908_800_000_000_000, 0)


def test_scheduled_too_far_away(served: Served):
    result = served(*CHANGES["Switchover"], "--scheduled", "9999-12-31T23:59")
    assert result.exit_code == 2
    assert "--scheduled: '9999-12-31T23:59' is too far away, must be before the year 2262" in result.stderr


@pytest.mark.parametrize("words", [("--help",), ("config", "schema"), ("version",)], ids=" ".join)
def test_standard_output_takes_nothing(served: Served, words: tuple[str, ...]):
    argv = [sys.executable, "-m", "haagent.cli.ctl", *words]
    if words == ("version",):
        argv += ["--endpoint", served.endpoint]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (
        3,
        "Error: standard output cannot be written: No space left on device\n",
    )


def test_a_move_that_nobody_could_verify(served: Served):
    outcome = moved(verified=False)
    outcome.result, outcome.reason, outcome.text = control.UNKNOWN, "not-verified", "n1 did not say that it let go"
    served.answers["Switchover"] = outcome
    result = served(*CHANGES["Switchover"])
    assert result.exit_code == 3
    assert "web: n1 -> n2, epoch 41 -> 42, 14 ms without an owner, not verified\n" in result.stdout
    assert result.stderr == "Error: Outcome unknown: not-verified: n1 did not say that it let go\n"


def test_that_the_table_after_it_is_missing_changes_no_outcome(served: Served):
    served.answers |= {
        "GetStatus": [three(), refuse(grpc.StatusCode.UNAVAILABLE, "stopping")],
        "Switchover": moved(),
    }
    result = served(*CHANGES["Switchover"])
    assert (result.exit_code, result.stderr) == (0, f"(no table: {served.endpoint}: stopping)\n")


def test_interrupted_after_the_request(served: Served):
    served.answers["Pause"] = late(5.0)
    # A shell has its background jobs ignore it, and who is started by one as well.
    heeding = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('haagent.cli.ctl', run_name='__main__')"
    )
    command = [sys.executable, "-c", heeding, "pause", "--endpoint", served.endpoint]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        while not any(isinstance(each, control.PauseRequest) for each in served.asked):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 3
    assert err == f"Error: {served.endpoint}: interrupted, the outcome is unknown: look with `list`\n"


def test_what_a_switchover_asks_for(served: Served):
    served.answers["Switchover"] = moved()
    result = served(*CHANGES["Switchover"], "--wait", "1.5s", "--insist", SUDO_USER="anna")
    assert result.exit_code == 0
    asked = served.last(control.SwitchoverRequest)
    assert asked == control.SwitchoverRequest(group="web", to="n2", by="anna", wait_ms=1500, from_epoch=41, force=True)


@pytest.mark.parametrize(
    "status, to",
    [
        (three(), "n2"),
        (three(members=[member("n1", me=True), member("n2", alive=False), member("n3")]), "n3"),
        (three(members=[member("n1", me=True), member("n2", drained=True), member("n3")]), "n3"),
        (three(members=[member("n1", me=True), member("n2"), member("n3", priorities={"web": 150})]), "n3"),
    ],
    ids=["first of equals", "not the dead", "not the drained", "the best"],
)
def test_force_takes_the_only_group_and_the_best_candidate(served: Served, status: pb.Status, to: str):
    served.answers |= {"GetStatus": status, "Switchover": moved()}
    assert served("switchover", "--force").exit_code == 0
    assert served.last(control.SwitchoverRequest).to == to


@pytest.mark.parametrize(
    "words, said",
    [
        (("switchover", "db", "--to", "n2", "--force"), "db: no such group; there are web"),
        (("switchover", "web", "--to", "n9", "--force"), "n9: no such node; web could move to n2, n3"),
        (("failover", "web", "--to", "n9", "--force"), "n9: no such node; web could move to n2, n3"),
        (("drain", "n9", "--force"), "n9: no such node; there are n1, n2, n3"),
        (("list", "db"), "db: no such group; there are web"),
        (("watch", "db"), "db: no such group; there are web"),
        (("history", "db"), "db: no such group; there are web"),
    ],
)
def test_names_that_do_not_exist(served: Served, words: tuple[str, ...], said: str):
    served.answers["History"] = control.HistoryReply()
    result = served(*words)
    assert (result.exit_code, result.stderr) == (1, f"Error: {said}\n")


def test_nobody_to_move_it_to(served: Served):
    served.answers["GetStatus"] = three(members=[member("n1", me=True)])
    result = served("switchover", "web", "--force")
    assert (result.exit_code, result.stderr) == (1, "Error: web: no other node can own it now\n")


def test_nobody_to_move_it_from(served: Served):
    served.answers["GetStatus"] = three(groups=[group(owner="", last_owner="n1")])
    result = served("switchover", "web", "--to", "n2", "--force")
    assert result.exit_code == 1
    assert result.stderr == "Error: web: nobody owns it, so nobody can hand it over; see `failover`\n"


# --- wrong usage


@pytest.mark.parametrize(
    "words, said",
    [
        (("lits",), "No such command 'lits'"),
        (("list", "-f", "xml"), "'pretty', 'json', 'yaml', 'tsv'"),
        (("list", "-w", "0"), "is not in the range"),
        (("list", "--timeout", "soon"), "must be a duration such as 250ms, 1s or 5m"),
        (("list", "--timeout", "1h"), "must be 0.05s to 600s"),
        (("list", "--endpoint", "nowhere"), "must be unix:/path/of/socket or host:port"),
        (("list", "-c", "/nonexistent.yaml"), "/nonexistent.yaml: no such file or directory"),
        (("drain",), "Missing argument 'NODE'"),
        (("switchover", "--scheduled", "tomorrow"), "--scheduled: 'tomorrow', must be now, or like 20"),
        (("switchover", "--scheduled", "2026-01-01"), "'2026-01-01' has no time of day"),
        (("switchover", "--scheduled", "2020-01-01T00:00Z"), "is past, must be in the future"),
        (("switchover", "--wait", "2h"), "must be 0s to 300s"),
        (("config", "show", "-f", "tsv"), "must be yaml or json"),
        # Nobody is there to be asked.
        (("switchover",), "no terminal, so nothing can be asked: give --to NODE (n2 or n3) and --force"),
        (("switchover", "web", "--to", "n2"), "no terminal, so nothing can be asked: give --force"),
        (("failover", "web"), "give --to NODE (n2 or n3) and --force"),
        (("drain", "n1"), "give --force"),
    ],
)
def test_usage(served: Served, words: tuple[str, ...], said: str):
    result = served(*words, **({"HAAGENTCTL_ENDPOINT": ""} if "--endpoint" in words else {}))
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_usage_names_the_groups(served: Served):
    served.answers["GetStatus"] = three(groups=[group(), group("db")])
    result = served("switchover", "--to", "n2", "--force")
    assert result.exit_code == 2
    assert "give GROUP (one of web, db)" in result.stderr


# --- what looks


@pytest.mark.parametrize("command", ["list", "topology", "status"])
@pytest.mark.parametrize(
    "status, line",
    [
        (three(groups=[group(owner="", last_owner="n1")]), "NO OWNER of web: last n1, epoch 41"),
        (
            three(members=[member("n1", me=True), member("n2", node("n2", owns=["web"]))]),
            "TWO OWNERS of web: n1 and n2 both say MASTER",
        ),
        (three(self=node("n1")), "NO OWNER of web: the record names n1, which is BACKUP there"),
    ],
    ids=["released", "two", "in name only"],
)
def test_unhealthy(served: Served, command: str, status: pb.Status, line: str):
    served.answers["GetStatus"] = status
    result = served(command)
    assert result.exit_code == 5
    assert f" {line}\n" in result.stdout


def test_what_is_passing_is_not_unhealthy(served: Served):
    served.answers["GetStatus"] = [three(groups=[group(owner="", last_owner="n1")]), three()]
    result = served("list")
    assert result.exit_code == 0
    assert "NO OWNER" not in result.stdout


def test_looking_again_and_again(served: Served):
    served.answers["GetStatus"] = [three(), three(), refuse(grpc.StatusCode.UNAVAILABLE, "gone")]
    result = served("list", "-w", "0.1")
    assert result.exit_code == 4
    assert result.stdout.count("Cluster: prod") == 2


def test_news_that_are_old_make_no_second_owner(served: Served):
    cut_off = member("n2", node("n2", owns=["web"]))
    cut_off.peer.connected = False
    served.answers["GetStatus"] = three(members=[member("n1", me=True), cut_off])
    result = served("list")
    assert result.exit_code == 0
    assert "not heard, renewing" in result.stdout


def test_failsafe_pause_drain_and_plans_are_seen_but_healthy(served: Served):
    living = node("n1", owns=["web"])
    living.failsafe.CopyFrom(pb.FailsafeStatus(active=True, left_ns=252_000 * MS))
    living.etcd.reachable = False
    intent = pb.Intent(to="n2", from_epoch=41, by="anna", not_before_wall_ns=4_070_908_800_000_000_000)
    served.answers["GetStatus"] = three(
        self=living,
        paused_by="eve",
        groups=[group(intent=intent)],
        members=[member("n1", me=True), member("n3", drained=True)],
    )
    result = served("list")
    assert result.exit_code == 0
    assert result.stdout.split("┘\n")[1].splitlines() == [
        " FAILSAFE on n1: etcd is away, all candidates promise to wait; at most 4 min 12 s more",
        " etcd does not answer: n1",
        " Maintenance mode: on (by eve)",
        " Drained: n3",
        " Switchover of web scheduled at: 2099-01-01T00:00:00+00:00, from n1 to n2 (by anna)",
    ]


@pytest.mark.parametrize("level, code", [("OK", 0), ("WARNING", 0), ("WRONG", 5)])
def test_doctor(served: Served, level: str, code: int):
    finding = control.Finding(level=level, subject="n2", text="is not heard", advice="look at it")
    served.answers["Doctor"] = control.DoctorReply(findings=[finding])
    result = served("doctor", "-f", "tsv")
    assert (result.exit_code, result.stdout.splitlines()[1]) == (code, f"{level}\tn2\tis not heard\tlook at it")


@pytest.mark.parametrize("words", READS)
def test_reading_is_denied(served: Served, words: tuple[str, ...]):
    served.answers["GetStatus"] = refuse(grpc.StatusCode.UNAUTHENTICATED, "no certificate")
    result = served(*words)
    assert result.exit_code == 1
    assert "not authenticated: no certificate" in result.stderr


def test_an_agent_that_does_not_know_the_request(served: Served):
    served.answers["Doctor"] = refuse(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    result = served("doctor")
    assert result.exit_code == 1
    assert "is it older than haagentctl?" in result.stderr


def test_watching_ends_when_nobody_answers_any_more(served: Served):
    def stream() -> Any:
        yield three()
        yield three(
            groups=[group(owner="n2", epoch=42)], self=node("n1"), members=[member("n2", node("n2", owns=["web"]))]
        )
        served.server.stop(0)

    served.answers["WatchStatus"] = stream()
    result = served("watch")
    assert result.exit_code == 4
    assert "web n1 MASTER (owning) epoch 41\n" in result.stdout
    assert "web n1 MASTER -> BACKUP (following) epoch 41\n" in result.stdout
    assert "asking again" in result.stderr
