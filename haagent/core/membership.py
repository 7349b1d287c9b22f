"""What the node's own interfaces mean: faults, standings, and the member key that tells the others."""

from __future__ import annotations

from collections.abc import Iterable

from haagent.core import fitness
from haagent.core.context import Context
from haagent.core.lease import Held, Lease
from haagent.core.model import Ask, Asking, Commit, GroupRules, InterfaceChanged, Meet
from haagent.core.records import Guard, Key, Kind, MemberValue, Put, Standing
from haagent.core.units import Instant


class Membership:
    """Keeps the interfaces, the sources that are missing, each group's faults and standing, and the member key."""

    def __init__(self, context: Context) -> None:
        self.interfaces: dict[str, InterfaceChanged] = {}
        self.missing: frozenset[bytes] = frozenset()
        self.faults: dict[str, tuple[str, ...]] = {}
        self.standings: dict[str, Standing] = {}
        self._context = context
        self._asked: tuple[Ask, Instant] | None = None
        self._asks = 0
        self._met: tuple[tuple[str, str], ...] = ()

    def assess(self, group: GroupRules, banned: Iterable[str], damped: bool = False) -> None:
        """Find the group's faults; `banned` are reasons that have nothing to do with interfaces.

        A drained node has no faults, but can not own; one that is damped stands last.
        """
        faults = (*banned, *fitness.faults(group, self.interfaces, self.missing))
        self.faults[group.name] = faults
        unfit = bool(faults) or self._context.rules.node in self._context.view.orders.drained
        self.standings[group.name] = fitness.standing(group, self.interfaces, unfit, damped)

    def forget(self, group: str) -> None:
        """The group is no longer configured."""
        self.faults.pop(group, None)
        self.standings.pop(group, None)

    def meet(self) -> None:
        """Say who the peers are, if they are others than before: those that have told where they are reached."""
        context = self._context
        if not context.rules.endpoint:
            return
        me, members = context.rules.node, context.view.members
        peers = tuple(sorted((name, one.endpoint) for name, one in members.items() if one.endpoint and name != me))
        if peers != self._met:
            self._met = peers
            context.out.append(Meet(peers))

    def answered(self, ask: Ask) -> None:
        """The write of the member key was done, refused or lost: what the view shows decides whether to try again."""
        if self._asked is not None and self._asked[0] == ask:
            self._asked = None

    def sync(self, lease: Lease) -> None:
        """Write the member key if it does not say what is so, once at a time, while the lease runs."""
        context = self._context
        rules = context.rules
        if not isinstance(lease, Held) or lease.created == 0:
            return
        if self._asked is not None and context.now < self._asked[1] + rules.ttl:
            return
        value = MemberValue(
            rules.incarnation,
            rules.version,
            fitness.sources(rules.groups.values(), self.interfaces),
            dict(self.standings),
            rules.endpoint,
            rules.machine,
        )
        if context.view.members.get(rules.node) == value:
            return
        self._asks += 1
        ask = Ask(Asking.MEMBER, rules.node, self._asks)
        self._asked = (ask, context.now)
        guards = (Guard(Key(Kind.LEASES, rules.node), lease.created, created=True),)
        put = Put(Key(Kind.MEMBERS, rules.node), value, session=True)
        context.out.append(Commit(ask, guards, (put,), (), patience=rules.ttl))
