"""What a configuration file means, with all its defaults, in the words in which it is written. For reading."""

from __future__ import annotations

from enum import Enum
from typing import Any, cast

from pydantic import BaseModel

from haagent.config import tree
from haagent.config.durations import written
from haagent.config.load import SECRETS, Invalid, load
from haagent.config.schema import FileKeys
from haagent.config.values import Prefixed, Span

HIDDEN = "***"


def effective(text: str, filename: str, hostname: str) -> dict[str, Any] | Invalid:
    """Every key with its value, secrets hidden; or what is wrong with the file."""
    loaded = load(text, filename, hostname)
    parsed = tree.parse(text)
    if isinstance(loaded, Invalid) or isinstance(parsed, list):
        assert isinstance(loaded, Invalid), "what can not be parsed is not loaded"
        return loaded
    return _section(FileKeys.model_validate(tree.plain(parsed))) | {"node": loaded.config.node}


def _section(section: BaseModel) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value: object = getattr(section, name)
        if name in SECRETS and value is not None:
            shown[name] = HIDDEN
        elif any(isinstance(kind, Span) for kind in field.metadata):
            shown[name] = written(cast("int", value))
        else:
            shown[name] = _value(value)
    return shown


def _value(value: object) -> Any:
    match value:
        case BaseModel():
            return _section(value)
        case Prefixed():
            return f"{value.ip}/{value.prefix}"
        case list():
            return [_value(each) for each in cast("list[object]", value)]
        case Enum():
            return value.value
        case None | bool() | int():
            return value
        case _:
            return str(value)
