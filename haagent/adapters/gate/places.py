"""What both gates keep in mind: which addresses on which interfaces are open, and for which groups."""

from __future__ import annotations

from collections.abc import Iterable
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
    """The groups that are open, each with its places; a place may be in several."""

    def __init__(self) -> None:
        self._open: dict[str, frozenset[Place]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def places(self) -> set[Place]:
        """All that is open."""
        return {place for those in self._open.values() for place in those}

    def opened(self, group: str, those: frozenset[Place]) -> set[Place]:
        """The group has just these places now; return what of it nobody has any more."""
        before = self._open.get(group, frozenset())
        self._open[group] = those
        return set(before) - self.places()

    def closed(self, group: str) -> set[Place]:
        """The group has none any more; return what of it nobody has any more."""
        return set(self._open.pop(group, frozenset[Place]())) - self.places()

    def keep(self, those: Iterable[Place]) -> None:
        """Forget all places but those."""
        kept = frozenset(those)
        self._open = {group: mine & kept for group, mine in self._open.items()}
