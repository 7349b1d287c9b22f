"""etcd in a small world: revisions, guarded transactions, and a log to watch. Copies share what did not change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from haagent.core.model import Listed, Watched
from haagent.core.records import Garbage, Guard, Key, Kind, Put, Revision, Seen, Value
from tests.explore.fingerprint import keep, number_of

_values: dict[int, Any] = {}


class Store:
    """One history after the other. `log` is of the present one; it and `keys` are replaced, never changed."""

    __slots__ = ("history", "keys", "log", "mark", "revision")

    def __init__(self) -> None:
        self.history = 1
        self.revision: Revision = 1
        self.keys: dict[Key, Seen] = {}
        self.log: tuple[Watched, ...] = ()
        self.mark = 0

    def copied(self) -> Store:
        """Another that begins as this one is."""
        made = Store.__new__(Store)
        made.history, made.revision, made.mark = self.history, self.revision, self.mark
        made.keys, made.log = self.keys, self.log
        return made

    @property
    def cluster(self) -> str:
        return f"history-{self.history}"

    def holds(self, guards: Iterable[Guard]) -> bool:
        """Whether all guards hold now."""
        for key, revision, created, least in guards:
            stored = self.keys.get(key)
            if least and stored is not None:
                if stored.revision < revision:
                    return False
            elif (0 if stored is None else stored.created if created else stored.revision) != revision:
                return False
        return True

    def write(self, puts: Iterable[Put], deletes: Iterable[Key]) -> Revision:
        """One transaction whose guards held; returns its revision."""
        revision, keys, changes = self.revision + 1, dict(self.keys), list[Seen]()
        for key, value, _ in puts:
            before = keys.get(key)
            keys[key] = _same(Seen(key, before.created if before is not None else revision, revision, value))
            changes.append(keys[key])
        for key in deletes:
            if keys.pop(key, None) is not None:
                changes.append(_same(Seen(key, 0, revision, None)))
        if changes:
            watched = tuple(seen for seen in changes if seen.key.kind is not Kind.HISTORY)
            self._become(revision, keys, (*self.log, Watched(revision, watched)))
        return self.revision

    def scribble(self, key: Key, value: Value | Garbage) -> None:
        """Somebody writes what the core never would."""
        revision = self.revision + 1
        before = self.keys.get(key)
        seen = _same(Seen(key, before.created if before is not None else revision, revision, value))
        self._become(revision, {**self.keys, key: seen}, (*self.log, Watched(revision, (seen,))))

    def show(self, keys: Iterable[Key]) -> tuple[Seen, ...]:
        """These keys as they are now."""
        return tuple(self.keys.get(key) or Seen(key, 0, self.revision, None) for key in dict.fromkeys(keys))

    def list(self) -> Listed:
        """Everything that an agent lists, now."""
        shown = tuple(seen for seen in self.keys.values() if seen.key.kind is not Kind.HISTORY)
        return Listed(self.cluster, self.revision, shown)

    def restore(self, revision: Revision, keys: dict[Key, Seen]) -> None:
        """Begin another history from a backup; no keys is a wipe."""
        self.history += 1
        self._become(revision, dict(keys), ())

    def _become(self, revision: Revision, keys: dict[Key, Seen], log: tuple[Watched, ...]) -> None:
        self.revision, self.keys, self.log = revision, keys, log
        self.mark = hash((self.history, revision, frozenset([keep(seen) for seen in keys.values()])))


def _same(seen: Seen) -> Seen:
    """One object for all that are equal: its number is remembered."""
    return _values.setdefault(number_of(seen), seen)


def forget_values() -> None:
    """Let go of what was written: for another search."""
    _values.clear()
