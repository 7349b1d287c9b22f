"""A world for operators: keys in memory as etcd has them, and nodes that say how they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from haagent.api.operator import Operator
from haagent.api.planning import Pulse, Scene
from haagent.api.reach import Reach
from haagent.api.witness import Said
from haagent.core.records import Guard, HistoryEntry, Key, Kind, OwnerRecord, Put, Seen, Value
from haagent.core.units import MS, S
from haagent.runtime.ports import Listing, NotWritten, Unclear, UnreadableError, Written
from haagent.v1 import status_pb2
from tests.unit.core.values import lease, member, owner

WALL = 1_800_000_000 * S


class Keys:
    """The port `Records`. `away`: etcd does not answer; `lost`: the next answers to writes are lost, done or not."""

    def __init__(self, **owners: OwnerRecord) -> None:
        self.revision = 0
        self.keys: dict[Key, Seen] = {}
        self.away = False
        self.lost: list[bool] = []
        self.on_commit: Callable[[Sequence[Put]], None] = lambda _puts: None
        for node in "abc":
            self.put(Key(Kind.LEASES, node), lease(node))
            self.put(Key(Kind.MEMBERS, node), member(node))
        for group, record in (owners or {"web": owner("a", epoch=41)}).items():
            self.put(Key(Kind.OWNERS, group), record)

    def put(self, key: Key, value: Value) -> None:
        self.revision += 1
        self.keys[key] = Seen(key, self.revision, self.revision, value, since=5 * MS)

    def moves(self, group: str, to: str, epoch: int, *, clean: bool = False) -> None:
        self.put(Key(Kind.OWNERS, group), owner(to, epoch=epoch, clean=clean))
        self.put(Key(Kind.HISTORY, f"{group}/{epoch}"), HistoryEntry(to, epoch, "test"))

    async def read(self) -> Listing:
        return self._shown([seen for key, seen in self.keys.items() if key.kind is not Kind.HISTORY])

    async def history(self) -> Listing:
        return self._shown([seen for key, seen in self.keys.items() if key.kind is Kind.HISTORY])

    async def look(self, keys: Sequence[Key]) -> Listing:
        return self._shown([self.keys.get(key, Seen(key, 0, self.revision, None)) for key in keys])

    async def commit(
        self, guards: Sequence[Guard], puts: Sequence[Put], deletes: Sequence[Key] = ()
    ) -> Written | NotWritten | Unclear:
        if self.away:
            return NotWritten("no endpoint is connected")
        lost = self.lost.pop(0) if self.lost else None
        if lost is False:
            return Unclear("no answer in time")
        for guard in guards:
            seen = self.keys.get(guard.key)
            if (seen.revision if seen is not None else 0) != guard.revision:
                return NotWritten()
        for put in puts:
            self.put(put.key, put.value)
        for key in deletes:
            self.keys.pop(key, None)
        done = self.revision
        self.on_commit(puts)
        return Unclear("no answer in time") if lost else Written(done)

    def _shown(self, seen: list[Seen]) -> Listing:
        if self.away:
            raise UnreadableError("no endpoint is connected")
        return Listing(self.revision, tuple(seen))


class Nodes:
    """A witness: by node, what it says of `web`. All renew, but for those that are `dead`."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.says: dict[str, Said] = {}
        self.reaches = [Reach()]

    async def pulses(self, scene: Scene) -> Mapping[str, Pulse]:
        return {f"{node}1": Pulse(0) for node in scene.members if node not in self.dead}

    def cut_off(self) -> Collection[str]:
        return ()

    async def said(self, node: str) -> Said | None:
        return self.says.get(node)

    async def reach(self, group: str, epoch: int) -> Reach:
        assert group == "web"
        return self.reaches.pop(0) if len(self.reaches) > 1 else self.reaches[0]

    def owns(self, node: str, epoch: int, since: int, *, ahead: int = 0, error: int | None = 0) -> None:
        role = status_pb2.GroupRole(
            group="web",
            role=status_pb2.MASTER,
            epoch=epoch,
            addresses_held=1,
            answers_since_boot_ns=since + ahead,
            answers_since_wall_ns=WALL + since,
        )
        self.says[node] = Said({role.group: role}, ahead, error)

    def silent(self, node: str, since: int, *, ahead: int = 0, error: int | None = 0) -> None:
        role = status_pb2.GroupRole(
            group="web",
            role=status_pb2.BACKUP,
            addresses_missing=1,
            answers_since_boot_ns=1,
            silent_since_boot_ns=since + ahead,
            silent_since_wall_ns=WALL + since,
        )
        self.says[node] = Said({role.group: role}, ahead, error)


class Desk:
    """An operator, its world, and a clock that goes on by a millisecond whenever it is read."""

    def __init__(self, keys: Keys | None = None) -> None:
        self.keys = keys or Keys()
        self.nodes = Nodes()
        self.now = 1000 * S
        self.operator = Operator(self.keys, self.nodes, wall=lambda: WALL, clock=self._clock)

    def _clock(self) -> int:
        self.now += MS
        return self.now


def aged(said: Said, **changes: int) -> Said:
    """The same, with other fields of its one role."""
    role = status_pb2.GroupRole()
    role.CopyFrom(next(iter(said.roles.values())))
    for name, value in changes.items():
        setattr(role, name, value)
    return replace(said, roles={role.group: role})
