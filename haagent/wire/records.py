"""What stands in etcd, as bytes: the paths of keys and the JSON of values (`haagent.core.records`).

A value is a JSON object with `v`, the version of this schema. Durations are whole milliseconds (`ttl_ms`),
addresses are text. Fields that this version does not know are ignored, so that newer agents may add some;
`since` (wall clock, for humans) is no part of a value: `since` reads it by itself. Nothing that is read raises, or
makes more of a value than its bytes. This is on the path of each peer's renewal, four a second and node:
hand-written checks, no schema library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any, Final, TypeVar, cast

from haagent.core.records import (
    Garbage,
    HistoryEntry,
    Intent,
    Key,
    Kind,
    LeaseValue,
    MemberValue,
    Orders,
    OwnerRecord,
    Standing,
    Value,
)
from haagent.core.units import MS, Duration, Wall

VERSION: Final = 1
ROOT: Final = "haagent"

MAX_VALUE: Final = 64 * 1024
"""Bytes of a value."""
MAX_NAME: Final = 253
"""Characters of a node's or group's name, of a host's or an incarnation's identity: a DNS name fits."""
MAX_TEXT: Final = 1000
"""Characters of a text for humans; what is longer is cut, not refused."""
MAX_CANDIDATES: Final = 256
MAX_ADDRESSES: Final = 256
MAX_STANDINGS: Final = 1024
MAX_DRAINED: Final = 256
FAILSAFE_MS: Final = (0, 24 * 3600 * 1000)
WALL_MS: Final = (0, (1 << 63) // MS - 1)
"""Since 1970."""
TTL_MS: Final = (300, 60_000)

_Fields = Mapping[str, Any]
_T = TypeVar("_T")


def path(cluster: str, key: Key) -> str:
    """`/haagent/<cluster>/<kind>/<name>`."""
    return f"/{ROOT}/{cluster}/{key.kind}/{key.name}"


def key_of(path: str) -> Key | None:
    """The key at a path, of whatever cluster; None if it is none of ours (unknown kind, impossible name)."""
    parts = path.split("/", 4)
    if len(parts) != 5 or parts[0] or parts[1] != ROOT:
        return None
    kind, name = _KINDS.get(parts[3]), parts[4]
    if kind is None:
        return None
    plain = name
    if kind is Kind.HISTORY:
        plain, slash, epoch = name.rpartition("/")
        if not (slash and epoch.isascii() and epoch.isdigit() and len(epoch) <= 19):
            return None
    return Key(kind, name) if _is_name(plain) and "/" not in plain else None


def encode(value: Value, since: str | None = None) -> bytes:
    """A value's JSON. `since`, ISO 8601, is added for humans. ValueError if it is larger than `MAX_VALUE`."""
    fields = _fields(value)
    if since is not None:
        fields["since"] = since
    data = json.dumps(fields, separators=(",", ":")).encode()
    if len(data) > MAX_VALUE:
        raise ValueError(f"a {type(value).__name__} of {len(data)} bytes, at most {MAX_VALUE} can be written")
    return data


def decode(kind: Kind, data: bytes) -> Value | Garbage:
    """The value of a key of that kind, or what is wrong with it. Never raises."""
    if len(data) > MAX_VALUE:
        return Garbage(f"{len(data)} bytes, at most {MAX_VALUE} are read")
    try:
        fields: object = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        return Garbage(f"no JSON: {type(error).__name__}")
    if not isinstance(fields, dict):
        return Garbage("no JSON object")
    try:
        return _decode(kind, cast("_Fields", fields))
    except _WrongError as wrong:
        return Garbage(str(wrong))


def since(data: bytes) -> Wall:
    """When a value was written, by what it says itself, in whole milliseconds; 0 if it does not say. Never raises."""
    found = _SINCE.search(data[:MAX_VALUE])
    if found is None:
        return 0
    try:
        at = datetime.fromisoformat(found[1].decode())
    except ValueError:
        return 0
    return max(0, round(at.timestamp() * 1000)) * MS if at.tzinfo is not None else 0


# --- writing ------------------------------------------------------------------------------------------------


