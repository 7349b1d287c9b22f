"""How etcd itself is: its members' versions, sizes and alarms, how fast it grows, and who compacts its history.

Each renewal leaves a revision behind: with three nodes and a `ttl` of a second a million a day, some 225 MiB. etcd
keeps them until somebody compacts, and refuses all writes when its quota (2 GiB unless configured) is reached. So
history that is older than `compact_after` is compacted, if nobody else does it: etcd's own auto-compaction, Kubernetes,
a cron job.

Whoever notices first that it is due does it; nothing has to be agreed upon. A node knows how old a revision is because
it has noted the newest one each minute since its start. If one that is older by `SLACK` is still there, nobody has
compacted for so long. It compacts up to the one of `compact_after`; the other nodes find that done. No watch of ours is
ever so far behind, and a node that was stopped for so long lists again.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
from aetcd import rpc
from google.protobuf.unknown_fields import UnknownFieldSet

from haagent.adapters.etcd import requests
from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.endpoint import Endpoint
from haagent.adapters.etcd.failures import FAILURES, CallError
from haagent.adapters.etcd.pool import Pool
from haagent.adapters.etcd.settings import EtcdSettings

LOOK: Final = 60.0
"""Seconds between two looks at the members; each notes the newest revision."""
LOOK_WHILE_FULL: Final = 5.0
SHORTEN: Final = 600.0
"""Seconds between two looks at history, give or take a fifth: nodes take turns by chance."""
SLACK: Final = 900.0
"""Seconds by which history may be older than it should be before a node concludes that nobody else compacts."""
UNTOUCHED: Final = 200_000
"""Revisions of which none was ever compacted: worth a word, where this node shall not compact."""

_PATIENCE: Final = 2.0
_DAY: Final = 86_400.0
_LONGEST: Final = 7 * _DAY + 2 * SLACK
_WATCHING: Final = 6 * 3600.0
"""Seconds after which history should have been compacted by somebody, where this node shall not do it."""
_LAG: Final = 10_000
"""Revisions by which a member may be behind another one; more is another history."""
_ALARM: Final = re.compile(r"alarm:(\w+)")
_QUOTA: Final = 12
"""The number of `dbSizeQuota` in etcd's StatusResponse, which 3.6 has and our stubs do not know."""

_FULL: Final = "NOSPACE: etcd is full and takes no writes until somebody makes room and disarms the alarm (ETCD.md)"


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member, as it answered last. Sizes in bytes; `quota` 0: it does not say. `alarms`: etcd's names for them."""

    endpoint: str
    version: str
    size: int
    used: int
    quota: int
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """`compaction`: who keeps history short, in words; `uncompacted`: nobody does. Empty, 0: not known yet."""

    members: tuple[MemberState, ...] = ()
    revisions_a_day: int = 0
    compaction: str = ""
    uncompacted: bool = False


