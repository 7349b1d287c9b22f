"""How a node proves who it is to peers and operators, and they to it: a CA, a certificate and a key, read from files.

What can not work is found when it is read, by a handshake of the certificate with itself, in memory: it must be signed
by the CA, good for both ends of a connection, not expired, and, among peers, for the node's name.

A certificate is for the DNS names in its subjectAltName, or, if it has no subjectAltName, for its common name. (That
is also the rule by which gRPC checks whom it dialed.) For its own name a node takes no wildcard.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

_ROUNDS: Final = 8
_CHUNK: Final = 1 << 16


class CredentialsError(ValueError):
    """Files that can not work; the text says which, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was read, PEM. `expires`: seconds since 1970. `context`: a client's, for `diagnosis`."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)
    expires: float
    context: ssl.SSLContext = field(repr=False, compare=False)

    @property
    def expired(self) -> bool:
        """Whether our own certificate is of no use any more."""
        return time.time() >= self.expires

    def channel(self) -> grpc.ChannelCredentials:
        """For dialing."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)

    def server(self) -> Any:
        """For listening: gRPC's ServerCertificateConfiguration."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.ca)


def load(ca: Path, certificate: Path, key: Path, node: str | None) -> Credentials:
    """Read the files. CredentialsError: with them nobody can prove to be the node `node` (None: to be anybody)."""
    read = [_read(name, path) for name, path in (("ca", ca), ("cert", certificate), ("key", key))]
    client, server = (
        _context(role, (ca, certificate, key), read[0]) for role in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)
    )
    shown = _shake_hands(client, server, f"cert: {certificate}")
    if node is not None and node not in (found := names_in(shown)):
        whom = ", ".join(sorted(found)[:4]) or "nobody"
        raise CredentialsError(f"cert: {certificate}: is for {whom}, not for the node {node}")
    client.set_alpn_protocols(["h2"])
    return Credentials(read[0], read[1], read[2], ssl.cert_time_to_seconds(shown["notAfter"]), client)


def listening(current: Callable[[], Credentials | None], begun: Callable[[], None]) -> Any:
    """For a port: gRPC's ServerCredentials, which show who connects what is `current` then; None changes nothing.

    `begun` is called for each connection, in a thread of gRPC's. Who has no certificate that is good is let go.
    """
    shown = current()
    assert shown is not None, "there are some, or the port is one for plain text"

    def fetch() -> Any:
        nonlocal shown
        begun()
        newest = current()
        if newest is None or newest is shown:
            return None
        shown = newest
        return newest.server()

    return grpc.dynamic_ssl_server_credentials(shown.server(), fetch, True)


def names_in(shown: Mapping[str, Any]) -> frozenset[str]:
    """The names that a certificate is for, as Python's `getpeercert` shows it."""
    if alternatives := shown.get("subjectAltName"):
        return frozenset(value for kind, value in alternatives if kind in ("DNS", "IP Address"))
    return frozenset(value for part in shown.get("subject", ()) for name, value in part if name == "commonName")


def proven(context: Mapping[str, Iterable[bytes]]) -> frozenset[str] | None:
    """The names that the other end of a connection has proven to have, by gRPC's auth context; None: it had to not."""
    if "transport_security_type" not in context or b"ssl" not in tuple(context["transport_security_type"]):
        return None
    alternatives = (value.decode(errors="replace") for value in context.get("x509_subject_alternative_name", ()))
    common = (value.decode(errors="replace") for value in context.get("x509_common_name", ()))
    return frozenset(alternatives) or frozenset(common)


# --- helpers


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsError(f"{name}: {path}: {(error.strerror or str(error)).lower()}") from None


def _context(role: Any, files: tuple[Path, Path, Path], authority: bytes) -> ssl.SSLContext:
    ca, certificate, key = files
    context = ssl.SSLContext(role)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cadata=authority.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise CredentialsError(f"ca: {ca}: no certificate in PEM form") from None
    try:
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        why = (
            "the key is not that of the certificate" if "MISMATCH" in str(error) else "no certificate or no key in PEM"
        )
        raise CredentialsError(f"cert and key: {certificate}, {key}: {why}") from None
    return context


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, what: str) -> dict[str, Any]:
    """The certificate as its other end sees it. CredentialsError: neither end would take it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        for _ in range(_ROUNDS):
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        raise CredentialsError(f"{what}: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise CredentialsError(f"{what}: {error.reason or error}") from None
    shown = ends[0].getpeercert()
    assert shown is not None, "a handshake that was verified"
    return dict(shown)
