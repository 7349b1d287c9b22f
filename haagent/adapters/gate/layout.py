"""What the gate's table holds: one table `haagent` of the family netdev, as `nft list table netdev haagent` shows it.

    set lease               the tickets that run: numbers, each until its time is over
    chain shut              counts by protocol, and drops
    chain session-<id>      rules: this ticket is in @lease: return; else jump shut
    map gate4-<if>, gate6-<if>      each address on this interface : jump shut, or jump session-<id>
    set announced-<if>      the IPv4 addresses again: a map of jumps can not be asked whether it holds one
    chain in-<if>, out-<if>         hooks; rules: what of the packet to look up in the maps

An address is closed if its map says `shut`, or a session whose ticket is over. The tickets' ends are the only time
in it: to renew is to change a session's one ticket, however many addresses point to that session.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from haagent.adapters.gate import expressions as ex
from haagent.adapters.gate import nfnetlink as nf
from haagent.adapters.gate.expressions import Base, Meta, Verdict
from haagent.adapters.gate.netlink import Message
from haagent.adapters.gate.nfnetlink import Element, Hook, Type

TABLE: Final = "haagent"
COMMENT: Final = "haagent: answers only while the lease runs (layout 1)"
LEASE: Final = "lease"
SHUT: Final = "shut"
SESSION: Final = "session-"
COUNTERS: Final = ("arp", "ipv4", "ipv6")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the table holds: rules by chain, the names of sets, and where the addresses of each map jump to."""

    chains: Mapping[str, int]
    sets: frozenset[str]
    jumps: Mapping[str, Mapping[bytes, str]]

    def hooked(self, interface: str) -> bool:
        """Whether the chains of an interface are there, with their rules."""
        return all(self.chains.get(name) == len(rules) for name, rules in _hooks(interface))

    def mapped(self, interface: str) -> bool:
        """Whether the maps of an interface are there."""
        return {name for name, _ in _maps(interface)} | {announced(interface)} <= self.sets

    def interfaces(self) -> set[str]:
        """The interfaces of which anything is there."""
        found = {name.partition("-")[2] for name in self.sets if name.startswith(_OF_INTERFACE)}
        return found | {name.partition("-")[2] for name in self.chains if name.startswith(("in-", "out-"))}

    def guarded(self, interface: str) -> dict[bytes, str]:
        """The addresses of an interface, and where each jumps to."""
        return {key: jump for name, _ in _maps(interface) for key, jump in self.jumps.get(name, {}).items()}

    def sessions(self) -> set[str]:
        """The chains of sessions."""
        return {name for name in self.chains if name.startswith(SESSION)}


def read(kernel: nf.Nftables) -> Shape | None:
    """What is there; None if somebody made of it what we do not make."""
    rules = kernel.rules(TABLE)
    chains = {name: rules.get(name, 0) for name in kernel.chains(TABLE)}
    sets = kernel.sets(TABLE)
    if chains.get(SHUT) != len(_shut()) or LEASE not in sets:
        return None
    jumps: dict[str, dict[bytes, str]] = {}
    listed: dict[str, set[bytes]] = {}
    for name in sets:
        if name.startswith(_OF_INTERFACE):
            elements = kernel.elements(TABLE, name)
            listed[name] = {element.key for element in elements}
            if not name.startswith("announced-"):
                jumps[name] = {element.key: element.jump or "" for element in elements}
    for name, keys in listed.items():
        kind, _, interface = name.partition("-")
        if kind == "announced" and keys != listed.get(f"gate4-{interface}"):
            return None
    return Shape(chains, frozenset(sets), jumps)


def map_of(interface: str, address: bytes) -> str:
    """The map that an address is in."""
    return f"gate{4 if len(address) == 4 else 6}-{interface}"


def announced(interface: str) -> str:
    """The set of an interface's IPv4 addresses."""
    return f"announced-{interface}"


def frame() -> list[Message]:
    """What is there once: tickets, counters, and the end of all that is not let through."""
    return [
        nf.add_set(TABLE, LEASE, Type.MARK, timed=True),
        *(nf.add_counter(TABLE, name) for name in COUNTERS),
        nf.add_chain(TABLE, SHUT),
        *(nf.add_rule(TABLE, SHUT, *rule) for rule in _shut()),
    ]


def maps(interface: str) -> list[Message]:
    """The maps of an interface, empty."""
    return [
        *(nf.add_map(TABLE, name, key) for name, key in _maps(interface)),
        nf.add_set(TABLE, announced(interface), Type.IPV4),
    ]


def delete_maps(interface: str, shape: Shape) -> list[Message]:
    """Delete what is there of an interface's maps."""
    names = (*(name for name, _ in _maps(interface)), announced(interface))
    return [nf.delete_set(TABLE, name) for name in names if name in shape.sets]


def hooks(interface: str) -> list[Message]:
    """The chains that see an interface's packets: before all others on the way in, after all others on the way out."""
    found: list[Message] = []
    for (name, rules), hook, priority in zip(
        _hooks(interface), (Hook.INGRESS, Hook.EGRESS), (-_OUTERMOST, _OUTERMOST), strict=True
    ):
        found.append(nf.add_base_chain(TABLE, name, hook, priority, interface))
        found += [nf.add_rule(TABLE, name, *rule) for rule in rules]
    return found


