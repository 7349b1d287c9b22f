"""What the gate's tables hold: three of the name `haagent`, of the families arp, inet and netdev.

    set lease               the tickets that run: numbers, each until its time is over
    chain shut              counts by protocol, and drops
    chain session-<id>      a rule: this ticket is not in @lease: jump shut
    map gate4, gate6        each address : jump shut, or jump session-<id>

An address is closed if its map says `shut`, or a session whose ticket is over. The tickets' ends are the only time
in it: to renew is to change a session's one ticket in each table, however many addresses point to that session.

*arp and inet see every interface*, also one that comes later: a host answers on all of them for an address that it has
on one. `arp`: chains `input` (who asks for the address) and `output` (who says that he has it). `inet`: `input` and
`output` for what this host itself receives and sends; `prerouting` and `postrouting`, outside of all address
translation, for what it passes on in the address's name: only while the host has the address (fib type local), so
that a router forwards packets of an address that is another node's.

*netdev is for the raw frames* of the address's own interface, and for what comes there in the belief that this host has
the address. Each interface has chains `in-<if>` and `out-<if>`, and maps `gate4-<if>`, `gate6-<if>`. Link-local IPv6
addresses are only here: the same one on another interface is another one.

Sets beside the maps, as a map of jumps cannot be asked whether it holds one: `announced` (in netdev by interface), the
IPv4 addresses whose owners may be learned by ARP; `address4`, `address6`, those of which IP is gated as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from haagent.adapters.gate import expressions as ex
from haagent.adapters.gate.expressions import Base, End, Meta, Verdict
from haagent.adapters.gate.netlink import Message
from haagent.adapters.gate.operations import Element, Family, Hook, Ref, Type
from haagent.adapters.gate.places import Place

TABLE: Final = "haagent"
ARP: Final = Ref(Family.ARP, TABLE)
INET: Final = Ref(Family.INET, TABLE)
NETDEV: Final = Ref(Family.NETDEV, TABLE)
TABLES: Final = (ARP, INET, NETDEV)
MARK: Final = "haagent: answers only while the lease runs"
"""How the comments of our tables begin, of whatever version."""
COMMENT: Final = f"{MARK} (layout 2)"
LEASE: Final = "lease"
SHUT: Final = "shut"
SESSION: Final = "session-"
COUNTERS: Final = ("arp", "ipv4", "ipv6")

Rule = tuple[bytes, ...]


class Chain(NamedTuple):
    """A chain that sees packets at a hook."""

    name: str
    hook: Hook
    priority: int
    rules: tuple[Rule, ...]


class Spot(NamedTuple):
    """An element: the table and the set or map that it is in, and its key."""

    table: Ref
    name: str
    key: bytes


def gates(places: Iterable[Place]) -> set[Spot]:
    """Where these are let pass or not: in each table that sees something of the address."""
    found: set[Spot] = set()
    for interface, address in places:
        kind = _kind(address)
        found.add(Spot(NETDEV, f"gate{kind}-{interface}", address))
        if not is_link_local(address):
            found.add(Spot(INET, f"gate{kind}", address))
        if kind == 4:
            found.add(Spot(ARP, "gate4", address))
    return found


def members(places: Iterable[Place], free: frozenset[bytes]) -> set[Spot]:
    """What else the tables hold of them. `free`: the addresses whose IP packets always pass."""
    found: set[Spot] = set()
    for interface, address in places:
        kind = _kind(address)
        if kind == 4:
            found |= {Spot(ARP, "announced", address), Spot(NETDEV, f"announced-{interface}", address)}
        if address not in free:
            found.add(Spot(NETDEV, f"address{kind}", address))
            if not is_link_local(address):
                found.add(Spot(INET, f"address{kind}", address))
    return found


def is_link_local(address: bytes) -> bool:
    """Whether it means something on its own interface only (RFC 4291 2.5.6)."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def frame() -> list[Message]:
    """What is there once, in tables that have nothing yet."""
    found: list[Message] = []
    for table in TABLES:
        found.append(table.add_set(LEASE, Type.MARK, timed=True))
        found += (table.add_counter(name) for name in COUNTERS)
        found.append(table.add_chain(SHUT))
        found += (table.add_rule(SHUT, *rule) for rule in _shut())
        found += _make_sets(table, _SETS[table])
        for chain in _CHAINS[table]:
            found += _hook(table, chain, None)
    return found


def whole(table: Ref, chains: dict[str, int], sets: set[str]) -> bool:
    """Whether all that `frame` makes in a table is there; `chains`: the rules of each."""
    names = {LEASE, *(name for name, _ in _SETS[table])}
    rules = {SHUT: len(_shut())} | {chain.name: len(chain.rules) for chain in _CHAINS[table]}
    return names <= sets and all(chains.get(name) == count for name, count in rules.items())


# Interfaces, in netdev.


def interface_of(name: str) -> str:
    """The interface that a set or chain of netdev is for; empty if for none."""
    kind, _, interface = name.partition("-")
    return interface if kind in _OF_INTERFACE else ""


