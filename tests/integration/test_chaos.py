"""Chaos itself: random trials pass on a healthy tree; a cluster without a gate is caught by the same verdict; and every
kind of fault can be done, and undone, so that a whole cluster comes out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner

from haagent.core.units import MS, S
from haagent.lab.chaos.__main__ import main
from haagent.lab.chaos.plan import Action, Kind, Peers, Role
from haagent.lab.chaos.trial import Stage

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

QUICK = 300 * MS


@pytest.fixture
def stage() -> Generator[Stage]:
    with Stage(ttl=1 * S, members=3, peers=Peers.LONG, secured=True) as made:
        yield made


def alone(kind: Kind, lasts: int = QUICK) -> Action:
    return Action(kind, Role.SECOND if kind is Kind.BY_HAND else Role.OWNER, 100 * MS, lasts, amount=1)


def test_trials_by_seed_pass_and_are_told(tmp_path: Path) -> None:
    argv = ["--trials", "2", "--seed", "2", "--ttl", "1000", "--keep", str(tmp_path)]
    done = CliRunner().invoke(main, argv)
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["passed"], summary["trials"], summary["most_at_once"]) == (True, 2, 1)
    assert "memory pressure" in summary["left_out"]
    assert [result["seed"] for result in summary["results"]] == [2, 3]
    assert "Never two answerers." in done.output
    for seed in (2, 3):
        assert (tmp_path / f"{seed}.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("peers", [Peers.NONE, Peers.LONG])
def test_without_a_gate_the_verdict_is_two_answerers(peers: Peers) -> None:
    """The deliberate hole: somebody configures the address on a backup, and nothing in its kernel keeps it silent."""
    with Stage(ttl=1 * S, gate="none", peers=peers) as holed:
        trial = holed.run([Action(Kind.BY_HAND, Role.SECOND, 300 * MS, 2 * S, amount=1)])
    assert trial.verdict.most == 2
    assert any("2 nodes answered at once" in failure for failure in trial.verdict.failures)
    assert trial.verdict.tenures[0].node in trial.verdict.overlaps[0].nodes


@pytest.mark.timeout(120)
def test_every_kind_is_done_and_undone(stage: Stage) -> None:
    """Three at a time; what they come to is for the verdict of `make chaos`, that all is whole again for this."""
    kinds = [kind for kind in Kind if kind is not Kind.ETCD_RESTORE]  # its snapshot would have an old password
    for at in range(0, len(kinds), 3):
        actions = [alone(kind) for kind in kinds[at : at + 3]]
        trial = stage.run(actions)
        assert [deed.action for deed in trial.deeds] == actions
        assert all(deed.ended is not None for deed in trial.deeds)
        assert not trial.verdict.recovery.trouble, trial.verdict.recovery.trouble
        assert not trial.verdict.sick
    assert all(dial.path.read_bytes() == bytes(8) for dial in stage.cluster.dials.values())
    assert not any(stage.cluster.differences.values())
    assert stage.cluster.lab.faults == ()
    credentials = stage.cluster.lab.etcd.credentials
    assert credentials is not None
    assert credentials[1] == "secret2", "the password has been changed"


def test_etcd_is_restored_while_the_owner_starts_again() -> None:
    with Stage(ttl=1 * S) as made:
        epoch = made.cluster.epoch()
        trial = made.run([alone(Kind.CTL_SWITCHOVER), Action(Kind.ETCD_RESTORE, Role.OWNER, 2 * S, 0)])
    assert not trial.verdict.failures, trial.verdict.failures
    assert trial.verdict.recovery.epoch > epoch
