"""Where the cluster can be asked, as the command line or, where it says nothing, the configuration file has it.

The file is not validated here (`config check` does that): an operator's own need not describe a whole node, and
loading the schema would cost more time than all the rest. Only what etcd is asked with goes through the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import click

from haagent.cli.ctl.options import Options
from haagent.config.defaults import DEFAULT_SOCKET

_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Tls:
    """The files, PEM, of whom to trust and who we are."""

    ca: Path | None
    certificate: Path | None
    key: Path | None


@dataclass(frozen=True, slots=True)
class Reach:
    """`endpoints`: agents, in the order in which they are asked. `tls`: for those on TCP; None: plain text."""

    endpoints: tuple[str, ...]
    tls: Tls | None


def reach(options: Options) -> Reach:
    """What the options and the file say. A usage error if a file that was named can not be read."""
    keys = _control(options)
    tls = Tls(
        options.ca or _path(options, keys, "ca"),
        options.certificate or _path(options, keys, "cert"),
        options.key or _path(options, keys, "key"),
    )
    endpoints = options.endpoints or _local(keys)
    return Reach(tuple(_endpoint(each) for each in endpoints), None if tls == Tls(None, None, None) else tls)


def _local(keys: dict[str, Any]) -> tuple[str, ...]:
    """The door of this host's agent: the socket, or else the port. What is malformed `config check` says."""
    socket, listen = keys.get("socket", DEFAULT_SOCKET), keys.get("listen", "off")
    if isinstance(socket, str) and socket != "off":
        return (f"unix:{socket}",)
    return (listen,) if isinstance(listen, str) and listen != "off" else ()


def _endpoint(text: str) -> str:
    if text.startswith("/"):
        return f"unix:{text}"
    host, colon, port = text.rpartition(":")
    if text.startswith("unix:/") or (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        return text
    raise click.UsageError(f"--endpoint: {text!r}, must be unix:/path/of/socket or host:port")


def _control(options: Options) -> dict[str, Any]:
    path = options.file
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST)
    except OSError as error:
        if options.config is None:
            return {}
        raise click.UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    import yaml

    # libyaml's loader, where there is one, takes a millisecond for what PyYAML's own takes twenty.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        loaded: object = yaml.load(text, Loader=loader)  # noqa: S506 - a base loader: nothing is constructed
    except yaml.YAMLError as error:
        raise click.UsageError(f"{path}: {' '.join(str(error).split())}") from None
    section = cast("dict[str, Any]", loaded).get("control") if isinstance(loaded, dict) else None
    return cast("dict[str, Any]", section) if isinstance(section, dict) else {}


def _path(options: Options, keys: dict[str, Any], name: str) -> Path | None:
    value = keys.get(name)
    return options.file.absolute().parent / value if isinstance(value, str) and value else None
