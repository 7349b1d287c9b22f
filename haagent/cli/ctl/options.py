"""What every command takes, before its name or after: where to ask, how long to wait, how to show it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from haagent.config.durations import duration
from haagent.core.units import MS, Duration, S

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_FILE: Final = Path("/etc/haagent/haagent.yaml")
FORMATS: Final = ("pretty", "json", "yaml", "tsv")


@dataclass(slots=True)
class Options:
    """`config` and `timeout`: None if not given. `endpoints`: where to ask, in this order; none: as the file says.

    `told_of_etcd`: that etcd is asked is said once.
    """

    config: Path | None = None
    endpoints: tuple[str, ...] = ()
    timeout: Duration | None = None
    format: str = "pretty"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    told_of_etcd: bool = False

    @property
    def file(self) -> Path:
        """The configuration file that is read."""
        return self.config or DEFAULT_FILE


class Span(click.ParamType[Duration]):
    """A duration as in the configuration."""

    name = "duration"

    def __init__(self, least: Duration, most: Duration) -> None:
        self._least, self._most = least, most

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        """The duration in nanoseconds; a usage error that says what is allowed."""
        if isinstance(value, int):
            return value
        try:
            span = duration(value)
        except ValueError as error:
            self.fail(f"{value!r}, {error}", param, ctx)
        if not self._least <= span <= self._most:
            self.fail(f"{value!r}, must be {self._least / S:g}s to {self._most / S:g}s", param, ctx)
        return span


def common(command: F) -> F:
    """Give a command the options of all."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(ctx: click.Context) -> Options:
    """The options of this call."""
    return ctx.ensure_object(Options)


def interactive() -> bool:
    """Whether there is somebody to be asked."""
    return sys.stdin.isatty()


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    # Not a parameter of each command, but a part of what they share: the last one given counts.
    def keep(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value not in (None, ()):
            setattr(given(ctx), name, value)

    return keep


def _option(*names: str, keep: str, **more: Any) -> Callable[[F], F]:
    return click.option(*names, callback=_keep(keep), expose_value=False, **more)


_path = click.Path(path_type=Path)
_OPTIONS: Final = (
    _option("-c", "--config", keep="config", type=_path, help=f"The configuration file.  [default: {DEFAULT_FILE}]"),
    _option(
        "--endpoint",
        keep="endpoints",
        multiple=True,
        envvar="HAAGENTCTL_ENDPOINT",
        metavar="unix:PATH|HOST:PORT",
        help="The agent to ask; several are tried in turn.  [default: the local one]",
    ),
    _option(
        "--timeout",
        keep="timeout",
        type=Span(50 * MS, 600 * S),
        help="How long to wait for an answer.  [default: 3s to find an agent, 10s for the rest]",
    ),
    _option("-f", "--format", keep="format", type=click.Choice(FORMATS), help="How to show it.  [default: pretty]"),
    _option("--ca", keep="ca", type=_path, help="TLS: the authority that signed the agents' certificates."),
    _option("--cert", keep="certificate", type=_path, help="TLS: the operator's certificate."),
    _option("--key", keep="key", type=_path, help="TLS: its private key."),
)
