"""How long groups are without an owner, as far as one node can see: from the records and leases that etcd shows it.

A group is vacant from the moment in which its record is seen released or gone; or from the end of its owner's lease,
counted from when the owner's last sign was seen. It ends when the next owner's record is seen. A handover is no
vacancy: one record follows the other, and what clients miss in between only they can tell. Nor is the time before a
host's lease ends, however dead the host.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from haagent.core.model import Event, HeartbeatReceived, Listed, Watched
from haagent.core.records import Kind, LeaseValue, OwnerRecord, Revision, Seen
from haagent.core.units import Duration, Instant


@dataclass(slots=True)
class _Group:
    """What is known of one group. `vacant_since`: None while somebody owns it, or while nothing was ever known."""

    record: OwnerRecord | None = None
    revision: Revision = 0
    vacant_since: Instant | None = None


@dataclass(slots=True)
class _Sign:
    """An owner's last sign of life, and the revision of its lease key that it was seen by."""

    at: Instant
    revision: Revision


class Vacancies:
    """Follows just these groups, whatever else etcd has; remembers nothing of incarnations that own none of them."""

    def __init__(self, groups: Collection[str]) -> None:
        self._groups = {name: _Group() for name in groups}
        self._signs: dict[str, _Sign] = {}
        self._history: tuple[str, Revision] = "", 0

    def follow(self, groups: Collection[str]) -> None:
        """Other groups are configured from now on."""
        self._groups = {name: self._groups.get(name) or _Group() for name in groups}
        self._forget_signs()

    def heard(self, event: Event, now: Instant) -> list[tuple[str, Duration]]:
        """Take in what an event shows; returns the vacancies that have ended, by group."""
        match event:
            case Listed(cluster, revision, seen):
                if cluster != self._history[0] or revision < self._history[1]:
                    self._groups = {name: _Group() for name in self._groups}  # revisions begin anew
                    self._signs = {}
                self._history = cluster, revision
                shown = {one.key for one in seen}
                gone = [name for name in self._groups if (Kind.OWNERS, name) not in shown]
                for name in gone:
                    self._vanished(self._groups[name], revision, now)
                return self._take(seen, now)
            case Watched(_, seen):
                return self._take(seen, now)
            case HeartbeatReceived(incarnation=incarnation):
                if incarnation in self._signs:
                    self._signs[incarnation].at = now
            case _:
                pass
        return []

    def now(self, now: Instant) -> dict[str, Duration]:
        """For how long each group has been vacant; 0 while it has an owner, or nobody ever owned it."""
        since = {name: self._vacant_since(group, now) for name, group in self._groups.items()}
        return {name: now - at if at is not None else 0 for name, at in since.items()}

    def _take(self, news: tuple[Seen, ...], now: Instant) -> list[tuple[str, Duration]]:
        ended: list[tuple[str, Duration]] = []
        for seen in news:
            kind, name = seen.key
            if kind is Kind.LEASES and isinstance(seen.value, LeaseValue):
                sign = self._signs.get(seen.value.incarnation)
                if sign is not None and seen.revision > sign.revision:
                    self._signs[seen.value.incarnation] = _Sign(now, seen.revision)
            elif kind is Kind.OWNERS and name in self._groups and seen.revision > self._groups[name].revision:
                vacancy = self._owner(self._groups[name], seen, now)
                if vacancy is not None:
                    ended.append((name, vacancy))
        return ended

    def _owner(self, group: _Group, seen: Seen, now: Instant) -> Duration | None:
        record = seen.value
        if not isinstance(record, OwnerRecord):
            self._vanished(group, seen.revision, now)
            return None
        since = self._vacant_since(group, now)
        group.record, group.revision = record, seen.revision
        if record.clean:
            group.vacant_since = now if since is None else since
            self._forget_signs()
            return None
        group.vacant_since = None
        self._signs[record.incarnation] = _Sign(now, seen.revision)
        self._forget_signs()
        return None if since is None else now - since

    def _vanished(self, group: _Group, revision: Revision, now: Instant) -> None:
        if group.record is not None:
            group.vacant_since = self._vacant_since(group, now) or now
            group.record = None
        group.revision = max(group.revision, revision)

    def _vacant_since(self, group: _Group, now: Instant) -> Instant | None:
        if group.vacant_since is not None or group.record is None:
            return group.vacant_since
        sign = self._signs.get(group.record.incarnation)
        end = sign.at + group.record.ttl if sign is not None else now
        return end if end < now else None

    def _forget_signs(self) -> None:
        holders = {group.record.incarnation for group in self._groups.values() if group.record is not None}
        self._signs = {incarnation: sign for incarnation, sign in self._signs.items() if incarnation in holders}