def _fields(value: Value) -> dict[str, object]:
    match value:
        case LeaseValue(incarnation, host, ttl, round_):
            return {
                "v": VERSION,
                "incarnation": incarnation,
                "host": host,
                "ttl_ms": _ttl_ms(ttl),
                "round": round_,
            }
        case OwnerRecord():
            return {
                "v": VERSION,
                "node": value.node,
                "incarnation": value.incarnation,
                "host": value.host,
                "ttl_ms": _ttl_ms(value.ttl),
                "epoch": value.epoch,
                "clean": value.clean,
                "candidates": value.candidates,
                "reason": value.reason[:MAX_TEXT],
                "failsafe_ms": -(-value.failsafe // MS),
                "machines": value.machines,
            }
        case MemberValue(incarnation, version, addresses, standings, endpoint, machine):
            return {
                "v": VERSION,
                "incarnation": incarnation,
                "version": version[:MAX_TEXT],
                "addresses": [_address_text(address) for address in addresses],
                "standings": {
                    group: {"priority": standing.priority, "address": _address_text(standing.address)}
                    for group, standing in standings.items()
                },
                "endpoint": endpoint,
                "machine": machine,
            }
        case Intent():
            return {
                "v": VERSION,
                "to": value.to,
                "from_epoch": value.from_epoch,
                "by": value.by[:MAX_TEXT],
                "not_before_ms": value.not_before // MS,
                "expires_ms": value.expires // MS,
            }
        case HistoryEntry(node, epoch, reason):
            return {"v": VERSION, "node": node, "epoch": epoch, "reason": reason[:MAX_TEXT]}
        case Orders(paused, drained):
            return {"v": VERSION, "paused": paused[:MAX_TEXT], "drained": drained}


def _ttl_ms(ttl: Duration) -> int:
    # Rounded up: whoever waits for this lease to end must not wait too short.
    return -(-ttl // MS)


def _address_text(address: bytes) -> str:
    return str(ip_address(address)) if address else ""


# --- reading ------------------------------------------------------------------------------------------------


class _WrongError(Exception):
    """A field that is missing or has no possible value; the text says which and what is allowed."""


def _decode(kind: Kind, fields: _Fields) -> Value:
    version = fields.get("v")
    if type(version) is not int or version != VERSION:
        raise _WrongError(f"v: must be {VERSION}")
    return _READERS[kind](fields)


def _lease(fields: _Fields) -> LeaseValue:
    return LeaseValue(
        incarnation=_name(fields, "incarnation"),
        host=_name(fields, "host"),
        ttl=_number(fields, "ttl_ms", *TTL_MS) * MS,
        round=_number(fields, "round"),
    )


def _owner(fields: _Fields) -> OwnerRecord:
    return OwnerRecord(
        node=_name(fields, "node"),
        incarnation=_name(fields, "incarnation"),
        host=_name(fields, "host"),
        ttl=_number(fields, "ttl_ms", *TTL_MS) * MS,
        epoch=_number(fields, "epoch"),
        clean=_of(fields, "clean", bool),
        candidates=tuple(_names(_list(fields, "candidates", MAX_CANDIDATES), "candidates")),
        reason=_text(fields, "reason"),
        failsafe=_number(fields, "failsafe_ms", *FAILSAFE_MS) * MS,
        machines=tuple(_or_empty(one, "machines") for one in _list(fields, "machines", MAX_CANDIDATES)),
    )


def _member(fields: _Fields) -> MemberValue:
    standings = _object(fields, "standings", MAX_STANDINGS)
    _names(standings, "standings")
    return MemberValue(
        incarnation=_name(fields, "incarnation"),
        version=_text(fields, "version"),
        addresses=tuple(_packed(address, "addresses") for address in _list(fields, "addresses", MAX_ADDRESSES)),
        standings={group: _standing(standing) for group, standing in standings.items()},
        endpoint=_or_empty(fields.get("endpoint"), "endpoint"),
        machine=_or_empty(fields.get("machine"), "machine"),
    )


def _or_empty(text: object, field: str) -> str:
    if not isinstance(text, str) or (text and not _is_name(text)):
        raise _WrongError(f"{field}: must be empty, or 1 to {MAX_NAME} printable characters")
    return text


def _standing(standing: object) -> Standing:
    if not isinstance(standing, dict):
        raise _WrongError("standings: each must be an object")
    fields = cast("_Fields", standing)
    address = fields.get("address")
    return Standing(
        priority=_number(fields, "priority", 0, 255),
        # A node without an address yet stands last among equals.
        address=b"" if address == "" else _packed(address, "address"),
    )


def _intent(fields: _Fields) -> Intent:
    return Intent(
        to=_name(fields, "to"),
        from_epoch=_number(fields, "from_epoch"),
        by=_text(fields, "by"),
        not_before=_wall(fields, "not_before_ms"),
        expires=_wall(fields, "expires_ms"),
    )


def _wall(fields: _Fields, field: str) -> Wall:
    return _number(fields, field, *WALL_MS) * MS


def _history(fields: _Fields) -> HistoryEntry:
    return HistoryEntry(node=_name(fields, "node"), epoch=_number(fields, "epoch"), reason=_text(fields, "reason"))


def _orders(fields: _Fields) -> Orders:
    return Orders(
        paused=_text(fields, "paused"),
        drained=tuple(_names(_list(fields, "drained", MAX_DRAINED), "drained")),
    )


def _of(fields: _Fields, field: str, kind: type[_T]) -> _T:
    value = fields.get(field)
    # `type`, not `isinstance`: to JSON true is no number.
    if type(value) is not kind:
        raise _WrongError(f"{field}: must be {_JSON_NAMES[kind]}")
    return value


def _list(fields: _Fields, field: str, limit: int) -> list[object]:
    items = cast("list[object]", _of(fields, field, list))
    if len(items) > limit:
        raise _WrongError(f"{field}: at most {limit}")
    return items


def _object(fields: _Fields, field: str, limit: int) -> dict[str, object]:
    members = cast("dict[str, object]", _of(fields, field, dict))
    if len(members) > limit:
        raise _WrongError(f"{field}: at most {limit}")
    return members


def _number(fields: _Fields, field: str, low: int = 0, high: int = (1 << 63) - 1) -> int:
    value = _of(fields, field, int)
    if not low <= value <= high:
        raise _WrongError(f"{field}: must be {low} to {high}")
    return value


def _name(fields: _Fields, field: str) -> str:
    value = _of(fields, field, str)
    if not _is_name(value):
        raise _WrongError(f"{field}: must be 1 to {MAX_NAME} printable characters")
    return value


def _names(names: Collection[object], field: str) -> list[str]:
    found = [name for name in names if isinstance(name, str) and _is_name(name)]
    if len(found) != len(names):
        raise _WrongError(f"{field}: each name must be 1 to {MAX_NAME} printable characters")
    return found


def _is_name(name: str) -> bool:
    # Printable excludes half surrogates too, which can be neither logged nor written into a path.
    return 0 < len(name) <= MAX_NAME and name.isprintable()


def _text(fields: _Fields, field: str) -> str:
    value = _of(fields, field, str)[:MAX_TEXT]
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)


def _packed(text: object, field: str) -> bytes:
    # No address has more than 45 characters; what is longer would only be quoted in an error.
    if isinstance(text, str) and len(text) <= 45 and "%" not in text:
        try:
            return ip_address(text).packed
        except ValueError:
            pass
    raise _WrongError(f"{field}: must be IP addresses")


# Ours are written last, and without blanks; a text cannot hold this, for its quotes are escaped.
_SINCE: Final = re.compile(rb',"since":"([0-9T:.+-]{1,40})"\}\Z')

_JSON_NAMES: Final[dict[type, str]] = {
    bool: "true or false",
    dict: "an object",
    int: "a whole number",
    list: "a list",
    str: "text",
}

_KINDS: Final = {kind.value: kind for kind in Kind}

_READERS: Final[dict[Kind, Callable[[_Fields], Value]]] = {
    Kind.LEASES: _lease,
    Kind.OWNERS: _owner,
    Kind.MEMBERS: _member,
    Kind.INTENTS: _intent,
    Kind.HISTORY: _history,
    Kind.ORDERS: _orders,
}
