"""The command `watch`: the table, drawn anew at every change; or a line a change, where it is not a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import click

from haagent.cli.ctl.complete import groups
from haagent.cli.ctl.connect import connected, need_group
from haagent.cli.ctl.errors import UnreachableError
from haagent.cli.ctl.facts import Facts, Row, facts
from haagent.cli.ctl.options import Options, common, given
from haagent.cli.ctl.overview import marks, show_overview
from haagent.cli.ctl.show import clean
from haagent.cli.ctl.times import exact, moment
from haagent.core.units import S, Wall
from haagent.v1 import status_pb2 as pb

_INTERVAL: Final = 1 * S
"""A lease's remainder is drawn anew that often."""

_PAUSE: Final = 0.5
"""Seconds before somebody is asked anew."""


@click.command()
@click.argument("group", required=False, shell_complete=groups)
@common
@click.pass_context
def watch(ctx: click.Context, group: str | None) -> None:
    """Follow the cluster until interrupted. Another agent is asked when the one that answers goes away.

    \b
    Examples:
      haagentctl watch                    the table of `list`, as it changes
      haagentctl watch | logger -t ha     a line a change
      haagentctl watch web -f json        a JSON object a change
    """
    options = given(ctx)
    drawn = options.format == "pretty" and sys.stdout.isatty()
    before: Facts | None = None
    with suppress(KeyboardInterrupt):
        for status in _statuses(options, group):
            if drawn:
                click.clear()
                show_overview(status, options, group)
                continue
            now = facts(status, group)
            for line in _changes(before, now, status.at_wall_ns, options):
                click.echo(line)
            sys.stdout.flush()
            before = now


def _statuses(options: Options, group: str | None) -> Iterator[pb.Status]:
    while True:
        with connected(options) as answering:
            need_group(answering.status, group)
            try:
                yield from answering.service.watch(_INTERVAL)
            except UnreachableError as error:
                click.echo(f"{error.message}; asking again", err=True)
        time.sleep(_PAUSE)


def _changes(before: Facts | None, now: Facts, at: Wall, options: Options) -> Iterator[str]:
    known = {(row.group, row.node): row for row in before.rows} if before is not None else {}
    for row in now.rows:
        old = known.get((row.group, row.node))
        if old is None or (old.role, old.epoch, old.state) != (row.role, row.epoch, row.state):
            yield _row(old, row, at, options)
    if options.format == "pretty":
        said = {} if before is None else _marks(before)
        now_said = _marks(now)
        yield from (clean(f"{moment(at)} {text}") for key, text in now_said.items() if key not in said)
        yield from (clean(f"{moment(at)} over: {text}") for key, text in said.items() if key not in now_said)


def _row(old: Row | None, row: Row, at: Wall, options: Options) -> str:
    before = old.role if old is not None else None
    if options.format == "pretty":
        arrow = f"{before} -> {row.role}" if before not in (None, row.role) else row.role
        return clean(f"{moment(at)} {row.group} {row.node} {arrow} ({row.state}) epoch {row.epoch}")
    told: dict[str, Any] = {
        "at": exact(at),
        "group": row.group,
        "node": row.node,
        "before": before,
        "role": row.role,
        "epoch": row.epoch,
        "state": row.state,
    }
    if options.format == "tsv":
        return "\t".join(clean(str(each if each is not None else "")) for each in told.values())
    # One object a line, for YAML as well: each line is a document in flow style.
    return ("--- " if options.format == "yaml" else "") + json.dumps(told, ensure_ascii=False)


def _marks(found: Facts) -> dict[str, str]:
    return {note.key or note.text: note.text for note in marks(found)}
