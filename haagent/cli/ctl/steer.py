"""Commands that move a group: `switchover`, `failover`. What is missing is asked for, as patronictl does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from haagent.cli.ctl.ask import choose, confirm, need_terminal, whoami
from haagent.cli.ctl.complete import groups, nodes
from haagent.cli.ctl.connect import Answering, connected, need_group
from haagent.cli.ctl.errors import CtlError, RefusedError
from haagent.cli.ctl.facts import candidates
from haagent.cli.ctl.options import Options, Span, common, given, interactive
from haagent.cli.ctl.outcome import show_outcome
from haagent.cli.ctl.overview import show_overview
from haagent.cli.ctl.service import FAILOVER, GET_STATUS, SWITCHOVER
from haagent.cli.ctl.times import example, moment, scheduled
from haagent.core.units import MS, Duration, S, Wall
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2 as pb

F = TypeVar("F", bound=Callable[..., Any])

_WAIT: Final = 10 * S
_GROUP: Final = click.argument("group", required=False, shell_complete=groups)
_TO: Final = click.option("--to", "--candidate", "to", metavar="NODE", shell_complete=nodes, help="Who is to have it.")
_FORCE: Final = click.option("--force", is_flag=True, help="Ask no questions.")
_WAIT_OPTION: Final = click.option(
    "--wait",
    type=Span(0, 300 * S),
    default=_WAIT,
    metavar="DURATION",
    help="How long to wait until it is done and verified; 0 only writes it down.  [default: 10s]",
)


@click.command()
@_GROUP
@_TO
@click.option("--scheduled", "when", metavar="TIME", help="When: ISO 8601, local time without a zone; or now.")
@_FORCE
@click.option("--insist", is_flag=True, help="Also if the target is not heard, or its last renewal is old.")
@_WAIT_OPTION
@common
def switchover(group: str | None, to: str | None, when: str | None, force: bool, insist: bool, wait: Duration) -> None:
    """Move a group to another node, on purpose: its owner lets go, and hands it over.

    \b
    Examples:
      haagentctl switchover                         asks for all it needs
      haagentctl switchover web --to n2             asks once, whether you are sure
      haagentctl switchover web --to n2 --force     asks nothing: for programs
      haagentctl switchover web --to n2 --scheduled 2026-11-20T23:00

    Ends with 0 if the new owner's kernel has the addresses and the old one's has none, or if it is scheduled; with 3 if
    that is not known.
    """
    ctx = click.get_current_context()
    options = given(ctx)
    now = time.time_ns()
    at = _instant(when, now)
    with connected(options) as answering:
        need_terminal(_missing(answering.status, group, to, force))
        _show(answering, options)
        chosen = _group(answering.status, group, force)
        if not chosen.owner:
            raise RefusedError(f"{chosen.name}: nobody owns it, so nobody can hand it over; see `failover`")
        target = _target(answering.status, chosen, to, force)
        if when is None and interactive() and not force:
            at = _ask_when(now)
        if not force:
            moved = f"{chosen.name} from {chosen.owner} to {target}"
            question = f"schedule switchover of {moved} at {moment(at)}" if at else f"switch over {moved}"
            confirm(f"Are you sure you want to {question}?", "nothing was changed")
        request = control.SwitchoverRequest(
            group=chosen.name,
            to=target,
            by=whoami(),
            not_before_wall_ns=at,
            wait_ms=0 if at else wait // MS,
            from_epoch=chosen.epoch,
            force=insist,
        )
        outcome = answering.service.ask(SWITCHOVER, request, wait=0 if at else wait)
        _end(ctx, answering, outcome, options)


@click.command()
@_GROUP
@_TO
@_FORCE
@click.option(
    "--i-know-it-is-dead",
    "dead",
    is_flag=True,
    help="The owner's host is off, or cut from its clients: wait for its ttl only, not for promises that may carry it. "
    "If it is not, two nodes may answer for as long as failsafe.max.",
)
@_WAIT_OPTION
@common
@click.pass_context
def failover(ctx: click.Context, group: str | None, to: str | None, force: bool, dead: bool, wait: Duration) -> None:
    """Have a node take a group whose owner cannot be asked: as soon as that one's lease allows, not before.

    \b
    Examples:
      haagentctl failover web --to n2
      haagentctl failover web --to n2 --i-know-it-is-dead
      haagentctl failover web --to n2 --force --wait 30s
    """
    options = given(ctx)
    with connected(options) as answering:
        need_terminal(_missing(answering.status, group, to, force))
        _show(answering, options)
        chosen = _group(answering.status, group, force)
        target = _target(answering.status, chosen, to, force)
        if not force:
            last = chosen.owner or chosen.last_owner or "nobody"
            risk = f" If {last} still runs, both may answer." if dead else ""
            question = f"Are you sure you want to fail over {chosen.name} from {last} to {target}?{risk}"
            confirm(question, "nothing was changed")
        request = control.FailoverRequest(group=chosen.name, to=target, by=whoami(), wait_ms=wait // MS, dead=dead)
        outcome = answering.service.ask(FAILOVER, request, wait=wait)
        _end(ctx, answering, outcome, options)


def _instant(when: str | None, now: Wall) -> Wall:
    try:
        return scheduled(when, now) if when is not None else 0
    except ValueError as error:
        raise click.UsageError(f"--scheduled: {error}") from None


def _ask_when(now: Wall) -> Wall:
    while True:
        answer: str = click.prompt(
            f"When should the switchover take place (e.g. {example(now)} ) ", default="now", type=str, err=True
        )
        try:
            return scheduled(answer, now)
        except ValueError as error:
            click.echo(f"Error: {error}", err=True)


def _missing(status: pb.Status, group: str | None, to: str | None, force: bool) -> list[str]:
    names = [each.name for each in status.groups]
    missing = [] if group is not None or len(names) < 2 else [f"GROUP (one of {', '.join(names)})"]
    if not force:
        chosen = next((each for each in status.groups if group is None or each.name == group), None)
        if to is None and chosen is not None:
            missing.append(f"--to NODE ({' or '.join(candidates(status, chosen)) or 'there is no candidate'})")
        missing.append("--force")
    return missing


def _group(status: pb.Status, group: str | None, force: bool) -> pb.Group:
    need_group(status, group)
    known = {each.name: each for each in status.groups}
    if group is None and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise RefusedError("there are no groups")
    if group is None:
        if force:
            raise click.UsageError(f"give GROUP, one of {', '.join(known)}: with --force nothing is asked")
        group = choose("Group", list(known))
    return known[group]


def _target(status: pb.Status, group: pb.Group, to: str | None, force: bool) -> str:
    able = candidates(status, group)
    if to is None:
        if not able:
            raise RefusedError(f"{group.name}: no other node can own it now")
        return able[0] if force else choose("Candidate", able, best=able[0])
    if to not in {member.node for member in status.members}:
        raise RefusedError(f"{to}: no such node; {group.name} could move to {', '.join(able) or 'nobody'}")
    return to


def _show(answering: Answering, options: Options) -> None:
    # What programs read is the outcome, and nothing else.
    if options.format == "pretty":
        click.echo("Current cluster topology")
        show_overview(answering.status, options)


def _end(ctx: click.Context, answering: Answering, outcome: control.Outcome, options: Options) -> None:
    code = show_outcome(outcome, options)
    if options.format == "pretty":
        try:
            show_overview(answering.service.ask(GET_STATUS, control.GetStatusRequest()), options)
        except CtlError as error:
            # The outcome has been said; that nobody shows the cluster any more does not change it.
            click.echo(f"(no table: {error.message})", err=True)
    ctx.exit(code)
