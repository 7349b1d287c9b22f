"""All virtual routers of a node: their VRRP machines, their timers, and what adverts tell the groups."""

from __future__ import annotations

from dataclasses import replace

from haagent.core import fitness, vrrp
from haagent.core.context import Context, Timer
from haagent.core.fitness import Interfaces
from haagent.core.model import (
    AddressesRepaired,
    AddressSeenElsewhere,
    AdvertReceived,
    Ask,
    Asking,
    GroupRules,
    InterfaceChanged,
    Look,
    RouterRules,
    SendAdvert,
)
from haagent.core.records import Key, Kind
from haagent.core.units import MS, NEVER, Duration, Instant, S
from haagent.core.vrrp import By, Router, Signal

LOOK_PAUSE = 100 * MS
"""Adverts are hints: however many arrive, a group's record is looked up ten times a second at the most."""

AGREED_FOR: Duration = 5 * S
"""Members' addresses must agree for that long, and for three adverts, before the alarm is over: whoever forges one
advert of two must not have us say so at each."""

ALARMS = ("adverts-lost", "addresses-differ", "stranger", "address-elsewhere")
"""The kinds of alarm about a virtual router."""

_OF_STRANGERS = frozenset({Signal.STRANGER_HEARD, Signal.STRANGER_GONE, Signal.LISTENED})


