"""How to reach etcd: what the configuration says, checked, and turned into one target per endpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

_URL: Final = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})/?")


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """What the adapter goes by.

    `endpoints`: `[http[s]://]host:port`; without a scheme TLS is used if `ca` or `certificate` is given. `ca` (PEM;
    default: the roots that gRPC brings), `certificate` and `key` are read again before each new connection, and
    `password_file`, which takes the place of `password`, before each authentication.
    `session_ttl` in seconds: after that long without an agent its session's keys disappear from listings.
    `compact_after` in seconds: history that is older is compacted if nobody else does it; 0: never.
    """

    endpoints: tuple[str, ...]
    cluster: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    session_ttl: int = 30
    compact_after: float = 0.0


class EtcdSettingsError(ValueError):
    """Settings that can not work; the text says which, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint: a host's name or address (IPv6 without brackets), its port, and whether it speaks TLS."""

    host: str
    port: int
    tls: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def numeric(self) -> bool:
        """Whether the host is an address, and not a name."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True


def targets(settings: EtcdSettings) -> tuple[Target, ...]:
    """One target per endpoint. EtcdSettingsError if there is none, or one is malformed."""
    if not settings.endpoints:
        raise EtcdSettingsError("endpoints: none given")
    secured = settings.ca is not None or settings.certificate is not None
    wanted = tuple(_parse(endpoint, secured) for endpoint in settings.endpoints)
    if secured and not all(target.tls for target in wanted):
        raise EtcdSettingsError("endpoints: http:// has no use for ca and certificate, write https://")
    return wanted


def _parse(endpoint: str, secured: bool) -> Target:
    found = _URL.fullmatch(endpoint)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise EtcdSettingsError(f"endpoints: {endpoint!r}, must be http://host:port or https://host:port")
    scheme = found["scheme"]
    return Target(found["host"].strip("[]"), int(found["port"]), secured if scheme is None else scheme == "https")
