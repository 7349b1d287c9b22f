"""Histories: what happened to a cluster, as an outsider writes it down; and how one is read.

This judge shares no code with what it judges: it imports the standard library only, and so do the other modules that
`tests/judge/test_guarantees.py` names. The simulator writes histories (`tests.judge.simulator`); whoever else writes
such lines is judged as well.

A history is lines of JSON, in any order. Times are whole nanoseconds of one clock, the same for all lines, which is
taken for the real time; `within` says how far off a time may be. `line` says what a line is:

- `history`, the first: `version` 1, `source`, `gated` (kernels stop answering at the deadline by themselves, so that
  nothing excuses an answer), `guard_ms`, `within` (for lines without their own), and where it is known `fencing`
  (nothing may be claimed before a program confirmed), `fair_from` (from then on nothing happens to the cluster but the
  faults that are listed), `recovers_ms` (how long after the last fault everything may take), `wanted` (the groups that
  must have an owner then), `until` (the end of what was looked at).
- `boot`: at `at` an agent started on `host`, as `node`, by the name of `incarnation`.
- `answers`: from `from` to `to` the kernel of `host` answered for `group`, by whatever path. Both are times at which
  it surely did. Two stretches are two lines.
- `write`: etcd did a transaction at `at`: `history` (which one of those that etcd had), `revision`, `puts` (key
  without prefix, such as `owners/web`, to value), `deletes` (keys). `by`: the incarnation that asked for it, if that
  is known.
- `begins`: etcd shows another `history` from `at` on, wiped or restored, in which `keys` stand.
- `ask`: `host` sent a transaction at `at`, as `incarnation`: `kind` (claim, release), `group`, `epoch` and `to` (the
  node) of the record that it writes, and `seen`, the revision that etcd's stream had shown it by then.
- `promise`: `host` promised at `at`, as `node` on `machine`, not to claim `group` from `to` (an incarnation) by
  `epoch` for `ttl_ms`, as it was asked in its `round`.
- `advert`: `host` advertised `group` at `at`.
- `fenced`: a program confirmed to `host` at `at` that `incarnation` answers for nothing.
- `fault`: `kind` from `from` to `to`, at `host`, or all over the cluster without one. `crash`, `pause` and `kernel`
  are those after which an agent without a gate cannot keep what it promised.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MS = 1_000_000
VERSION = 1

Line = dict[str, Any]


class HistoryError(Exception):
    """This is no history; the message says where and why."""


@dataclass(frozen=True)
class Answers:
    """`host` answered for `group`, surely from `begin` to `end`, give or take `within`."""

    host: str
    group: str
    begin: int
    end: int
    within: int = 0


@dataclass(frozen=True)
class Fault:
    """Something was done to `host`, or to all (empty), from `begin` to `end`."""

    kind: str
    host: str
    begin: int
    end: int


@dataclass
class History:
    """All lines of one cluster, by kind, each kind in order of time. `writes` has `begins` among it."""

    header: Line
    answers: list[Answers] = field(default_factory=list[Answers])
    writes: list[Line] = field(default_factory=list[Line])
    asks: list[Line] = field(default_factory=list[Line])
    promises: list[Line] = field(default_factory=list[Line])
    adverts: list[Line] = field(default_factory=list[Line])
    fenced: list[Line] = field(default_factory=list[Line])
    boots: list[Line] = field(default_factory=list[Line])
    faults: list[Fault] = field(default_factory=list[Fault])
    known: dict[str, Any] = field(default_factory=dict[str, Any])
    """What was worked out of the lines already, by its name."""

    @property
    def gated(self) -> bool:
        return bool(self.header.get("gated"))

    @property
    def guard(self) -> int:
        return int(self.header.get("guard_ms", 20)) * MS

    @property
    def within(self) -> int:
        return int(self.header.get("within", 0))

    @property
    def groups(self) -> list[str]:
        """Those that anybody answered for."""
        owned = {
            key.partition("/")[2] for one in self.writes for key in one.get("puts", {}) if key.startswith("owners/")
        }
        return sorted(owned | {one.group for one in self.answers})

    def host_of(self, incarnation: str, node: str = "") -> str:
        """On which host an incarnation ran; a node that never said so is its own host."""
        return next((one["host"] for one in self.boots if one["incarnation"] == incarnation), node)

    def booted(self, incarnation: str) -> int | None:
        """When an incarnation started, if that is known."""
        return next((one["at"] for one in self.boots if one["incarnation"] == incarnation), None)


def read(lines: Iterable[str]) -> History:
    """The history that these lines are. HistoryError: they are none."""
    parsed: list[Line] = []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            one = json.loads(text)
        except ValueError as error:
            raise HistoryError(f"line {number}: no JSON: {error}") from None
        if not isinstance(one, dict) or one.get("line") not in _LINES:
            raise HistoryError(f"line {number}: `line` must be one of {', '.join(_LINES)}")
        missing = [name for name in _LINES[one["line"]] if name not in one]
        if missing:
            raise HistoryError(f"line {number}: {one['line']} needs {', '.join(missing)}")
        parsed.append(one)
    return of(parsed)


def of(lines: list[Line]) -> History:
    """The same from values."""
    headers = [one for one in lines if one["line"] == "history"]
    if len(headers) != 1 or headers[0]["version"] != VERSION:
        raise HistoryError(f"one line `history` of version {VERSION} is needed, there are {len(headers)}")
    made = History(headers[0])
    within = made.within
    for one in lines:
        match one["line"]:
            case "answers":
                unsure = int(one.get("within", within))
                made.answers.append(Answers(one["host"], one["group"], one["from"], one["to"], unsure))
            case "fault":
                made.faults.append(Fault(one["kind"], one.get("host", ""), one["from"], one["to"]))
            case "write" | "begins":
                made.writes.append(one)
            case "history":
                pass
            case kind:
                getattr(made, _LISTS[kind]).append(one)
    made.answers.sort(key=lambda one: (one.begin, one.end))
    made.faults.sort(key=lambda one: one.begin)
    made.writes.sort(key=lambda one: (one["at"], one.get("revision", 0)) if one["line"] == "write" else (one["at"], 0))
    for name in _LISTS.values():
        getattr(made, name).sort(key=lambda one: one["at"])
    return made


_LISTS = {"ask": "asks", "promise": "promises", "advert": "adverts", "fenced": "fenced", "boot": "boots"}
_LINES: dict[str, tuple[str, ...]] = {
    "history": ("version",),
    "boot": ("at", "host", "node", "incarnation"),
    "answers": ("host", "group", "from", "to"),
    "write": ("at", "history", "revision", "puts", "deletes"),
    "begins": ("at", "history", "keys"),
    "ask": ("at", "host", "incarnation", "kind", "group", "epoch", "to", "seen", "history"),
    "promise": ("at", "host", "node", "machine", "to", "group", "epoch", "ttl_ms", "round"),
    "advert": ("at", "host", "group"),
    "fenced": ("at", "host", "incarnation"),
    "fault": ("kind", "from", "to"),
}
