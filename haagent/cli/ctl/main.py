"""The commands by name, the options of all, and the codes with which they end.

Exit codes:

    0  done and verified, or listed; scheduled
    1  refused or failed: nothing is as it was asked for
    2  wrong usage
    3  outcome unknown: it may or may not have been done
    4  unreachable: no agent answers, nor does etcd
    5  unhealthy: a group without an owner, two owners seen, or a finding of doctor that is wrong
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from importlib import import_module
from types import TracebackType
from typing import Final

import click

from haagent import __version__
from haagent.cli.ctl.errors import UNKNOWN
from haagent.cli.ctl.options import Options, common

# Where a command lives: its module, and its name there.
_COMMANDS: Final = {
    "list": ("look", "list_command"),
    "topology": ("look", "topology"),
    "status": ("look", "status"),
    "watch": ("watch", "watch"),
    "history": ("tell", "history"),
    "doctor": ("tell", "doctor"),
    "version": ("tell", "version"),
    "switchover": ("steer", "switchover"),
    "failover": ("steer", "failover"),
    "pause": ("orders", "pause"),
    "resume": ("orders", "resume"),
    "drain": ("orders", "drain"),
    "undrain": ("orders", "undrain"),
    "reload": ("orders", "reload"),
    "config": ("file", "config"),
}

# Click keeps the lines of a paragraph that begins with \b.
_EXITS: Final = "\b\n" + (__doc__ or "").partition("\n\n")[2].replace("\n\n", "\n").strip()


class _OnDemand(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"haagent.cli.ctl.{module}"), name)
        return command


@click.group(cls=_OnDemand, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXITS)
@click.version_option(__version__, message="haagentctl %(version)s")
@common
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Look at a cluster of haagent, and steer it.

    \b
    haagentctl list                        who owns what
    haagentctl switchover web --to n2      move a group, and wait until it is verified
    haagentctl drain n1                    move everything off a node, and keep it off
    haagentctl COMMAND --help              more, with examples

    Any agent answers for the whole cluster: the one of --endpoint, or the local one. If none does, etcd is asked.
    Completion for bash: eval "$(_HAAGENTCTL_COMPLETE=bash_source haagentctl)"; zsh and fish alike.
    """
    ctx.ensure_object(Options)


def main() -> None:
    """The entry point: never a traceback, whatever happens."""
    sys.excepthook = _confess
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names come from others, and terminals differ
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(prog_name="haagentctl")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        try:
            sys.stdout.flush()
        except OSError as error:
            code = _unwritten(error)
        # Taking down the interpreter, with all that gRPC has loaded, takes as long as the answer did.
        os._exit(code)
    except OSError as error:
        if error.errno not in _UNWRITTEN or error.filename is not None:
            raise
        os._exit(_unwritten(error))


_UNWRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})


def _unwritten(error: OSError) -> int:
    """Standard output takes nothing: a command may have been carried out that cannot tell what came of it."""
    with contextlib.suppress(OSError):
        click.echo(f"Error: standard output cannot be written: {os.strerror(error.errno or 0)}", err=True)
    return UNKNOWN


def _confess(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if os.environ.get("HAAGENTCTL_DEBUG"):
        sys.__excepthook__(kind, error, trace)
    else:
        told = f"Error: this is a mistake in haagentctl: {kind.__name__}: {error} (HAAGENTCTL_DEBUG=1 shows where)"
        click.echo(told, err=True)
