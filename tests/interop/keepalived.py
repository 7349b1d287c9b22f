"""keepalived as a process on a host of the lab: its configuration, and what its log says of us."""

from __future__ import annotations

import re
import time
from typing import Final

from haagent.lab.commands import LabError
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from tests.interop.dialect import Dialect, block


class Keepalived:
    """`vrrp_instance web`, from its start as BACKUP, whatever its priority below 255."""

    def __init__(self, lab: Lab, host: Host, peer: Host, dialect: Dialect, priority: int) -> None:
        self.source = dialect.address(host)
        self._directory = lab.directory / f"keepalived-{host.name}"
        self._directory.mkdir()
        lines = [*dialect.keepalived(host, peer), f"priority {priority}"]
        (self._directory / "conf").write_text(block("vrrp_instance web", lines) + "\n")
        files = {option: str(self._directory / f"{option}.pid") for option in "prc"}
        argv = ["keepalived", "-n", "-l", "-D", "-P", "-f", str(self._directory / "conf")]
        self.process = host.spawn([*argv, *(word for key in files for word in (f"-{key}", files[key]))])

    def stop(self) -> None:
        """SIGTERM, and wait until it has said farewell and ended."""
        self.process.stop()

    @property
    def states(self) -> list[str]:
        """The states that it entered, in order."""
        return re.findall(r"\(web\) Entering (\w+) STATE", self.process.output())

    def wait(self, pattern: str, timeout: float = 15.0) -> None:
        """Wait until its log has it."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.process.output()):
            if time.monotonic() > end:
                raise LabError(f"keepalived did not log {pattern!r} within {timeout:g} s:\n{self.process.output()}")
            time.sleep(0.02)

    @property
    def complaints(self) -> list[str]:
        """All that it says of the virtual router, or of packets, beyond what it says on a good day."""
        lines = [line.partition(": ")[2] for line in self.process.output().splitlines()]
        return [line for line in lines if _ABOUT.search(line) and not _GOOD_DAY.fullmatch(line)]


_ABOUT: Final = re.compile(r"\(web\)|bogus|invalid|mismatch|checksum|unknown|drop|error|fail", re.IGNORECASE)
_GOOD_DAY: Final = re.compile(
    r"\(web\) ("
    r"removing VIPs\.|setting VIPs\.|Sending/queueing .*|sent 0 priority|"
    r"Entering (BACKUP|MASTER) STATE( \(init\))?|Receive advertisement timeout|"
    r"Backup received priority 0 advertisement|Truncating auth_pass to 8 characters)"
)
