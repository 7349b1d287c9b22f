"""How a command ends when it does not end well: one line that says what, where and what is allowed, and a code."""

from __future__ import annotations

from typing import Final

import click

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNKNOWN: Final = 3
UNREACHABLE: Final = 4
UNHEALTHY: Final = 5


class CtlError(click.ClickException):
    """`Error: ...` on standard error, and the exit code of its kind."""

    exit_code = FAILED


class RefusedError(CtlError):
    """Somebody answered, and the answer is no; or the person at the terminal said so. Nothing was changed."""


class UnknownError(CtlError):
    """A request was sent, and what came of it is not known."""

    exit_code = UNKNOWN


class UnreachableError(CtlError):
    """Nobody answers."""

    exit_code = UNREACHABLE
