"""TLS with etcd: the ca that we trust and our own certificate, as their files are now.

A channel of gRPC keeps the credentials that it was made with. So the files are looked at before each new connection
(`Endpoint`), and a certificate that was replaced on disk is shown by the next one. Files that cannot work, such as a
new certificate beside the key of the old one, change nothing until they can.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.settings import EtcdSettings, EtcdSettingsError, targets

_Stamp = tuple[int, int, int] | None


class _Files(NamedTuple):
    ca: Path | None
    certificate: Path | None
    key: Path | None


class Trust:
    """`credentials` is None where no endpoint speaks TLS. EtcdSettingsError: the files cannot work."""

    def __init__(self, settings: EtcdSettings, announcer: Announcer) -> None:
        self._announcer = announcer
        self._secured = any(target.tls for target in targets(settings))
        self._files = _Files(settings.ca, settings.certificate, settings.key)
        self._lock = threading.Lock()
        self._stamps: tuple[_Stamp, ...] = ()
        self._content: tuple[bytes | None, ...] = ()
        self.credentials: grpc.ChannelCredentials | None = None
        self.expires: float | None = None
        """When our own certificate ends, in seconds since 1970; None: there is none."""
        self._load()

    @property
    def expired(self) -> str | None:
        """That our own certificate has ended, in words; None: it has not, or there is none."""
        if self.expires is None or time.time() < self.expires:
            return None
        when = datetime.fromtimestamp(self.expires, UTC).isoformat(timespec="seconds")
        return f"our own certificate expired at {when}: {self._files.certificate}"

    def change(self, settings: EtcdSettings) -> bool:
        """Go by these files from the next connection on; whether they say something else. EtcdSettingsError."""
        with self._lock:
            before, credentials = self._files, self.credentials
            self._files = _Files(settings.ca, settings.certificate, settings.key)
            try:
                self._load()
            except EtcdSettingsError:
                self._files = before
                raise
            return self.credentials is not credentials

    async def newest(self) -> grpc.ChannelCredentials | None:
        """The credentials for a connection that is made now."""
        if self._secured:
            try:
                await asyncio.to_thread(self._look)
            except EtcdSettingsError as error:
                self._announcer.bad("certificates", f"the files cannot work, the ones read before are used ({error})")
            else:
                self._announcer.over("certificates", "the files can be used")
        return self.credentials

    def _look(self) -> None:
        with self._lock:
            if self._stamps != tuple(_stamp(path) for path in self._files):
                self._load()

    def _load(self) -> None:
        if not self._secured:
            return
        stamps = tuple(_stamp(path) for path in self._files)
        content = tuple(_read(name, path) for name, path in zip(_Files._fields, self._files, strict=True))
        if content != self._content or self.credentials is None:
            _check(self._files, content[0])
            self.expires = None if content[1] is None else _end_of(content[1])
            self.credentials = grpc.ssl_channel_credentials(content[0], content[2], content[1])
        self._stamps, self._content = stamps, content


def _stamp(path: Path | None) -> _Stamp:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(name: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise EtcdSettingsError(f"{name}: {path}: {error.strerror}") from None


def _check(files: _Files, ca: bytes | None) -> None:
    # gRPC would say of a bad file only that the handshake failed, and only later; OpenSSL says it now.
    if (files.certificate is None) != (files.key is None):
        raise EtcdSettingsError("certificate and key: give both or neither")
    try:
        context = ssl.create_default_context(cadata=ca.decode() if ca is not None else None)
    except (ssl.SSLError, ValueError) as error:
        raise EtcdSettingsError(f"ca: {files.ca}: no certificate in PEM form ({error})") from None
    if files.certificate is not None and files.key is not None:
        try:
            context.load_cert_chain(files.certificate, files.key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise EtcdSettingsError(f"certificate and key: {files.certificate}, {files.key}: {error}") from None


# --- when a certificate ends: notAfter (RFC 5280 4.1), which Python's ssl shows only of a peer that was verified

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_CONTEXT_0: Final = 0xA0
_UTC_TIME: Final = 0x17


def _end_of(pem: bytes) -> float | None:
    """Seconds since 1970; None if that cannot be read."""
    text = pem.decode(errors="replace")
    first = f"{_BEGIN}{text.partition(_BEGIN)[2].partition(_END)[0]}{_END}"
    try:
        _, certificate, _ = _element(ssl.PEM_cert_to_DER_cert(first))
        _, fields, _ = _element(certificate)
        tag, _, rest = _element(fields)
        for _ in range(3 if tag == _CONTEXT_0 else 2):  # version, if given; serial number, signature, issuer
            _, _, rest = _element(rest)
        _, validity, _ = _element(rest)
        tag, not_after, _ = _element(_element(validity)[2])
        moment = not_after.decode("ascii").removesuffix("Z")
        if tag == _UTC_TIME:  # RFC 5280 4.1.2.5.1: two digits from 50 on are of the last century
            moment = f"{'19' if moment >= '5' else '20'}{moment}"
        return datetime.strptime(moment, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except (ValueError, IndexError):
        return None


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """The first element's tag and content, and what comes after it."""
    length, start = der[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(der[2:start])
    return der[0], der[start : start + length], der[start + length :]
