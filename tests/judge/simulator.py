"""The simulator's histories: what its world knows, written down as `tests.judge.history` says. And worlds to be judged.

The simulator's own checker says nothing here: it only keeps the books that faults look into. What is found is found by
the judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from haagent.core.heartbeat import PromiseReceived
from haagent.core.model import Asking, Commit, SendAdvert
from haagent.core.records import Garbage, Key, Kind, OwnerRecord, Put, Seen, Value
from haagent.core.units import MS, Instant
from haagent.wire.records import encode
from tests.judge.history import Line
from tests.sim.checker import Checker, Violation
from tests.sim.etcd import Etcd, Session
from tests.sim.host import Agent, Host
from tests.sim.peers import Peers, Said
from tests.sim.world import World


class Scribe(Checker):
    """A checker that finds nothing, and writes down what it is shown."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.lines: list[Line] = []
        self._began: dict[tuple[str, str], Instant] = {}
        self._commits: str = ""
        self._fenced: set[tuple[str, str]] = set()
        self._troubled: dict[Host, Instant] = {}

    def add(self, line: str, **fields: Any) -> None:
        """One line more."""
        self.lines.append({"line": line, **fields})

    # --- what a checker is shown

    def stepped(self, agent: Agent) -> None:
        self._look_at_fenced(agent)
        self._look_at_kernel(agent.host)
        with suppress(Violation):
            super().stepped(agent)

    def kernel_changed(self, host: Host, name: str) -> None:
        now, key = self._world.now, (host.name, name)
        answers = host.kernel.answers(name)
        if answers and key not in self._began:
            self._began[key] = now
        elif not answers and key in self._began:
            self.add("answers", host=host.name, group=name, **{"from": self._began.pop(key), "to": now})
        with suppress(Violation):
            super().kernel_changed(host, name)

    def advertised(self, agent: Agent, effect: SendAdvert) -> None:
        now = self._world.now
        groups = agent.node.rules.groups.values()
        found = [one.name for one in groups for router in one.routers if router.name == effect.router]
        if found and not agent.absent_at(now, now):
            self.add("advert", at=now, host=agent.host.name, group=found[0])

    def asked(self, agent: Agent, effect: Commit) -> None:
        self._look_at_fenced(agent)
        kind = effect.ask.kind
        record = next((put.value for put in effect.puts if put.key.kind is Kind.OWNERS), None)
        if kind in (Asking.CLAIM, Asking.RELEASE) and isinstance(record, OwnerRecord):
            me = agent.node.rules
            self.add(
                "ask",
                at=self._world.now,
                host=agent.host.name,
                node=me.node,
                incarnation=me.incarnation,
                kind=kind.value,
                group=effect.ask.name,
                epoch=record.epoch,
                to=record.node,
                seen=agent.node.view.revision,
                history=agent.listed_in,
            )

    def _look_at_fenced(self, agent: Agent) -> None:
        for incarnation in agent.fenced:
            key = (agent.host.name, incarnation)
            if key not in self._fenced:
                self._fenced.add(key)
                self.add("fenced", at=self._world.now, host=agent.host.name, incarnation=incarnation)

    def _look_at_kernel(self, host: Host) -> None:
        until = host.kernel.trouble_until
        if until > max(self._world.now, self._troubled.get(host, 0)):
            self._troubled[host] = until
            self.add("fault", kind="kernel", host=host.name, **{"from": self._world.now, "to": until})

    def commits(self, agent: Agent, effect: Commit) -> None:
        self._commits = agent.node.rules.incarnation
        with suppress(Violation):
            super().commits(agent, effect)

    def calm(self, preempted: dict[str, bool]) -> None:
        """Nothing is expected here."""

    def settled(self, expected: dict[str, bool]) -> None:
        """Nothing is expected here."""

    # --- what it looks at itself

    def wrote(self, revision: int, changes: Iterable[Seen], deletes: Iterable[Key]) -> None:
        """etcd did something."""
        puts = {path(seen.key): shown(seen.value) for seen in changes if seen.value is not None}
        gone = [path(key) for key in deletes]
        by, self._commits = self._commits, ""
        at = self._world.now
        self.add("write", at=at, history=self._world.etcd.history, revision=revision, puts=puts, deletes=gone, by=by)

    def began(self) -> None:
        """Another history of etcd."""
        etcd = self._world.etcd
        keys = {path(key): shown(seen.value) for key, seen in etcd.keys.items()}
        self.add("begins", at=self._world.now, history=etcd.history, keys=keys)

    def ended(self, wanted: Iterable[str], **header: Any) -> list[Line]:
        """All lines, once the world has ended."""
        world = self._world
        for (host, group), since in self._began.items():
            self.add("answers", host=host, group=group, **{"from": since, "to": world.now})
        for host in world.hosts:
            self._paused(host.agent)
        first = {
            "line": "history",
            "version": 1,
            "source": f"simulator {world.seed}",
            "gated": world.gated,
            "until": world.now,
            "wanted": list(wanted),
            "guard_ms": 20,
        }
        return [first | header, *self.lines]

    def _paused(self, agent: Agent | None) -> None:
        for begin, end in agent.pauses if agent is not None else ():
            assert agent is not None
            self.add("fault", kind="pause", host=agent.host.name, **{"from": begin, "to": min(end, self._world.now)})


