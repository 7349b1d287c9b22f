"""How the members of an etcd cluster are laid out and started: places, TLS, command lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from haagent.lab.certificates import Certificate, make_ca
from haagent.lab.process import Launcher

HEARTBEAT_MS = 50
ELECTION_MS = 500


@dataclass(frozen=True)
class Place:
    """Where a member lives: its namespace (None: ours), its address, and its ports."""

    name: str
    namespace: str | None
    address: str
    client_port: int = 2379
    peer_port: int = 2380
    metrics_port: int = 2381


@dataclass(frozen=True)
class Tls:
    """TLS to clients: `ca` signed what the servers show, and `client` is a certificate for a client.

    With `demand_client_certificate` the servers refuse who shows none.
    """

    ca: Path
    server: Certificate
    client: Certificate
    demand_client_certificate: bool = False


@dataclass(frozen=True)
class Recipe:
    """How the members of one cluster are started."""

    launcher: Launcher
    directory: Path
    logs: Path
    places: tuple[Place, ...]
    tls: Tls | None = None
    quota: int | None = None
    """Bytes of each member's database; None: etcd's default."""

    def data(self, name: str) -> Path:
        """Where a member keeps its data."""
        return self.directory / "etcd" / name

    def argv(self, place: Place) -> list[str]:
        """The command line of the member that lives there."""
        scheme = "https" if self.tls else "http"
        peer = f"http://{place.address}:{place.peer_port}"
        client = f"{scheme}://{place.address}:{place.client_port}"
        cluster = ",".join(f"{p.name}=http://{p.address}:{p.peer_port}" for p in self.places)
        options = {
            "name": place.name,
            "data-dir": str(self.data(place.name)),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-metrics-urls": f"http://127.0.0.1:{place.metrics_port}",
            "initial-cluster": cluster,
            "heartbeat-interval": str(HEARTBEAT_MS),
            "election-timeout": str(ELECTION_MS),
            "logger": "zap",
            "unsafe-no-fsync": "true",
        }
        if self.quota is not None:
            options["quota-backend-bytes"] = str(self.quota)
        if self.tls:
            options |= {
                "cert-file": str(self.tls.server.certificate),
                "key-file": str(self.tls.server.key),
                "trusted-ca-file": str(self.tls.ca),
                "client-cert-auth": str(self.tls.demand_client_certificate).lower(),
            }
        return ["etcd", *(f"--{key}={value}" for key, value in options.items())]


def make_tls(directory: Path, addresses: Sequence[str], *, demand_client_certificate: bool = False) -> Tls:
    """A new authority in `directory`, one certificate for all servers at `addresses`, one for a client."""
    authority = make_ca(directory)
    server = authority.issue("etcd", [*addresses, "127.0.0.1", "localhost"])
    client = authority.issue("client")
    return Tls(authority.own.certificate, server, client, demand_client_certificate)
