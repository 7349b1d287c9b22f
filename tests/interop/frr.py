"""FRR's vrrpd, with the zebra that it needs, as processes on a host of the lab.

vrrpd speaks from a macvlan interface that has the virtual router's MAC address (RFC 9568 7.3) and its addresses, and
that zebra keeps down while it is not master. Both give up root, for the user that Debian's package makes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from typing import Any, Final

from haagent.core.units import MS
from haagent.lab.commands import LabError, ip_batch
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.process import Process
from tests.interop.dialect import VRID, Dialect

_DAEMONS: Final = "/usr/lib/frr"
_MACVLAN_LINK_LOCAL: Final = "fe80::5eff:fe00:233"


class Vrrpd:
    """Virtual router 51 on eth0, from its start."""

    def __init__(self, lab: Lab, host: Host, dialect: Dialect, priority: int) -> None:
        self._host = host
        self._version = f"v{dialect.family}"
        self._directory = lab.directory / f"frr-{host.name}"
        self._directory.mkdir()
        shutil.chown(self._directory, "frr", "frrvty")
        self.mac = f"00:00:5e:00:0{1 if dialect.family == 4 else 2}:{VRID:02x}"
        self.source = host.ip if dialect.family == 4 else _MACVLAN_LINK_LOCAL
        self._plug(dialect)
        self._zebra = self._start("zebra", "")
        # vrrpd that does not find zebra's socket tries again after ten seconds.
        self._until("zebra answers", (self._directory / "zserv").exists)
        self.process = self._start("vrrpd", _config(dialect, priority))

    @property
    def status(self) -> dict[str, Any]:
        """What `show vrrp json` has of the router, in this family; empty while it can not be asked."""
        asked = ["vtysh", "--vty_socket", str(self._directory), "-c", "show vrrp json"]
        shown = self._host.run(asked, check=False)
        return json.loads(shown.stdout)[0][self._version] if shown.returncode == 0 else {}

    def wait(self, status: str) -> None:
        """Wait until it is Backup or Master."""
        self._until(f"vrrpd is {status}", lambda: self.status.get("status") == status)

    @property
    def complaints(self) -> list[str]:
        """What it says of packets that it does not take."""
        lines = self.process.output().splitlines()
        return [line for line in lines if "Discarding" in line or "invalid" in line.lower()]

    def stop(self) -> None:
        """SIGTERM to vrrpd, and wait until it has said farewell and ended."""
        self.process.stop()

    def _plug(self, dialect: Dialect) -> None:
        link = f"vrrp{dialect.family}-{VRID}"
        # vrrpd speaks from the link-local address that it is told of first: the newest, and that must not be virtual.
        own = [f"{_MACVLAN_LINK_LOCAL}/64"] if dialect.family == 6 else []
        flags = "nodad" if dialect.family == 6 else ""
        ip_batch(
            [
                f"link add {link} link eth0 type macvlan mode bridge",
                f"link set {link} address {self.mac} addrgenmode none",
                *(f"address add {address} dev {link} {flags}" for address in (*dialect.addresses, *own)),
                f"link set {link} up",
            ],
            namespace=self._host.namespace,
        )

    def _start(self, daemon: str, config: str) -> Process:
        (self._directory / f"{daemon}.conf").write_text(config)
        files = {"-f": f"{daemon}.conf", "-i": f"{daemon}.pid", "-z": "zserv", "--vty_socket": "."}
        options = [word for option, name in files.items() for word in (option, str(self._directory / name))]
        return self._host.spawn([f"{_DAEMONS}/{daemon}", *options, "-P", "0", "--log", "stdout"])

    def _until(self, what: str, so: Callable[[], bool], timeout: float = 15.0) -> None:
        end = time.monotonic() + timeout
        while not so():
            if time.monotonic() > end:
                raise LabError(f"not within {timeout:g} s: {what}: {self.status}")
            time.sleep(0.02)


def _config(dialect: Dialect, priority: int) -> str:
    keyword = "ip" if dialect.family == 4 else "ipv6"
    lines = [
        f"priority {priority}",
        f"advertisement-interval {dialect.interval // MS}",
        *(f"{keyword} {address.partition('/')[0]}" for address in dialect.addresses),
    ]
    router = [f"vrrp {VRID} version {dialect.version}", *(f"vrrp {VRID} {line}" for line in lines)]
    return "\n".join(["debug vrrp protocol", "interface eth0", *(f" {line}" for line in router), ""])
