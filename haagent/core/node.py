"""A node: the lease, the view, the groups and the virtual routers, composed.

`feed` takes one event and the time, and returns what is to be done, in order. The parts are pure functions over frozen
states; the node keeps those states in dicts and their timers in a heap, so that an event costs the same whatever the
number of virtual routers. It reads no clock and does no I/O: two nodes fed the same events do the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from haagent.core import claims, fitness, ownership, roles, vrrp
from haagent.core.claims import Situation
from haagent.core.context import RENEW, Context, Timer
from haagent.core.lease import Held, Lease
from haagent.core.membership import Membership
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    AdvertReceived,
    Announce,
    Asking,
    Committed,
    Effect,
    Event,
    GroupRules,
    InterfaceChanged,
    KernelFailed,
    Listed,
    Refused,
    Resign,
    Role,
    RoleChanged,
    Rules,
    RulesChanged,
    StopRequested,
    TimePassed,
    Unanswered,
    Watched,
)
from haagent.core.ownership import Decision, Following, GroupState, Leaving, Owning
from haagent.core.records import Garbage, Key, Kind, Seen
from haagent.core.renewal import Renewals
from haagent.core.speech import Speech
from haagent.core.units import NEVER, Instant
from haagent.core.view import View


class Node:
    """One agent's mind. Feed it events in the order in which they happened, with a time that never goes back."""

    def __init__(self, rules: Rules) -> None:
        self.groups: dict[str, GroupState] = {}
        self.roles: dict[str, Role] = {}
        self.stopping = False
        self._context = Context(rules)
        self._renewals = Renewals(self._context)
        self._membership = Membership(self._context)
        self._speech = Speech(self._context)
        self._retiring: set[str] = set()
        self._touched: set[str] = set()
        self._resigned = False

    # --- what the shell may look at

    @property
    def rules(self) -> Rules:
        return self._context.rules

    @property
    def lease(self) -> Lease:
        return self._renewals.lease

    @property
    def view(self) -> View:
        return self._context.view

    @property
    def alarms(self) -> dict[tuple[str, str], str]:
        return self._context.alarms

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        return self._membership.faults

    @property
    def routers(self) -> dict[str, vrrp.Router]:
        return self._speech.routers

    # --- the interface to the shell

    def start(self, now: Instant) -> tuple[Effect, ...]:
        """Begin. Nothing is claimed before the kernel confirmed that it answers for nothing."""
        self._begin(now)
        self._speech.configure(dict(self.rules.groups))
        for group in self.rules.groups.values():
            self._add(group)
        return tuple(self._context.out)

    def due(self) -> Instant:
        """When the node wants `TimePassed`, NEVER if it does not."""
        return self._context.timers.next()

    def feed(self, event: Event, now: Instant) -> tuple[Effect, ...]:
        """Take in one event; returns what is to be done. The lapse comes first, whatever the event says."""
        self._begin(now)
        if self._renewals.lapse_if_over():
            self._decide_all()
        self._take(event)
        self._run_timers()
        if self.stopping:
            self._maybe_resign()
        return tuple(self._context.out)

    def check(self) -> None:
        """The invariants, of what the last event touched. AssertionError: the node must not go on."""
        lease = self.lease
        assert not isinstance(lease, Held) or self._context.now < lease.held_until, "a lease is held past its end"
        for name in self._touched & self.groups.keys():
            state = self.groups[name]
            owning = isinstance(state, Owning)
            assert not owning or claims.is_ours(self.view, self.rules, lease, name), f"{name}: owned by no record"
            for router in self.rules.groups[name].routers:
                here = self._speech.group_of[router.name] == name  # not in one that a reload takes it from
                speaks = here and isinstance(self.routers[router.name].phase, vrrp.Master)
                assert not speaks or owning, f"{router.name} speaks without owning"

    # --- events

    def _begin(self, now: Instant) -> None:
        context = self._context
        assert now >= context.now, "time went back"
        context.now = now
        context.out.clear()
        self._touched.clear()

    def _take(self, event: Event) -> None:  # noqa: C901 - one case an event
        match event:
            case Watched():
                for seen in self.view.watch(event, self.rules, self._context.now):
                    self._news(seen, streamed=True)
            case Committed() | Refused() | Unanswered():
                self._answer(event)
            case AdvertReceived():
                if self._speech.heard(event, self._membership.interfaces):
                    self._decide(self._speech.group_of[event.router])
            case Listed():
                self._list(event)
            case AddressesInstalled() | AddressesRemoved() | KernelFailed():
                self._kernel(event)
            case InterfaceChanged():
                self._interface(event)
            case RulesChanged(rules):
                self._reload(rules)
            case StopRequested():
                self.stopping = True
                self._assess_all()
            case TimePassed():
                pass
            case _:
                assert_never(event)

    def _run_timers(self) -> None:
        context = self._context
        while (timer := context.timers.pop(context.now)) is not None:
            match timer.what:
                case "renew" if not self._resigned:
                    held = isinstance(self.lease, Held)
                    self._renewals.ask(name for name, state in self.groups.items() if isinstance(state, Owning))
                    if held and not isinstance(self.lease, Held):
                        self._decide_all()
                    self._membership.sync(self.lease)
                    self.view.drop_expired(context.now)
                case "group" if timer.name in self.groups:
                    self._decide(timer.name)
                case "router" if timer.name in self.routers:
                    if self._speech.tick(timer.name):
                        self._decide(self._speech.group_of[timer.name])
                case _:
                    pass  # "lapse" was seen to before all else; the others are of what is gone

    def _list(self, event: Listed) -> None:
        context = self._context
        if self.view.rewound(event):
            context.alarm("etcd-rewound", "etcd", "its history is another one: wiped or restored")
            self.view.forget()
            for kind, subject in [alarm for alarm in self.alarms if alarm[0] == "unreadable"]:
                context.calm(kind, subject)
            self._renewals.start_over("etcd was wiped or restored")
        first = self.view.observed_since == NEVER
        for seen in self.view.list(event, self.rules, context.now):
            self._news(seen, streamed=True)
        if first:
            self._renewals.now()
            self._decide_all()

    def _news(self, seen: Seen, streamed: bool) -> None:
        """Something new about a key; `streamed` when it came in the stream, which is complete up to it."""
        kind, name = seen.key
        self._tell_garbage(seen)
        match kind:
            case Kind.LEASES if name == self.rules.node:
                if self._renewals.own_key(seen, streamed):
                    self._membership.sync(self.lease)
                    self._decide_all()
            case Kind.OWNERS | Kind.INTENTS if name in self.groups:
                self._decide(name)
            case Kind.MEMBERS:
                member = self.view.members.get(name)
                for group in member.standings if member is not None else ():
                    if group in self.groups:
                        self._decide(group)
            case Kind.LEASES | Kind.OWNERS | Kind.INTENTS | Kind.HISTORY:
                pass

    def _tell_garbage(self, seen: Seen) -> None:
        if isinstance(seen.value, Garbage):
            self._context.alarm("unreadable", "/".join(seen.key), seen.value.reason)
        elif self.alarms:
            self._context.calm("unreadable", "/".join(seen.key))

    def _answer(self, event: Committed | Refused | Unanswered) -> None:
        ask = event.ask
        match ask.kind:
            case Asking.RENEW if isinstance(event, Committed):
                self._renewals.committed(event.revision)
            case Asking.RENEW if isinstance(event, Unanswered):
                self._renewals.unanswered(event.why)
            case Asking.MEMBER:
                self._membership.answered(ask)
            case Asking.RENEW | Asking.CLAIM | Asking.RELEASE | Asking.INTENT | Asking.LOOK:
                pass
        state = self.groups.get(ask.name) if ask.kind in (Asking.CLAIM, Asking.RELEASE) else None
        if isinstance(event, Refused):
            self._learn(event.seen)
        elif isinstance(event, Committed) and state is not None:
            record = ownership.written(state, ask)
            if record is not None:
                self._learn((Seen(Key(Kind.OWNERS, ask.name), 0, event.revision, record),))
        if state is None:
            return
        state, at = self.groups[ask.name], self._situation(ask.name)
        if isinstance(event, Unanswered):
            self._become(ask.name, ownership.unanswered(state, ask, at))
        else:
            self._become(ask.name, ownership.answered(state, ask, isinstance(event, Committed), at))

    def _learn(self, news: tuple[Seen, ...]) -> None:
        for seen in news:
            if self.view.answer(seen, self.rules, self._context.now):
                self._news(seen, streamed=False)

    def _kernel(self, event: AddressesInstalled | AddressesRemoved | KernelFailed) -> None:
        name = event.group
        if name not in self.groups:
            return
        state, at = self.groups[name], self._situation(name)
        match event:
            case AddressesInstalled(_, serial):
                self._become(name, ownership.installed(state, serial, at))
                self._speak(at.group, was_ready=isinstance(state, Owning) and state.ready)
            case AddressesRemoved(_, serial):
                leaving = isinstance(state, Leaving) and state.serial == serial and not state.removed
                if leaving and claims.is_ours(self.view, self.rules, self.lease, name):
                    # RFC 9568 6.4.3, Shutdown: the lease still runs, so the last word may be said.
                    self._speech.farewell(at.group, self._membership.interfaces)
                self._become(name, ownership.removed(state, serial, at))
            case KernelFailed(_, serial, why):
                self._become(name, ownership.kernel_failed(state, serial, why, at))

    def _interface(self, event: InterfaceChanged) -> None:
        self._membership.interfaces[event.name] = event
        for name, group in self.rules.groups.items():
            if event.name in fitness.used(group):
                self._assess(name)
        self._membership.sync(self.lease)

    # --- groups

    def _situation(self, name: str) -> Situation:
        membership, group = self._membership, self.rules.groups[name]
        held_off = self._speech.held_off(group, isinstance(self.groups[name], Owning), membership.interfaces)
        return Situation(
            rules=self.rules,
            group=group,
            lease=self.lease,
            view=self.view,
            standing=membership.standings[name],
            faults=membership.faults[name] + held_off,
            now=self._context.now,
        )

    def _decide(self, name: str) -> None:
        self._become(name, ownership.decide(self.groups[name], self._situation(name)))

    def _decide_all(self) -> None:
        for name in list(self.groups):
            self._decide(name)

    def _become(self, name: str, decision: Decision) -> None:
        before, (after, effects) = self.groups[name], decision
        self.groups[name] = after
        self._touched.add(name)
        self._context.out += effects
        self._context.timers.set(Timer("group", name), ownership.due(after))
        if isinstance(before, Owning) and not isinstance(after, Owning):
            self._speech.demote(self.rules.groups[name])
            self._speech.fit(self.rules.groups[name], not self.faults[name])
        self._tell_role(name, after)
        if name in self._retiring and isinstance(after, Following):
            self._drop(name)

    def _speak(self, group: GroupRules, was_ready: bool) -> None:
        """The kernel has the addresses: only now may adverts and announcements go out."""
        state = self.groups.get(group.name)
        if not isinstance(state, Owning) or not state.ready:
            return
        if was_ready:  # it has others since a reload: tell the neighbours, and speak for routers that are new
            self._context.out += [Announce(router.name) for router in group.routers]
        silent = [one for one in group.routers if not isinstance(self.routers[one.name].phase, vrrp.Master)]
        self._speech.promote(replace(group, routers=tuple(silent)))

    def _tell_role(self, name: str, state: GroupState) -> None:
        before, faults = self.roles[name], self.faults[name]
        after = roles.role(state, faults, before)
        if after is not before:
            self.roles[name] = after
            why = roles.why(state, faults, before, after, self.view.record(name))
            self._context.out.append(RoleChanged(name, before, after, why, self.view.epochs.get(name, 0)))

    def _assess(self, name: str) -> None:
        """What the interfaces (and a stop, and a reload) mean for a group."""
        group = self.rules.groups[name]
        self._membership.assess(group, self._banned(group))
        if not isinstance(self.groups[name], Owning):
            self._speech.fit(group, not self.faults[name])
        self._decide(name)

    def _banned(self, group: GroupRules) -> tuple[str, ...]:
        retiring = [self.rules.groups[name] for name in sorted(self._retiring)]
        return fitness.banned(group, retiring, self.stopping)

    def _assess_all(self) -> None:
        for name in list(self.groups):
            if name in self.groups:  # deciding on one that retires may end it
                self._assess(name)
        self._membership.sync(self.lease)

    def _add(self, group: GroupRules) -> None:
        self._membership.assess(group, self._banned(group))
        self._speech.demote(group)  # a router may come from a group that is owned
        self._speech.fit(group, not self.faults[group.name])
        state, effects = ownership.start(group, self._context.now)
        self.groups[group.name] = state
        self.roles[group.name] = Role.INIT
        self._context.out += effects
        self._context.timers.set(Timer("group", group.name), ownership.due(state))

    def _drop(self, name: str) -> None:
        self._retiring.discard(name)
        del self.groups[name]
        del self.roles[name]
        self._membership.forget(name)
        groups = {key: group for key, group in self.rules.groups.items() if key != name}
        self._context.rules = replace(self.rules, groups=groups)
        self._speech.configure(groups)
        self._context.timers.set(Timer("group", name), NEVER)
        self._assess_all()

    def _reload(self, rules: Rules) -> None:
        """New rules. What is no longer configured is given up first, and kept in the rules until it is."""
        before = self.rules.groups
        gone = {name: group for name, group in before.items() if name not in rules.groups}
        self._retiring = set(gone)
        shorter = rules.ttl < self.rules.ttl
        self._context.rules = replace(rules, groups={**rules.groups, **gone})
        self._speech.configure(dict(self.rules.groups))
        for name, group in rules.groups.items():
            if name not in before:
                self._add(group)
            elif group != before[name]:
                self._membership.assess(group, self._banned(group))
                self._become(name, ownership.refresh(self.groups[name], self._situation(name)))
                if not isinstance(self.groups[name], Owning):
                    self._speech.demote(group)
        self._assess_all()
        if shorter:
            self._renewals.now()

    def _maybe_resign(self) -> None:
        """Everything is given up and nothing names us: end the session, once."""
        given_up = all(isinstance(state, Following) for state in self.groups.values())
        if self._resigned or not given_up or any(claims.named(self.view, self.rules, name) for name in self.groups):
            return
        self._resigned = True
        self._context.timers.set(RENEW, NEVER)
        self._context.out.append(Resign())
