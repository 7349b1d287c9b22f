"""Asking the person at the terminal, if there is one; else saying which option would have told.

Questions go to standard error: standard output may be a file that a program reads.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence

import click

from haagent.cli.ctl.errors import RefusedError
from haagent.cli.ctl.options import interactive


def need_terminal(missing: Sequence[str]) -> None:
    """A usage error that names the options, if something is missing and nobody can be asked."""
    if missing and not interactive():
        raise click.UsageError(f"standard input is no terminal, so nothing can be asked: give {' and '.join(missing)}")


def choose(what: str, names: Sequence[str], best: str = "") -> str:
    """One of the names; an empty answer means the best."""
    while True:
        answer: str = click.prompt(f"{what} {list(names)}", default="", type=str, err=True).strip()
        if answer in names:
            return answer
        if not answer and best:
            return best
        click.echo(f"{answer!r}: must be one of {', '.join(names)}", err=True)


def confirm(question: str, giving_up: str) -> None:
    """RefusedError unless the answer is yes."""
    if not click.confirm(question, err=True):
        raise RefusedError(f"aborted: {giving_up}")


def whoami() -> str:
    """Who asks, for the records: the person behind sudo, too."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
