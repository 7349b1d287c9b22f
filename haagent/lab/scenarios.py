"""What can happen to a cluster, and what the client saw of it. The demo tells them, the trials repeat them.

Each scenario starts from a whole cluster (`Cluster.restore`) whose owner answers, does one thing, and returns an
`Outcome` once another node answers and a while has passed in which a second one could have shown itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from haagent.core.units import MS, Duration, Instant
from haagent.lab.cluster import Cluster
from haagent.lab.commands import LabError, now
from haagent.lab.faults import Direction
from haagent.lab.host import Host
from haagent.lab.prober import Prober
from haagent.lab.switch import Fault
from haagent.lab.timeline import Answer

SETTLE: Duration = 400 * MS
"""How long the client goes on asking after the new owner's first answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an event at `at` did to the address.

    `took`: from the event to the first answer of the new owner. `gap`: the longest time without any answer.
    `most`: the most nodes that answered at one instant; `overlap`: for how long, added up. `blind`: how much of the
    gap the client itself could not ask. `said`: what an operator's command said of it.
    """

    before: str | None
    after: str
    epoch: int
    at: Instant
    took: Duration
    gap: Duration
    most: int
    overlap: Duration
    blind: Duration
    said: str = ""


class Rehearsal:
    """A cluster, and a client that asks for its addresses all the time; `vip` is the one whose gaps are told."""

    def __init__(self, cluster: Cluster, prober: Prober, vip: str) -> None:
        self.cluster = cluster
        self.prober = prober
        self.vip = vip

    def cold_start(self) -> Outcome:
        """All nodes start at once, nobody owns. The event is the first agent's first word: its process has started."""
        self.cluster.start()
        first = self.prober.wait_for_answer(self.vip, after=now(), timeout=20.0)
        outcome = self._outcome(None, self.cluster.first_word(), first.at, first.node)
        self.cluster.restore()
        return outcome

    def switchover(self) -> Outcome:
        """An operator moves the group to another node by `haagentctl switchover`, asked of a third one."""
        owner = self._owner()
        target, asked = [host for host in self.cluster.lab.hosts if host is not owner][:2]
        began = now()
        command = self.cluster.ctl(asked, "switchover", self.cluster.group, "--to", target.name, "--force")
        if command.returncode != 0:
            raise LabError(f"haagentctl switchover: {command.returncode}\n{command.stdout}{command.stderr}")
        first = self._succeeded(owner, began)
        said = next(line for line in command.stdout.splitlines() if line.startswith(f"{self.cluster.group}: "))
        return replace(self._outcome(owner.name, began, first.at, first.node), said=said)

    def graceful_stop(self) -> Outcome:
        """The owner's agent gets SIGTERM. The event is the last answer: stopping may take as long as it likes."""
        owner = self._owner()
        began = now()
        agent = self.cluster.agents[owner.name]
        agent.signal(signal.SIGTERM)
        first = self._succeeded(owner, began)
        return self._outcome(owner.name, began, first.at, first.node)

    def lose_host(self) -> Outcome:
        """The owner's cables are pulled and all its processes die, at once."""
        owner = self._owner()
        return self._after(owner, lambda: self.cluster.lab.lose_host(owner))

    def kill(self) -> Outcome:
        """The owner's agent gets SIGKILL; nobody is left to take the address away."""
        owner = self._owner()
        began = self.cluster.agents[owner.name].kill()
        first = self._succeeded(owner, began)
        return self._outcome(owner.name, began, first.at, first.node)

    def stop_and_continue(self) -> Outcome:
        """The owner's agent gets SIGSTOP, and SIGCONT once another node owns: it must not believe what it did."""
        owner = self._owner()
        agent = self.cluster.agents[owner.name]
        began = now()
        agent.pause()
        first = self._succeeded(owner, began)
        agent.resume()
        return self._outcome(owner.name, began, first.at, first.node)

    def restart(self) -> Outcome:
        """The owner's agent is killed and started again at once, as a service manager does."""
        owner = self._owner()
        epoch = self.cluster.epoch()
        began = self.cluster.agents[owner.name].kill()
        self.cluster.start([owner])
        self.cluster.wait(lambda: self.cluster.epoch() > epoch, "the group is claimed again")
        first = self.prober.wait_for_answer(self.vip, after=now())
        return self._outcome(owner.name, began, first.at, first.node)

    def cut_from_etcd(self) -> Outcome:
        """The owner no longer reaches etcd, nor etcd it; clients and peers do."""
        owner = self._owner()
        return self._after(owner, lambda: self.cluster.lab.cut_from_etcd(owner))

    def etcd_away(self, seconds: float = 5.0) -> Outcome:
        """All of etcd is stopped in its tracks for a while. With peers, their promises carry the owner."""
        etcd = self.cluster.lab.etcd

        def back() -> None:
            etcd.resume()
            etcd.wait_ready()

        return self._stays(etcd.pause, seconds, back)

    def etcd_away_and_candidate_dead(self) -> Outcome:
        """All of etcd is stopped in its tracks, then a candidate's agent gets SIGKILL. The event is the second.

        `after` is nobody, and `took` is until the last answer.
        """
        owner, epoch = self._owner(), self.cluster.epoch()
        candidate = next(host for host in self.cluster.lab.hosts if host is not owner)
        self.cluster.lab.etcd.pause()
        time.sleep(2)
        began = self.cluster.agents[candidate.name].kill()
        time.sleep(2)
        last = self.prober.timeline(began - 100 * MS).last_answer_before(self.vip, now())
        assert last is not None, "the owner answers until its deadline"
        self.cluster.lab.etcd.resume()
        self.prober.wait_for_answer(self.vip, after=now(), timeout=20.0)
        time.sleep(SETTLE / 1e9)
        seen = self.prober.timeline(began - 100 * MS)
        took, overlap = last.at - began, sum(overlap.length for overlap in seen.overlaps())
        return Outcome(owner.name, "nobody", epoch, began, took, 0, seen.most_at_once(), overlap, 0)

    def owner_without_etcd(self, seconds: float = 5.0) -> Outcome:
        """The owner alone no longer reaches etcd, and hears its peers: with promises it stays."""
        owner = self._owner()
        return self._stays(lambda: self.cluster.lab.cut_from_etcd(owner), seconds)

    def cut_from_cluster(self, direction: Direction = Direction.BOTH) -> Outcome:
        """The owner is cut off from etcd and its peers, both ways or one; the client still reaches it."""
        owner, lab = self._owner(), self.cluster.lab

        def cut() -> Fault:
            lab.cut_peers(owner, direction)
            return lab.cut_from_etcd(owner, direction)

        return self._after(owner, cut)

    def isolate(self) -> Outcome:
        """The owner is cut off from everything; its links stay up."""
        owner = self._owner()
        return self._after(owner, lambda: self.cluster.lab.isolate(owner))

    def heal(self, quiet: float = 2.0) -> Outcome:
        """Everything comes back. Nothing should move: the owner stays, whatever the priorities."""
        return self._stays(self.cluster.restore, quiet)

    def _owner(self) -> Host:
        owner = self.cluster.lab.host(self.cluster.owner())
        self.prober.wait_for_answer(self.vip, after=now(), node=owner.name)
        return owner

    def _after(self, owner: Host, act: Callable[[], Fault]) -> Outcome:
        fault = act()
        first = self._succeeded(owner, fault.moment.before)
        return self._outcome(owner.name, fault.moment.before, first.at, first.node)

    def _stays(self, act: Callable[[], object], quiet: float, undo: Callable[[], object] = lambda: None) -> Outcome:
        """Do what should move nothing, undo it after a while if it has an end, and see who answers then."""
        owner = self._owner()
        began = now()
        act()
        time.sleep(quiet)
        undo()
        last = self.prober.timeline(began).last_answer_before(self.vip, now())
        return self._outcome(owner.name, began, began, last.node if last is not None else "nobody")

    def _succeeded(self, owner: Host, since: Instant) -> Answer:
        return self.prober.wait_for_answer(self.vip, after=since, other_than=owner.name, timeout=30.0)

    def _outcome(self, before: str | None, at: Instant, answered: Instant, after: str) -> Outcome:
        time.sleep(SETTLE / 1e9)
        timeline = self.prober.timeline(at - 100 * MS)
        gap = timeline.gap(self.vip, at)
        return Outcome(
            before=before,
            after=after,
            epoch=self.cluster.epoch(),
            at=at,
            took=answered - at,
            gap=(gap.length or 0) if before is not None else answered - at,
            most=timeline.most_at_once(),
            overlap=sum(overlap.length for overlap in timeline.overlaps()),
            blind=gap.blind,
        )
