"""Reading haagent.yaml from disk, and noticing files it names that are not there.

Whatever is wrong with the file (missing, a directory, enormous, not text) is an error line like any other.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from haagent.config.build import EtcdSettings
from haagent.config.load import Invalid, Loaded, load, load_etcd

LARGEST = 1 << 20
"""Bytes of configuration that are read; a thousand virtual routers need a fifth of it."""

_ETCD_FILES = ("ca", "cert", "key", "password_file")


def read(path: Path) -> Loaded | Invalid:
    """Read and validate the file; the paths that it names become absolute, and are those of readable files."""
    text = read_text(path)
    if isinstance(text, Invalid):
        return text
    loaded = load(text, path.name, os.uname().nodename)
    return loaded if isinstance(loaded, Invalid) else _resolved(loaded, path)


def read_etcd(path: Path) -> tuple[str, EtcdSettings] | Invalid:
    """The cluster's name and how etcd is reached; the rest of the file is not looked at, if it is there."""
    text = read_text(path)
    found = text if isinstance(text, Invalid) else load_etcd(text, path.name, os.uname().nodename)
    if isinstance(found, Invalid):
        return found
    cluster, etcd = found
    errors = list[str]()
    files = _absolute(etcd, _ETCD_FILES, path, "etcd", errors)
    return Invalid(tuple(errors)) if errors else (cluster, dataclasses.replace(etcd, **files))


def read_text(path: Path) -> str | Invalid:
    """The text of the file as it stands."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        return Invalid((f"{path}: {reason(error)}",))
    if len(data) > LARGEST:
        return Invalid((f"{path.name}: larger than {LARGEST >> 20} MiB",))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Invalid((f"{path.name}:{line}: not UTF-8: byte {data[error.start]:#04x}",))


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read, in a few words."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _resolved(loaded: Loaded, path: Path) -> Loaded | Invalid:
    config, errors = loaded.config, list[str]()
    files = _absolute(config.etcd, _ETCD_FILES, path, "etcd", errors)
    config = dataclasses.replace(config, etcd=dataclasses.replace(config.etcd, **files))
    if config.peers is not None:
        files = _absolute(config.peers, ("ca", "cert", "key"), path, "peers", errors)
        config = dataclasses.replace(config, peers=dataclasses.replace(config.peers, **files))
    files = _absolute(config.control, ("ca", "cert", "key"), path, "control", errors)
    config = dataclasses.replace(config, control=dataclasses.replace(config.control, **files))
    return Invalid(tuple(errors)) if errors else Loaded(config, loaded.warnings)


def _absolute(section: object, names: Iterable[str], path: Path, key: str, errors: list[str]) -> dict[str, str]:
    """The files that a section names, as absolute paths; `errors` gets a line for each that can not be read."""
    absolute: dict[str, str] = {}
    for name in names:
        given: str | None = getattr(section, name)
        if given is not None:
            target = path.absolute().parent / given
            absolute[name] = str(target)
            try:
                with target.open("rb") as file:
                    file.read(1)
            except (OSError, ValueError) as error:
                errors.append(f"{path.name}: {key}.{name}: {target}, {reason(error)}")
    return absolute
