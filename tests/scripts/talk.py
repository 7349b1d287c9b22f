"""Conversations with a whole node: who said what to it when, and what it said, in lines that read like a log.

`Talk` feeds one node and renders its effects. Beside it stands a small etcd that does only what a script tells it to:
`etcd_does` performs the newest question of a kind and shows it in the stream, then answers; `other_writes` is
somebody else's write. `live` lets the quiet parts go by (renewals, member keys, peers' renewals, confirmations of the
kernel) and returns the lines that are not routine, each with its time in milliseconds.

Times are milliseconds since the node's clock began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from haagent.core.fitness import text
from haagent.core.heartbeat import Meet, SendHeartbeat, SendPromise, Tenure
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    AdvertReceived,
    Alarm,
    Announce,
    Ask,
    Asking,
    Commit,
    Committed,
    Effect,
    Event,
    ExtendAddresses,
    Fence,
    FenceConfirmed,
    FenceRefused,
    FenceTimedOut,
    InstallAddresses,
    InterfaceChanged,
    LeaseChanged,
    Listed,
    Look,
    Refused,
    RemoveAddresses,
    Resign,
    Resolve,
    Resync,
    RoleChanged,
    Rules,
    SendAdvert,
    TimePassed,
    Watched,
)
from haagent.core.node import Node
from haagent.core.records import Garbage, Guard, Intent, Key, Kind, LeaseValue, MemberValue, OwnerRecord, Seen, Value
from haagent.core.units import MS
from tests.unit.core.values import B, lease, member

ROUTINE = ("renew ", "member ", "extend ", "advert ", "announce ")


class Etcd:
    """One prefix of an etcd: revisions, guards, and nothing by itself."""

    def __init__(self, cluster: str = "etcd") -> None:
        self.cluster = cluster
        self.revision = 1
        self.keys: dict[Key, Seen] = {}

    def write(self, *changes: tuple[Key, Value | Garbage | None]) -> tuple[Seen, ...]:
        """All changes at one revision, as the stream shows them."""
        self.revision += 1
        return tuple(self._write(key, value) for key, value in changes if value is not None or key in self.keys)

    def _write(self, key: Key, value: Value | Garbage | None) -> Seen:
        before = self.keys.get(key)
        if value is None:
            del self.keys[key]
            return Seen(key, 0, self.revision, None)
        self.keys[key] = Seen(key, before.created if before else self.revision, self.revision, value)
        return self.keys[key]

    def holds(self, guard: Guard) -> bool:
        known = self.keys.get(guard.key)
        if known is None:
            return guard.revision == 0
        if guard.least:
            return known.revision >= guard.revision
        return guard.revision == (known.created if guard.created else known.revision)

    def shows(self, keys: Iterable[Key]) -> tuple[Seen, ...]:
        return tuple(self.keys.get(key, Seen(key, 0, self.revision, None)) for key in keys)

    def commit(self, asked: Commit) -> tuple[Committed | Refused, tuple[Seen, ...]]:
        if not all(self.holds(guard) for guard in asked.guards):
            return Refused(asked.ask, self.revision, self.shows(guard.key for guard in asked.guards)), ()
        news = self.write(
            *((put.key, put.value) for put in asked.puts), *((key, None) for key in asked.deletes)
        )  # fmt: skip
        return Committed(asked.ask, self.revision), news


class Talk:
    """A node, its clock, and what it asked. Every feed is followed by the node's own check."""

    def __init__(self, rules: Rules) -> None:
        self.node = Node(rules)
        self.etcd = Etcd()
        self.asked: dict[str, Commit | Look] = {}
        self.removals: dict[str, RemoveAddresses] = {}
        self.installs: dict[str, InstallAddresses] = {}
        self.fences: dict[str, Fence] = {}
        self.peers = ""
        self.now = 0

    # --- one thing at a time

    def start(self, at: int = 0, open_until: int = 0) -> list[str]:
        """`open_until`: until when the kernel lets pass what an earlier incarnation held."""
        self.now = at * MS
        left = dict.fromkeys(self.node.rules.groups, open_until * MS) if open_until else {}
        return self._hear(self.node.start(self.now, left))

    def feed(self, at: float, event: Event) -> list[str]:
        self.now = int(at * MS)
        lines = self._hear(self.node.feed(event, self.now))
        self.node.check()
        return lines

    def tick(self, at: float) -> list[str]:
        """The node's timer fires, at the very time that it asked for."""
        assert self.node.due() == int(at * MS), f"due at {self.node.due() / MS} ms"
        return self.feed(at, TimePassed())

    def lists(self, at: float) -> list[str]:
        keys = self.etcd.keys.values()
        return self.feed(at, Listed(self.etcd.cluster, self.etcd.revision, tuple(keys)))

    def other_writes(self, at: float, *changes: tuple[Kind, str, Value | Garbage | None]) -> list[str]:
        news = self.etcd.write(*((Key(kind, name), value) for kind, name, value in changes))
        return self.feed(at, Watched(self.etcd.revision, news))

    def silently(self, asking: str) -> Callable[[float], list[str]]:
        """etcd does what was asked, and nobody hears of it until the result is called: the stream, then the answer."""
        question = self.asked.pop(asking)
        if isinstance(question, Look):
            answer, news = Refused(question.ask, self.etcd.revision, self.etcd.shows(question.keys)), ()
        else:
            answer, news = self.etcd.commit(question)
        revision = self.etcd.revision

        def hear(at: float) -> list[str]:
            shown = self.feed(at, Watched(revision, news)) if news else []
            return shown + self.feed(at, answer)

        return hear

    def etcd_does(self, at: float, asking: str) -> list[str]:
        """etcd does (or refuses) the newest question of this kind at once; the stream shows it, then the answer."""
        return self.silently(asking)(at)

    def kernel_removed(self, at: float, group: str = "web") -> list[str]:
        return self.feed(at, AddressesRemoved(group, self.removals.pop(group).serial))

    def kernel_installed(self, at: float, group: str = "web") -> list[str]:
        return self.feed(at, AddressesInstalled(group, self.installs.pop(group).serial))

    def fenced(self, at: float, node: str = "b", refused: str | None = None, late: bool = False) -> list[str]:
        """The plug-in's answer about a node: confirmed, unless it is `refused` for a reason, or too `late`."""
        ask = self.fences.pop(node).ask
        if late:
            return self.feed(at, FenceTimedOut(ask))
        return self.feed(at, FenceConfirmed(ask) if refused is None else FenceRefused(ask, refused))

    def hears_advert(self, at: float, source: bytes = B, priority: int = 100, **more: Any) -> list[str]:
        advert = AdvertReceived("vr", source, priority, 1000 * MS, (bytes([10, 0, 0, 100]),))
        return self.feed(at, replace(advert, **more))

    def hears_link(self, at: float, up: bool = True, name: str = "eth0", v4: bytes | None = None) -> list[str]:
        return self.feed(at, InterfaceChanged(name, up, v4 or bytes([10, 0, 0, 1]), None))

    # --- the quiet parts

    def quiet(self, until: float, **world: Any) -> None:
        """As `live`, and nothing that is not routine happens."""
        assert self.live(until, **world) == []

    def live(self, until: float, peers: str | None = None, etcd: bool = True, adverts: str = "") -> list[str]:
        """Time goes by until then; `peers` renew every 250 ms, `adverts` of these nodes are heard as often."""
        lines = self._serve(self.now / MS) if etcd else []
        peers = self.peers if peers is None else peers
        beat = self.now + 250 * MS
        while (at := min(self.node.due(), beat)) < until * MS:
            if at == beat:
                beat += 250 * MS
                for node in peers:
                    lines += self._with_time(self.peer_renews(at / MS, node))
                for node in adverts:
                    lines += self._with_time(self.hears_advert(at / MS, member_address(node)))
            else:
                assert at > self.now or self.node.due() <= at, "a timer that is never dealt with"
                lines += self._with_time(self.feed(at / MS, TimePassed()))
            if etcd:
                lines += self._serve(at / MS)
        self.now = int(until * MS)
        return [line for line in lines if not line.partition(" ")[2].startswith(ROUTINE)]

    def peer_renews(self, at: float, node: str) -> list[str]:
        before = self.etcd.keys.get(Key(Kind.LEASES, node))
        value = before.value if before is not None else None
        turn = value.round + 1 if isinstance(value, LeaseValue) else 1
        return self.other_writes(at, (Kind.LEASES, node, replace(lease(node), round=turn)))

    def _serve(self, at: float) -> list[str]:
        """etcd does at once what is routine."""
        lines: list[str] = []
        while asking := next((kind for kind in ("renew", "member") if kind in self.asked), None):
            lines += self._with_time(self.etcd_does(at, asking))
        return lines

    def _with_time(self, lines: list[str]) -> list[str]:
        return [f"{self.now // MS}: {line}" for line in lines]

    def _hear(self, effects: tuple[Effect, ...]) -> list[str]:
        for effect in effects:
            match effect:
                case Commit(ask) | Look(ask):
                    self.asked[_question(ask, self.node.rules)] = effect
                case RemoveAddresses(group):
                    self.removals[group] = effect
                case InstallAddresses(group):
                    self.installs[group] = effect
                case Fence(node=node):
                    self.fences[node] = effect
                case _:
                    pass
        return [line(effect) for effect in effects]