class Upkeep:
    """Looks after etcd while `run` runs. `settings`: those of now."""

    def __init__(self, pool: Pool, settings: Callable[[], EtcdSettings], announcer: Announcer) -> None:
        self._pool = pool
        self._settings = settings
        self._announcer = announcer
        self._loop = asyncio.get_running_loop()
        self._members: dict[str, MemberState] = {}
        self._marks: deque[tuple[float, int]] = deque()
        self._ours = 0
        self._compaction = ""
        self._uncompacted = False

    @property
    def condition(self) -> Condition:
        """What is known by now."""
        members = tuple(self._members[name] for name in sorted(self._members))
        return Condition(members, self._growth(), self._compaction, self._uncompacted)

    async def run(self) -> None:
        """Until cancelled."""
        due = self._loop.time()
        while True:
            await self._look()
            if self._marks and self._loop.time() >= due:
                due = self._loop.time() + SHORTEN * random.uniform(0.8, 1.2)
                await self._keep_short()
            try:
                async with asyncio.timeout(LOOK_WHILE_FULL if self._full else LOOK):
                    await self._pool.full.wait()
            except TimeoutError:
                continue
            self._pool.full.clear()
            if self._full:
                await asyncio.sleep(LOOK_WHILE_FULL)

    @property
    def _full(self) -> bool:
        return any("NOSPACE" in member.alarms for member in self._members.values())

    async def _look(self) -> None:
        for endpoint in self._pool.endpoints:
            if endpoint.connected:
                await self._ask(endpoint)
        if self._full:
            self._announcer.bad("space", _FULL)
        else:
            self._announcer.over("space", "etcd takes writes again")

    async def _ask(self, endpoint: Endpoint) -> None:
        try:
            metadata = await self._pool.metadata(self._loop.time() + _PATIENCE)
            said = await endpoint.maintenance.Status(rpc.StatusRequest(), metadata=metadata, timeout=_PATIENCE)
        except (CallError, *FAILURES):
            return
        alarms = tuple(sorted({name for error in said.errors for name in _ALARM.findall(error)}))
        quota = next((int(field.data) for field in UnknownFieldSet(said) if field.field_number == _QUOTA), 0)
        state = MemberState(endpoint.name, said.version, said.dbSize, said.dbSizeInUse, quota, alarms)
        self._members[endpoint.name] = state
        now, revision = self._loop.time(), said.header.revision
        if self._marks and revision < self._marks[-1][1] - _LAG:
            self._marks.clear()  # another history
        if not self._marks or revision > self._marks[-1][1]:
            self._marks.append((now, revision))
        while self._marks[0][0] < now - _LONGEST:
            self._marks.popleft()

    def _growth(self) -> int:
        if not self._marks:
            return 0
        now, newest = self._marks[-1]
        then, before = next(mark for mark in self._marks if mark[0] >= now - _DAY)
        return int((newest - before) * _DAY / (now - then)) if now - then >= min(LOOK, _DAY) else 0

    def _before(self, seconds: float) -> int | None:
        """The newest revision that is known to be older than that."""
        until = self._loop.time() - seconds
        return next((revision for at, revision in reversed(self._marks) if at <= until), None)

    async def _keep_short(self) -> None:
        after = self._settings().compact_after
        try:
            overdue = self._before((after or _WATCHING) + SLACK)
            if overdue is None:
                await self._begin(after)
            elif not await self._is_there(overdue):
                who = "this node" if self._ours >= overdue else "somebody else (etcd itself, or another node)"
                self._say(f"{who} compacts")
            elif after:
                await self._compact(self._before(after) or overdue, after)
            else:
                self._say(f"nobody compacts what is {_WATCHING / 3600:.0f} h old, and this node may not", nobody=True)
        except CallError as error:
            self._announcer.bad("history", f"no answer about it ({error.why})")

    async def _begin(self, after: float) -> None:
        """Nothing that was seen is old enough. Was anything compacted, ever?"""
        if self._compaction:
            return
        if not await self._is_there(1):
            self._say("somebody has compacted before this agent started")
        elif after:
            self._say(f"nobody has compacted yet; this node will, what is older than {after / 3600:.3g} h")
        elif (revision := self._marks[-1][1]) > UNTOUCHED:
            self._say(f"nobody has ever compacted its {revision} revisions, and this node may not", nobody=True)

    async def _compact(self, revision: int, after: float) -> None:
        request = rpc.CompactionRequest(revision=revision)
        try:
            await self._pool.call(
                lambda endpoint, metadata, timeout: endpoint.kv.Compact(request, metadata=metadata, timeout=timeout),
                self._loop.time() + _PATIENCE,
                repeatable=True,
            )
        except CallError as error:
            if error.code is grpc.StatusCode.OUT_OF_RANGE:
                return  # somebody was quicker
            self._say(f"nobody compacts: this node's attempt was refused ({error.why})", nobody=True)
            return
        self._ours = revision
        self._say(f"this node compacts what is older than {after / 3600:.3g} h")

    async def _is_there(self, revision: int) -> bool:
        """Whether history reaches back to that revision."""
        key, _ = requests.watched_range(self._settings().cluster)
        request = rpc.RangeRequest(key=key, limit=1, revision=revision)
        try:
            await self._pool.call(
                lambda endpoint, metadata, timeout: endpoint.kv.Range(request, metadata=metadata, timeout=timeout),
                self._loop.time() + _PATIENCE,
                repeatable=True,
            )
        except CallError as error:
            if error.code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in error.why:
                return False
            raise
        return True

    def _say(self, compaction: str, *, nobody: bool = False) -> None:
        self._compaction, self._uncompacted = compaction, nobody
        (self._announcer.bad if nobody else self._announcer.good)("history", compaction)
