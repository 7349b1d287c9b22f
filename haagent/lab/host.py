"""A station of the lab as its user sees it: addresses, and processes that run there."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from haagent.core.units import Instant
from haagent.lab import namespaces
from haagent.lab.commands import LabError, now, run
from haagent.lab.process import Launcher, Process
from haagent.lab.topology import Network, Station


class Host:
    """A host, the client, or an etcd member's station. `name` is what the lab calls it, `namespace` what `ip`
    does.
    """

    def __init__(self, station: Station, namespace: str, launcher: Launcher, logs: Path) -> None:
        self.station = station
        self.namespace = namespace
        self._launcher = launcher
        self._logs = logs

    @property
    def name(self) -> str:
        return self.station.name

    @property
    def ip(self) -> str:
        """Its IPv4 address on the service network."""
        return self._address(Network.SERVICE, 0)

    @property
    def ip6(self) -> str:
        """Its IPv6 address on the service network."""
        return self._address(Network.SERVICE, 1)

    @property
    def control_ip(self) -> str:
        """Its IPv4 address on the control network."""
        return self._address(Network.CONTROL, 0)

    @property
    def mac(self) -> str:
        """The MAC address of eth0, on the service network."""
        return next(port.mac for port in self.station.ports if port.network is Network.SERVICE)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        name: str | None = None,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a process here, and return at once.

        Its output is appended to `log`, or else to `<host>-<name>.log` among the lab's logs, `name` being the
        program's unless given. `env` is added to our own environment. It dies with the lab.
        """
        if log is None:
            log = self._logs / f"{self.name}-{name or Path(argv[0]).name}.log"
        return self._launcher.spawn(argv, log=log, namespace=self.namespace, env=env)

    def run(
        self, argv: Sequence[str], *, stdin: str = "", timeout: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program here to its end; LabError as `commands.run` says."""
        return run(["ip", "netns", "exec", self.namespace, *argv], stdin=stdin, timeout=timeout, check=check)

    def inside(self) -> AbstractContextManager[None]:
        """Put the calling thread here for a while: sockets that it opens are this host's, and stay so."""
        return namespaces.inside(self.namespace)

    def kill_all(self) -> Instant:
        """SIGKILL every process here, children and strays too; return when none was left."""
        namespaces.kill_inside([self.namespace])
        return now()

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _address(self, network: Network, index: int) -> str:
        for port in self.station.ports:
            if port.network is network:
                return port.addresses[index].partition("/")[0]
        raise LabError(f"{self.name} is not on the {network.value} network")