class Speech:
    """Keeps `routers`, the state of each virtual router by name."""

    def __init__(self, context: Context) -> None:
        self.routers: dict[str, Router] = {}
        self.group_of: dict[str, str] = {}
        self._rules: dict[str, RouterRules] = {}
        self._strangers: dict[str, set[str]] = {}
        self._looked_at: dict[str, Instant] = {}
        self._differed_at: dict[str, Instant] = {}
        self._looks = 0
        self._context = context

    def configure(self, groups: dict[str, GroupRules]) -> None:
        """Speak for these groups' routers; one that stays the same router keeps its state."""
        kept, rules = self.routers, self._rules
        self._rules = {router.name: router for group in groups.values() for router in group.routers}
        self.group_of = {router.name: group.name for group in groups.values() for router in group.routers}
        self.routers, self._strangers = {}, {}
        for name, router in self._rules.items():
            same = name in rules and _identity(rules[name]) == _identity(router)
            self._set(name, kept[name] if same else Router())
        for name in kept:
            if name not in self.routers:
                self._context.timers.set(Timer("router", name), vrrp.NEVER)
                for kind in ALARMS:
                    self._context.calm(kind, name)

    def fit(self, group: GroupRules, fit: bool) -> None:
        """The group's faults came or went."""
        for rules in group.routers:
            router = self.routers[rules.name]
            self._set(rules.name, vrrp.fit(rules, router, self._context.now) if fit else Router())

    def promote(self, group: GroupRules) -> None:
        """The kernel has the group's addresses: advertise and announce."""
        for rules in group.routers:
            self._step(rules.name, vrrp.promoted(rules, self.routers[rules.name], self._context.now))

    def demote(self, group: GroupRules) -> None:
        """The node owns the group no longer: not another word."""
        for rules in group.routers:
            self._set(rules.name, vrrp.demoted(self.routers[rules.name]))

    def farewell(self, group: GroupRules, interfaces: Interfaces) -> None:
        """The last word of each router, but for one that a stranger deposed: there is a master, nobody need hurry."""
        for rules in group.routers:
            own = fitness.source(rules, interfaces) or b""
            if not vrrp.held_off(rules, self.routers[rules.name], own, group.preempt, owning=True):
                self._context.out.append(SendAdvert(rules.name, vrrp.PRIORITY_STOP))

    def tick(self, name: str) -> bool:
        """A router's timer is due. True when its group should decide anew: a stranger came, went, or did not come."""
        return self._step(name, vrrp.tick(self._rules[name], self.routers[name], self._context.now))

    def heard(self, advert: AdvertReceived, interfaces: Interfaces) -> bool:
        """A valid advert of somebody else arrived for one of our routers. True as for `tick`."""
        rules = self._rules.get(advert.router)
        if rules is None:
            return False
        own = fitness.source(rules, interfaces) or b""
        by = self._who(advert)
        router = self.routers[advert.router]
        recognized = False
        if by is not By.STRANGER:
            self._compare(rules, advert)
            recognized = router.stranger is not None and router.stranger.source == advert.source
        if recognized:  # its member key was not listed yet
            self._set(advert.router, router := replace(router, stranger=None))
        return recognized | self._step(advert.router, vrrp.heard(rules, router, advert, by, own, self._context.now))

    def repaired(self, event: AddressesRepaired) -> None:
        """Addresses of a group were put back."""
        group = self._context.rules.groups.get(event.group)
        for rules in group.routers if group is not None else ():
            if not set(event.addresses).isdisjoint(rules.addresses):
                self._step(rules.name, vrrp.repaired(rules, self.routers[rules.name], self._context.now))

    def moved(self, before: InterfaceChanged | None, event: InterfaceChanged) -> None:
        """An interface changed. If its MAC address did, what is on it is at another place for the neighbours."""
        if before is None or before.mac == event.mac or not event.up:
            return
        for name, rules in self._rules.items():
            if any(each.interface == event.name for each in rules.addresses):
                self._step(name, vrrp.repaired(rules, self.routers[name], self._context.now))

    def disputed(self, event: AddressSeenElsewhere) -> None:
        """Somebody else says that an address is his."""
        group = self._context.rules.groups.get(event.group)
        for rules in group.routers if group is not None else ():
            if event.address in rules.addresses:
                self._step(rules.name, vrrp.disputed(rules, self.routers[rules.name], self._context.now))
                if _is_disputed(self.routers[rules.name]):
                    where = f"{fitness.text(event.address.address)} on {event.address.interface}"
                    detail = f"{event.mac.hex(':')} says that it has {where}"
                    self._context.alarm("address-elsewhere", rules.name, detail)

    def held_off(self, group: GroupRules, owning: bool, interfaces: Interfaces) -> tuple[str, ...]:
        """Why strangers keep this node from owning the group, where they may; empty when they do not."""
        for name in sorted(self._strangers.get(group.name, ())):
            rules = self._rules[name]
            own = fitness.source(rules, interfaces) or b""
            if vrrp.held_off(rules, self.routers[name], own, group.preempt, owning):
                listening = self.routers[name].stranger is None
                return (f"listening for strangers on {name}" if listening else f"a stranger is master of {name}",)
        return ()

    def _who(self, advert: AdvertReceived) -> By:
        view = self._context.view
        node = view.source(advert.source, self._context.now)
        if node is None or node == self._context.rules.node:
            return By.STRANGER
        record = view.record(self.group_of[advert.router])
        return By.OWNER if record is not None and record.node == node else By.MEMBER

    def _compare(self, rules: RouterRules, advert: AdvertReceived) -> None:
        """Members whose configurations differ: an alarm, never a second master."""
        now = self._context.now
        if frozenset(advert.addresses) == frozenset(address.address for address in rules.addresses):
            if now - self._differed_at.get(rules.name, 0) >= max(AGREED_FOR, 3 * rules.advert_interval):
                self._context.calm("addresses-differ", rules.name)
        else:
            self._differed_at[rules.name] = now
            node = self._context.view.source(advert.source, now)
            self._context.alarm("addresses-differ", rules.name, f"{node} advertises other addresses than ours")

    def _step(self, name: str, step: vrrp.Step) -> bool:
        router, said, signals = step
        self._set(name, router)
        self._context.out.extend(said)
        for signal in signals:
            self._note(name, signal)
        return not _OF_STRANGERS.isdisjoint(signals)

    def _note(self, name: str, signal: Signal) -> None:
        """What a router noticed: hints and alarms. None of it makes a MASTER."""
        context, router, group = self._context, self.routers[name], self.group_of[name]
        match signal:
            case Signal.OWNER_STOPPED | Signal.RIVAL:
                self._look(group)
            case Signal.OWNER_SILENT:
                record = context.view.record(group)
                if record is not None and not record.clean and context.view.alive(record.incarnation, context.now):
                    context.alarm("adverts-lost", name, f"adverts lost, owner {record.node} alive")
                self._look(group)
            case Signal.STRANGER_HEARD:
                if router.stranger is not None and context.view.observed_since != NEVER:  # else it may be a member
                    source, priority = fitness.text(router.stranger.source), router.stranger.priority
                    context.alarm("stranger", name, f"{source} advertises priority {priority}")
            case Signal.OWNER_HEARD | Signal.STRANGER_GONE | Signal.LISTENED:
                pass  # `_set` has ended the alarm, if there was one

    def _look(self, group: str) -> None:
        """A hint says that the watch may be behind: look at the record now, but not at every hint."""
        context = self._context
        if context.now < self._looked_at.get(group, 0):
            return
        self._looked_at[group] = context.now + LOOK_PAUSE
        self._looks += 1
        record = context.view.record(group)
        keys = (Key(Kind.OWNERS, group),) + ((Key(Kind.LEASES, record.node),) if record is not None else ())
        context.out.append(Look(Ask(Asking.LOOK, group, self._looks), keys, patience=context.rules.ttl))

    def _set(self, name: str, router: Router) -> None:
        """What an alarm is about may end in any way (a fault, becoming MASTER, a reload), and so ends the alarm."""
        context, strangers = self._context, self._strangers.setdefault(self.group_of[name], set())
        self.routers[name] = router
        context.timers.set(Timer("router", name), vrrp.due(router))
        if router.stranger is None:
            context.calm("stranger", name)
        if router.stranger is None and router.listens_until == vrrp.NEVER:
            strangers.discard(name)
        else:
            strangers.add(name)
        if not (isinstance(router.phase, vrrp.Backup) and router.phase.silent):
            context.calm("adverts-lost", name)
        if not _is_disputed(router):
            context.calm("address-elsewhere", name)


def _is_disputed(router: Router) -> bool:
    return isinstance(router.phase, vrrp.Master) and router.phase.disputed_until != vrrp.NEVER


def _identity(rules: RouterRules) -> tuple[int, int, int, str]:
    return rules.vrid, rules.version, rules.family, rules.interface