def interface_sets(interface: str) -> dict[str, Type]:
    """The maps and the set of an interface, by name."""
    return {f"{kind}-{interface}": key for kind, key in _INTERFACE_SETS}


def interface_chains(interface: str) -> tuple[Chain, Chain]:
    """The chains that see an interface's packets: before all others on the way in, after all others on the way out."""
    gate4, gate6 = ex.look_up(f"gate4-{interface}"), ex.look_up(f"gate6-{interface}")
    into: tuple[Rule, ...] = (
        # Who sends from the address is the one who has it: our neighbour table may learn that.
        (*_ARP_HERE, _ARP_SENDER, ex.is_in(f"announced-{interface}"), ex.verdict(Verdict.ACCEPT)),
        (*_ARP_HERE, _ARP_TARGET, gate4),
        (*_IPV4_HERE, _IPV4_TO, ex.is_in("address4"), _IPV4_TO, gate4),
        (*_IPV6_HERE, _IPV6_TO, ex.is_in("address6"), _IPV6_TO, gate6),
        (*_IPV6_HERE, *_neighbour(_SOLICITATION), gate6),
    )
    out: tuple[Rule, ...] = (
        (*_ARP_HERE, _ARP_SENDER, gate4),
        (*_IPV4_HERE, _IPV4_FROM, ex.is_in("address4"), _IPV4_FROM, gate4),
        (*_IPV6_HERE, _IPV6_FROM, ex.is_in("address6"), _IPV6_FROM, gate6),
        (*_IPV6_HERE, *_neighbour(_ADVERTISEMENT), gate6),
    )
    return (
        Chain(f"in-{interface}", Hook.DEVICE_INGRESS, -_OUTERMOST, into),
        Chain(f"out-{interface}", Hook.DEVICE_EGRESS, _OUTERMOST, out),
    )


def make_sets(interface: str) -> list[Message]:
    """An interface's maps and set, empty."""
    return _make_sets(NETDEV, tuple(interface_sets(interface).items()))


def make_chains(interface: str) -> list[Message]:
    """The chains of an interface."""
    return [message for chain in interface_chains(interface) for message in _hook(NETDEV, chain, interface)]


# Elements.


def add(spots: Iterable[Spot], jump: str | None) -> list[Message]:
    """Put elements; those of maps with where to jump."""
    return [
        message
        for (table, name), keys in _by_set(spots).items()
        for message in table.add_elements(name, [Element(key, jump=jump) for key in keys])
    ]


def delete(spots: Iterable[Spot]) -> list[Message]:
    """Delete elements that are there."""
    return [
        message
        for (table, name), keys in _by_set(spots).items()
        for message in table.delete_elements(name, [Element(key) for key in keys])
    ]


def point(spots: Iterable[Spot], chain: str) -> list[Message]:
    """Let addresses that are guarded jump somewhere else."""
    those = list(spots)
    return [*delete(those), *add(those, chain)]


# Sessions and tickets, which are in every table.


def stage(ticket: int, timeout: int) -> list[Message]:
    """Put a ticket for so many milliseconds."""
    return [m for table in TABLES for m in table.add_elements(LEASE, [Element(_key(ticket), timeout=timeout)])]


def take_back(ticket: int) -> list[Message]:
    """Delete a ticket, which must run still: one operation for each table."""
    return [m for table in TABLES for m in table.delete_elements(LEASE, [Element(_key(ticket))])]


def begin_session(chain: str) -> list[Message]:
    """A session's chain in every table, which lets everything pass."""
    return [table.add_chain(chain) for table in TABLES]


def clear_session(chain: str) -> list[Message]:
    """Take the rule out of a session's chain."""
    return [table.delete_rules(chain) for table in TABLES]


def fill_session(chain: str, ticket: int) -> list[Message]:
    """Put the rule into a session's chain: what comes is shut out unless this ticket runs."""
    rule = (ex.load_constant(_key(ticket)), ex.is_not_in(LEASE), ex.verdict(Verdict.JUMP, SHUT))
    return [table.add_rule(chain, *rule) for table in TABLES]


def end_sessions(chains: Iterable[tuple[Ref, str]]) -> list[Message]:
    """Delete sessions that no address points to."""
    return [table.delete_chain(chain) for table, chain in chains]


# Helpers.


def _key(ticket: int) -> bytes:
    return _NUMBER.pack(ticket)


def _kind(address: bytes) -> int:
    return 4 if len(address) == 4 else 6


def _by_set(spots: Iterable[Spot]) -> dict[tuple[Ref, str], list[bytes]]:
    found: dict[tuple[Ref, str], list[bytes]] = {}
    for table, name, key in spots:
        found.setdefault((table, name), []).append(key)
    return found


def _make_sets(table: Ref, sets: Iterable[tuple[str, Type]]) -> list[Message]:
    return [(table.add_map if name.startswith("gate") else table.add_set)(name, key) for name, key in sets]


