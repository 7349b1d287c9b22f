"""What the kernel should hold, what it holds, and what to do about the difference. Pure: no socket, no clock.

Level-triggered: installs, removals and the lease's end change what is wanted, dumps and events change what is
held, and `changes` compares the two where either changed. So first installation, repair and clean-up are one path.
What is held is believed from events alone, never from an acknowledgement: an IPv6 address is acknowledged before it
is there.

What somebody else configured is left alone, always: where a group wants an address that is there already, it serves as
it is, and stays when the group gives it up. Ours is what has our tag (on kernels without tags: what is configured
as virtual and has a lifetime as short as we give), and what has been that since it came, whatever somebody made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from haagent.adapters.netlink.plan import (
    EARLY,
    LATE,
    LEFT,
    SETTLES,
    Drop,
    Place,
    Put,
    Wanted,
    Why,
    lifetime_for,
    place_of,
)
from haagent.adapters.netlink.rtnl import Gone, Held, Link, News
from haagent.core.model import HostAddresses, InterfaceChanged, VirtualAddress
from haagent.core.units import NEVER, Instant, S


class Ledger:
    """The addresses of one network namespace. Instants are `now` of the caller's clock."""

    def __init__(self, *, tags: bool) -> None:
        """`tags`: the kernel stores IFA_PROTO, so that what is ours can be told from what is not."""
        self._tags = tags
        self._configured: Mapping[str, tuple[VirtualAddress, ...]] = {}
        self._own: set[Place] = set()
        self._virtual: frozenset[bytes] = frozenset()
        self._sources: frozenset[bytes] = frozenset()
        self._ours: set[tuple[int, bytes, int]] = set()
        self._spared: set[Place] = set()
        self._groups: dict[str, dict[Place, VirtualAddress]] = {}
        self._wanted: dict[Place, Wanted] = {}
        self._unchecked: set[Place] = set()
        self._leading: set[str] = set()
        self._links: dict[int, Link] = {}
        self._indices: dict[str, int] = {}
        self._held: dict[int, dict[bytes, dict[int, Held]]] = {}
        self._until: Instant = 0
        self._lapsed = False
        self._earliest_end: Instant = NEVER
        self._sweep = False

    @property
    def until(self) -> Instant:
        """When the lease ends, if anything must go then; else never."""
        return self._until if self._wanted and not self._lapsed else NEVER

    @property
    def unsettled(self) -> bool:
        """Something was put that the kernel has not shown yet: `changes` should look again soon."""
        return bool(self._unchecked) and self.until < NEVER

    def configure(
        self, addresses: Mapping[str, tuple[VirtualAddress, ...]], sources: frozenset[bytes] = frozenset()
    ) -> None:
        """The addresses that each group may come to hold, which are never an interface's primary address.

        `sources`: those that adverts are to come from, where the file says so.
        """
        self._configured, self._sources = addresses, sources
        self._own = {place_of(each) for group in addresses.values() for each in group}
        self._virtual = frozenset(each.address for each in self._own)

    def spare(self) -> None:
        """Take no address that is configured for a stray before its group wanted it or was forgotten."""
        self._spared = set(self._own)

    # What is wanted.

    def want(self, group: str, addresses: Iterable[VirtualAddress], until: Instant) -> list[VirtualAddress]:
        """The group wants just these from now on; returned is what nobody wants any more."""
        self.extend(until)
        before = self._groups.get(group, {})
        now = {place_of(each): each for each in addresses}
        self._groups[group] = now
        self._spared -= now.keys()
        for place, each in now.items():
            wanted = self._wanted.setdefault(place, Wanted(each))
            wanted.address = each
            wanted.groups.add(group)
            wanted.end = 0  # as if it had no lifetime left: it is put, whatever is there
            self._unchecked.add(place)
        return self._unwant(group, [place for place in before if place not in now])

    def forget(self, group: str) -> list[VirtualAddress]:
        """The group wants nothing any more; returned is what must go: what it had or could have, and nobody wants."""
        had = self._groups.pop(group, {})
        could = {place_of(each): each for each in self._configured.get(group, ())} | had
        self._spared -= could.keys()
        self._unwant(group, had)
        return [each for place, each in could.items() if place not in self._wanted]

    def extend(self, until: Instant) -> None:
        """The lease runs until then. What it lets live again, and what would end too early, is put by `changes`."""
        if self._lapsed or until < self._until:
            self._unchecked.update(self._wanted)
        self._lapsed = False
        self._until = until

    def lapse(self) -> list[VirtualAddress]:
        """The lease has ended: nothing may be held until it is extended; returned is what must go."""
        self._lapsed = True
        for wanted in self._wanted.values():
            wanted.end, wanted.seen = 0, False
        return [wanted.address for wanted in self._wanted.values()]

    # What is held.

    def learn(self, news: Iterable[News]) -> set[str]:
        """Take in what the kernel said; the names of the interfaces that it was about are returned."""
        touched: set[str] = set()
        for each in news:
            touched |= self._learn(each)
        return touched

    def relearn(self, dump: Sequence[News]) -> set[str]:
        """Take a whole dump for the truth; the names of all interfaces that there are or were are returned."""
        touched = set(self._indices)
        self._links, self._indices, self._held = {}, {}, {}
        touched |= self.learn(dump)
        self._ours = {(i, a, p) for i, a, p in self._ours if p in self._held.get(i, {}).get(a, {})}
        self._unchecked.update(self._wanted)
        self._sweep = True
        return touched

    def has(self, place: Place) -> bool:
        """Whether the kernel holds the address there as one of ours."""
        return any(self._is_ours(each) for each in self._at(place))

    def is_put(self, place: Place) -> bool:
        """Whether the kernel has done what was asked for this place, and shows it; or it was there already."""
        wanted = self._wanted.get(place)
        return wanted is not None and ((wanted.end > 0 and self.has(place)) or self._serves(place))

    def is_wanted(self, place: Place) -> bool:
        """Whether any group wants the address there."""
        return place in self._wanted

    def by_group(self, places: Iterable[Place]) -> dict[str, tuple[VirtualAddress, ...]]:
        """The addresses at these places, by the groups that want them."""
        found: dict[str, tuple[VirtualAddress, ...]] = {}
        for place in places:
            if (wanted := self._wanted.get(place)) is not None:
                for group in wanted.groups:
                    found[group] = (*found.get(group, ()), wanted.address)
        return found

    def exists(self, interface: str) -> bool:
        """Whether there is an interface of that name."""
        return interface in self._indices

    def absent(self, place: Place) -> bool:
        """Whether the kernel holds nothing of ours there, however configured."""
        return not any(self._is_mine(each) for each in self._at(place))

    def host(self) -> HostAddresses:
        """What others configured: of the virtual addresses wherever they are, and which sources are not there."""
        foreign: list[VirtualAddress] = []
        present: set[bytes] = set()
        for index, link in self._links.items():
            held = self._held.get(index, {})
            present |= {each for each in self._sources & held.keys() if any(h.usable for h in held[each].values())}
            for address in self._virtual & held.keys():
                if address[:2] == b"\xfe\x80" and Place(link.name, address) not in self._own:
                    continue  # link-local: elsewhere it is another address
                others = (each for each in held[address].values() if not self._is_mine(each))
                foreign += [VirtualAddress(address, each.prefix, link.name) for each in others]
        return HostAddresses(
            tuple(sorted(foreign, key=lambda each: (each.address, each.interface, each.prefix))),
            self._sources - present,
        )

    def interface(self, name: str) -> InterfaceChanged:
        """The interface as it is; one that does not exist is down."""
        index = self._indices.get(name)
        if index is None:
            return InterfaceChanged(name, up=False, v4=None, v6=None)
        held = (h for prefixes in self._held.get(index, {}).values() for h in prefixes.values())
        mine = [h for h in held if not self._is_virtual(name, h)]
        # A virtual address of the same subnet that came first makes the interface's own secondary: better than none.
        v4 = sorted((h for h in mine if len(h.address) == 4), key=lambda h: h.secondary)
        v6 = [h for h in mine if h.address[:2] == b"\xfe\x80" and len(h.address) == 16 and h.usable]
        return InterfaceChanged(
            name,
            self._links[index].up,
            v4[0].address if v4 else None,
            v6[0].address if v6 else None,
            self._links[index].mac,
        )

    # What to do.

    def strays(self) -> list[Drop]:
        """What an earlier incarnation left, or an interface carried away under a new name.

        It is told by our tag; where there are no tags, by being configured and having a lifetime. Looked for after
        each dump and each new name; else the answer is empty.
        """
        if not self._sweep:
            return []
        self._sweep = False
        found: list[Drop] = []
        for index, link in self._links.items():
            for address, prefixes in self._held.get(index, {}).items():
                place = Place(link.name, address)
                found += [Drop(index, place, p, LEFT) for p, held in prefixes.items() if self._is_stray(place, held)]
        return found

    def leading(self) -> set[str]:
        """The interfaces where one of our addresses has become the first of its IPv4 subnet; told once."""
        found, self._leading = self._leading, set()
        return found

    def drops(self, addresses: Iterable[VirtualAddress], why: str) -> list[Drop]:
        """Delete what is ours of these, or may be, with whatever prefix. No interface: nothing to do."""
        found: dict[tuple[Place, int], Drop] = {}
        for each in addresses:
            place = place_of(each)
            index = self._indices.get(place.interface)
            if index is not None:
                held = {held.prefix: self._is_mine(held) for held in self._at(place)}
                for prefix in (each.prefix, *held):
                    if held.get(prefix, True):  # of what was put, and is not shown yet, nothing is known
                        found[place, prefix] = Drop(index, place, prefix, why)
        return list(found.values())

    def changes(self, now: Instant) -> list[Put]:
        """What is wanted and not held as ours, or would end before the lease does."""
        if now >= self._until or self._lapsed:
            return []
        if self._earliest_end < self._until + EARLY:
            self._unchecked.update(self._wanted)
            self._earliest_end = NEVER
        unchecked, self._unchecked = self._unchecked, set()
        puts = (self._change(place, now) for place in unchecked)
        return [put for put in puts if put is not None]

    def put(self, put: Put, now: Instant) -> None:
        """It was done, as `changes` found at `now`. Until the kernel shows it, a little later, it is not missed."""
        place = place_of(put.wanted)
        wanted = self._wanted.get(place)
        if wanted is not None:
            wanted.end = now + put.lifetime * S
            wanted.settles = now + SETTLES
            self._earliest_end = min(self._earliest_end, wanted.end)
            self._unchecked.add(place)

    def check_again(self, place: Place) -> None:
        """Compare once more what is wanted and what is held there."""
        self._unchecked.add(place)

    # Helpers.

    def _change(self, place: Place, now: Instant) -> Put | None:
        wanted, index = self._wanted.get(place), self._indices.get(place.interface)
        if wanted is None or index is None:
            return None
        in_time = self._until + EARLY <= wanted.end <= self._until + LATE
        if self.has(place):
            why = Why.RENEW
        elif self._serves(place):
            return None
        elif in_time and now < wanted.settles:
            self._unchecked.add(place)
            return None
        elif self._at(place):
            why = Why.TAKE_BACK
        else:
            why = Why.REPAIR if wanted.seen else Why.INSTALL
        if why is Why.RENEW and in_time:
            self._earliest_end = min(self._earliest_end, wanted.end)
            return None
        return Put(index, wanted.address, lifetime_for(self._until, now), why)

    def _unwant(self, group: str, places: Iterable[Place]) -> list[VirtualAddress]:
        free: list[VirtualAddress] = []
        for place in places:
            wanted = self._wanted[place]
            wanted.groups.discard(group)
            if not wanted.groups:
                del self._wanted[place]
                free.append(wanted.address)
        return free

    def _learn(self, news: News) -> set[str]:
        match news:
            case Link():
                return self._learn_link(news)
            case Held(index, address, prefix):
                self._held.setdefault(index, {}).setdefault(address, {})[prefix] = news
                if self._is_ours(news):
                    self._ours.add((index, address, prefix))
                touched = self._touch(index, address)
                if len(address) == 4 and prefix < 32 and self._is_ours(news) and not news.secondary:
                    self._leading |= {name for name in touched if Place(name, address) in self._wanted}
                return touched
            case Gone(index, b""):
                for address, prefixes in self._held.pop(index, {}).items():
                    self._ours -= {(index, address, prefix) for prefix in prefixes}
                link = self._links.pop(index, None)
                if link is None:
                    return set()
                self._indices.pop(link.name, None)
                return {link.name}
            case Gone(index, address, prefix):
                self._ours.discard((index, address, prefix))
                prefixes = self._held.get(index, {}).get(address, {})
                prefixes.pop(prefix, None)
                if not prefixes:
                    self._held.get(index, {}).pop(address, None)
                return self._touch(index, address)

    def _learn_link(self, link: Link) -> set[str]:
        before = self._links.get(link.index)
        self._links[link.index] = link
        if before is not None and before.name == link.name:
            return {link.name}
        self._indices[link.name] = link.index
        self._unchecked.update(place for place in self._wanted if place.interface == link.name)
        if before is None:
            return {link.name}
        if self._indices.get(before.name) == link.index:
            del self._indices[before.name]
        self._sweep = True
        return {link.name, before.name}

    def _touch(self, index: int, address: bytes) -> set[str]:
        link = self._links.get(index)
        if link is None:
            return set()
        place = Place(link.name, address)
        wanted = self._wanted.get(place)
        if wanted is not None:
            self._unchecked.add(place)
            wanted.settles = 0
            wanted.seen = wanted.seen or self.has(place)
        return {link.name}

    def _at(self, place: Place) -> list[Held]:
        index = self._indices.get(place.interface)
        return [] if index is None else list(self._held.get(index, {}).get(place.address, {}).values())

    def _serves(self, place: Place) -> bool:
        """Whether the address is there by somebody else, and so is neither put nor deleted by us."""
        held = self._at(place)
        return any(each.usable for each in held) and not any(self._is_mine(each) for each in held)

    def _is_ours(self, held: Held) -> bool:
        """As we put it."""
        if self._tags:
            return held.tagged and not held.permanent
        return held.brief and held.address in self._virtual  # what DHCP gives has longer lifetimes

    def _is_mine(self, held: Held) -> bool:
        """As we put it, or what somebody made of it since."""
        return held.tagged or self._is_ours(held) or (held.index, held.address, held.prefix) in self._ours

    def _is_virtual(self, name: str, held: Held) -> bool:
        place = Place(name, held.address)
        return held.tagged or place in self._own or place in self._wanted

    def _is_stray(self, place: Place, held: Held) -> bool:
        if place in self._wanted or place in self._spared:
            return False
        return held.tagged if self._tags else place in self._own and held.brief
