"""What both gates keep in mind: which addresses on which interfaces are open, and for which groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Generic, NamedTuple, TypeVar

from haagent.core.host import Passing
from haagent.core.model import VirtualAddress


class Place(NamedTuple):
    """An address (packed) on an interface: what is guarded."""

    interface: str
    address: bytes

    def __str__(self) -> str:
        return f"{ip_address(self.address)} on {self.interface}"


def places(addresses: Iterable[VirtualAddress]) -> frozenset[Place]:
    """Where these addresses are, of which anything is held back while this node does not own them."""
    return frozenset(
        Place(each.interface, each.address) for each in addresses if each.without_lease is not Passing.EVERYTHING
    )


T = TypeVar("T")


class Groups(Generic[T]):
    """The groups that are open, each with what it has open; a thing may be of several groups.

    Things are counted: what a change costs depends on the groups that change, not on all that is open.
    """

    def __init__(self) -> None:
        self._open: dict[str, frozenset[T]] = {}
        self._count: Counter[T] = Counter()

    def __bool__(self) -> bool:
        return bool(self._open)

    def all(self) -> Iterable[T]:
        """All that is open."""
        return self._count.keys()

    def has(self, one: T) -> bool:
        """Whether any group has this open."""
        return one in self._count

    def opened(self, groups: Mapping[str, frozenset[T]]) -> set[T]:
        """These groups have just these open now; return what of them nobody has any more."""
        gone = self.closed(groups)
        self._open.update(groups)
        for those in groups.values():
            self._count.update(those)
        return {one for one in gone if one not in self._count}

    def closed(self, groups: Iterable[str]) -> set[T]:
        """These groups have nothing open any more; return what of them nobody has any more."""
        gone: set[T] = set()
        for group in groups:
            for one in self._open.pop(group, ()):
                self._count[one] -= 1
                if not self._count[one]:
                    del self._count[one]
                    gone.add(one)
        return gone

    def keep(self, those: Iterable[T]) -> None:
        """Forget all but those."""
        kept = frozenset(those)
        self._open = {group: mine & kept for group, mine in self._open.items()}
        self._count = Counter(one for mine in self._open.values() for one in mine)
