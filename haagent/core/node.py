"""A node: the lease, the view, the groups and the virtual routers, composed.

`feed` takes one event and the time, and returns what is to be done, in order. The parts are pure functions over frozen
states; the node keeps those states in dicts and their timers in a heap, so that an event costs the same whatever the
number of virtual routers. It reads no clock and does no I/O: two nodes fed the same events do the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from haagent.core import claims, fitness, promises, vrrp
from haagent.core.context import RENEW, Context
from haagent.core.failsafe import Failsafe
from haagent.core.foreign import Foreign
from haagent.core.groups import Groups
from haagent.core.lease import Held, Lease
from haagent.core.membership import Membership
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    AddressesRepaired,
    AddressSeenElsewhere,
    AdvertReceived,
    Asking,
    Committed,
    Effect,
    Event,
    ExtendAddresses,
    FenceConfirmed,
    FenceRefused,
    FenceTimedOut,
    GateClosed,
    HeartbeatReceived,
    HostAddresses,
    InterfaceChanged,
    KernelFailed,
    Listed,
    PromiseReceived,
    Refused,
    Resign,
    Resync,
    Role,
    Rules,
    RulesChanged,
    StopRequested,
    TimePassed,
    Unanswered,
    WallClockRead,
    Watched,
    WindowChanged,
)
from haagent.core.reach import ReachReported
from haagent.core.records import Key, Kind, Seen
from haagent.core.renewal import Renewals
from haagent.core.speech import Speech
from haagent.core.states import GroupState
from haagent.core.units import NEVER, NOTHING_OPEN, Instant
from haagent.core.view import View


class Node:
    """One agent's mind. Feed it events in the order in which they happened, with a time that never goes back."""

    def __init__(self, rules: Rules) -> None:
        self._context = Context(rules)
        self._failsafe = Failsafe(self._context)
        self._renewals = Renewals(self._context, self._failsafe)
        self._membership = Membership(self._context)
        self._speech = Speech(self._context)
        self._groups = Groups(self._context, self._renewals, self._failsafe, self._membership, self._speech)
        self._foreign = Foreign(self._context)
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
    def groups(self) -> dict[str, GroupState]:
        return self._groups.states

    @property
    def roles(self) -> dict[str, Role]:
        return self._groups.roles

    @property
    def failsafe(self) -> Failsafe:
        return self._failsafe

    @property
    def held_until(self) -> Instant:
        """Until when anything is held, by the lease or by promises, whichever ends later. Past: nothing is."""
        return max(self.lease.held_until if isinstance(self.lease, Held) else 0, self._failsafe.until)

    def right(self, group: str) -> Instant:
        """Until when this node may answer for the group, if it owns it. 0: not at all."""
        return self._groups.right(group)

    @property
    def stopping(self) -> bool:
        return self._groups.stopping

    @property
    def alarms(self) -> dict[tuple[str, str], str]:
        return self._context.alarms

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        return self._membership.faults

    @property
    def interfaces(self) -> Mapping[str, InterfaceChanged]:
        return self._membership.interfaces

    @property
    def barred(self) -> dict[str, str]:
        return self._groups.barred()

    @property
    def routers(self) -> dict[str, vrrp.Router]:
        return self._speech.routers

    # --- the interface to the shell

    def start(self, now: Instant, open_until: Mapping[str, Instant] = NOTHING_OPEN) -> tuple[Effect, ...]:
        """Begin. Nothing is claimed before the kernel confirmed that it answers for nothing.

        `open_until`: by group, until when the kernel lets pass what an earlier incarnation held, and not longer.
        """
        self._begin(now)
        self._speech.configure(dict(self.rules.groups))
        self._groups.start(open_until)
        return tuple(self._context.out)

    def due(self) -> Instant:
        """When the node wants `TimePassed`, NEVER if it does not."""
        return self._context.timers.next()

    def feed(self, event: Event, now: Instant) -> tuple[Effect, ...]:
        """Take in one event; returns what is to be done. The lapse comes first, whatever the event says."""
        self._begin(now)
        self._lapse_if_over()
        self._take(event)
        self._run_timers()
        if self._failsafe.since:
            self._settle()
        self._foreign.tell(self._groups.touched, self._groups.owned)
        if self.stopping:
            self._maybe_resign()
        return tuple(self._context.out)

    def check(self) -> None:
        """The invariants, of what the last event touched. AssertionError: the node must not go on."""
        lease = self.lease
        assert not isinstance(lease, Held) or self._context.now < lease.held_until, "a lease is held past its end"
        self._groups.check()

    # --- what is held

    def _lapse_if_over(self) -> None:
        """The lease, or what carries in its place, may have come to its end."""
        lapsed = self._renewals.lapse_if_over()
        if self._failsafe.lapse_if_over():
            self._renewals.tell("promises of the candidates carry it no longer")
            lapsed = True
        if lapsed:
            self._groups.decide_all()

    def _rest_on_promises(self) -> None:
        """Where etcd is late, promises may carry what is owned further. Else nobody looks at all that is owned."""
        if self._failsafe.wanted(self.lease.held_until if isinstance(self.lease, Held) else 0):
            self._failsafe.enter(frozenset(self._groups.tenures()), self._held_until())

    def _settle(self) -> None:
        """What promises carry may be carried by the lease again, or nothing is owned any more."""
        held_until = self._held_until()
        if held_until < self._failsafe.until and self._groups.owned():
            return
        self._failsafe.leave()
        self._renewals.tell("nothing is owned")
        if held_until:
            self._context.out.append(ExtendAddresses(held_until))
        self._groups.decide_all()

    def _held_until(self) -> Instant:
        """Until when the lease carries all that is owned; 0 if not all of it."""
        lease, owned = self.lease, self._groups.owned()
        ours = all(claims.is_ours(self.view, self.rules, lease, name) for name in owned)
        return lease.held_until if ours and isinstance(lease, Held) else 0

    # --- events

    def _begin(self, now: Instant) -> None:
        context = self._context
        assert now >= context.now, "time went back"
        context.now = now
        context.out.clear()
        self._groups.touched.clear()

    def _take(self, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - one case an event
        match event:
            case Watched():
                self._watch(event)
            case Committed() | Refused() | Unanswered():
                self._answer(event)
            case AdvertReceived():
                if self._speech.heard(event, self._membership.interfaces):
                    self._groups.decide(self._speech.group_of[event.router])
            case Listed():
                self._list(event)
            case AddressesInstalled() | AddressesRemoved() | KernelFailed():
                self._groups.kernel(event)
            case AddressesRepaired():
                self._speech.repaired(event)
            case AddressSeenElsewhere():
                self._speech.disputed(event)
            case GateClosed(why):
                self._failsafe.give_up()
                self._renewals.give_up(f"the gate is closed: {why}")
                self._groups.decide_all()
            case InterfaceChanged():
                self._interface(event)
            case HostAddresses():
                self._foreign.found(event)
                if self._membership.missing != event.missing:
                    self._membership.missing = event.missing
                    self._groups.assess_all()
            case FenceConfirmed() | FenceRefused() | FenceTimedOut():
                self._groups.fences.answered(event)
                self._groups.decide_all()
            case HeartbeatReceived():
                promises.promise(event, self._context)
            case PromiseReceived():
                self._failsafe.promised(event)
                self._rest_on_promises()
            case ReachReported():
                self._groups.reported(event)
            case WallClockRead(offset):
                self._context.wall_ahead = offset
                self._groups.decide_all()
            case WindowChanged():
                self._groups.window(event)
            case RulesChanged(rules):
                self._groups.reload(rules)
            case StopRequested():
                self._groups.stopping = True
                self._groups.assess_all()
            case TimePassed():
                pass
            case _:
                assert_never(event)

    def _run_timers(self) -> None:
        context = self._context
        while (timer := context.timers.pop(context.now)) is not None:
            match timer.what:
                case "renew" if not self._resigned:
                    self._renew()
                    self._membership.sync(self.lease)
                    self.view.drop_expired(context.now)
                    self._groups.fences.forget()
                    self._groups.tell_waits()
                case "watch":
                    self._renewals.watch_the_watch()
                case "group" if timer.name in self.groups:
                    self._groups.decide(timer.name)
                case "router" if timer.name in self.routers:
                    if self._speech.tick(timer.name):
                        self._groups.decide(self._speech.group_of[timer.name])
                case "fence":
                    self._groups.fences.overdue(timer.name)
                    self._groups.decide_all()
                case "damping" if timer.name in self.groups:
                    self._groups.reconsider(timer.name)
                    self._groups.decide(timer.name)
                case "reach" if timer.name in self.groups:
                    self._groups.reachable_again(timer.name)
                case _:
                    pass  # "lapse" was seen to before all else; the others are of what is gone

    def _renew(self) -> None:
        held, round_before = isinstance(self.lease, Held), self.lease.questions.round
        self._renewals.ask(self._groups.owned())
        if held and not isinstance(self.lease, Held):
            self._groups.decide_all()
        questions = self.lease.questions
        if questions.round > round_before:
            self._failsafe.ask(questions.round, questions.asked[-1].ttl, self._groups.tenures())
            self._rest_on_promises()

    def _list(self, event: Listed) -> None:
        context = self._context
        rewound = self.view.rewound(event)
        if rewound:
            self._begin_history()
        first = self.view.observed_since == NEVER
        for seen in self.view.list(event, self.rules, context.now):
            self._news(seen, streamed=True)
        if rewound:
            self._groups.ordered()  # that there are none in this history is told by no news
        if first:
            self._renewals.now()
            self._groups.decide_all()

    def _begin_history(self) -> None:
        """etcd has another history than the one observed so far: nothing is held by it, and nothing known of it."""
        self._context.alarm("etcd-rewound", "etcd", "its history is another one: wiped or restored")
        self.view.forget(frozenset(self._groups.owned()))
        self._failsafe.give_up()
        self._context.calm_all("unreadable")
        self._renewals.start_over("etcd was wiped or restored")

    def _watch(self, event: Watched) -> None:
        if self.view.observed_since == NEVER:
            return  # of a watch whose list is not known any more
        for seen in self.view.watch(event, self.rules, self._context.now):
            self._news(seen, streamed=True)
        if self.view.gap:
            self.view.gap = False
            self._context.out.append(Resync())

    def _news(self, seen: Seen, streamed: bool) -> None:
        """Something new about a key; `streamed` when it came in the stream, which is complete up to it."""
        kind, name = seen.key
        self._context.tell_readable(seen)
        match kind:
            case Kind.LEASES if name == self.rules.node:
                if self._renewals.own_key(seen, streamed):
                    self._membership.sync(self.lease)
                    self._groups.decide_all()
            case Kind.OWNERS | Kind.INTENTS if name in self.groups:
                self._groups.decide(name)
            case Kind.MEMBERS:
                self._membership.meet()
                self._groups.member(name)
            case Kind.ORDERS:
                self._groups.ordered()
            case Kind.LEASES | Kind.OWNERS | Kind.INTENTS | Kind.HISTORY:
                pass

    def _answer(self, event: Committed | Refused | Unanswered) -> None:
        ask = event.ask
        match ask.kind:
            case Asking.RENEW if isinstance(event, Committed):
                self._renewals.committed(event.revision)
            case Asking.RENEW if isinstance(event, Unanswered):
                self._renewals.unanswered(event.why)
            case Asking.MEMBER:
                self._membership.answered(ask)
            case _:
                pass
        waits = ask.kind in (Asking.CLAIM, Asking.RELEASE) and ask.name in self.groups
        if isinstance(event, Refused):
            self._refused(event)
        elif isinstance(event, Committed) and waits and (record := self._groups.written(ask)) is not None:
            self._learn((Seen(Key(Kind.OWNERS, ask.name), 0, event.revision, record),))
        if waits:
            self._groups.answered(event)

    def _refused(self, event: Refused) -> None:
        if self.view.contradicted(event):
            self._begin_history()
            self._context.out.append(Resync(broken=True))
            self._groups.decide_all()
        elif self.view.observed_since != NEVER:
            self._learn(event.seen)

    def _learn(self, news: tuple[Seen, ...]) -> None:
        for seen in news:
            if self.view.answer(seen, self.rules, self._context.now):
                self._news(seen, streamed=False)

    def _interface(self, event: InterfaceChanged) -> None:
        before = self._membership.interfaces.get(event.name)
        self._membership.interfaces[event.name] = event
        self._speech.moved(before, event)
        for name, group in self.rules.groups.items():
            if event.name in fitness.used(group) and name in self.groups:  # assessing one that retires may end others
                self._groups.assess(name)
        self._membership.sync(self.lease)

    def _maybe_resign(self) -> None:
        """Everything is given up and nothing names us: end the session, once."""
        if not self._resigned and self._groups.given_up():
            self._resigned = True
            self._context.timers.set(RENEW, NEVER)
            self._context.out.append(Resign())
