"""haagent on the hosts of a lab: configurations, processes, and what etcd says of them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

import haagent
from haagent.core.units import MS, Instant
from haagent.lab import asking
from haagent.lab.certificates import Certificate, make_ca
from haagent.lab.commands import LabError, now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.process import Process
from haagent.lab.topology import vip4, vip6

ROOT = Path(haagent.__file__).parents[1]
NAME = "lab"
GROUP = "web"
PORT = 8501
"""Where the agents listen for each other."""
ROUND = 0.5
"""Seconds in which an owner asks all candidates for their promises, and has them."""


class Cluster:
    """One agent a host.

    `ttl` as in the configuration; `routers` replaces the one virtual router `web`; `group` is the one that is asked
    about; `keys` are further top-level keys of all configurations, `differences` those of single hosts, by name. With
    `peers` the agents talk with each other, on the control network, each with a certificate of its own.
    """

    def __init__(
        self,
        lab: Lab,
        *,
        ttl: str = "1s",
        routers: Sequence[Mapping[str, Any]] | None = None,
        group: str = GROUP,
        keys: Mapping[str, Any] | None = None,
        peers: bool = False,
    ) -> None:
        self.lab = lab
        self.group = group
        self.agents: dict[str, Process] = {}
        self.differences: dict[str, dict[str, Any]] = {}
        self._certificates: dict[str, Certificate] = {}
        self._authority = make_ca(lab.directory / "peers") if peers else None
        self._keys = {
            "cluster": NAME,
            "etcd": {"endpoints": list(lab.etcd.endpoints)},
            "lease": {"ttl": ttl},
            "virtual_routers": [dict(router) for router in routers or [web_router()]],
            **(keys or {}),
        }

    @property
    def talks(self) -> bool:
        """Whether the agents hear each other."""
        return self._authority is not None

    def config(self, host: Host) -> Path:
        """Write the host's configuration; returns the file."""
        given = {"control": {"socket": str(self.socket(host))}, **self._peers(host)}
        content = {"node": host.name, **given, **self._keys, **self.differences.get(host.name, {})}
        path = self.lab.directory / f"{host.name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def socket(self, host: Host) -> Path:
        """Where operators reach the host's agent: the hosts share one filesystem."""
        return self.lab.directory / f"{host.name}.sock"

    def reload(self, host: Host, **changes: Any) -> None:
        """Have the host's agent read its configuration again, with these top-level keys replaced from now on."""
        self.differences.setdefault(host.name, {}).update(changes)
        self.config(host)
        self.agents[host.name].signal(signal.SIGHUP)

    def start(self, hosts: Sequence[Host] | None = None) -> None:
        """Start the agents of these hosts, or of all; do not wait for anything."""
        for host in self.lab.hosts if hosts is None else hosts:
            program = [sys.executable, *self.program(host), "run", "-c", str(self.config(host))]
            argv = [*self.wrapper(host), *program]
            # An installed agent has its byte code: it is not compiled at each start, whatever our own environment says.
            env = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
            self.agents[host.name] = host.spawn(argv, name="agent", env=env)
            _prefer(self.agents[host.name])

    def program(self, host: Host) -> Sequence[str]:  # noqa: ARG002 - for who runs it in another way
        """What the interpreter is told to run on a host."""
        return ["-m", "haagent"]

    def wrapper(self, host: Host) -> Sequence[str]:  # noqa: ARG002 - for who runs it in another way
        """What starts the interpreter on a host; nothing unless given."""
        return ()

    def first_word(self) -> Instant:
        """When the first of the agents' logs began, to the millisecond: before that its process was starting."""
        offset = time.time_ns() - now()
        logs = [agent.output() for agent in self.agents.values()]
        stamps = [datetime.fromisoformat(log.partition(" ")[0]) for log in logs if log]
        return int(min(stamps).timestamp() * 1000) * MS - offset

    def ctl(self, host: Host, *words: str) -> subprocess.CompletedProcess[str]:
        """Run haagentctl on a host, with its agent's configuration; whatever comes of it."""
        argv = [sys.executable, "-m", "haagent.cli.ctl", *words, "-c", str(self.config(host))]
        return host.run(["env", f"PYTHONPATH={ROOT}", *argv], check=False)

    def missing(self) -> tuple[Host, ...]:
        """The hosts whose agent does not run."""
        running = {name for name, agent in self.agents.items() if agent.running}
        return tuple(host for host in self.lab.hosts if host.name not in running)

    def restore(self) -> None:
        """Undo every fault, start what does not run, and wait until every node is a candidate and one owns."""
        self.lab.heal()
        self.start(self.missing())
        self.wait(self._complete, "all nodes are candidates, and one owns the group")
        if self.talks:
            self.wait(self.carried, "all nodes hear each other, and the record names them")
            time.sleep(ROUND)

    def owner(self) -> str:
        """The node that the group's record names; LabError if it names none, or was released."""
        record = self.record()
        if record is None or record["clean"]:
            raise LabError(f"{self.group} has no owner: {record}")
        return str(record["node"])

    def epoch(self) -> int:
        """The epoch of the group's record, 0 without one."""
        record = self.record()
        return 0 if record is None else int(record["epoch"])

    def record(self) -> dict[str, Any] | None:
        """The group's ownership record as it stands in etcd; None if there is none that can be read."""
        text = self.lab.etcd.ctl("get", "--print-value-only", f"/haagent/{NAME}/owners/{self.group}")
        return _object(text)

    def candidates(self) -> frozenset[str]:
        """The nodes whose member key says that they may own the group."""
        text = self.lab.etcd.ctl("get", "--prefix", f"/haagent/{NAME}/members/")
        lines = [line for line in text.splitlines() if line.strip()]
        members = {
            key.rpartition("/")[2]: _object(value) or {} for key, value in zip(lines[::2], lines[1::2], strict=True)
        }
        return frozenset(name for name, member in members.items() if _may_own(member, self.group))

    def carried(self) -> bool:
        """Whether promises would carry the group if etcd went away now: all candidates are named, and heard."""
        names = frozenset(host.name for host in self.lab.hosts)
        record = self.record()
        if record is None or frozenset(record["candidates"]) != names:
            return False
        try:
            said = {host.name: asking.status(host) for host in self.lab.hosts}
        except LabError:  # an agent that has just been started serves a little later
            return False
        promised = not said[record["node"]]["self"]["failsafe"]["missing"]
        return promised and all(asking.heard(each) == names - {name} for name, each in said.items())

    def wait(self, condition: Callable[[], bool], what: str, *, timeout: float = 15.0) -> None:
        """Poll until it is so; LabError says what was waited for, and what the agents' logs end with."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise LabError(f"not within {timeout:g} s: {what}\n{self._tails()}")
            time.sleep(0.02)

    def _peers(self, host: Host) -> dict[str, Any]:
        """The keys of the host's configuration by which its agent talks with the others."""
        if self._authority is None:
            return {}
        if host.name not in self._certificates:
            self._certificates[host.name] = self._authority.issue(host.name)
        paths = self._certificates[host.name]
        files = {"ca": self._authority.own.certificate, "cert": paths.certificate, "key": paths.key}
        return {"peers": {"listen": f"{host.control_ip}:{PORT}", **{name: str(path) for name, path in files.items()}}}

    def _complete(self) -> bool:
        record = self.record()
        owned = record is not None and not record["clean"]
        return owned and self.candidates() == frozenset(host.name for host in self.lab.hosts) and not self.missing()

    def _tails(self) -> str:
        return "\n".join(
            f"{name}: {line}" for name, agent in self.agents.items() for line in agent.output().splitlines()[-5:]
        )


