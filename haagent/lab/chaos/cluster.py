"""The cluster that chaos is done to: a sync group of an IPv4 and an IPv6 address, and agents whose clock can be set."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from haagent.core.units import MS, Duration
from haagent.lab.chaos.plan import Peers, Reload
from haagent.lab.chaos.wallclock import Dial
from haagent.lab.cluster import NAME, ROOT, Cluster, both_group, both_routers
from haagent.lab.commands import LabError
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.process import Process
from haagent.lab.topology import vip4, vip6

VIPS = (vip4(), vip6())
USER = "agent"
"""By which the agents come to an etcd that demands a password."""


class ChaosCluster(Cluster):
    """`gate` as in `fence.gate`, None for the agent's default. `variants` are what a reload may change. `secured`: etcd
    demands a password, which the agents have in a file.
    """

    def __init__(
        self, lab: Lab, ttl: Duration, gate: str | None = None, peers: Peers = Peers.NONE, *, secured: bool = False
    ) -> None:
        keys: dict[str, Any] = {"groups": both_group()}
        self._password_file = lab.directory / "password"
        self._passwords = 0
        if secured:
            lab.etcd.require_password(USER, self._next_password())
            own = {"user": USER, "password_file": str(self._password_file)}
            keys["etcd"] = {"endpoints": list(lab.etcd.endpoints), **own}
        if gate is not None:
            keys["fence"] = {"gate": gate}
        if peers is Peers.SHORT:
            keys["failsafe"] = {"max": _text(4 * ttl)}
        super().__init__(lab, ttl=_text(ttl), routers=both_routers(), keys=keys, peers=peers is not Peers.NONE)
        self.dials = {host.name: Dial(lab.directory / f"{host.name}.clock") for host in lab.hosts}
        self.variants: Mapping[Reload, Mapping[str, Any]] = {
            Reload.SHORTER: {"lease": {"ttl": _text(max(ttl // 2, 300 * MS))}},
            Reload.LONGER: {"lease": {"ttl": _text(ttl * 3 // 2)}},
            Reload.PRIORITY: {"virtual_routers": both_routers(priority=200), "groups": both_group(preempt=True)},
            Reload.ADDRESSES: {"virtual_routers": both_routers(second=True)},
        }

    def program(self, host: Host) -> Sequence[str]:
        """The agent, with a wall clock of its own."""
        return ["-m", "haagent.lab.chaos.wallclock", str(self.dials[host.name].path)]

    def credentials(self) -> dict[str, str]:
        """For etcdctl, as environment."""
        held = self.lab.etcd.credentials
        return {} if held is None else {"ETCDCTL_USER": ":".join(held)}

    def change_password(self) -> None:
        """First in etcd; LabError, and nothing is changed, if it does not answer within a second."""
        etcd, before = self.lab.etcd, self._password_file.read_text()
        words = "user", "passwd", USER, "--interactive=false", "--command-timeout=1s"
        password = self._next_password()
        try:
            etcd.ctl(*words, stdin=password)
        except LabError:
            self._password_file.write_text(before)
            raise
        etcd.credentials = (USER, password)

    def _next_password(self) -> str:
        self._passwords += 1
        password = f"secret{self._passwords}"
        self._password_file.write_text(password)
        self._password_file.chmod(0o600)
        return password

    def whole(self) -> bool:
        """Whether one node owns, and all of them are candidates, whose promises would carry it if there are peers."""
        return self._complete() and (not self.talks or self.carried())

    def history(self) -> list[dict[str, Any]]:
        """Every change of owner that etcd remembers, oldest first: `node`, `epoch`, `reason`, `since`."""
        text = self.lab.etcd.ctl("get", "--prefix", "--print-value-only", f"/haagent/{NAME}/history/{self.group}/")
        entries: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line]
        return sorted(entries, key=lambda entry: int(entry["epoch"]))

    def order(self, host: Host, *words: str) -> Process:
        """Have an operator on a host give an order, and do not wait for what comes of it."""
        argv = [sys.executable, "-m", "haagent.cli.ctl", *words, "-c", str(self.config(host))]
        return host.spawn(argv, name="operator", env={"PYTHONPATH": str(ROOT)})

    def countermand(self) -> None:
        """No order stands any more, and no switchover is planned."""
        for key in ("orders/cluster", f"intents/{self.group}"):
            self.lab.etcd.ctl("del", f"/haagent/{NAME}/{key}")

    def unchange(self, host: Host) -> None:
        """Have the host's agent go by the configuration that it began with."""
        self.differences.pop(host.name, None)
        self.reload(host)


def _text(duration: Duration) -> str:
    return f"{duration // MS}ms"
