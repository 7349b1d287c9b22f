"""etcd as the simulator has it: revisions, guarded transactions, sessions whose keys vanish with them, a log to watch.

Linearizable within one history. `restore` begins another one, from a backup or from nothing; under another cluster id,
or under the same one and ahead of the one before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

from haagent.core.model import Listed, Watched
from haagent.core.records import Garbage, Guard, Key, Kind, Put, Revision, Seen, Value

Session = int
NO_SESSION: Session = 0


class Etcd:
    """The one store. `changed` is called with what each new revision changed."""

    def __init__(self, changed: Callable[[Watched], None]) -> None:
        self.keys: dict[Key, Seen] = {}
        self.revision: Revision = 1
        self.history = 1
        self.life = 1
        self.began: Revision = 0
        self._changed = changed
        self._sessions: dict[Key, Session] = {}
        self._log: list[Watched] = []

    @property
    def cluster(self) -> str:
        return f"life-{self.life}"

    def holds(self, guards: Iterable[Guard]) -> bool:
        """Whether all guards hold now."""
        for key, revision, created, least in guards:
            stored = self.keys.get(key)
            if stored is None:
                if revision != 0:
                    return False
            elif least:
                if stored.revision < revision:
                    return False
            elif (stored.created if created else stored.revision) != revision:
                return False
        return True

    def write(self, puts: Iterable[Put], deletes: Iterable[Key], session: Session) -> Revision:
        """One transaction whose guards held; returns its revision."""
        revision = self.revision + 1
        changes: list[Seen] = []
        for key, value, in_session in puts:
            changes.append(self._put(key, value, revision, session if in_session else NO_SESSION))
        for key in deletes:
            if self.keys.pop(key, None) is not None:
                self._sessions.pop(key, None)
                changes.append(Seen(key, 0, revision, None))
        if changes:
            self._publish(revision, changes)
        return self.revision

    def scribble(self, key: Key, value: Value | Garbage) -> None:
        """An operator writes what the core never would."""
        revision = self.revision + 1
        self._publish(revision, [self._put(key, value, revision, NO_SESSION)])

    def revoke(self, session: Session) -> None:
        """The session ended: all its keys go at once."""
        gone = [key for key, owner in self._sessions.items() if owner == session]
        self.write((), gone, NO_SESSION)

    def show(self, keys: Iterable[Key]) -> tuple[Seen, ...]:
        """These keys as they are now."""
        return tuple(self.keys.get(key) or Seen(key, 0, self.revision, None) for key in dict.fromkeys(keys))

    def list(self) -> Listed:
        """Everything that an agent lists, now."""
        return Listed(self.cluster, self.revision, tuple(seen for seen in self.keys.values() if _watched(seen.key)))

    def since(self, revision: Revision, compacted: bool = False) -> list[Watched]:
        """What changed after a revision of this history.

        `compacted`: up to and including the first of these changes. Of that one the deletions are lost then, without a
        word, to a watch that begins there: so does etcd 3.4.
        """
        missed = self._log[bisect_right(self._log, revision, key=lambda one: one.revision) :]
        if compacted and missed:
            first = missed[0]
            missed[0] = Watched(first.revision, tuple(seen for seen in first.seen if seen.value is not None))
        return missed

    def snapshot(self) -> tuple[Revision, dict[Key, Seen]]:
        """What a backup holds."""
        return self.revision, dict(self.keys)

    def restore(self, revision: Revision, keys: dict[Key, Seen], same: bool = False) -> None:
        """Begin another history from a backup; no keys is a wipe. Sessions are no more. `same`: its id stays."""
        self.history += 1
        self.life += not same
        self.began = revision
        self.revision, self.keys = revision, dict(keys)
        self._sessions.clear()
        self._log.clear()

    def _put(self, key: Key, value: Value | Garbage, revision: Revision, session: Session) -> Seen:
        before = self.keys.get(key)
        seen = Seen(key, before.created if before is not None else revision, revision, value)
        self.keys[key] = seen
        if session:
            self._sessions[key] = session
        else:
            self._sessions.pop(key, None)
        return seen

    def _publish(self, revision: Revision, changes: list[Seen]) -> None:
        self.revision = revision
        watched = Watched(revision, tuple(seen for seen in changes if _watched(seen.key)))
        self._log.append(watched)
        self._changed(watched)


def _watched(key: Key) -> bool:
    """History is written for people; no agent lists or watches it."""
    return key.kind is not Kind.HISTORY
