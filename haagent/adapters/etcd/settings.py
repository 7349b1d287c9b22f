"""How to reach etcd: what the configuration says, checked, and turned into one target per endpoint."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

_URL: Final = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})/?")


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """What the adapter goes by.

    `endpoints`: `[http[s]://]host:port`; without a scheme TLS is used if `ca` or `certificate` is given. `ca` (PEM;
    default: the roots that gRPC brings), `certificate` and `key` are read once, when the store is made.
    `session_ttl` in seconds: after that long without an agent its session's keys disappear from listings.
    """

    endpoints: tuple[str, ...]
    cluster: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    session_ttl: int = 30


class EtcdSettingsError(ValueError):
    """Settings that can not work; the text says which, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint: its name for people, its address for gRPC, credentials for TLS (None: plain)."""

    name: str
    address: str
    credentials: grpc.ChannelCredentials | None


def targets(settings: EtcdSettings) -> tuple[Target, ...]:
    """One target per endpoint. EtcdSettingsError if there is none, one is malformed, or a file is no good."""
    if not settings.endpoints:
        raise EtcdSettingsError("endpoints: none given")
    if (settings.user is None) != (settings.password is None):
        raise EtcdSettingsError("user and password: give both or neither")
    secured = settings.ca is not None or settings.certificate is not None
    wanted = [_parse(endpoint, secured) for endpoint in settings.endpoints]
    if secured and not all(tls for _, tls in wanted):
        raise EtcdSettingsError("endpoints: http:// has no use for ca and certificate, write https://")
    credentials = _credentials(settings) if any(tls for _, tls in wanted) else None
    return tuple(Target(address, address, credentials if tls else None) for address, tls in wanted)


def _parse(endpoint: str, secured: bool) -> tuple[str, bool]:
    found = _URL.fullmatch(endpoint)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise EtcdSettingsError(f"endpoints: {endpoint!r}, must be http://host:port or https://host:port")
    scheme = found["scheme"]
    return f"{found['host']}:{found['port']}", secured if scheme is None else scheme == "https"


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials:
    if (settings.certificate is None) != (settings.key is None):
        raise EtcdSettingsError("certificate and key: give both or neither")
    ca = _read("ca", settings.ca)
    certificate = _read("certificate", settings.certificate)
    key = _read("key", settings.key)
    # gRPC would say of a bad file only that the handshake failed, and only later; OpenSSL says it now.
    try:
        context = ssl.create_default_context(cadata=ca.decode() if ca is not None else None)
    except (ssl.SSLError, ValueError) as error:
        raise EtcdSettingsError(f"ca: {settings.ca}: no certificate in PEM form ({error})") from None
    if settings.certificate is not None and settings.key is not None:
        try:
            context.load_cert_chain(settings.certificate, settings.key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise EtcdSettingsError(f"certificate and key: {settings.certificate}, {settings.key}: {error}") from None
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _read(name: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise EtcdSettingsError(f"{name}: {path}: {error.strerror}") from None
