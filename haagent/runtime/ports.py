"""The ports: what the core's effects need of the world. Adapters implement them, the pump calls them.

Every call returns at once. What comes of it is delivered later, on the event loop, as a core event through the
`Deliver` that the adapter was made with; a call that asks a question is always answered, in time or by a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from haagent.core.model import (
    Commit,
    Event,
    ExtendAddresses,
    Fence,
    InstallAddresses,
    Look,
    Meet,
    RemoveAddresses,
    RouterRules,
    SendHeartbeat,
    SendPromise,
    VirtualAddress,
)
from haagent.core.records import Guard, Key, Put, Revision, Seen
from haagent.core.units import Duration, Instant

Deliver = Callable[[Event], None]


class GateKind(StrEnum):
    """What keeps the kernel from answering past the lease: nftables, eBPF, what there is of both, or nothing."""

    AUTO = "auto"
    NFT = "nft"
    BPF = "bpf"
    NONE = "none"


class OnRelease(StrEnum):
    """What becomes of established TCP connections on addresses that leave this host."""

    NOTHING = "nothing"
    RESET_CONNECTIONS = "reset_connections"


class Checksum(StrEnum):
    """Which of the three checksums of VRRPv3 over IPv4 that exist in the field our adverts carry."""

    RFC = "rfc"
    GROUP = "group"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class RouterWire:
    """How a virtual router speaks: its rules, and what only the sockets need.

    `peers`: packed unicast addresses (empty: multicast). `password`: PASS authentication of VRRPv2, 8 bytes at most.
    `ttl` of the adverts; `announce_repeat`: how often an `Announce` tells of each address (a refresh: once).
    """

    rules: RouterRules
    peers: tuple[bytes, ...] = ()
    password: bytes | None = None
    checksum: Checksum = Checksum.RFC
    ttl: int = 255
    announce_repeat: int = 5


class Store(Protocol):
    """etcd: transactions and looks are answered by `Committed`, `Refused` or `Unanswered`; lists and events flow in."""

    def commit(self, effect: Commit) -> None:
        """Do one transaction."""
        ...

    def look(self, effect: Look) -> None:
        """Read some keys, linearizably."""
        ...

    def resync(self, broken: bool = False) -> None:
        """Drop the watch, list again, watch from there. `broken`: answers to what was asked before do not count."""
        ...

    async def resign(self) -> None:
        """End the node's etcd session: its lease and the keys that hang on it go. Best effort, bounded in time."""
        ...


class Kernel(Protocol):
    """The addresses. Installs and removals of a group are done in order, each answered by what the kernel confirmed.

    They may be gathered until `flush`.
    """

    def install(self, effect: InstallAddresses) -> None:
        """Make the kernel hold just these addresses for the group."""
        ...

    def remove(self, effect: RemoveAddresses) -> None:
        """Make the kernel hold none of the group's addresses."""
        ...

    def extend(self, effect: ExtendAddresses) -> None:
        """Let the addresses' lifetimes follow the lease."""
        ...

    def flush(self, *, opening: bool = True) -> bool:
        """Do what was gathered: what closes, and with `opening` what opens. Whether something is left to open."""
        ...


class Speaker(Protocol):
    """VRRP on the wire. Valid adverts of others are delivered as `AdvertReceived`; all else is counted by its name."""

    def configure(self, routers: Iterable[RouterWire]) -> None:
        """Speak for just these virtual routers from now on."""
        ...

    def advert(self, router: str, priority: int) -> None:
        """Send one advert to the group or to every peer."""
        ...

    def announce(self, router: str, *, refresh: bool) -> None:
        """Send gratuitous ARP or unsolicited neighbour advertisements for the router's addresses.

        With `refresh` once each, and spread over time.
        """
        ...

    def resolve(self, router: str) -> None:
        """Send each unicast peer something that makes either kernel learn the other's MAC address."""
        ...


