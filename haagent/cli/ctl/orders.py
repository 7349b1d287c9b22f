"""Commands that give orders to the cluster, or to a node: `pause`, `resume`, `drain`, `undrain`, `reload`."""

from __future__ import annotations

from typing import Final

import click

from haagent.cli.ctl.ask import confirm, need_terminal, whoami
from haagent.cli.ctl.complete import nodes
from haagent.cli.ctl.connect import Answering, connected
from haagent.cli.ctl.errors import RefusedError
from haagent.cli.ctl.options import Span, common, given
from haagent.cli.ctl.outcome import show_outcome
from haagent.cli.ctl.service import DRAIN, PAUSE, RELOAD, RESUME, UNDRAIN
from haagent.core.units import MS, Duration, S
from haagent.v1 import control_pb2 as control

_NODE: Final = click.argument("node", shell_complete=nodes)


@click.command()
@common
@click.pass_context
def pause(ctx: click.Context) -> None:
    """Freeze who owns what, in the whole cluster. A lease that runs out still ends: safety is never paused.

    \b
    Examples:
      haagentctl pause        before work on etcd, the network or haagent itself
      haagentctl list         says "Maintenance mode: on" until somebody resumes
    """
    options = given(ctx)
    with connected(options) as answering:
        code = show_outcome(answering.service.ask(PAUSE, control.PauseRequest(by=whoami())), options)
    ctx.exit(code)


@click.command()
@common
@click.pass_context
def resume(ctx: click.Context) -> None:
    """End a pause.

    \b
    Example:
      haagentctl resume
    """
    options = given(ctx)
    with connected(options) as answering:
        code = show_outcome(answering.service.ask(RESUME, control.ResumeRequest(by=whoami())), options)
    ctx.exit(code)


@click.command()
@_NODE
@click.option("--force", is_flag=True, help="Ask no questions.")
@click.option(
    "--insist", is_flag=True, help="Also if nobody else can own what it owns: that it keeps until somebody can."
)
@click.option(
    "--wait",
    type=Span(0, 300 * S),
    default=30 * S,
    metavar="DURATION",
    help="How long to wait until it owns nothing.  [default: 30s]",
)
@common
@click.pass_context
def drain(ctx: click.Context, node: str, force: bool, insist: bool, wait: Duration) -> None:
    """Move everything off a node, and keep it off until `undrain`.

    \b
    Examples:
      haagentctl drain n1                     asks, and waits until n1 owns nothing
      haagentctl drain n1 --force && ssh n1 reboot
    """
    options = given(ctx)
    with connected(options) as answering:
        need_terminal([] if force else ["--force"])
        _known(answering, node)
        if not force:
            owned = [each.name for each in answering.status.groups if each.owner == node]
            what = f"move {', '.join(owned)} off {node} and keep it off" if owned else f"keep everything off {node}"
            confirm(f"Are you sure you want to {what}?", "nothing was changed")
        request = control.DrainRequest(node=node, by=whoami(), wait_ms=wait // MS, force=insist)
        code = show_outcome(answering.service.ask(DRAIN, request, wait=wait), options)
    ctx.exit(code)


@click.command()
@_NODE
@common
@click.pass_context
def undrain(ctx: click.Context, node: str) -> None:
    """Let a node own again. Nothing moves by that alone.

    \b
    Example:
      haagentctl undrain n1
    """
    options = given(ctx)
    with connected(options) as answering:
        _known(answering, node)
        code = show_outcome(answering.service.ask(UNDRAIN, control.UndrainRequest(node=node, by=whoami())), options)
    ctx.exit(code)


@click.command()
@common
@click.pass_context
def reload(ctx: click.Context) -> None:
    """Have the agent that answers read its configuration again. A file that cannot be used changes nothing.

    \b
    Examples:
      haagentctl reload
      haagentctl reload --endpoint n2:7440
    """
    options = given(ctx)
    with connected(options) as answering:
        code = show_outcome(answering.service.ask(RELOAD, control.ReloadRequest()), options)
    ctx.exit(code)


def _known(answering: Answering, node: str) -> None:
    known = [member.node for member in answering.status.members]
    if node not in known:
        raise RefusedError(f"{node}: no such node; there are {', '.join(known) or 'none'}")
