"""From the text of haagent.yaml to a configuration, or to all that is wrong with it, a line each.

    haagent.yaml:12: virtual_routers[0].vrid: 0, must be 1 to 255

Pure: what is outside the text comes as an argument. Nothing raises on a bad text, and passwords are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from haagent.config import tree
from haagent.config.build import Config, EtcdSettings, build, build_etcd
from haagent.config.checks import Issue, Valid, check, did_you_mean
from haagent.config.schema import (
    ControlKeys,
    EtcdKeys,
    FailsafeKeys,
    FenceKeys,
    FileKeys,
    GroupKeys,
    LeaseKeys,
    PeersKeys,
    RouterKeys,
)
from haagent.config.values import Word, is_word

ERRORS_SHOWN = 100
EXPLAINED = 200
"""Mistakes of each sort that are looked into: explaining a megabyte of them would take minutes."""
SECRETS = ("auth_pass", "password")

Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and what is questionable about it, as lines of text."""

    config: Config
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Invalid:
    """What is wrong, as lines of text in the order of the file; at least one."""

    errors: tuple[str, ...]


def load(text: str, filename: str, hostname: str) -> Loaded | Invalid:
    """Read a whole configuration. `hostname` names the node where the file does not."""
    parsed = tree.parse(text)
    if isinstance(parsed, list):
        return Invalid(_limited([_place(filename, flaw.line, flaw.column) + flaw.why for flaw in parsed]))
    try:
        file = FileKeys.model_validate(tree.plain(parsed))
        issues: list[Issue] = []
    except ValidationError as error:
        file = None
        issues = _explain(error, parsed)
    issues += _unusable_hostname(parsed, hostname)
    issues += islice(check(_valid_parts(parsed)), EXPLAINED)
    issues.sort(key=lambda issue: tree.locate(parsed, issue.path)[0])
    errors = [_line(parsed, filename, issue) for issue in issues if not issue.warning]
    if file is None or errors:
        return Invalid(_limited(errors))
    return Loaded(build(file, hostname), tuple(_line(parsed, filename, issue) for issue in issues))


def load_etcd(text: str, filename: str, hostname: str) -> tuple[str, EtcdSettings] | Invalid:
    """The cluster's name and how etcd is reached, of a file that need not describe a whole node: an operator's own."""
    parsed = tree.parse(text)
    if isinstance(parsed, tree.Mapping):
        cluster, keys = parsed.entries.get("cluster"), _valid(EtcdKeys, parsed.entries.get("etcd"))
        if keys is not None and isinstance(cluster, tree.Scalar) and is_word(cluster.text):
            return str(cluster.text), build_etcd(keys)
    loaded = load(text, filename, hostname)
    assert isinstance(loaded, Invalid), "a part of what is valid is valid"
    return loaded


# --- what pydantic says, in our words


def _explain(error: ValidationError, parsed: tree.Mapping) -> list[Issue]:
    details = error.errors(include_url=False)[:EXPLAINED]
    # What a missing key must be, its own type says best: ask it about nothing.
    missing = {each["loc"] for each in details if each["type"] == "missing"}
    allowed = _allowed(parsed, missing) if missing else {}
    issues: list[Issue] = []
    for each in details:
        path = each["loc"]
        if path in missing:
            issues.append(Issue(path, f"missing, {allowed[path]}", given=False))
        else:
            issues.append(Issue(path, _why(each), given=each["type"] != "extra_forbidden"))
    return issues


def _allowed(parsed: tree.Mapping, missing: Iterable[Place]) -> dict[Place, str]:
    data = tree.plain(parsed)
    for path in missing:
        _put_nothing(data, path)
    try:
        FileKeys.model_validate(data)
    except ValidationError as error:
        return {each["loc"]: _why(each) for each in error.errors(include_url=False)}
    raise AssertionError("nothing is refused wherever it stands")


def _put_nothing(data: tree.Plain, path: Place) -> None:
    match data, path:
        case dict(), [str(key)]:
            data[key] = None
        case dict(), [str(key), *rest]:
            _put_nothing(data[key], tuple(rest))
        case list(), [int(index), *rest]:
            _put_nothing(data[index], tuple(rest))
        case _:
            raise AssertionError(f"{path} is missing from what is no mapping")


