"""The command `haagent`: run the agent, or check its configuration.

Exit codes:

    0  ok; run: stopped, and everything given up cleanly
    1  failed: what is wrong is in the log
    2  wrong usage
    3  the configuration cannot be used; all that is wrong with it is on standard error
    4  check --strict: it can be used, with warnings
    5  another agent runs in this network namespace
    6  stopped, but not everything could be given up in time: the others wait until the lease is over
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Final

import click

from haagent import __version__

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 3
WARNED: Final = 4
TAKEN: Final = 5

DEFAULT_FILE: Final = Path("/etc/haagent/haagent.yaml")

# Click keeps the lines of a paragraph that begins with \b.
_EXITS: Final = "\b\n" + (__doc__ or "").partition("\n\n")[2].replace("\n\n", "\n").strip()
_file = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The configuration file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXITS)
@click.version_option(__version__, message="haagent %(version)s")
def main() -> None:
    """Hold virtual IP addresses, one node at a time, because a lease in etcd says so."""


@main.command(epilog=_EXITS)
@_file
def run(path: Path) -> None:
    """Run the agent in the foreground. The log goes to standard error.

    SIGTERM and SIGINT give everything up and end the agent, a second one ends it at once. SIGHUP reads the file again;
    a file that cannot be used changes nothing.
    """
    # All its libraries: --help needs none. They make much and drop little, which the agent's start waits for.
    gc.disable()
    from haagent.app import run_agent

    sys.exit(run_agent(path))


@main.command(epilog=_EXITS)
def release() -> None:
    """Remove what is left of any gate while no agent runs: from then on this host answers for what it is configured to.

    After a clean stop a gate is left, closed, only if somebody else configured one of the addresses on this host.
    """
    from haagent.adapters.host import HostLock, TakenError
    from haagent.gating import release as release_gates
    from haagent.runtime.ports import GateFailedError

    try:
        lock = HostLock.take()
    except TakenError as error:
        click.echo(f"haagent: {error}", err=True)
        sys.exit(TAKEN)
    try:
        removed = release_gates()
    except GateFailedError as error:
        click.echo(f"haagent: {error}", err=True)
        sys.exit(FAILED)
    finally:
        lock.release()
    click.echo(f"removed: {', '.join(removed)}" if removed else "there was no gate")


@main.command(epilog=_EXITS)
@_file
@click.option("--strict", is_flag=True, help="Warnings, too, make the exit code differ from 0.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the file instead.")
def check(path: Path, strict: bool, schema: bool) -> None:
    """Read the configuration and say what is wrong with it."""
    if schema:
        from haagent.config.schema import json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    from haagent.config.load import Invalid
    from haagent.prepare import prepare

    result = prepare(path)
    lines = result.errors if isinstance(result, Invalid) else result.warnings
    for line in lines:
        click.echo(line, err=True)
    if isinstance(result, Invalid):
        sys.exit(UNUSABLE)
    click.echo(f"{path.name}: ok, {result.config.summary()}")
    sys.exit(WARNED if strict and lines else OK)