@dataclass(frozen=True, slots=True)
class FenceCommand:
    """A program that fences nodes: its words, `patience` for each run, and as whom it runs (None: as the agent)."""

    command: tuple[str, ...]
    patience: Duration
    user: str | None = None


class Fencer(Protocol):
    """Whatever makes sure of a node by other means than its lease."""

    def fence(self, effect: Fence) -> None:
        """Answered by `FenceConfirmed`, `FenceRefused` or `FenceTimedOut`; by the last within a second of `until`."""
        ...


class Peers(Protocol):
    """Connections with the other nodes. What they say is delivered as `HeartbeatReceived` and `PromiseReceived`."""

    def meet(self, effect: Meet) -> None:
        """Keep a connection with each of these peers. One that is no longer named is kept while it stands."""
        ...

    def heartbeat(self, effect: SendHeartbeat) -> None:
        """Tell those of the named peers with which there is a connection; what waits for one is replaced by it."""
        ...

    def promise(self, effect: SendPromise) -> None:
        """Tell the peer, if there is a connection with it."""
        ...


class NoPeers:
    """The `Peers` of a node that is configured to have none."""

    def meet(self, effect: Meet) -> None:
        pass

    def heartbeat(self, effect: SendHeartbeat) -> None:
        pass

    def promise(self, effect: SendPromise) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Listing:
    """What stands in etcd at `revision`: linearizably, all of it or of the keys that were asked for."""

    revision: Revision
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """The transaction was done at `revision`."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class NotWritten:
    """A guard did not hold, or etcd did not do it for another reason (`why`): nothing was changed."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Unclear:
    """No answer: it may or may not have been done, now or a little later."""

    why: str


class UnreadableError(Exception):
    """etcd did not answer in time, or refused; the message says what."""


class Records(Protocol):
    """What operators read and write in etcd, beside the node and without it. Reads raise UnreadableError."""

    async def read(self) -> Listing:
        """All keys but the history."""
        ...

    async def look(self, keys: Sequence[Key]) -> Listing:
        """These keys."""
        ...

    async def history(self) -> Listing:
        """The history of every group, by group."""
        ...

    async def commit(
        self, guards: Sequence[Guard], puts: Sequence[Put], deletes: Sequence[Key] = ()
    ) -> Written | NotWritten | Unclear:
        """One transaction: if all guards hold, do the puts and deletes. None of the puts hangs on a session."""
        ...


class GateClosedError(Exception):
    """The kernel refused to renew the gate: it had closed, or was about to. Nothing passes any more; step down."""


class GateFailedError(Exception):
    """The kernel can not do what the gate needs, or somebody took the gate away; the message says what."""


class Gate(Protocol):
    """Kernel rules that let packets from and to the addresses pass only until a deadline, come what may.

    Every call is done when it returns, in well under a millisecond for one address; all raise GateFailedError. The
    gate is there for every address that `protect` named, closed until opened.
    """

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str]) -> None:
        """Have a gate for just these addresses. Those that stay keep the state they have.

        `interfaces`: where it is needed at the least; one that is for all interfaces does not need to be told.
        """
        ...

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        """Let just these addresses of these groups pass until then, never longer. GateClosedError: it came too late."""
        ...

    def renew(self, until: Instant) -> None:
        """Let all that is open pass until then. Raises GateClosedError if any of it had closed: then all is closed."""
        ...

    def close(self, groups: Iterable[str]) -> None:
        """Let nothing of these groups pass from now on. Closing what is closed is nothing."""
        ...

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        """Close those of these addresses that an earlier incarnation left open, and this one has not opened."""
        ...

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        """By group: until when what an earlier incarnation left open stays open, for all of its addresses.

        A group is missing if one of its addresses is closed, or if nothing can be said.
        """
        ...

    def remove(self) -> None:
        """Have no gate any more: only once the kernel has none of the addresses."""
        ...

    def leave(self) -> None:
        """Let go of it: what is open ends at its time, and the next incarnation takes it over."""
        ...
