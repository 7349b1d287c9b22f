"""Commands that look: `list`, `topology`, `status`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

import click

from haagent.cli.ctl.complete import groups
from haagent.cli.ctl.connect import Answering, connected, need_group
from haagent.cli.ctl.errors import UNHEALTHY
from haagent.cli.ctl.facts import facts
from haagent.cli.ctl.options import Options, common, given
from haagent.cli.ctl.overview import show_overview
from haagent.cli.ctl.picture import show_topology
from haagent.cli.ctl.report import show_status
from haagent.cli.ctl.service import GET_STATUS
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2 as pb

F = TypeVar("F", bound=Callable[..., Any])

_AGAIN_AFTER: Final = 0.3
"""Seconds after which what looks unhealthy is looked at once more: a move takes milliseconds, and so does its news."""


def _looking(command: F) -> F:
    watching = click.option("-w", "watch", type=click.FloatRange(0.1, 3600), metavar="N", help="Again every N seconds.")
    always = click.option("-W", "always", is_flag=True, help="Again every 2 seconds.")
    group = click.argument("group", required=False, shell_complete=groups)
    return group(watching(always(common(command))))


@click.command("list")
@_looking
@click.pass_context
def list_command(ctx: click.Context, group: str | None, watch: float | None, always: bool) -> None:
    """Who owns what: a row for each group and node.

    \b
    Examples:
      haagentctl list                 the whole cluster
      haagentctl list web -W          one group, again every 2 seconds
      haagentctl list -f json         for programs

    Ends with 5 if a group has no owner, or if two nodes say that they own one.
    """
    _look(ctx, group, 2.0 if always and watch is None else watch, show_overview)


@click.command()
@_looking
@click.pass_context
def topology(ctx: click.Context, group: str | None, watch: float | None, always: bool) -> None:
    """The cluster as a tree: groups, their virtual routers and addresses, and their nodes, the owner first.

    \b
    Examples:
      haagentctl topology
      haagentctl topology web -w 5
    """
    _look(ctx, group, 2.0 if always and watch is None else watch, show_topology)


@click.command()
@_looking
@click.pass_context
def status(ctx: click.Context, group: str | None, watch: float | None, always: bool) -> None:
    """All that is known: nodes with their leases, gates and peers, groups, alarms, the last changes.

    \b
    Examples:
      haagentctl status
      haagentctl status -f json | jq .self.lease     every field, as in the protocol
    """
    _look(ctx, group, 2.0 if always and watch is None else watch, show_status)


def _look(
    ctx: click.Context, group: str | None, pause: float | None, show: Callable[[pb.Status, Options, str | None], None]
) -> None:
    options = given(ctx)
    unhealthy = False
    with suppress(KeyboardInterrupt):
        for _ in _rounds(pause):
            with connected(options) as answering:
                seen = _settled(answering, group)
            show(seen, options, group)
            unhealthy = facts(seen, group).unhealthy
    ctx.exit(UNHEALTHY if unhealthy else 0)


def _rounds(pause: float | None) -> Iterator[None]:
    yield
    while pause is not None:
        time.sleep(pause)
        click.clear()
        yield


def _settled(answering: Answering, group: str | None) -> pb.Status:
    """The status; if something is wrong in it, a later one, so that what is passing is not taken for a fault."""
    status = answering.status
    need_group(status, group)
    if facts(status, group).unhealthy:
        time.sleep(_AGAIN_AFTER)
        status = answering.service.ask(GET_STATUS, control.GetStatusRequest())
    return status
