"""Where a peer listens: `host:port` as its record in etcd has it, which may be anything. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

_ENDPOINT: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253})):(?P<port>[0-9]{1,5})"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`target`: as gRPC wants it, which would take a path in the file system too, and much else."""

    host: str
    port: int
    target: str


def endpoint(text: str) -> Endpoint | None:
    """What it says; None if it is no address (IPv6 in brackets) or name with a port."""
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        return None
    host, port = found["six"] or found["host"], int(found["port"])
    try:
        six = ipaddress.ip_address(host).version == 6
    except ValueError:
        return None if found["six"] else Endpoint(host, port, f"dns:///{host}:{port}")
    if six is not (found["six"] is not None):
        return None
    return Endpoint(host, port, f"ipv6:[{host}]:{port}" if six else f"ipv4:{host}:{port}")
