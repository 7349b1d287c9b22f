"""docs/QUICKSTART.md done as written, at the lab's addresses, by agents with no more rights than the unit gives."""

from __future__ import annotations

import grp
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import haagent
from haagent.lab.cluster import NAME, Cluster
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.topology import vip4
from tests.integration.conftest import MakeLab

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(haagent.__file__).parents[1]
GUIDE = (ROOT / "docs/QUICKSTART.md").read_text()
HAAGENT, HAAGENTCTL = (["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", m] for m in ("haagent", "haagent.cli.ctl"))
UNIT = (ROOT / "docs/systemd/haagent.service").read_text()
CAPABILITIES = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT, re.MULTILINE)[0].split()


def blocks(kind: str, text: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def with_addresses(lab: Lab) -> str:
    """The guide, with the addresses of the lab's hosts, and etcd where it is there."""
    text = re.sub(r"endpoints: \[.*\]", f"endpoints: [{', '.join(lab.etcd.endpoints)}]", GUIDE)
    hosts = {f"10.0.0.{number}": host.ip for number, host in enumerate(lab.hosts, 1)}
    for address, there in {"10.0.0.100": vip4(), **hosts}.items():
        text = re.sub(rf"\b{re.escape(address)}\b", there, text)
    return text


class Installed(Cluster):
    """Agents that run as the guide says, with the capabilities of the unit."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.etc = lab.directory / "etc"
        self.etc.mkdir()
        text = with_addresses(lab)
        (script,) = blocks("sh", text)
        subprocess.run(["sh", "-e", "-c", script], cwd=self.etc, check=True, capture_output=True)
        self.node, self.operator = (block.replace("prod", NAME) for block in blocks("yaml", text))

    def config(self, host: Host) -> Path:
        """The guide's file, for that host: its own name and address."""
        first = self.lab.hosts[0]
        text = re.sub(rf"\b{first.name}\b", host.name, self.node.replace(f"{first.ip}:", f"{host.ip}:"))
        directory = self.etc / host.name
        directory.mkdir(exist_ok=True)
        for name in ("ca.pem", f"{host.name}.pem", f"{host.name}.key"):
            shutil.copy(self.etc / name, directory)
        path = directory / "haagent.yaml"
        # The hosts have one file system.
        path.write_text(text.replace("control:\n", f"control:\n  socket: {self.socket(host)}\n"))
        return path

    def program(self, host: Host) -> Sequence[str]:
        """By way of setpriv, which takes away all capabilities but the unit's."""
        bound = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in CAPABILITIES)])
        become = ["setpriv", "--bounding-set", bound, "--no-new-privs", sys.executable, "-m", "haagent"]
        return ["-c", f"import os, sys; os.execvp('setpriv', {become!r} + sys.argv[1:])"]


def test_the_quick_start(make_lab: MakeLab):
    lab = make_lab(3)
    cluster = Installed(lab)
    n1, n2, n3 = lab.hosts
    for host in lab.hosts:
        checked = host.run([*HAAGENT, "check", "--strict", "-c", str(cluster.config(host))])
        assert checked.stdout == "haagent.yaml: ok, 1 virtual router in 1 group\n"
    cluster.restore()
    cluster.wait(cluster.carried, "all candidates promise, over TLS")
    for host in lab.hosts:
        status = Path(f"/proc/{cluster.agents[host.name].pid}/status").read_text()
        assert int(re.findall(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)[0], 16).bit_count() == len(CAPABILITIES)
        made = cluster.socket(host).stat()
        assert (made.st_mode & 0o777, made.st_gid) == (0o660, grp.getgrnam("adm").gr_gid)
    said = cluster.ctl(n1, "doctor")
    assert (said.returncode, "nothing is wrong" in said.stdout) == (0, True), said.stdout

    to = next(host for host in lab.hosts if host.name != cluster.owner())
    moved = cluster.ctl(n1, "switchover", "web", "--to", to.name, "--force")
    assert moved.returncode == 0, moved
    for host in lab.hosts:
        asked = host.run(["curl", "-sf", "http://127.0.0.1:8500/owner/web"], check=False)
        assert asked.returncode == (0 if host is to else 22)

    hers = cluster.etc / "anna.yaml"
    hers.write_text(cluster.operator)
    ends = ("--endpoint", f"{n1.ip}:8502", "--endpoint", f"{n2.ip}:8502")
    listed = n3.run([*HAAGENTCTL, "-c", str(hers), *ends, "list", "-f", "json"])
    assert json.loads(listed.stdout)["answered"] == "n1"
    back = next(host.name for host in lab.hosts if host is not to)
    moved = n3.run([*HAAGENTCTL, "-c", str(hers), *ends, "switchover", "web", "--to", back, "--force"])
    assert "without an owner" in moved.stdout
    for agent in cluster.agents.values():
        assert agent.stop() == 0
