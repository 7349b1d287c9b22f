"""The host as haagent sees it: its identity, what we may do there, and the lock of its one agent.

What an agent keeps (addresses, rules) belongs to a network namespace, and so does an abstract unix socket: it is the
lock. The kernel frees it when the process ends, however it ends; nothing is left on disk to be stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import struct
from pathlib import Path

_LOCK = "\0haagent"
_MACHINE = ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")
_IPV4 = Path("/proc/sys/net/ipv4/conf")
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}  # linux/capability.h: addresses and groups; raw sockets


class TakenError(Exception):
    """Another agent runs in this network namespace. `pid`: its process, None if it is in another PID namespace."""

    def __init__(self, pid: int | None) -> None:
        super().__init__("another agent runs in this network namespace" + (f": pid {pid}" if pid else ""))
        self.pid = pid


class HostLock:
    """The right to be this network namespace's agent, from `take` until `release` or the end of the process."""

    def __init__(self, held: socket.socket) -> None:
        self._held = held

    @classmethod
    def take(cls) -> HostLock:
        """Take the lock. TakenError if another process has it."""
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(_LOCK)
            lock.listen(8)  # so that others can ask who we are; nobody is ever accepted
        except OSError:
            lock.close()
            raise TakenError(_holder()) from None
        return cls(lock)

    def release(self) -> None:
        """Let another agent start."""
        self._held.close()


def sysctls(interface: str) -> dict[str, int]:
    """Of `net.ipv4.conf`, what counts for that interface: the larger value of its own and that of `all`.

    Without what this kernel, or this interface, has not. (Documentation/networking/ip-sysctl.rst)
    """
    found: dict[str, int] = {}
    for name in ("arp_ignore", "rp_filter"):
        with contextlib.suppress(OSError, ValueError):
            found[name] = max(int((_IPV4 / where / name).read_text()) for where in ("all", interface))
    return found


def index_of(interface: str) -> int:
    """The kernel's number of the interface, another one when it was made anew; 0: there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def identity() -> str:
    """Names the kernel state that an agent here keeps: this boot of the machine, this network namespace.

    The inode of a namespace is used again only after the namespace is gone, and all that it held.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{Path('/proc/self/ns/net').stat().st_ino}"


def machine() -> str:
    """Names this machine, or container: the same after a restart, and after a reboot where that can be told.

    A machine that comes back may be counted on as before; another one that has its name may not. machine-id(5) is
    copied with a disk, the firmware's id is not, so it takes both. In a network namespace that is not the machine's
    own, and where neither can be read, it is the `identity`: one that ends with the namespace, or the boot.
    """
    try:
        if Path("/proc/self/ns/net").readlink() != Path("/proc/1/ns/net").readlink():
            return _digest(identity())
        parts = [Path(path).read_text().strip() for path in _MACHINE]
    except OSError:
        return _digest(identity())
    return _digest("\n".join(parts))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def missing_capabilities() -> tuple[str, ...]:
    """What this process may not do, and an agent must: the names of capabilities(7), none if all is well."""
    status = Path("/proc/self/status").read_text()
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    return tuple(name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1)


def incarnation() -> str:
    """Names one start of the agent: 16 random hexadecimal digits."""
    return secrets.token_hex(8)


def _holder() -> int | None:
    """The pid of whoever listens on the lock (unix(7): SO_PEERCRED), if it can be told."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(0.5)
        asking.connect(_LOCK)
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", credentials)
        return pid or None
    return None
