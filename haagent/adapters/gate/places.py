"""What both gates keep in mind: which addresses on which interfaces are open, and for which groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from haagent.core.model import VirtualAddress


class Place(NamedTuple):
    """An address (packed) on an interface: what is guarded."""

    interface: str
    address: bytes

    def __str__(self) -> str:
        return f"{ip_address(self.address)} on {self.interface}"


def places(addresses: Iterable[VirtualAddress]) -> frozenset[Place]:
    """Where these addresses are."""
    return frozenset(Place(each.interface, each.address) for each in addresses)


class Groups:
    """The groups that are open, each with its places; a place may be in several.

    Places are counted: what a change costs depends on the groups that change, not on all that is open.
    """

    def __init__(self) -> None:
        self._open: dict[str, frozenset[Place]] = {}
        self._count: Counter[Place] = Counter()

    def __bool__(self) -> bool:
        return bool(self._open)

    def places(self) -> set[Place]:
        """All that is open."""
        return set(self._count)

    def opened(self, groups: Mapping[str, frozenset[Place]]) -> set[Place]:
        """These groups have just these places now; return what of them nobody has any more."""
        gone = self.closed(groups)
        self._open.update(groups)
        for those in groups.values():
            self._count.update(those)
        return {place for place in gone if place not in self._count}

    def closed(self, groups: Iterable[str]) -> set[Place]:
        """These groups have none any more; return what of them nobody has any more."""
        gone: set[Place] = set()
        for group in groups:
            for place in self._open.pop(group, ()):
                self._count[place] -= 1
                if not self._count[place]:
                    del self._count[place]
                    gone.add(place)
        return gone

    def keep(self, those: Iterable[Place]) -> None:
        """Forget all places but those."""
        kept = frozenset(those)
        self._open = {group: mine & kept for group, mine in self._open.items()}
        self._count = Counter(place for mine in self._open.values() for place in mine)
