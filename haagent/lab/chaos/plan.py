"""What happens in a trial: a pure function of its seed.

Faults that come one at a time find little. So the next one is often drawn to come together with the one before it, or
when a lease that it may have stranded ends; and what lasts often lasts for about a lease.

Left out on purpose: not *all* of the gate is removed (UNFENCE) in a trial that also kills, stops or starves an agent,
only the firewall is flushed. Root who removes all fences of a node that is already dead leaves only the addresses'
lifetimes, in whole seconds. And nobody configures an address by hand on a host that is lost: at its next boot it would
answer before any agent runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final

from haagent.core.units import MS, Duration, S
from haagent.lab.faults import Direction

MOST_ACTIONS: Final = 6
SAME_LAB: Final = 10
"""As many seeds in a row have the same etcd and the same failsafe, so that their trials can share a lab."""


class Peers(StrEnum):
    """Whether the agents hear each other, and for how long promises may carry the addresses."""

    NONE = "no peers"
    LONG = "failsafe"
    SHORT = "failsafe of 4 ttl"


class Kind(StrEnum):
    """What is done; the value is how it is told."""

    KILL = "SIGKILL"
    TERM = "SIGTERM"
    STOP = "SIGSTOP"
    STARVE = "CPU starved"
    HOST_LOST = "host lost"
    CUT_ETCD = "cut off from etcd"
    CUT_PEERS = "cut off from peers"
    CUT_CLUSTER = "cut off from etcd and peers"
    CUT_ALL = "cut off from everything"
    CUT_VRRP = "VRRP lost"
    CUT_STREAMS = "peers' streams cut"
    LOSS = "packets lost"
    LINK = "cable pulled"
    LINK_DOWN = "link set down"
    DELETE = "addresses deleted"
    FLUSH = "all addresses flushed"
    UNFENCE = "gate removed"
    FIREWALL = "firewall flushed"
    QDISC = "qdiscs deleted"
    MAC = "MAC address changed"
    BY_HAND = "addresses configured by hand"
    GATE = "gate kind changed"
    CREDENTIALS = "etcd's password changed"
    CLOCK = "clock stepped"
    RELOAD = "config reloaded"
    CTL_SWITCHOVER = "haagentctl switchover"
    CTL_DRAIN = "haagentctl drain"
    CTL_PAUSE = "haagentctl pause"
    ETCD_KILL = "etcd killed"
    ETCD_PAUSE = "etcd paused"
    ETCD_SLOW = "etcd slow"
    ETCD_COMPACT = "etcd compacted"
    ETCD_GAP = "record deleted in a gap"
    ETCD_RESTORE = "etcd restored"
    MEMBER_KILL = "etcd member killed"
    MEMBER_CUT = "etcd member cut off"


class Role(StrEnum):
    """Whom it concerns, by what they are at that time."""

    OWNER = "owner"
    SECOND = "backup"
    THIRD = "other backup"


class Reload(StrEnum):
    """What is changed in the configuration."""

    SHORTER = "shorter ttl"
    LONGER = "longer ttl"
    PRIORITY = "higher priority, preempting"
    ADDRESSES = "second addresses"


@dataclass(frozen=True, slots=True)
class Action:
    """One fault, from `at` (since the trial's beginning) until `lasts` later, when it is undone.

    BY_HAND is about a backup, and `amount` says where; for GATE, which other kind.
    A killed or ended agent is started again then; what was drained or paused is undrained, or resumed. `amount` is, for
    STARVE, how many busy loops a core; for LOSS, percent; for CLOCK, hours; for ETCD_SLOW, the period in ms; for
    MEMBER_KILL and MEMBER_CUT, which member, from 0.
    `role` says which host, for kinds that are about one.
    """

    kind: Kind
    role: Role
    at: Duration
    lasts: Duration
    direction: Direction = Direction.BOTH
    amount: int = 0
    reload: Reload = Reload.SHORTER

    @property
    def end(self) -> Duration:
        return self.at + self.lasts

    @property
    def about_one_host(self) -> bool:
        """Whether it concerns the host in that role, and not etcd or the whole machine."""
        return self.kind not in _ABOUT_ALL

    def __str__(self) -> str:
        about = self.reload if self.kind is Kind.RELOAD else _details(self)
        return f"{self.kind}{f' ({about})' if about else ''}"


def span(ttl: Duration) -> Duration:
    """How long a plan may take."""
    return 4 * S + 4 * ttl


def etcd_members(seed: int) -> int:
    """How many members the etcd of this seed's trial has."""
    return 3 if seed // SAME_LAB % 3 == 2 else 1


def secured(seed: int) -> bool:
    """Whether this seed's etcd demands a password."""
    return seed // SAME_LAB % 5 == 3


def peers(seed: int) -> Peers:
    """Whether failsafe is on in this seed's trial: in half of them, and in half of those it soon ends."""
    return (Peers.NONE, Peers.LONG, Peers.NONE, Peers.SHORT)[seed // SAME_LAB % 4]


def plan(seed: int, ttl: Duration) -> tuple[Action, ...]:
    """One to six actions, in the order of their beginnings, all over within `span(ttl)`.

    With peers, etcd is often away first, for longer than the lease, and all else happens to who lives on promises.
    """
    chance = Random(f"haagent chaos {seed}")
    kinds = [kind for kind in Kind if kind not in _impossible(seed)]
    weights = [_WEIGHTS.get(kind, 2) for kind in kinds]
    actions: list[Action] = []
    if peers(seed) is not Peers.NONE and chance.random() < 0.6:
        actions.append(_outage(chance, ttl))
        if chance.random() < 0.5:
            actions.append(_broken_promise(chance, actions[0], ttl))
    elif chance.random() < 0.25:
        actions += _meddled_death(chance, ttl)
    for _ in range(chance.choices(range(1, MOST_ACTIONS + 1), (1, 2, 3, 4, 4, 3))[0] - len(actions)):
        kind = chance.choices(kinds, weights)[0]
        at = _beginning(chance, actions, ttl)
        lasts = min(_lasting(chance, kind, ttl), span(ttl) - at)
        action = Action(
            kind=kind,
            role=chance.choices(tuple(Role), (0, 2, 1) if kind is Kind.BY_HAND else (6, 2, 1))[0],
            at=at,
            lasts=lasts,
            direction=chance.choice(tuple(Direction)),
            amount=chance.choice(_AMOUNTS.get(kind, (0,))),
            reload=chance.choice(tuple(Reload)),
        )
        if not any(_same(action, other) for other in actions):
            actions.append(action)
    return tuple(sorted(_plausible(actions), key=lambda action: action.at))


def _impossible(seed: int) -> set[Kind]:
    found = set[Kind]() if etcd_members(seed) > 1 else set(_NEED_MEMBERS)
    if peers(seed) is Peers.NONE:
        found |= _NEED_PEERS
    if not secured(seed):
        found.add(Kind.CREDENTIALS)
    # A snapshot has old passwords; and who starts on a restored etcd waits as long as promises may carry another.
    if secured(seed) or peers(seed) is Peers.LONG:
        found.add(Kind.ETCD_RESTORE)
    return found


def _outage(chance: Random, ttl: Duration) -> Action:
    """etcd is away: for all, or for the owner alone."""
    kind = chance.choice((Kind.ETCD_PAUSE, Kind.ETCD_KILL, Kind.CUT_ETCD))
    at = chance.randint(200 * MS, 1 * S)
    lasts = min(round(ttl * chance.uniform(1.5, 5)), span(ttl) - at)
    return Action(kind, Role.OWNER, at, lasts, direction=chance.choice(tuple(Direction)))


def _meddled_death(chance: Random, ttl: Duration) -> Iterator[Action]:
    """The owner's agent dies, and before its lease ends somebody meddles with what still holds its addresses."""
    at = chance.randint(200 * MS, 1 * S)
    lasts = min(round(ttl * chance.uniform(1.1, 2.5)), span(ttl) - at)
    yield Action(chance.choice((Kind.KILL, Kind.STOP)), Role.OWNER, at, lasts)
    yield Action(chance.choice((Kind.FIREWALL, Kind.QDISC)), Role.OWNER, at + round(ttl * chance.uniform(0, 0.8)), 0)


def _broken_promise(chance: Random, outage: Action, ttl: Duration) -> Action:
    """Meanwhile a candidate, or its stream, is no more, or soon is again."""
    kind = chance.choice((Kind.KILL, Kind.TERM, Kind.STOP, Kind.HOST_LOST, Kind.CUT_STREAMS, Kind.CUT_PEERS))
    at = outage.at + chance.randint(0, outage.lasts)
    role = chance.choice((Role.SECOND, Role.THIRD))
    return Action(kind, role, at, min(_lasting(chance, kind, ttl), span(ttl) - at), chance.choice(tuple(Direction)))


def _beginning(chance: Random, before: list[Action], ttl: Duration) -> Duration:
    latest = span(ttl) - 2 * ttl
    if not before:
        return chance.randint(200 * MS, 2 * S)
    near = chance.choice(before)
    draw = chance.random()
    if draw < 0.35:  # a renewal may be a quarter of the ttl old when it turns out to be the last
        at = near.at + round(ttl * chance.uniform(0.7, 1.1))
    elif draw < 0.6:
        at = near.at + chance.randint(0, 40 * MS)
    elif draw < 0.75:
        at = near.end + chance.randint(-30 * MS, 60 * MS)
    else:
        at = chance.randint(200 * MS, latest)
    return max(min(at, latest), 100 * MS)


def _lasting(chance: Random, kind: Kind, ttl: Duration) -> Duration:
    if kind in _MOMENTARY:
        return 0
    if kind is Kind.STARVE:
        return chance.randint(300 * MS, 2 * S)
    draw = chance.random()
    if draw < 0.45:
        return round(ttl * chance.uniform(0.7, 1.15))
    if draw < 0.7:
        return round(ttl * chance.uniform(1.15, 2.5))
    if draw < 0.85:
        return chance.randint(5 * MS, 200 * MS)
    return chance.randint(200 * MS, 4 * S)


def _same(action: Action, other: Action) -> bool:
    """Whether one's end would undo the other before its time."""
    overlap = action.at <= other.end and other.at <= action.end
    return overlap and action.kind is other.kind


def _plausible(actions: list[Action]) -> Iterator[Action]:
    dying = any(action.kind in _DYING for action in actions)
    booting = any(action.kind is Kind.HOST_LOST for action in actions)
    instead = {Kind.UNFENCE: Kind.FIREWALL} if dying else {}
    if booting:
        instead[Kind.BY_HAND] = Kind.MAC
    for action in actions:
        yield replace(action, kind=instead.get(action.kind, action.kind))


def _details(action: Action) -> str:
    match action.kind:
        case Kind.STARVE:
            return f"{action.amount} loops a core"
        case Kind.LOSS:
            return f"{action.amount} %, {action.direction.value}"
        case Kind.CLOCK:
            return f"{action.amount:+d} h"
        case Kind.BY_HAND | Kind.GATE:
            return WHICH[action.kind][action.amount]
        case Kind.ETCD_SLOW:
            return f"{action.amount} ms pulses"
        case Kind.MEMBER_KILL | Kind.MEMBER_CUT:
            return f"e{action.amount + 1}"
        case Kind.LINK:
            return {Direction.BOTH: "both", Direction.OUT: "service", Direction.IN: "control"}[action.direction]
        case Kind.CUT_ETCD | Kind.CUT_PEERS | Kind.CUT_CLUSTER | Kind.CUT_ALL | Kind.CUT_VRRP | Kind.CUT_STREAMS:
            return {Direction.BOTH: "both ways", Direction.OUT: "outward", Direction.IN: "inward"}[action.direction]
        case _:
            return ""


WHICH: Final = {Kind.BY_HAND: ("eth0", "lo", "eth2"), Kind.GATE: ("nft", "bpf")}
"""What the `amount` of an action chooses: an interface, a gate."""
_DYING: Final = {Kind.KILL, Kind.STOP, Kind.STARVE, Kind.GATE, Kind.ETCD_RESTORE}
_MOMENTARY: Final = {
    Kind.DELETE,
    Kind.UNFENCE,
    Kind.FIREWALL,
    Kind.QDISC,
    Kind.CREDENTIALS,
    Kind.ETCD_COMPACT,
    Kind.ETCD_GAP,
    Kind.ETCD_RESTORE,
    Kind.CTL_SWITCHOVER,
}
_NEED_MEMBERS: Final = {Kind.MEMBER_KILL, Kind.MEMBER_CUT}
_NEED_PEERS: Final = {Kind.CUT_STREAMS}
_ABOUT_ALL: Final = {
    Kind.STARVE,
    Kind.CTL_PAUSE,
    Kind.CREDENTIALS,
    *(kind for kind in Kind if kind.name.startswith(("ETCD_", "MEMBER_"))),
}
_WEIGHTS: Final = {
    Kind.KILL: 5,
    Kind.STOP: 6,
    Kind.STARVE: 3,
    Kind.CUT_ETCD: 4,
    Kind.HOST_LOST: 1,
    Kind.ETCD_SLOW: 3,
    Kind.CLOCK: 1,
    Kind.CTL_SWITCHOVER: 3,
    Kind.CTL_PAUSE: 1,
    Kind.ETCD_COMPACT: 1,
    Kind.MEMBER_KILL: 4,
    Kind.MEMBER_CUT: 3,
}
_AMOUNTS: Final[dict[Kind, tuple[int, ...]]] = {
    Kind.STARVE: (1, 2, 4),
    Kind.LOSS: (1, 3, 10, 20, 30),
    Kind.CLOCK: (-24, -5, -1, 1, 7, 24),
    Kind.ETCD_SLOW: (40, 100, 200, 400, 700),
    Kind.MEMBER_KILL: (0, 1, 2),
    Kind.MEMBER_CUT: (0, 1, 2),
    Kind.BY_HAND: (0, 1, 2),
    Kind.GATE: (0, 1),
}
