"""What etcd showed at every moment of a history: its keys replayed, write by write, and what follows for each group.

Imports nothing of what it judges: values are the JSON that stands in etcd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.judge.history import MS, History, Line

FASTEST = 1.005
"""No clock runs faster than this by the real time, or slower by as much: any two differ by less than 1 %."""


@dataclass(frozen=True)
class Life:
    """A sign that an incarnation holds: at `at` etcd showed that, for so long (by its own clock)."""

    at: int
    ttl: int


@dataclass(frozen=True)
class Change:
    """A group's record at a moment, and what it was. `record`: None when it is gone or cannot be read.

    `history`: of etcd, `begins` when this is how that history began; `since` when it did. `by`: who wrote it, if known.
    `lease`, `named`: the newest signs of life of the one who is named in `before`: renewals, and records that name it.
    `absent_since`: since when there was none; `last`: the last one there was.
    """

    at: int
    group: str
    before: Line | None
    record: Line | None
    history: int
    revision: int
    since: int
    begins: bool = False
    by: str = ""
    lease: Life | None = None
    named: Life | None = None
    absent_since: int = 0
    last: Line | None = None
    taken: frozenset[int] = frozenset()


@dataclass
class _Group:
    record: Line | None = None
    last: Line | None = None
    absent_since: int = 0
    named: dict[str, Life] = field(default_factory=dict[str, Life])
    epochs: set[int] = field(default_factory=set[int])


def changes(history: History) -> list[Change]:
    """Every change of every group's record, in order."""
    if "changes" not in history.known:
        history.known["changes"] = list(_Replay(history).run())
    return history.known["changes"]


def renewals(history: History) -> dict[str, list[Life]]:
    """By incarnation: when its lease was renewed, as it stands in etcd, and for how long each time."""
    if "renewals" not in history.known:
        found = history.known["renewals"] = dict[str, list[Life]]()
        for one in history.writes:
            for key, value in (one.get("puts") or {}).items():
                if key.startswith("leases/") and isinstance(value, dict) and "ttl_ms" in value:
                    found.setdefault(value["incarnation"], []).append(Life(one["at"], value["ttl_ms"] * MS))
    return history.known["renewals"]


def longest_ttl(history: History) -> int:
    """Of all that stood in etcd."""
    if "longest" not in history.known:
        lives = (life.ttl for those in renewals(history).values() for life in those)
        history.known["longest"] = max(lives, default=1_000 * MS)
    return history.known["longest"]


class _Replay:
    def __init__(self, history: History) -> None:
        self.leases: dict[str, Life] = {}
        self.groups: dict[str, _Group] = {}
        self.number, self.since = 1, 0
        self._history = history

    def run(self) -> Iterator[Change]:
        for one in self._history.writes:
            if one["line"] == "begins":
                self.number, self.since = one["history"], one["at"]
                for name in list(self.groups):
                    self.groups[name].epochs.clear()
                yield from self._put_all(one, one["keys"], begins=True)
                for name, group in list(self.groups.items()):
                    if f"owners/{name}" not in one["keys"]:
                        yield self._set(name, group, None, one, begins=True)
                continue
            yield from self._put_all(one, one["puts"], begins=False)
            for key in one["deletes"]:
                kind, _, name = key.partition("/")
                if kind == "owners":
                    yield self._set(name, self._group(name), None, one, begins=False)
                elif kind == "history":
                    group, _, epoch = name.rpartition("/")
                    self._group(group).epochs.discard(int(epoch))

    def _put_all(self, one: Line, puts: dict[str, Any], begins: bool) -> Iterator[Change]:
        for key, value in puts.items():
            kind, _, name = key.partition("/")
            if kind == "leases" and isinstance(value, dict) and "incarnation" in value and not begins:
                self.leases[value["incarnation"]] = Life(one["at"], value["ttl_ms"] * MS)
            elif kind == "owners":
                record = value if isinstance(value, dict) and "incarnation" in value else None
                yield self._set(name, self._group(name), record, one, begins)
        for key in puts:
            kind, _, name = key.partition("/")
            if kind == "history":
                group, _, epoch = name.rpartition("/")
                self._group(group).epochs.add(int(epoch))

    def _group(self, name: str) -> _Group:
        return self.groups.setdefault(name, _Group())

    def _set(self, name: str, group: _Group, record: Line | None, one: Line, begins: bool) -> Change:
        before = group.record
        who = before["incarnation"] if before is not None else ""
        change = Change(
            at=one["at"],
            group=name,
            before=before,
            record=record,
            history=self.number,
            revision=one.get("revision", 0),
            since=self.since,
            begins=begins,
            by=one.get("by") or "",
            lease=self.leases.get(who),
            named=group.named.get(who),
            absent_since=group.absent_since,
            last=group.last,
            taken=frozenset(group.epochs),
        )
        if record is None and before is not None:
            group.absent_since = one["at"]
        if record is not None:
            group.last = record
            if not record.get("clean") and not begins:
                group.named[record["incarnation"]] = Life(one["at"], record["ttl_ms"] * MS)
        group.record = record
        return change


def patience(ttl: int, guard: int) -> int:
    """How much real time passes at the least while a challenger waits for a holder with this ttl."""
    return int((ttl * 1.01 + guard) / FASTEST)


def may_hold(life: Life) -> int:
    """Until when, by the real time, whoever asked for this may hold by it at the most."""
    return life.at + int(life.ttl * FASTEST)
