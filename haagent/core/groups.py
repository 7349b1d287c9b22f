"""The groups of a node: their states, their roles, and what a reload makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from haagent.core import claims, fitness, ownership, policy, roles, states, vrrp, waiting
from haagent.core.candidates import names
from haagent.core.claims import Situation
from haagent.core.context import Context, Timer
from haagent.core.failsafe import Failsafe
from haagent.core.fencing import Fences
from haagent.core.heartbeat import NO_OFFER, Offer, Tenure
from haagent.core.lease import Held
from haagent.core.membership import Membership
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    Announce,
    Ask,
    Committed,
    GroupRules,
    KernelFailed,
    Refused,
    Role,
    RoleChanged,
    Rules,
    Unanswered,
    WindowChanged,
)
from haagent.core.planning import Planning
from haagent.core.reach import ReachReported, Unreachable
from haagent.core.reachability import Reach
from haagent.core.records import Candidate, OwnerRecord
from haagent.core.renewal import Renewals
from haagent.core.speech import Speech
from haagent.core.states import Decision, Fencing, Following, GroupState, Leaving, Owning
from haagent.core.units import NEVER, Instant


class Groups:
    """Keeps `states` and `roles` by group, and `fences`. `touched`: those that the present step has decided on."""

    def __init__(
        self, context: Context, renewals: Renewals, failsafe: Failsafe, membership: Membership, speech: Speech
    ) -> None:
        self.states: dict[str, GroupState] = {}
        self.roles: dict[str, Role] = {}
        self.touched: set[str] = set()
        self.stopping = False
        self.fences = Fences(context)
        self._planning = Planning(context)
        self._reach = Reach(context)
        self._offers: dict[str, Offer] = {}
        self._retiring: set[str] = set()
        self._open_until: Mapping[str, Instant] = {}
        self._context = context
        self._renewals = renewals
        self._failsafe = failsafe
        self._membership = membership
        self._speech = speech

    def owned(self) -> tuple[str, ...]:
        """The groups that this node owns."""
        return tuple(name for name, state in self.states.items() if isinstance(state, Owning))

    def barred(self) -> dict[str, str]:
        """Why this node, though it may be fit, must not claim a group now, by group: paused, or drained."""
        found = {name: policy.barred(self._situation(name)) for name in self.states}
        return {name: why for name, why in found.items() if why}

    def tenures(self) -> dict[Tenure, frozenset[Candidate]]:
        """What this node owns, by which epoch, and who may claim it: who its record names, or may name by now."""
        found: dict[Tenure, frozenset[Candidate]] = {}
        for name, state in self.states.items():
            record = self._context.view.record(name)
            if isinstance(state, Owning) and record is not None:
                found[Tenure(name, record.epoch)] = record.named | state.offer.names
        return found

    def right(self, name: str) -> Instant:
        """Until when this node may answer for the group, if it owns it: by its lease, or by promises. 0: no longer."""
        context, held = self._context, self._renewals.lease
        ours = claims.is_ours(context.view, context.rules, held, name)
        until = held.held_until if ours and isinstance(held, Held) else 0
        return max(until, self._failsafe.until) if self._carried(name) else until

    def _carried(self, name: str) -> bool:
        record = self._context.view.record(name)
        return (
            record is not None
            and claims.named(self._context.view, self._context.rules, name)
            and self._failsafe.carries(Tenure(name, record.epoch))
        )

    def given_up(self) -> bool:
        """Whether nothing is held, nothing is under way, and no record names us."""
        context = self._context
        following = all(isinstance(state, Following) for state in self.states.values())
        return following and not any(claims.named(context.view, context.rules, name) for name in self.states)

    def check(self) -> None:
        """The invariants of the groups that the last step has decided on."""
        for name in self.touched & self.states.keys():
            state = self.states[name]
            owning = isinstance(state, Owning)
            held = isinstance(self._renewals.lease, Held)
            assert not isinstance(state, Fencing) or held, f"{name}: fences without a lease"
            assert not owning or self.right(name) > self._context.now, f"{name}: owned by no record"
            for router in self._context.rules.groups[name].routers:
                here = self._speech.group_of[router.name] == name  # not in one that a reload takes it from
                speaks = here and isinstance(self._speech.routers[router.name].phase, vrrp.Master)
                assert not speaks or owning, f"{router.name} speaks without owning"

    # --- what makes a group decide

    def decide(self, name: str) -> None:
        """Something that concerns the group has changed."""
        self._become(name, ownership.decide(self.states[name], self._situation(name)))

    def decide_all(self) -> None:
        """Something that concerns every group has changed."""
        for name in list(self.states):
            if name in self.states:  # deciding on one that retires may end others
                self.decide(name)

    def tell_waits(self) -> None:
        """What of promises is waited for, and for how long."""
        for name, state in self.states.items():
            waiting.tell(name, isinstance(state, Owning), self._context)

    def member(self, node: str) -> None:
        """A node's member key is another one, or gone: also for groups that it has given up by a reload."""
        view = self._context.view
        member = view.members.get(node)
        for name in list(self.states):
            concerned = member is None or name in member.standings or names(view, name, node)
            if concerned and name in self.states:  # deciding on one that retires may end others
                self.decide(name)

    def ordered(self) -> None:
        """Operators' orders are others than before."""
        self._planning.tell_orders()
        self.assess_all()

    def window(self, event: WindowChanged) -> None:
        """A failback window opened or closed."""
        if event.group in self.states:
            self._planning.window(event)
            self.decide(event.group)

    def reported(self, event: ReachReported) -> None:
        """The peers say whether what this node owns by that epoch answers them."""
        state = self.states.get(event.group)
        if not isinstance(state, Owning) or state.epoch != event.epoch:
            return
        self._reach.tell(event)
        at = self._situation(event.group)
        others = (node for node in at.view.members if node != at.rules.node)
        release = at.group.on_unreachable is Unreachable.RELEASE
        if event.silent and release and any(claims.able(at, node) for node in others):
            self._reach.bar(event.group, event.silent)
            self.assess(event.group)
            self._membership.sync(self._renewals.lease)

    def reachable_again(self, group: str) -> None:
        """The time is over for which this node does not own the group, as it did not answer for it."""
        self._reach.forget(group)
        self.assess(group)
        self._membership.sync(self._renewals.lease)

    def answered(self, event: Committed | Refused | Unanswered) -> None:
        """What the view makes of an answer to this group's question is known; now its waiting is over."""
        ask = event.ask
        state, at = self.states[ask.name], self._situation(ask.name)
        if isinstance(event, Unanswered):
            self._become(ask.name, ownership.unanswered(state, ask, at))
        else:
            self._become(ask.name, ownership.answered(state, ask, isinstance(event, Committed), at))

    def written(self, ask: Ask) -> OwnerRecord | None:
        """The record that the transaction of this question wrote, if its group still waits for the answer."""
        return ownership.written(self.states[ask.name], ask)

    def kernel(self, event: AddressesInstalled | AddressesRemoved | KernelFailed) -> None:
        """The kernel answered."""
        name = event.group
        if name not in self.states:
            return
        state, at = self.states[name], self._situation(name)
        match event:
            case AddressesInstalled(_, serial):
                self._become(name, ownership.installed(state, serial, at))
                self._speak(at.group, was_ready=isinstance(state, Owning) and state.ready)
            case AddressesRemoved(_, serial):
                leaving = isinstance(state, Leaving) and state.serial == serial and not state.removed
                if leaving and claims.is_ours(self._context.view, self._context.rules, self._renewals.lease, name):
                    # RFC 9568 6.4.3, Shutdown: the lease still runs, so the last word may be said.
                    self._speech.farewell(at.group, self._membership.interfaces)
                self._become(name, ownership.removed(state, serial, at))
            case KernelFailed(_, serial, why):
                self._become(name, ownership.kernel_failed(state, serial, why, at))

    # --- what becomes of it

    def _situation(self, name: str) -> Situation:
        membership, group = self._membership, self._context.rules.groups[name]
        held_off = self._speech.held_off(group, isinstance(self.states[name], Owning), membership.interfaces)
        return Situation(
            rules=self._context.rules,
            group=group,
            lease=self._renewals.lease,
            view=self._context.view,
            standing=membership.standings[name],
            faults=membership.faults[name] + held_off,
            now=self._context.now,
            fence=self.fences.verdict(name),
            unseen=fitness.unseen(group, membership.interfaces),
            plans=self._planning.plans(name),
            failsafe=self._failsafe.since > 0,
            carried=self._carried(name),
            until=self.right(name),
            offer=self._offers.get(name, NO_OFFER),
        )

    def _become(self, name: str, decision: Decision) -> None:
        before, (after, effects) = self.states[name], decision
        self.states[name] = after
        if isinstance(after, Owning):
            self._offers[name] = after.offer  # kept beyond the state: what was written may still be done
        self.touched.add(name)
        self._context.out += effects
        self._context.timers.set(Timer("group", name), states.due(after))
        if isinstance(after, Fencing):
            self.fences.ask(name)
        if isinstance(before, Owning) and not isinstance(after, Owning):
            self._reach.left(name)
            if self._context.view.record(name) is None:
                self._context.view.let_go(name)
            self._speech.demote(self._context.rules.groups[name])
            self._speech.fit(self._context.rules.groups[name], not self._membership.faults[name])
            self._count_loss(name, after)
        self._tell_role(name, after)
        if self._planning.concerns(name):
            self._planning.tell_waiting(after, self._situation(name))
        if name in self._retiring and isinstance(after, Following):
            self._drop(name)

    def _count_loss(self, name: str, after: GroupState) -> None:
        """An owner is none any more: perhaps it goes last from now on."""
        faulty, held = bool(self._membership.faults[name]), isinstance(self._renewals.lease, Held)
        planned = self.stopping or name in self._retiring
        if not planned and self._planning.lost(name, after, faulty, held):
            self.reconsider(name)

    def reconsider(self, name: str) -> None:
        """This node is damped for the group from now on, or is so no longer."""
        self._planning.tell_damping(name)
        group = self._context.rules.groups[name]
        before = self._membership.standings[name]
        self._membership.assess(group, self._banned(group), self._planning.damped(name))
        if self._membership.standings[name] != before:
            self._membership.sync(self._renewals.lease)

    def _speak(self, group: GroupRules, was_ready: bool) -> None:
        """The kernel has the addresses: only now may adverts and announcements go out."""
        state = self.states.get(group.name)
        if not isinstance(state, Owning) or not state.ready:
            return
        if was_ready:  # it has others since a reload: tell the neighbours, and speak for routers that are new
            self._context.out += [Announce(router.name) for router in group.routers]
        silent = [one for one in group.routers if not isinstance(self._speech.routers[one.name].phase, vrrp.Master)]
        self._speech.promote(replace(group, routers=tuple(silent)))

    def _tell_role(self, name: str, state: GroupState) -> None:
        before, faults = self.roles[name], self._membership.faults[name]
        after = roles.role(state, faults, before)
        if after is not before:
            self.roles[name] = after
            why = roles.why(state, faults, before, after, self._context.view.record(name))
            self._context.out.append(RoleChanged(name, before, after, why, self._context.view.epochs.get(name, 0)))

    def assess(self, name: str) -> None:
        """What the interfaces (and a stop, and a reload) mean for a group."""
        group = self._context.rules.groups[name]
        self._membership.assess(group, self._banned(group), self._planning.damped(name))
        if not isinstance(self.states[name], Owning):
            self._speech.fit(group, not self._membership.faults[name])
        self.decide(name)

    def _banned(self, group: GroupRules) -> tuple[str, ...]:
        retiring = [self._context.rules.groups[name] for name in sorted(self._retiring)]
        return (*fitness.banned(group, retiring, self.stopping), *self._reach.faults(group.name))

    def assess_all(self) -> None:
        """What concerns every group's fitness has changed."""
        for name in list(self.states):
            if name in self.states:  # deciding on one that retires may end it
                self.assess(name)
        self._membership.sync(self._renewals.lease)

    def start(self, open_until: Mapping[str, Instant]) -> None:
        """The node begins. `open_until`: until when the gate lets pass what an earlier incarnation held, by group."""
        self._open_until = open_until
        for group in self._context.rules.groups.values():
            self.add(group)
        self._open_until = {}

    def add(self, group: GroupRules) -> None:
        """A group that was not configured before. First the kernel must be known to answer for nothing."""
        self._membership.assess(group, self._banned(group))
        self._speech.demote(group)  # a router may come from a group that is owned
        self._speech.fit(group, not self._membership.faults[group.name])
        state, effects = ownership.start(group, self._open_until.get(group.name, 0), self._context.now)
        self.states[group.name] = state
        self.roles[group.name] = Role.INIT
        self._context.out += effects
        self._context.timers.set(Timer("group", group.name), states.due(state))

    def _drop(self, name: str) -> None:
        self._retiring.discard(name)
        del self.states[name]
        del self.roles[name]
        self._membership.forget(name)
        self._planning.forget(name)
        self._context.calm(waiting.ALARM, name)
        self._reach.forget(name)
        groups = {key: group for key, group in self._context.rules.groups.items() if key != name}
        self._context.rules = replace(self._context.rules, groups=groups)
        self._speech.configure(groups)
        self._context.timers.set(Timer("group", name), NEVER)
        self.assess_all()

    def reload(self, rules: Rules) -> None:
        """New rules. What is no longer configured is given up first, and kept in the rules until it is."""
        before = self._context.rules.groups
        gone = {name: group for name, group in before.items() if name not in rules.groups}
        self._retiring = set(gone)
        shorter = rules.ttl < self._context.rules.ttl
        self._context.rules = replace(rules, groups={**rules.groups, **gone})
        self._speech.configure(dict(self._context.rules.groups))
        for name, group in rules.groups.items():
            if name not in before:
                self.add(group)
            elif group != before[name]:
                self._membership.assess(group, self._banned(group), self._planning.damped(name))
                self._planning.tell_damping(name)
                self._become(name, ownership.refresh(self.states[name], self._situation(name)))
                if not isinstance(self.states[name], Owning):
                    self._speech.demote(group)
        self.assess_all()
        if shorter:
            self._renewals.now()
