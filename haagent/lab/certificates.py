"""Certificates for rehearsals and tests, made with the openssl program: valid for a week, keys without a
passphrase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from haagent.lab.commands import run

_DAYS = "7"
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificate:
    """The files, PEM, of a certificate and its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority that lives in one directory."""

    directory: Path
    own: Certificate

    def issue(self, name: str, addresses: Sequence[str] = ()) -> Certificate:
        """A certificate for `name`, for use as server and as client.

        It is good for `addresses`: IP addresses or DNS names. LabError if openssl fails.
        """
        paths = _paths(self.directory, name)
        names = ",".join(f"{'IP' if _is_ip(a) else 'DNS'}:{a}" for a in addresses or (name,))
        extensions = [
            f"subjectAltName={names}",
            "basicConstraints=CA:FALSE",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]
        _openssl(
            f"/CN={name}",
            paths,
            extensions,
            signer=["-CA", str(self.own.certificate), "-CAkey", str(self.own.key)],
        )
        return paths

    def expire(self, certificate: Certificate) -> Certificate:
        """The same certificate, for the same key, but out of date since yesterday. LabError if openssl fails."""
        stem = self.directory / f"{certificate.certificate.stem}-expired"
        request, expired = stem.with_suffix(".csr"), stem.with_suffix(".pem")
        all_of_it = ["-copy_extensions", "copyall"]
        asked = ["-x509toreq", "-in", str(certificate.certificate), "-signkey", str(certificate.key)]
        run(["openssl", "x509", *asked, *all_of_it, "-out", str(request)])
        signer = ["-CA", str(self.own.certificate), "-CAkey", str(self.own.key), "-days", "-1"]
        run(["openssl", "x509", "-req", "-in", str(request), *signer, *all_of_it, "-out", str(expired)])
        return Certificate(expired, certificate.key)


def make_ca(directory: Path, name: str = "haagent lab CA") -> Authority:
    """A new authority in `directory`, which is made if it is not there. LabError if openssl fails."""
    directory.mkdir(parents=True, exist_ok=True)
    own = _paths(directory, "ca")
    _openssl(f"/CN={name}", own, ["keyUsage=critical,keyCertSign,cRLSign"])
    return Authority(directory, own)


def _openssl(subject: str, made: Certificate, extensions: Sequence[str], signer: Sequence[str] = ()) -> None:
    """A key, and a certificate for it, signed by `signer` or else by itself."""
    added = [word for extension in extensions for word in ("-addext", extension)]
    files = ["-out", str(made.certificate), "-keyout", str(made.key)]
    run(["openssl", "req", "-x509", *_KEY, "-days", _DAYS, "-subj", subject, *signer, *added, *files])


def _paths(directory: Path, name: str) -> Certificate:
    return Certificate(directory / f"{name}.pem", directory / f"{name}.key")


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