def _hook(table: Ref, chain: Chain, device: str | None) -> list[Message]:
    rules = [table.add_rule(chain.name, *rule) for rule in chain.rules]
    return [table.add_base_chain(chain.name, chain.hook, chain.priority, device), *rules]


def _protocol(number: int) -> Rule:
    return ex.load_meta(Meta.PROTOCOL), ex.equals(struct.pack(">H", number))


def _family(number: int) -> Rule:
    return ex.load_meta(Meta.NFPROTO), ex.equals(bytes((number,)))


def _network(offset: int, length: int) -> bytes:
    return ex.load_payload(Base.NETWORK, offset, length)


def _neighbour(kind: int) -> Rule:
    """Load the target of this ICMPv6 message (RFC 4861 4.3, 4.4: at 8), wherever extension headers put it."""
    return (
        *(ex.load_meta(Meta.L4PROTO), ex.equals(bytes((_ICMPV6,)))),
        *(ex.load_payload(Base.TRANSPORT, 0, 1), ex.equals(bytes((kind,)))),
        ex.load_payload(Base.TRANSPORT, 8, 16),
    )


def _shut() -> list[Rule]:
    counted = zip(COUNTERS, (_ARP_HERE, _IPV4_HERE, _IPV6_HERE), strict=True)
    return [*((*protocol, ex.count(name)) for name, protocol in counted), (ex.verdict(Verdict.DROP),)]


def _translated(end: End, ipv4: bytes, ipv6: bytes) -> tuple[Rule, ...]:
    """What passes through this host in the name of an address that it has."""
    return tuple(
        (*family, load, ex.is_in(f"address{kind}"), *ex.is_local(end), load, ex.look_up(f"gate{kind}"))
        for kind, family, load in ((4, _family(_NFPROTO_IPV4), ipv4), (6, _family(_NFPROTO_IPV6), ipv6))
    )


def _own(ipv4: bytes, ipv6: bytes, neighbour: int) -> tuple[Rule, ...]:
    """What this host itself receives or sends."""
    family4, family6 = _family(_NFPROTO_IPV4), _family(_NFPROTO_IPV6)
    return (
        (*family4, ipv4, ex.is_in("address4"), ipv4, ex.look_up("gate4")),
        (*family6, ipv6, ex.is_in("address6"), ipv6, ex.look_up("gate6")),
        (*family6, *_neighbour(neighbour), ex.look_up("gate6")),
    )


_NUMBER = struct.Struct("=I")
_OUTERMOST: Final = 500
_NFPROTO_IPV4, _NFPROTO_IPV6 = 2, 10
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_ARP_HERE, _IPV4_HERE, _IPV6_HERE = _protocol(0x0806), _protocol(0x0800), _protocol(0x86DD)
# RFC 826: 8 bytes, then hardware and protocol address of the sender (6 + 4), then of the target (6 + 4).
_ARP_SENDER, _ARP_TARGET = _network(14, 4), _network(24, 4)
_IPV4_FROM, _IPV4_TO = _network(12, 4), _network(16, 4)
_IPV6_FROM, _IPV6_TO = _network(8, 16), _network(24, 16)
_INTERFACE_SETS: Final = (("gate4", Type.IPV4), ("gate6", Type.IPV6), ("announced", Type.IPV4))
_OF_INTERFACE: Final = frozenset({"in", "out", *(kind for kind, _ in _INTERFACE_SETS)})
_IP_SETS: Final = (("address4", Type.IPV4), ("address6", Type.IPV6))
_SETS: Final[dict[Ref, tuple[tuple[str, Type], ...]]] = {
    ARP: (("gate4", Type.IPV4), ("announced", Type.IPV4)),
    INET: (("gate4", Type.IPV4), ("gate6", Type.IPV6), *_IP_SETS),
    NETDEV: _IP_SETS,
}
_CHAINS: Final[dict[Ref, tuple[Chain, ...]]] = {
    ARP: (
        Chain(
            "input",
            Hook.ARP_INPUT,
            -_OUTERMOST,
            (
                (_ARP_SENDER, ex.is_in("announced"), ex.verdict(Verdict.ACCEPT)),
                (_ARP_TARGET, ex.look_up("gate4")),
            ),
        ),
        Chain("output", Hook.ARP_OUTPUT, _OUTERMOST, ((_ARP_SENDER, ex.look_up("gate4")),)),
    ),
    INET: (
        # Before connections are tracked and destinations changed, and after sources were.
        Chain("prerouting", Hook.PREROUTING, -_OUTERMOST, _translated(End.DESTINATION, _IPV4_TO, _IPV6_TO)),
        Chain("input", Hook.INPUT, -_OUTERMOST, _own(_IPV4_TO, _IPV6_TO, _SOLICITATION)),
        Chain("output", Hook.OUTPUT, _OUTERMOST, _own(_IPV4_FROM, _IPV6_FROM, _ADVERTISEMENT)),
        Chain("postrouting", Hook.POSTROUTING, _OUTERMOST, _translated(End.SOURCE, _IPV4_FROM, _IPV6_FROM)),
    ),
    NETDEV: (),
}
