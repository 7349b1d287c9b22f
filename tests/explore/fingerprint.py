"""Copies of a node, and numbers that are equal for nodes that will do the same: what an explorer lives on.

Both walk what a node is made of. Values (frozen dataclasses, tuples, numbers) are shared between copies; the few
objects that change are copied with their dicts and lists. What cannot change what a node does is left out of its
number: what the last step asked for, the order of the timers' heap, alarms, counters of questions that nobody waits
for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from haagent.core.node import Node

IGNORED = {
    "Context": {"out", "now", "alarms"},
    "Timers": {"_heap", "_pushed", "_count"},
    "Groups": {"touched", "roles"},
    "Membership": {"_asks"},
    "Speech": {"_looks"},
    "Node": {"_resigned"},
}
"""By class: what makes no difference to what a node does next, or is there twice."""

_PLAIN = (int, str, bytes, bool, float, type(None))

# --- copies

_copiers: dict[type, Callable[[Any, dict[int, Any]], Any] | None] = dict.fromkeys((*_PLAIN, tuple, frozenset))


def copied(node: Node) -> Node:
    """A node that goes its own way from here."""
    found: Node = _copy(node, {})
    return found


def _copy(one: Any, memo: dict[int, Any]) -> Any:
    kind = one.__class__
    try:
        copier = _copiers[kind]
    except KeyError:
        copier = _copiers[kind] = _copier(kind)
    return one if copier is None else copier(one, memo)


def _copier(kind: type) -> Callable[[Any, dict[int, Any]], Any] | None:
    """How a class is copied; None for values."""
    frozen = is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen  # noqa: B009 - pyright knows it not
    if frozen or issubclass(kind, Enum | tuple | MappingProxyType):
        return None
    if issubclass(kind, dict):
        return _copy_dict
    if issubclass(kind, list):
        return lambda one, memo: [_copy(item, memo) for item in one]
    if issubclass(kind, set):
        return lambda one, memo: set(one)
    if is_dataclass(kind) and not kind.__dictoffset__:
        return _slotted([field.name for field in fields(kind)])
    return _copy_object


def _copy_dict(one: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    return {key: _copy(value, memo) for key, value in one.items()} if one else {}


def _slotted(names: list[str]) -> Callable[[Any, dict[int, Any]], Any]:
    def copy(one: Any, memo: dict[int, Any]) -> Any:
        made = one.__class__.__new__(one.__class__)
        for name in names:
            setattr(made, name, _copy(getattr(one, name), memo))
        return made

    return copy


def _copy_object(one: Any, memo: dict[int, Any]) -> Any:
    made = memo.get(id(one))
    if made is None:
        made = memo[id(one)] = one.__class__.__new__(one.__class__)
        into = made.__dict__
        for name, value in one.__dict__.items():
            into[name] = _copy(value, memo)
    return made


# --- numbers

_kept: dict[int, tuple[Any, int]] = {}
_numbers: dict[type, Callable[[Any, set[int]], Any]] = {}


def keep(one: Any) -> int:
    """The number of a value that is looked at often: remembered, and the value is kept alive with it."""
    found = _kept.get(id(one))
    if found is None:
        found = _kept[id(one)] = (one, hash(_number(one, set())))
    return found[1]


def forget_kept() -> None:
    """Let go of what was kept: for another search."""
    _kept.clear()


def number_of(one: Any) -> int:
    """Equal for what will do the same."""
    return hash(_number(one, set()))


def _number(one: Any, seen: set[int]) -> Any:
    kind = one.__class__
    try:
        return _numbers[kind](one, seen)
    except KeyError:
        make = _numbers[kind] = _numberer(kind)
        return make(one, seen)


def _itself(one: Any, seen: set[int]) -> Any:
    return one


def _numberer(kind: type) -> Callable[[Any, set[int]], Any]:
    if kind in _PLAIN:
        return _itself
    if issubclass(kind, Enum):
        return lambda one, seen: one.name
    if issubclass(kind, tuple | list):
        return lambda one, seen: tuple([_number(item, seen) for item in one])
    if issubclass(kind, dict | MappingProxyType):
        return lambda one, seen: frozenset([(_number(key, seen), _number(it, seen)) for key, it in one.items()])
    if issubclass(kind, set | frozenset):
        return lambda one, seen: frozenset([_number(item, seen) for item in one])
    if is_dataclass(kind):
        return _of_value(kind, [field.name for field in fields(kind) if field.compare])
    ignored = IGNORED.get(kind.__name__, set())

    def of_object(one: Any, seen: set[int]) -> Any:
        if id(one) in seen:
            return None
        seen.add(id(one))
        return (kind.__name__, *[_number(it, seen) for name, it in one.__dict__.items() if name not in ignored])

    return of_object


def _of_value(kind: type, names: list[str]) -> Callable[[Any, set[int]], Any]:
    if not names:
        return lambda one, seen: kind.__name__
    look = attrgetter(*names)
    if len(names) == 1:
        return lambda one, seen: (kind.__name__, _number(look(one), seen))

    def of_value(one: Any, seen: set[int]) -> Any:
        kept = _kept.get(id(one))
        if kept is not None and kept[0] is one:
            return kept[1]
        return (kind.__name__, *[_number(item, seen) for item in look(one)])

    return of_value
