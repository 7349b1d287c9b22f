"""YAML as a tree that remembers its lines. Every scalar stays the text that was written.

YAML's own guesses are not taken over: `no` would be false, `051` forty-one, and some IPv6 addresses a number in base
sixty. What a text means is decided by the key it stands at (`values.py`), and quotes make no difference.

Input may be hostile: size and nesting are bounded, aliases (which multiply what they name) are refused, and so are
keys that are given twice, of which one would be lost in silence. Relies on PyYAML's pure Python parser: it is slower
than libyaml's, but lets other threads run, such as the one that renews the lease while a reload is parsed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

DEEPEST = 16
"""Levels of nesting that are read; the configuration itself has four."""

MOST = 50_000
"""Keys, values and lists that are read; a thousand virtual routers have a third of it. Freeing many more would hold up
the lease of an agent that reloads."""

Path = Sequence[str | int]
"""Keys and list indices from the top; pydantic's `loc`."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text as written, without its quotes; None for nothing, `~` or an unquoted `null`."""

    line: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A list."""

    line: int
    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping; `lines` says where each key stands."""

    line: int
    entries: dict[str, Tree]
    lines: dict[str, int]


Tree = Scalar | Listing | Mapping
Plain = str | list["Plain"] | dict[str, "Plain"] | None


@dataclass(frozen=True, slots=True)
class Flaw:
    """What keeps a text from being read, and where: `line` and `column` count from 1, 0 where there is none."""

    line: int
    column: int
    why: str


def parse(text: str) -> Mapping | list[Flaw]:
    """The tree of a YAML document whose top is a mapping (no document: an empty one), or what is wrong with it."""
    try:
        top = yaml.compose(text, Loader=_Loader)
    except _RefusedError as refused:
        return [refused.flaw]
    except yaml.MarkedYAMLError as error:
        return [_flaw(error)]
    except yaml.YAMLError as error:
        return [Flaw(0, 0, " ".join(str(error).split()))]  # the reader's: characters that YAML does not know
    if top is None:
        return Mapping(1, {}, {})
    flaws: list[Flaw] = []
    tree = _build(top, flaws)
    if not isinstance(tree, Mapping):
        return [Flaw(tree.line, 0, f"must be a mapping of keys to values, is {describe(tree)}")]
    return flaws or tree


def plain(tree: Tree) -> Plain:
    """The tree without its lines: texts, lists, dicts and None."""
    match tree:
        case Scalar(text=text):
            return text
        case Listing(items=items):
            return [plain(item) for item in items]
        case Mapping(entries=entries):
            return {key: plain(value) for key, value in entries.items()}
        case _:
            assert_never(tree)


def locate(tree: Tree, path: Path) -> tuple[int, tuple[str | int, ...], Tree | None]:
    """The line of what stands at `path`, as much of the path as exists (and one missing key), and what stands there.

    A key that is missing has the line of the mapping that it is missing from, and None stands there.
    """
    line = tree.line
    known: list[str | int] = []
    for step in path:
        match tree, step:
            case Mapping(entries=entries, lines=lines), str():
                known.append(step)
                if step not in entries:
                    return line, tuple(known), None
                line, tree = lines[step], entries[step]
            case Listing(items=items), int() if 0 <= step < len(items):
                known.append(step)
                tree = items[step]
                line = tree.line
            case _:
                break  # a short form: the scalar stands for all that is below it
    return line, tuple(known), tree


def describe(tree: Tree) -> str:
    """What stands there, in words, for an error message: a text as it is, everything else by its kind."""
    match tree:
        case Scalar(text=text):
            return "nothing" if text is None else quoted(text)
        case Listing():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            assert_never(tree)


def quoted(text: str) -> str:
    """A text from outside, for one line of output: without control characters, and not longer than a line."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    return shown if shown.isprintable() and shown.strip() == shown and shown else repr(shown)


class _RefusedError(Exception):
    """What YAML allows and we do not: why, and at which event."""

    def __init__(self, why: str, event: yaml.Event) -> None:
        super().__init__(why)
        mark = event.start_mark
        self.flaw = Flaw(0, 0, why) if mark is None else Flaw(mark.line + 1, mark.column + 1, why)


class _Loader(yaml.SafeLoader):
    """PyYAML's composer, kept from nesting deeply and from multiplying what it reads."""

    depth = 0
    count = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = cast(yaml.Event, self.peek_event())  # pyright: ignore[reportUnknownMemberType]
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError("aliases are not supported", event)
        if self.depth == DEEPEST:
            raise _RefusedError(f"nested more than {DEEPEST} levels deep", event)
        self.count += 1
        if self.count > MOST:
            raise _RefusedError(f"more than {MOST} keys and values", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _flaw(error: yaml.MarkedYAMLError) -> Flaw:
    mark = error.problem_mark or error.context_mark
    said = [" ".join(part.split()) for part in (error.problem, error.context) if part]
    why = ", ".join(said) or "cannot be read"
    return Flaw(0, 0, why) if mark is None else Flaw(mark.line + 1, mark.column + 1, why)


def _build(node: Node, flaws: list[Flaw]) -> Tree:
    line = node.start_mark.line + 1
    match node:
        case ScalarNode():
            nothing = node.style is None and node.value in ("", "~", "null")
            return Scalar(line, None if nothing else str(node.value))
        case SequenceNode():
            return Listing(line, tuple(_build(item, flaws) for item in node.value))
        case MappingNode():
            tree = Mapping(line, {}, {})
            for key, at, value in _entries(node, flaws):
                if key in tree.lines:
                    flaws.append(Flaw(at, 0, f"{quoted(key)}: given twice, first in line {tree.lines[key]}"))
                else:
                    tree.lines[key] = at
                    tree.entries[key] = _build(value, flaws)
            return tree
        case _:
            raise AssertionError(f"YAML has no {node}")


def _entries(node: MappingNode, flaws: list[Flaw]) -> Iterator[tuple[str, int, Node]]:
    for key, value in node.value:
        at = key.start_mark.line + 1
        if isinstance(key, ScalarNode):
            yield str(key.value), at, value
        else:
            flaws.append(Flaw(at, 0, "a key must be a plain text"))
