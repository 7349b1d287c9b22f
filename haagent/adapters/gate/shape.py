"""What the gate's tables hold in the kernel, and what must change for them to hold something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from haagent.adapters.gate import layout
from haagent.adapters.gate.layout import LEASE, NETDEV, SESSION, SHUT, TABLES, Spot
from haagent.adapters.gate.netlink import Message
from haagent.adapters.gate.nfnetlink import Nftables
from haagent.adapters.gate.operations import Ref
from haagent.adapters.gate.places import Place

NO_ADDRESSES: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Guarded:
    """What shall be guarded; `free`: of these addresses IP always passes, only ARP and ND do not."""

    places: frozenset[Place] = frozenset()
    free: frozenset[bytes] = NO_ADDRESSES

    def on(self, interfaces: Iterable[str]) -> Guarded:
        """Only what is on these interfaces."""
        names = frozenset(interfaces)
        return Guarded(frozenset(place for place in self.places if place.interface in names), self.free)

    def interfaces(self) -> set[str]:
        return {place.interface for place in self.places}


@dataclass(frozen=True, slots=True)
class Shape:
    """What there is: the rules of each chain, the names of sets, and where each element jumps to, if it does.

    `tickets`: by session chain, as its rule says; `left`: how long those in `lease` have, in milliseconds.
    """

    chains: Mapping[tuple[Ref, str], int] = field(default_factory=dict[tuple[Ref, str], int])
    sets: frozenset[tuple[Ref, str]] = frozenset()
    elements: Mapping[Spot, str | None] = field(default_factory=dict[Spot, str | None])
    tickets: Mapping[tuple[Ref, str], bytes] = field(default_factory=dict[tuple[Ref, str], bytes])
    left: Mapping[tuple[Ref, bytes], int] = field(default_factory=dict[tuple[Ref, bytes], int])

    def interfaces(self) -> set[str]:
        """The interfaces of which anything is there."""
        names = (layout.interface_of(name) for table, name in (*self.sets, *self.chains) if table is NETDEV)
        return {name for name in names if name}

    def running(self) -> dict[Spot, tuple[str, int]]:
        """What a session lets pass: its chain, and for how many milliseconds still."""
        found: dict[Spot, tuple[str, int]] = {}
        for spot, jump in self.elements.items():
            if jump is not None and jump.startswith(SESSION):
                ticket = self.tickets.get((spot.table, jump), b"")
                found[spot] = (jump, self.left.get((spot.table, ticket), 0))
        return found


def read(kernel: Nftables) -> Shape | None:
    """What is there; None if a table is missing, or somebody made of it what we do not make."""
    chains: dict[tuple[Ref, str], int] = {}
    sets: set[tuple[Ref, str]] = set()
    elements: dict[Spot, str | None] = {}
    tickets: dict[tuple[Ref, str], bytes] = {}
    left: dict[tuple[Ref, bytes], int] = {}
    there = {(each.family, each.name) for each in kernel.tables()}
    for table in TABLES:
        if table not in there:
            return None
        rules, names = kernel.rules(table), kernel.sets(table)
        counted = {name: len(rules.get(name, ())) for name in kernel.chains(table)}
        if not layout.whole(table, counted, names):
            return None
        chains |= {(table, name): count for name, count in counted.items()}
        sets |= {(table, name) for name in names}
        tickets |= {
            (table, name): each[0].constant
            for name, each in rules.items()
            if name.startswith(SESSION) and len(each) == 1
        }
        left |= {(table, each.key): each.left or 0 for each in kernel.elements(table, LEASE)}
        for name in names - {LEASE}:
            elements |= {Spot(table, name, each.key): each.jump for each in kernel.elements(table, name)}
    return Shape(chains, frozenset(sets), elements, tickets, left)


def changes(shape: Shape, wanted: Guarded, session: str | None) -> list[Message]:
    """What makes the tables hold just this; what stays keeps its state, and so does `session`, if nothing uses it."""
    found: list[Message] = []
    made: set[tuple[Ref, str]] = set()
    hooks: list[Message] = []
    interfaces = wanted.interfaces()
    for interface in sorted(shape.interfaces() | interfaces):
        chains, sets = layout.interface_chains(interface), layout.interface_sets(interface)
        mapped = interface in interfaces and {(NETDEV, name) for name in sets} <= shape.sets
        hooked = mapped and all(shape.chains.get((NETDEV, each.name)) == len(each.rules) for each in chains)
        if hooked:
            continue
        found += [NETDEV.delete_chain(each.name) for each in chains if (NETDEV, each.name) in shape.chains]
        if not mapped:
            made |= {(NETDEV, name) for name in sets}
            found += [NETDEV.delete_set(name) for name in sets if (NETDEV, name) in shape.sets]
        if interface in interfaces:
            found += [] if mapped else layout.make_sets(interface)
            hooks += layout.make_chains(interface)
    gates, others = layout.gates(wanted.places), layout.members(wanted.places, wanted.free)
    kept = {spot for spot in shape.elements if (spot.table, spot.name) not in made}
    found += layout.delete(kept - gates - others)
    found += layout.add(others - kept, None) + layout.add(gates - kept, SHUT) + hooks
    return found + layout.end_sessions(_abandoned(shape, kept & gates, session))


def _abandoned(shape: Shape, gates: Iterable[Spot], session: str | None) -> list[tuple[Ref, str]]:
    """The sessions that no address points to any more."""
    used = {(spot.table, shape.elements[spot] or "") for spot in gates}
    return sorted((t, c) for t, c in shape.chains.keys() - used if c.startswith(SESSION) and c != session)
