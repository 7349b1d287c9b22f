"""Shell completion of names, from the cluster itself: quickly, or not at all, and never with a word of its own."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import CompletionItem

from haagent.cli.ctl.options import given
from haagent.core.units import MS, Duration

_PATIENCE: Final[Duration] = 500 * MS


def groups(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The groups that begin so, with their owners."""
    return _names(ctx, incomplete, nodes=False)


def nodes(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The nodes that begin so."""
    return _names(ctx, incomplete, nodes=True)


def _names(ctx: click.Context, incomplete: str, *, nodes: bool) -> list[CompletionItem]:
    from haagent.cli.ctl.connect import agents

    options = given(ctx)
    options.timeout = _PATIENCE
    try:
        with agents(options) as answering:
            status = answering.status
    except click.ClickException:
        return []
    found = [(each.node, each.release) for each in status.members]
    if not nodes:
        found = [(each.name, f"owned by {each.owner}" if each.owner else "no owner") for each in status.groups]
    return [CompletionItem(name, help=told) for name, told in found if name.startswith(incomplete)]
