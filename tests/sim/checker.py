"""What must never happen, checked after every event in real time; and what must happen once the world has healed.

1. Authority: at most one host has the right to answer for a group: its core is `Owning` and its clock is before the
   end of its lease.
2. Kernels: a kernel may answer beyond its agent's right only with an excuse: the agent did not run when its right
   ended, or the kernel itself was in trouble. Such overlaps are counted. No excuse covers a release or a handover that
   was written while the writer's kernel still answered.
   With a gate there is no excuse, whatever slept, died, hung or was slow.
3. Where there is a fencing plug-in, nothing is claimed from who lapsed before it has confirmed.
4. Operators' orders and times are kept by whoever knows of them (`tests.sim.obedience`).
5. Adverts are sent only by right, epochs only grow within a history, and the core's own invariants hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from haagent.core.claims import HISTORY_KEPT
from haagent.core.fencing import victim
from haagent.core.model import Asking, Commit, SendAdvert
from haagent.core.records import Kind, OwnerRecord, Put
from haagent.core.states import Leaving, Owning
from haagent.core.units import MS, Duration, Instant
from tests.sim.obedience import Obedience

if TYPE_CHECKING:
    from tests.sim.host import Agent, Host
    from tests.sim.world import World

LATE: Duration = 6 * MS
"""What a timer may be late without anybody having slept."""


class Violation(Exception):  # noqa: N818 - it is what a checker finds, not an error of the program
    """A property does not hold."""


class Checker:
    """Watches a world. Any breach of safety raises `Violation` at the event that caused it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._obedience = Obedience(world)
        self._rights: dict[str, dict[Host, tuple[Instant, Agent]]] = {}
        self._answering: dict[str, dict[Host, Instant]] = {}
        self._epochs: dict[str, tuple[int, str]] = {}
        self._may_change: dict[str, bool] | None = None

    # --- authority

    def stepped(self, agent: Agent) -> None:
        """An agent took in an event: has it, or has it lost, the right to answer?"""
        now, host, node = self._world.now, agent.host, agent.node
        if node.failsafe.since:
            self._world.totals["steps by promises"] += 1
        for name, state in node.groups.items():
            rights = self._rights.get(name)
            until = host.real(node.right(name)) if isinstance(state, Owning) else 0
            if until > now:
                if rights is None:
                    rights = self._rights[name] = {}
                rights[host] = (until, agent)
                if len(rights) > 1:
                    self._only_right(name, rights, host)
            elif rights and host in rights and rights[host][1] is agent:
                ended, _ = rights.pop(host)
                self._excuse_if_absent(name, agent, min(ended, now))
            _forbid(self._obedience.stepped(agent, name, state))

    def _only_right(self, name: str, rights: dict[Host, tuple[Instant, Agent]], host: Host) -> None:
        now = self._world.now
        for other, (until, agent) in list(rights.items()):
            if other is host:
                continue
            entry = other.kernel.entry(name)
            if until > now and not agent.alive and not entry.present and not entry.busy:
                del rights[other]  # swept by who came after it on the same host, which needs no right for that
            elif until > now:
                me = rights[host][1]
                raise Violation(f"{name}: {me!r} owns although {agent!r} has the right until {until / MS:.3f}")
            elif not agent.alive or agent.paused:
                del rights[other]
                self._excuse_if_absent(name, agent, until)

    def _excuse_if_absent(self, name: str, agent: Agent, ended: Instant) -> None:
        entry = agent.host.kernel.entry(name)
        if (entry.present or entry.busy) and agent.absent_at(ended - 1, ended + LATE):
            entry.excuse = "agent absent"

    def holders(self) -> list[tuple[Instant, Host, Agent]]:
        """Who has the right to answer for some group now, and until when."""
        now = self._world.now
        found = {
            host: (until, host, agent) for rights in self._rights.values() for host, (until, agent) in rights.items()
        }
        return [one for one in found.values() if one[0] > now and one[2].alive]

    def _right(self, name: str, host: Host) -> tuple[Instant, Agent] | None:
        return self._rights.get(name, {}).get(host)

    def gone(self, host: Host) -> None:
        """The machine is no more, its kernel either."""
        for rights in self._rights.values():
            rights.pop(host, None)

    # --- kernels

    def kernel_changed(self, host: Host, name: str) -> None:
        """A kernel began or ceased to answer for a group."""
        now = self._world.now
        answering = self._answering.setdefault(name, {})
        if not host.kernel.answers(name):
            if answering.pop(host, None) is not None and len(answering) == 1:
                self._world.remark("overlap over", name)
            return
        answering.setdefault(host, now)
        if len(answering) > 1:
            self._overlap(name, list(answering))

    def _overlap(self, name: str, answering: list[Host]) -> None:
        now = self._world.now
        if self._world.gated:
            raise Violation(f"{name}: {_names(answering)} answer at once, whatever their gates")
        inexcusable: list[Host] = []
        for host in answering:
            entry, right = host.kernel.entry(name), self._right(name, host)
            if right is not None and now < right[0]:
                inexcusable.append(host)
                continue
            excuse = entry.excuse
            if excuse is None and right is not None and right[1].absent_at(right[0] - 1, right[0] + LATE):
                excuse = "agent absent"
            if excuse is None:
                inexcusable.append(host)
            else:
                self._world.remark(f"excused overlap ({excuse})", f"{name} {host.name}")
        if len(inexcusable) > 1:
            raise Violation(f"{name}: {_names(inexcusable)} answer at once, without an excuse")

    # --- what is said and written

    def advertised(self, agent: Agent, effect: SendAdvert) -> None:
        """An advert leaves the host."""
        now, node, host = self._world.now, agent.node, agent.host
        if agent.absent_at(now, now):
            return  # it slept between deciding and sending: the advert is a hint, and late
        group = next(
            (one.name for one in node.rules.groups.values() for router in one.routers if router.name == effect.router),
            None,
        )
        if group is None:
            raise Violation(f"{agent!r} advertises {effect.router}, which is not in its rules")
        if host.real(node.right(group)) <= now:
            raise Violation(f"{agent!r} advertises {effect.router} without a lease")
        record = node.view.record(group)
        if record is None or record.incarnation != node.rules.incarnation:
            raise Violation(f"{agent!r} advertises {effect.router} without a record")
        leaving = isinstance(node.groups[group], Leaving)
        if effect.priority == 0 and host.kernel.entry(group).present and leaving:
            raise Violation(f"{agent!r} says that it stops {effect.router}, and still answers")

    def asked(self, agent: Agent, effect: Commit) -> None:
        """A transaction leaves the host."""
        _forbid(self._obedience.asked(agent, effect))
        if effect.ask.kind is Asking.RELEASE:
            self._only_when_silent(agent, effect, "asks to give up")
        if effect.ask.kind is Asking.CLAIM:
            self._only_when_fenced(agent, effect.ask.name)

    def _only_when_fenced(self, agent: Agent, group: str) -> None:
        record = victim(agent.node.view, agent.node.rules, group)
        if record is not None and record.incarnation not in agent.fenced:
            raise Violation(f"{agent!r} claims {group} from {record.incarnation}, which is not fenced")

    def commits(self, agent: Agent, effect: Commit) -> None:
        """A transaction's guards hold: it is about to be done."""
        if effect.ask.kind is Asking.RELEASE:
            self._only_when_silent(agent, effect, "gives up")
        for put in effect.puts:
            if put.key.kind is Kind.OWNERS and isinstance(put.value, OwnerRecord):
                self._owner_changes(agent, put, put.value)

    def _only_when_silent(self, agent: Agent, effect: Commit, does: str) -> None:
        group = effect.ask.name
        entry = agent.host.kernel.entries.get(group)
        if entry is not None and entry.present:
            raise Violation(f"{agent!r} {does} {group} while its kernel answers")

    def _owner_changes(self, agent: Agent, put: Put, record: OwnerRecord) -> None:
        name = put.key.name
        epoch, incarnation = self._epochs.get(name, (0, ""))
        changes = record.incarnation != incarnation
        if record.epoch < epoch or (changes and record.epoch == epoch):
            raise Violation(f"{name}: {agent!r} writes epoch {record.epoch} after {epoch} of {incarnation}")
        self._epochs[name] = (record.epoch, record.incarnation)
        if record.epoch != epoch:
            if self._may_change is not None and not (self._may_change.get(name) and "handover" in record.reason):
                raise Violation(f"liveness: {name} changes its owner without a cause: {record}")
            self._world.remark("owner", f"{name} {record.incarnation} epoch {record.epoch} ({record.reason})")

    def rewound(self) -> None:
        """Another history begins: epochs count from what stands in it."""
        self._epochs.clear()
        for key, seen in self._world.etcd.keys.items():
            if key.kind is Kind.OWNERS and isinstance(seen.value, OwnerRecord):
                self._epochs[key.name] = (seen.value.epoch, seen.value.incarnation)

    def epoch(self, name: str) -> int:
        """The newest epoch of a group in this history."""
        return self._epochs.get(name, (0, ""))[0]

    def meddled(self, name: str) -> None:
        """A record was destroyed by hand. Its history still has its epochs, unless that was wiped, or got too long."""
        if self._world.etcd.history > 1 or self.epoch(name) > HISTORY_KEPT:
            self._epochs.pop(name, None)

    # --- liveness

    def calm(self, preempted: dict[str, bool]) -> None:
        """From now on no group changes its owner, unless its best candidate preempts."""
        self._may_change = preempted

    def settled(self, expected: dict[str, bool]) -> None:
        """Each group has exactly one owner, which answers, and which every view names.

        Where none is expected, nobody answers.
        """
        now, world = self._world.now, self._world
        for name, wanted in expected.items():
            rights = [
                host for host, (until, agent) in self._rights.get(name, {}).items() if until > now and agent.alive
            ]
            answering = list(self._answering.get(name, {}))
            if not wanted:
                if answering:
                    raise Violation(f"liveness: {name} is answered for by {_names(answering)}, against a stranger")
                continue
            if len(rights) != 1 or answering != rights:
                raise Violation(
                    f"liveness: {name} is owned by {_names(rights) or 'nobody'}, answered for by "
                    f"{_names(answering) or 'nobody'}"
                )
            owner = rights[0].agent
            assert owner is not None
            incarnation = owner.node.rules.incarnation
            for host in world.hosts:
                record = host.agent.node.view.record(name) if host.agent is not None else None
                if host.agent is not None and (record is None or record.incarnation != incarnation):
                    raise Violation(f"liveness: {name} is owned by {incarnation}, {host.name} believes {record}")


def _forbid(wrong: str) -> None:
    if wrong:
        raise Violation(wrong)


def _names(hosts: list[Host]) -> str:
    return ", ".join(host.name for host in hosts)
