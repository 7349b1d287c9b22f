"""How things look: a table for people, JSON, YAML and tab-separated values for programs. rich is for tables only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
from google.protobuf.message import Message

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_UNBOUND: Final = 10_000
"""Columns, where no terminal sets a limit: nothing is folded that a program may read."""

_STYLES: Final = {
    "MASTER": "bold green",
    "FAULT": "red",
    "gone": "red",
    "not heard": "yellow",
    "WRONG": "bold red",
    "WARNING": "yellow",
    "OK": "green",
}


@dataclass(frozen=True, slots=True)
class Note:
    """A line under a table. `loud`: must not be missed. `key`: what it is about, where its text changes."""

    text: str
    loud: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """`right`: the columns that are aligned there. `parted`: a line wherever the first column changes."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    parted: bool = False


def table(what: Table) -> None:
    """The table, as wide as it needs to be, or as the terminal is."""
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable()
    for column in what.columns:
        drawn.add_column(column, justify="right" if column in what.right else "left", overflow="fold")
    before = None
    for row in what.rows:
        if what.parted and before not in (None, row[0]):
            drawn.add_section()
        before = row[0]
        drawn.add_row(*(Text(clean(cell), style=_STYLES.get(cell.partition(",")[0], "")) for cell in row))
    render(*([Text(clean(what.title), style="bold")] if what.title else []), drawn)


def render(*parts: RenderableType) -> None:
    """Anything of rich's, below each other, on standard output."""
    console = _console()
    for part in parts:
        console.print(part)


def notes(lines: Sequence[Note], *, err: bool = False) -> None:
    """Lines, the loud ones in red where there are colours."""
    stream = sys.stderr if err else sys.stdout
    coloured = stream.isatty() and not _colourless()
    for note in lines:
        text = f" {clean(note.text)}"
        click.echo(click.style(text, fg="red", bold=True) if note.loud and coloured else text, err=err)


def tsv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A line of names, and a line a row."""
    for row in (columns, *rows):
        click.echo("\t".join(clean(cell) for cell in row))


def data(value: Any, how: str) -> None:
    """JSON or YAML, whole."""
    if how == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    import yaml

    click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON can hold it: numbers stay numbers, whatever their size; all fields, also those that are 0.

    A message within that is absent is null. (protobuf's own JSON makes texts of 64-bit numbers.)
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value: Any = getattr(message, field.name)
        entry: Any = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            found[field.name] = dict(sorted(value.items()))
        elif field.is_repeated:
            found[field.name] = [_plain_value(each, field) for each in value]
        elif field.message_type is not None and not message.HasField(field.name):
            found[field.name] = None
        else:
            found[field.name] = _plain_value(value, field)
    return found


def clean(text: str) -> str:
    """Without what a terminal would obey: names and reasons come from others."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    """`n1, n2`, or `-`."""
    return ", ".join(names) or "-"


def _plain_value(value: Any, field: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _UNBOUND
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _colourless() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