def _question(ask: Ask, rules: Rules) -> str:
    """The name of a question in scripts: its kind, and its group if there are several."""
    several = len(rules.groups) > 1 and ask.kind not in (Asking.RENEW, Asking.MEMBER)
    return f"{ask.kind} {ask.name}" if several else str(ask.kind)


def member_address(node: str) -> bytes:
    return bytes([10, 0, 0, ord(node) - ord("a") + 1])


# --- as lines


def line(effect: Effect) -> str:  # noqa: C901, PLR0912 - one case an effect
    """One effect, as a script expects it."""
    match effect:
        case Commit():
            return _commit_line(effect)
        case Look(_, keys):
            return "look at " + ", ".join("/".join(key) for key in keys)
        case InstallAddresses(group, serial, addresses, until):
            held = " ".join(text(one.address) for one in addresses)
            return f"install {group} #{serial}: {held} until {until / MS:g}"
        case RemoveAddresses(group, serial):
            return f"remove {group} #{serial}"
        case ExtendAddresses(until):
            return f"extend until {until / MS:g}"
        case SendAdvert(router, priority):
            return f"advert {router} {priority}"
        case Announce(router):
            return f"announce {router}"
        case Resolve(router):
            return f"resolve {router}"
        case Resync():
            return "resync"
        case Resign():
            return "resign"
        case Fence(ask, group, node, incarnation, epoch, until):
            return f"fence {node} ({incarnation}) #{ask.number} for {group} of epoch {epoch} until {until / MS:g}"
        case RoleChanged(group, before, after, why, epoch):
            return f"{group}: {before} -> {after}, epoch {epoch} ({why})"
        case Alarm(kind, subject, detail, raised):
            return f"{'ALARM' if raised else 'calm'} {kind} {subject}: {detail}"
        case Meet(peers):
            return "meet " + " ".join(name for name, _ in peers)
        case SendHeartbeat(to, _, number, _, tenures):
            return f"heartbeat #{number} to {' '.join(to)}: {_tenures(tenures)}"
        case SendPromise(to, _, _, number, tenures):
            return f"promise {to} #{number}: {_tenures(tenures)}"
        case LeaseChanged(held, why):
            return f"lease {'held' if held else 'lost'} ({why})"