def _why(error: Mapping[str, Any]) -> str:
    context: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "extra_forbidden":
            return "unknown key" + did_you_mean(str(error["loc"][-1]), _keys_at(error["loc"][:-1]))
        case "model_type":
            return "must be a mapping"
        case "list_type":
            return "must be a list"
        case "too_short":
            return "must have at least one entry"
        case "too_long":
            return f"must have at most {context['max_length']} entries"
        case _:
            return error["msg"]


def _keys_at(path: Place) -> list[str]:
    """The keys that the section at `path` may have."""
    model: type[BaseModel] = FileKeys
    for step in path:
        if isinstance(step, str):
            annotation = model.model_fields[step].annotation
            candidates = [arg for arg in (annotation, *get_args(annotation)) if isinstance(arg, type)]
            model = next(arg for arg in candidates if issubclass(arg, BaseModel))
    return list(model.model_fields)


def _unusable_hostname(parsed: tree.Mapping, hostname: str) -> list[Issue]:
    if "node" in parsed.entries:
        return []
    try:
        Word().parse(hostname)
    except ValueError as error:
        return [
            Issue(("node",), f"missing, and the hostname {tree.quoted(hostname)} cannot stand in: {error}", given=False)
        ]
    return []


# --- what is valid, although the whole is not


def _valid_parts(parsed: tree.Mapping) -> Valid:
    entries = parsed.entries
    routers = _listed(entries.get("virtual_routers"))
    return Valid(
        etcd=_valid(EtcdKeys, entries.get("etcd")),
        lease=_valid(LeaseKeys, entries["lease"]) if "lease" in entries else LeaseKeys(),
        peers=_valid(PeersKeys, entries.get("peers")),
        control=_valid(ControlKeys, entries.get("control")),
        failsafe=_valid(FailsafeKeys, entries.get("failsafe")),
        fence=_valid(FenceKeys, entries.get("fence")),
        routers=_all_valid(RouterKeys, routers),
        groups=_all_valid(GroupKeys, _listed(entries.get("groups"))),
        names=frozenset(_names(routers)),
    )


def _listed(section: tree.Tree | None) -> tuple[tree.Tree, ...]:
    return section.items if isinstance(section, tree.Listing) else ()


def _names(routers: Iterable[tree.Tree]) -> list[str]:
    names = [router.entries.get("name") for router in routers if isinstance(router, tree.Mapping)]
    return [name.text for name in names if isinstance(name, tree.Scalar) and name.text is not None]


def _all_valid(model: type[M], items: Iterable[tree.Tree]) -> dict[int, M]:
    parts = {index: _valid(model, item) for index, item in enumerate(items)}
    return {index: part for index, part in parts.items() if part is not None}


def _valid(model: type[M], part: tree.Tree | None) -> M | None:
    if part is None:
        return None
    try:
        return model.model_validate(tree.plain(part))
    except ValidationError:
        return None


# --- lines of text


def _line(parsed: tree.Mapping, filename: str, issue: Issue) -> str:
    line, path, there = tree.locate(parsed, issue.path)
    shown = "".join(f"[{step}]" if isinstance(step, int) else f".{tree.quoted(step)}" for step in path)
    given = ""
    if issue.given and there is not None and path[-1] not in SECRETS:
        # A URL may hold a user and password, even where it must not.
        given = re.sub(r"//[^@\s]*@", "//***@", tree.describe(there)) + ", "
    return f"{_place(filename, line)}{shown.removeprefix('.')}: {given}{issue.why}"


def _place(filename: str, line: int, column: int = 0) -> str:
    return filename + "".join(f":{number}" for number in (line, column) if number) + ": "


def _limited(errors: list[str]) -> tuple[str, ...]:
    more = len(errors) - ERRORS_SHOWN
    return (*errors[:ERRORS_SHOWN], f"{more} more errors, or more than that") if more > 0 else tuple(errors)
