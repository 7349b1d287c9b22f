"""etcd's password is changed under agents that own: promises carry the addresses until the agents know the new one.

No agent is restarted, no lease changes its owner, no client misses an answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from haagent.lab.cluster import Cluster
from haagent.lab.commands import now
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, one_owner, silence
from tests.integration.conftest import MakeLab

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHORT_MS = 150.0


class Scene:
    """Three agents that log in as `agent`, and an owner."""

    def __init__(self, lab: Lab, **login: Any) -> None:
        self.lab = lab
        lab.etcd.require_password("root", "admin")
        lab.etcd.ctl("user", "add", "agent:secret")
        lab.etcd.ctl("user", "grant-role", "agent", "root")
        self.etcd = {"endpoints": list(lab.etcd.endpoints), "user": "agent"}
        self.cluster = Cluster(lab, keys={"etcd": {**self.etcd, **login}}, peers=True)
        self.prober = lab.probe([vip4()])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, vip4()).cold_start()
        self.cluster.restore()
        self.owner = answering(self.prober, vip4())
        self.epoch = self.cluster.epoch()
        self.since = now()
        self.story.forget()

    def change_password(self) -> None:
        """At etcd; all agents are locked out, and the owner's alarm says why."""
        self.lab.etcd.ctl("user", "passwd", "agent", "--interactive=false", stdin="new\n")
        self.story.wait("^alarm: etcd-silent etcd: not authenticated: wrong user or password", self.owner)
        self.story.wait("^alarm: failsafe etcd", self.owner)

    def mended(self) -> None:
        """Nothing moved, nobody missed anything."""
        for host in self.lab.hosts:
            self.story.wait("^etcd: user: agent is authenticated", host.name)
        self.story.wait("^alarm over: failsafe etcd", self.owner)
        assert (self.cluster.owner(), self.cluster.epoch()) == (self.owner, self.epoch)
        assert silence(self.prober, vip4(), self.since) < SHORT_MS
        assert not self.story.lines(pattern="MASTER|etcd: session")
        one_owner(self.story, self.prober, self.since)


def test_the_password_stands_in_a_file_of_its_own(make_lab: MakeLab, tmp_path: Path) -> None:
    """The file is changed later: nobody does anything else."""
    file = tmp_path / "password"
    file.write_text("secret\n")
    scene = Scene(make_lab(), password_file=str(file))
    scene.change_password()
    told = scene.cluster.ctl(scene.lab.host(scene.owner), "doctor").stdout
    assert "correct etcd.password_file" in told, told
    file.write_text("new\n")
    scene.mended()


def test_the_password_stands_in_the_configuration(make_lab: MakeLab) -> None:
    """The new one is taken by a reload, node by node."""
    scene = Scene(make_lab(), password="secret")
    scene.change_password()
    for host in scene.lab.hosts:
        scene.cluster.reload(host, etcd={**scene.etcd, "password": "new"})
        scene.story.wait("^reload: etcd, etcd's user$", host.name)
    scene.mended()