def _commit_line(commit: Commit) -> str:
    # That no epoch is given twice, and that etcd has our last renewal, is said once, in the unit tests of claims.
    told = (guard for guard in commit.guards if guard.key.kind is not Kind.HISTORY and not guard.least)
    guards = ", ".join(map(_guard, told))
    match commit.puts[0].value if commit.puts else None:
        case None:
            what = "forget the intent"
        case LeaseValue(round=turn):
            what = f"renew #{turn}"
        case OwnerRecord(candidates=candidates) if commit.ask.kind is Asking.OFFER:
            what = f"offer {' '.join(candidates)}"
        case OwnerRecord(clean=True) as record:
            what = f"release epoch {record.epoch} ({record.reason})"
        case OwnerRecord() as record if commit.ask.kind is Asking.CLAIM:
            what = f"claim epoch {record.epoch} ({record.reason})"
        case OwnerRecord() as record:
            what = f"hand over to {record.node} by epoch {record.epoch}"
        case MemberValue(standings=standings):
            what = "member " + " ".join(f"{name}={one.priority}" for name, one in standings.items())
        case Intent() as intent:
            what = f"wish to take over from epoch {intent.from_epoch} ({intent.by})"
        case other:
            raise AssertionError(other)
    name = "" if commit.ask.kind in (Asking.RENEW, Asking.MEMBER) else f"{commit.ask.name}: "
    return f"{what if not name else name + what} if {guards}"


def _tenures(tenures: tuple[Tenure, ...]) -> str:
    return ", ".join(f"{one.group} by {one.epoch}" for one in tenures)


def _guard(guard: Guard) -> str:
    name = "/".join(guard.key)
    if guard.revision == 0:
        return f"no {name}"
    return f"{name} made @{guard.revision}" if guard.created else f"{name} @{guard.revision}"


# --- beginnings that many scripts share


def backup(rules: Rules, peers: str = "b", record: OwnerRecord | None = None, priority: int = 100) -> Talk:
    """At 1 s: node `a` is up, holds its lease, and follows `record`; the peers renew since it began."""
    talk = Talk(rules)
    groups = tuple(rules.groups)
    for node in peers:
        talk.etcd.write((Key(Kind.LEASES, node), lease(node)))
        value = member(node, priority=priority, address=member_address(node), groups=groups)
        talk.etcd.write((Key(Kind.MEMBERS, node), value))
    if record is not None:
        talk.etcd.write(*((Key(Kind.OWNERS, name), record) for name in groups))
    talk.start()
    for name in groups:
        talk.kernel_removed(0, name)
    for one in sorted({router.interface for group in rules.groups.values() for router in group.routers}):
        talk.hears_link(0, name=one)
    talk.lists(0)
    talk.peers = peers
    talk.live(1001)
    return talk


def master(rules: Rules, peers: str = "b", priority: int = 90) -> Talk:
    """Like `backup`, but the groups were free and the peers' priority is lower: at 1100 ms `a` is MASTER by epoch 1."""
    talk = backup(rules, peers, priority=priority)
    talk.live(1031)
    while asking := next((kind for kind in talk.asked if kind.startswith("claim")), None):
        talk.etcd_does(1040, asking)
    for name in list(talk.installs):
        talk.kernel_installed(1050, name)
    talk.live(1100)
    assert all(role == "MASTER" for role in talk.node.roles.values()), talk.node.roles
    return talk
