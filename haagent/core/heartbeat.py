"""What the nodes of a cluster say to each other: the words of failsafe (`haagent.core.failsafe`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from haagent.core.records import Candidate, Revision
from haagent.core.units import NEVER, Duration, Instant


class Tenure(NamedTuple):
    """A group, and the epoch by which it is owned."""

    group: str
    epoch: int


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    """The node says, in its renewal `round`, that it owns these groups by its lease of `ttl`; it asks for promises.

    Which node it is was proven by the connection, not by what was sent. `node` is never this node.
    """

    node: str
    incarnation: str
    round: int
    ttl: Duration
    tenures: tuple[Tenure, ...]


@dataclass(frozen=True, slots=True)
class PromiseReceived:
    """The node promised to claim none of these groups from `incarnation` for a while, counted from its `round`.

    `machine`: which one of those that go by this node's name. Like the name, its certificate vouches for it.
    """

    node: str
    machine: str
    incarnation: str
    round: int
    tenures: tuple[Tenure, ...]


@dataclass(frozen=True, slots=True)
class Meet:
    """These are the peers now, by name and endpoint (`host:port`): keep a connection with each."""

    peers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Tell these peers what is owned, and ask for their promise. Lost if there is no connection: the next is soon."""

    to: tuple[str, ...]
    incarnation: str
    round: int
    ttl: Duration
    tenures: tuple[Tenure, ...]


@dataclass(frozen=True, slots=True)
class SendPromise:
    """Promise the peer what its heartbeat asked for, or what of it can be promised; `machine` is our own."""

    to: str
    machine: str
    incarnation: str
    round: int
    tenures: tuple[Tenure, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What an owner wrote of its candidates, and is not shown yet: `names`, over the record of `revision`.

    `again_at`: when to look at it again; `away_since`: since when candidates are missing; `alone_since`: since when
    there was no other candidate, and the record does not carry failsafe yet.
    """

    names: frozenset[Candidate] = frozenset()
    revision: Revision = 0
    again_at: Instant = NEVER
    away_since: Instant | None = None
    alone_since: Instant | None = None


NO_OFFER: Final = Offer()
