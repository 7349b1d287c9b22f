"""Commands that tell: `history`, `doctor`, `version`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click

from haagent import __version__
from haagent.cli.ctl.complete import groups
from haagent.cli.ctl.connect import Answering, connected, need_group
from haagent.cli.ctl.errors import DONE, UNHEALTHY, CtlError
from haagent.cli.ctl.options import Options, common, given
from haagent.cli.ctl.service import DOCTOR, HISTORY
from haagent.cli.ctl.show import Table, clean, data, table, tsv
from haagent.cli.ctl.times import exact, stamp
from haagent.core.units import Wall
from haagent.v1 import control_pb2 as control

_CHANGE: Final = ("group", "epoch", "node", "at", "reason")
_FINDING: Final = ("level", "subject", "text", "advice")
_LEVELS: Final = {control.Finding.OK: "OK", control.Finding.WARNING: "WARNING", control.Finding.WRONG: "WRONG"}


@click.command()
@click.argument("group", required=False, shell_complete=groups)
@click.option("-n", "--newest", type=click.IntRange(0, 1_000_000), default=0, metavar="N", help="The last N of each.")
@common
@click.pass_context
def history(ctx: click.Context, group: str | None, newest: int) -> None:
    """Who has owned a group, since when and why; of all groups without one.

    \b
    Examples:
      haagentctl history web -n 10
      haagentctl history -f tsv > owners.tsv
    """
    options = given(ctx)
    with connected(options) as answering:
        reply = answering.service.ask(HISTORY, control.HistoryRequest(group=group or "", newest=newest))
        if not reply.entries:  # a group that is no more may have a history
            need_group(answering.status, group)
    if options.format == "pretty":
        rows = [[each.group, str(each.epoch), each.node, stamp(each.at_wall_ns), each.reason] for each in reply.entries]
        table(Table("", ("Group", "Epoch", "Owner", "Since", "Reason"), rows, frozenset({"Epoch"}), parted=True))
        return
    rows = [[each.group, str(each.epoch), each.node, _when(each, exact), each.reason] for each in reply.entries]
    if options.format == "tsv":
        tsv(_CHANGE, rows)
    else:
        data([dict(zip(_CHANGE, row, strict=True)) | {"epoch": int(row[1])} for row in rows], options.format)


@click.command()
@common
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Look for what is wrong, or will be, and say what to do about it.

    \b
    Examples:
      haagentctl doctor
      haagentctl doctor -f json | jq '.[] | select(.level == "WRONG")'

    Ends with 5 if something is wrong; warnings end with 0.
    """
    options = given(ctx)
    with connected(options) as answering:
        findings = answering.service.ask(DOCTOR, control.DoctorRequest()).findings
    rows = [[_LEVELS.get(each.level, "?"), each.subject, each.text, each.advice] for each in findings]
    match options.format:
        case "pretty":
            table(Table("", ("", "Of", "What", "What to do"), rows))
        case "tsv":
            tsv(_FINDING, rows)
        case how:
            data([dict(zip(_FINDING, row, strict=True)) for row in rows], how)
    ctx.exit(UNHEALTHY if any(each.level == control.Finding.WRONG for each in findings) else DONE)


@click.command()
@common
@click.pass_context
def version(ctx: click.Context) -> None:
    """The version of this command, and of every node's agent. (`haagentctl --version`: of this command alone.)

    \b
    Example:
      haagentctl version
    """
    options = given(ctx)
    if options.format == "pretty":
        click.echo(f"haagentctl {__version__}")
    try:
        with connected(options) as answering:
            releases = _releases(answering)
    except CtlError:
        _versions({}, options)
        raise
    _versions(releases, options)


def _releases(answering: Answering) -> dict[str, str]:
    own = answering.status.self
    found = {member.node: member.release for member in answering.status.members}
    return found | ({own.node: own.release} if own.node else {})


def _versions(releases: dict[str, str], options: Options) -> None:
    match options.format:
        case "pretty":
            for node, release in releases.items():
                click.echo(clean(f"{node}: haagent {release or '?'}"))
        case "tsv":
            tsv(("what", "release"), [["haagentctl", __version__], *([node, each] for node, each in releases.items())])
        case how:
            data({"haagentctl": __version__, "nodes": releases}, how)


def _when(entry: control.HistoryEntry, how: Callable[[Wall], str]) -> str:
    return how(entry.at_wall_ns) if entry.at_wall_ns else ""