def path(key: Key) -> str:
    """As it stands in etcd, without the prefix."""
    return f"{key.kind.value}/{key.name}"


def shown(value: Value | Garbage | None) -> Any:
    """As it stands in etcd."""
    if value is None or isinstance(value, Garbage):
        return value and value.reason
    return json.loads(encode(value))


class _Etcd(Etcd):
    """The simulator's etcd, and a scribe who sees what it does."""

    scribe: Scribe

    def write(self, puts: Iterable[Put], deletes: Iterable[Key], session: Session) -> int:
        puts, gone = list(puts), [key for key in deletes if key in self.keys]
        before = self.revision
        revision = super().write(puts, gone, session)
        if self.revision > before:
            self.scribe.wrote(revision, [self.keys[key] for key, *_ in puts], gone)
        return revision

    def scribble(self, key: Key, value: Value | Garbage) -> None:
        super().scribble(key, value)
        self.scribe.wrote(self.revision, [self.keys[key]], ())

    def restore(self, revision: int, keys: dict[Key, Seen], same: bool = False) -> None:
        super().restore(revision, keys, same)
        self.scribe.began()


class _Peers(Peers):
    """Promises are written down when they are given."""

    scribe: Scribe

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._asked: dict[tuple[str, int], int] = {}

    def say(self, agent: Agent, to: str, said: Said) -> None:
        if not isinstance(said, PromiseReceived):
            self._asked[said.incarnation, said.round] = said.ttl
        else:
            ttl = self._asked[said.incarnation, said.round]
            for tenure in said.tenures:
                self.scribe.add(
                    "promise",
                    at=agent.world.now,
                    host=agent.host.name,
                    node=said.node,
                    machine=said.machine,
                    to=said.incarnation,
                    group=tenure.group,
                    epoch=tenure.epoch,
                    ttl_ms=ttl // MS,
                    round=said.round,
                )
        super().say(agent, to, said)


class WrittenWorld(World):
    """A simulated world that is written down."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.scribe = self.checker = Scribe(self)
        self.etcd = etcd = _Etcd(self._changed)
        etcd.scribe = self.scribe
        self.peers = peers = _Peers(self)
        peers.scribe = self.scribe

    def boot(self, host: Host, rules: Any) -> Agent:
        self.scribe.add("boot", at=self.now, host=host.name, node=rules.node, incarnation=rules.incarnation)
        return super().boot(host, rules)

    def crash(self, agent: Agent) -> None:
        self.scribe._paused(agent)
        lasts = self.now if self.gated else self.now + 3_000 * MS
        self.scribe.add("fault", kind="crash", host=agent.host.name, **{"from": self.now, "to": lasts})
        super().crash(agent)


def written(story: Callable[[World], None], seed: int = 0, **header: Any) -> list[Line]:
    """The history of a story, up to its end or to where it breaks off."""
    world = WrittenWorld(seed)
    with suppress(Exception):
        story(world)
    fencing = any(host.last is not None and host.last.fence for host in world.hosts)
    return world.scribe.ended(header.pop("wanted", ()), fencing=fencing, **header)