def delete_hooks(interface: str, shape: Shape) -> list[Message]:
    """Delete what is there of an interface's chains."""
    return [nf.delete_chain(TABLE, name) for name, _ in _hooks(interface) if name in shape.chains]


def add(interface: str, addresses: Iterable[bytes]) -> list[Message]:
    """Guard addresses that are not guarded: closed."""
    return [*_each(nf.add_elements, interface, addresses, SHUT), *_announce(nf.add_elements, interface, addresses)]


def delete(interface: str, addresses: Iterable[bytes]) -> list[Message]:
    """Guard addresses no more."""
    return [
        *_each(nf.delete_elements, interface, addresses, None),
        *_announce(nf.delete_elements, interface, addresses),
    ]


def point(interface: str, addresses: Iterable[bytes], chain: str) -> list[Message]:
    """Let addresses that are guarded jump somewhere else."""
    return [
        *_each(nf.delete_elements, interface, addresses, None),
        *_each(nf.add_elements, interface, addresses, chain),
    ]


def session(chain: str, ticket: int) -> list[Message]:
    """The rules of a session's chain, which has none: pass while this ticket runs."""
    return [
        nf.add_rule(TABLE, chain, ex.load_constant(key(ticket)), ex.is_in(LEASE), ex.verdict(Verdict.RETURN)),
        nf.add_rule(TABLE, chain, ex.verdict(Verdict.JUMP, SHUT)),
    ]


def key(ticket: int) -> bytes:
    """A ticket as the key of an element."""
    return _NUMBER.pack(ticket)


Rule = tuple[bytes, ...]
_Operation = Callable[[str, str, Sequence[Element]], list[Message]]


def _shut() -> list[Rule]:
    counted = zip(COUNTERS, (_ARP, _IPV4, _IPV6), strict=True)
    return [*((*_protocol(number), ex.count(name)) for name, number in counted), (ex.verdict(Verdict.DROP),)]


def _hooks(interface: str) -> tuple[tuple[str, list[Rule]], tuple[str, list[Rule]]]:
    gate4, gate6 = ex.look_up(f"gate4-{interface}"), ex.look_up(f"gate6-{interface}")
    arp, ipv4, ipv6 = _protocol(_ARP), _protocol(_IPV4), _protocol(_IPV6)
    # RFC 826: 8 bytes, then hardware and protocol address of the sender (6 + 4), then of the target (6 + 4).
    arp_sender, arp_target = _network(14, 4), _network(24, 4)
    ingress: list[Rule] = [
        # Who sends from the address is the one who has it: our neighbour table may learn that.
        (*arp, arp_sender, ex.is_in(announced(interface)), ex.verdict(Verdict.ACCEPT)),
        (*arp, arp_target, gate4),
        (*ipv4, _network(16, 4), gate4),
        (*ipv6, _network(24, 16), gate6),
        (*_neighbour(_SOLICITATION), gate6),
    ]
    egress: list[Rule] = [
        (*arp, arp_sender, gate4),
        (*ipv4, _network(12, 4), gate4),
        (*ipv6, _network(8, 16), gate6),
        (*_neighbour(_ADVERTISEMENT), gate6),
    ]
    return (f"in-{interface}", ingress), (f"out-{interface}", egress)


def _maps(interface: str) -> tuple[tuple[str, Type], tuple[str, Type]]:
    return (f"gate4-{interface}", Type.IPV4), (f"gate6-{interface}", Type.IPV6)


def _protocol(number: int) -> Rule:
    return ex.load_meta(Meta.PROTOCOL), ex.equals(struct.pack(">H", number))


def _network(offset: int, length: int) -> bytes:
    return ex.load_payload(Base.NETWORK, offset, length)


def _neighbour(kind: int) -> Rule:
    """Load the target of this ICMPv6 message (RFC 4861 4.3, 4.4: at 8), wherever extension headers put it."""
    return (
        *_protocol(_IPV6),
        *(ex.load_meta(Meta.L4PROTO), ex.equals(bytes((_ICMPV6,)))),
        *(ex.load_payload(Base.TRANSPORT, 0, 1), ex.equals(bytes((kind,)))),
        ex.load_payload(Base.TRANSPORT, 8, 16),
    )


def _each(operation: _Operation, interface: str, addresses: Iterable[bytes], jump: str | None) -> list[Message]:
    found: list[Message] = []
    for family in (4, 16):
        elements = [Element(address, jump=jump) for address in addresses if len(address) == family]
        if elements:
            found += operation(TABLE, map_of(interface, elements[0].key), elements)
    return found


def _announce(operation: _Operation, interface: str, addresses: Iterable[bytes]) -> list[Message]:
    elements = [Element(address) for address in addresses if len(address) == 4]
    return operation(TABLE, announced(interface), elements) if elements else []


_NUMBER = struct.Struct("=I")
_OF_INTERFACE: Final = ("gate4-", "gate6-", "announced-")
_OUTERMOST: Final = 500
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
