"""What haagentctl asks of whoever sits at the terminal, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from haagent.cli.ctl import ask, steer
from haagent.v1 import control_pb2 as control
from tests.unit.cli.canned import Served, done, group, member, moved, serving, three
from tests.unit.cli.test_ctl_formats import in_terminal

BOTH = ["web", "db"]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Served]:
    monkeypatch.setattr(ask, "interactive", lambda: True)
    monkeypatch.setattr(steer, "interactive", lambda: True)
    members = [member(name, priorities={"web": 100, "db": 100}, me=name == "n1") for name in ("n1", "n2", "n3")]
    status = three(groups=[group(), group("db", "n2")], members=members)
    with serving(tmp_path, GetStatus=status, Switchover=moved(), Failover=moved(), Drain=moved()) as found:
        yield found


def test_everything_is_asked_for_in_a_terminal(served: Served):
    code, shown = in_terminal(served, "switchover", answers=b"web\nn2\n\ny\n")
    assert code == 0
    assert "Current cluster topology\n" in shown
    assert "Group ['web', 'db'] []: " in shown
    assert "Candidate ['n2', 'n3'] []: " in shown
    assert "When should the switchover take place (e.g. 20" in shown
    assert ")  [now]: " in shown
    assert "Are you sure you want to switch over web from n1 to n2? [y/N]: " in shown
    assert "web: n1 -> n2, epoch 41 -> 42, 14 ms without an owner\n" in shown
    assert served.last(control.SwitchoverRequest).by == "anna"


def test_a_question_without_an_answer_is_no_request(served: Served):
    code, shown = in_terminal(served, "switchover", answers=b"web\n\x04")
    assert code == 1
    assert "Aborted!" in shown
    assert not any(isinstance(each, control.SwitchoverRequest) for each in served.asked)


@pytest.mark.parametrize("answers", ["n\n", "\n", ""])
def test_anything_but_yes_aborts(served: Served, answers: str):
    result = served("switchover", "web", "--to", "n2", "--scheduled", "now", answers=answers)
    assert result.exit_code == 1
    assert "bort" in result.stderr
    assert not any(isinstance(each, control.SwitchoverRequest) for each in served.asked)


def test_only_what_is_missing_is_asked_for(served: Served):
    result = served("switchover", "web", "--to", "n2", "--scheduled", "now", answers="y\n")
    assert result.exit_code == 0
    assert "Candidate" not in result.output
    assert "When" not in result.output


def test_a_candidate_that_is_none_is_asked_for_again(served: Served):
    result = served("switchover", "web", answers="n9\nn3\nnow\ny\n")
    assert result.exit_code == 0
    assert "'n9': must be one of n2, n3" in result.stderr
    assert served.last(control.SwitchoverRequest).to == "n3"


def test_no_candidate_means_the_best(served: Served):
    result = served("switchover", "db", answers="\nnow\ny\n")
    assert "Are you sure you want to switch over db from n2 to n1?" in result.stderr
    assert served.last(control.SwitchoverRequest).to == "n1"


def test_a_time_that_is_none_is_asked_for_again_and_the_zone_is_shown(served: Served):
    served.answers["Switchover"] = control.Outcome(result=control.SCHEDULED)
    result = served("switchover", "web", "--to", "n2", answers="soon\n2020-01-01T00:00Z\n2099-01-01T00:00+02:00\ny\n")
    assert result.exit_code == 0
    assert "'soon', must be now, or like 20" in result.stderr
    assert "is past, must be in the future" in result.stderr
    assert (
        "Are you sure you want to schedule switchover of web from n1 to n2 at 2098-12-31T22:00:00+00:00?"
        in result.stderr
    )


def test_failover(served: Served):
    result = served("failover", answers="web\nn3\ny\n")
    assert "Are you sure you want to fail over web from n1 to n3?" in result.stderr
    assert (result.exit_code, served.last(control.FailoverRequest).to) == (0, "n3")


def test_drain_says_what_it_will_move(served: Served):
    result = served("drain", "n1", answers="y\n")
    assert "Are you sure you want to move web off n1 and keep it off?" in result.stderr
    assert (result.exit_code, served.last(control.DrainRequest).node) == (0, "n1")


def test_questions_are_not_in_what_programs_read(served: Served):
    result = served("switchover", "-f", "tsv", answers="web\nn2\n\ny\n")
    assert result.stdout.startswith("group\tfrom\tto")


def test_orders_that_ask_nothing(served: Served):
    served.answers |= {"Pause": done(), "Resume": done()}
    assert (served("pause").exit_code, served("resume").exit_code) == (0, 0)


def test_completion_of_names(served: Served):
    def complete(*words: str) -> list[str]:
        environment = {"_HAAGENTCTL_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words))}
        shown = served(COMP_WORDS=" ".join(("haagentctl", *words)), **environment).stdout
        return [line.partition(",")[2] for line in shown.splitlines() if line]

    assert complete("sw") == ["switchover"]
    assert complete("switchover", "w") == ["web"]
    assert complete("switchover", "web", "--to", "n") == ["n1", "n2", "n3"]
    assert complete("drain", "") == ["n1", "n2", "n3"]
    served.server.stop(0).wait()
    assert complete("drain", "") == []