def web_router(**changes: Any) -> dict[str, Any]:
    """The configuration of the virtual router that the lab's clusters have unless told otherwise."""
    return {"name": GROUP, "vrid": 51, "interface": "eth0", "addresses": [f"{vip4()}/24"], **changes}


def _prefer(agent: Process) -> None:
    """Give it ten times the weight of others, as CPUWeight= does in docs/systemd/haagent.service.

    A process of the lab is a session of its own, and a kernel that groups by sessions weighs those: sched(7).
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{agent.pid}/autogroup").write_text("-10")


def _object(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text)
    except ValueError:
        return None


def both_families() -> dict[str, Any]:
    """Keys of a configuration with one group of two virtual routers, IPv4 and IPv6: `vip4()` and `vip6()`."""
    return {"virtual_routers": both_routers(), "groups": both_group()}


def both_routers(*, second: bool = False, **changes: Any) -> list[dict[str, Any]]:
    """The virtual routers `web4` and `web6`; with `second` each has another address."""
    four, six = [f"{vip4()}/24"], ["fe80::100/64", f"{vip6()}/64"]  # RFC 9568 5.2.9: the link-local one first
    if second:
        four.append(f"{vip4(2)}/24")
        six.append(f"{vip6(2)}/64")
    return [
        web_router(name=f"{GROUP}4", addresses=four, **changes),
        web_router(name=f"{GROUP}6", addresses=six, **changes),
    ]


def both_group(**changes: Any) -> list[dict[str, Any]]:
    """The group of `both_routers`."""
    return [{"name": GROUP, "routers": [f"{GROUP}4", f"{GROUP}6"], **changes}]


def _may_own(member: Mapping[str, Any], group: str) -> bool:
    standing = member.get("standings", {}).get(group)
    return standing is not None and standing["priority"] > 0
