"""Does a plan's actions to a lab, undoes each in time, and puts everything right at the end.

Meanwhile it is the hosts' service manager: an agent that has ended is started again, unless an action keeps it down.
What takes long is started and not waited for, so that the next action is not late.
"""

from __future__ import annotations

import heapq
import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from haagent.core.units import MS, Duration, Instant, S
from haagent.lab import topology
from haagent.lab.chaos import meddling
from haagent.lab.chaos.cluster import ChaosCluster
from haagent.lab.chaos.plan import WHICH, Action, Kind
from haagent.lab.commands import ip_batch, now
from haagent.lab.faults import Direction
from haagent.lab.host import Host
from haagent.lab.process import Process
from haagent.lab.switch import Fault
from haagent.lab.topology import Network

Undo = Callable[[], object]

TICK: Final = 10 * MS
HOUR: Final[Duration] = 3600 * S
ORDER_MOST: Final = 30.0
"""Seconds that haagentctl may take to give up, with all of the cluster there again."""
RESTART_AFTER: Final = 200 * MS
"""A service manager does not start what ends at once over and over without a pause."""


@dataclass(slots=True)
class Deed:
    """An action as it was done, to `target` (a host, or nobody in particular). `ended` is None if it never did."""

    action: Action
    target: str
    began: Instant
    ended: Instant | None = None


class Doer:
    """Does one plan; `owner` tells who owns at that moment, as far as anybody outside can see."""

    def __init__(self, cluster: ChaosCluster, owner: Callable[[], str]) -> None:
        self.deeds: list[Deed] = []
        self._cluster = cluster
        self._lab = cluster.lab
        self._owner = owner
        self._snapshot = cluster.lab.directory / "snapshot"
        self._due: list[tuple[Instant, int, Undo]] = []
        self._numbers = itertools.count()
        self._open: list[tuple[Deed, Undo]] = []
        self._kept_down: Counter[str] = Counter()
        self._lost: set[str] = set()
        self._started: dict[str, Instant] = {}
        self._touched: set[str] = set()
        self._orders: list[Process] = []
        self._doing: dict[Kind, Callable[[Action, Host], Undo | None]] = {
            Kind.KILL: self._kill,
            Kind.TERM: self._term,
            Kind.STOP: self._stop,
            Kind.STARVE: self._starve,
            Kind.HOST_LOST: self._lose_host,
            Kind.LINK: self._pull_cable,
            Kind.LINK_DOWN: self._link_down,
            Kind.DELETE: self._delete,
            Kind.FLUSH: self._flush,
            Kind.UNFENCE: self._unfence,
            Kind.FIREWALL: lambda _, host: meddling.flush_firewall(host),
            Kind.QDISC: lambda _, host: meddling.delete_qdiscs(host),
            Kind.MAC: self._change_mac,
            Kind.BY_HAND: self._by_hand,
            Kind.GATE: lambda action, host: meddling.change_gate(cluster, host, WHICH[Kind.GATE][action.amount]),
            Kind.CREDENTIALS: lambda _action, _host: meddling.change_password(cluster),
            Kind.ETCD_GAP: lambda _action, _host: meddling.delete_record_in_a_gap(cluster),
            Kind.ETCD_RESTORE: self._restore_etcd,
            Kind.CLOCK: self._step_clock,
            Kind.RELOAD: self._reload,
            Kind.CTL_SWITCHOVER: self._switchover,
            Kind.CTL_DRAIN: self._drain,
            Kind.CTL_PAUSE: self._pause,
            Kind.ETCD_KILL: self._kill_etcd,
            Kind.ETCD_PAUSE: self._pause_etcd,
            Kind.ETCD_SLOW: self._slow_etcd,
            Kind.ETCD_COMPACT: self._compact,
            Kind.MEMBER_KILL: self._kill_member,
            Kind.MEMBER_CUT: self._cut_member,
        }

    def perform(self, plan: Sequence[Action]) -> None:
        """Do it all, in time; return when the last action has been undone."""
        if any(action.kind is Kind.ETCD_RESTORE for action in plan):
            self._lab.etcd.save(self._snapshot)
        beginning = now()
        for action in plan:
            self._at(beginning + action.at, lambda action=action: self._begin(action, beginning))
        while self._due:
            at = self._due[0][0]
            if (left := at - now()) > 0:
                time.sleep(min(left, TICK) / S)
                self.supervise()
            else:
                heapq.heappop(self._due)[2]()

    def heal(self) -> Instant:
        """Undo what is still in force, start everything, and put every host's own addresses and files back."""
        for deed, undo in self._open[::-1]:
            self._end(deed, undo)
        self._lab.etcd.resume()
        self._lab.etcd.start()
        self._lab.heal()
        self._lost.clear()
        for name in self._touched:
            self._give_own_addresses(self._lab.host(name))
        self._kept_down.clear()
        for agent in self._cluster.agents.values():
            agent.resume()
        # What an order that was given has not done by now it must not do after the healing.
        for order in self._orders:
            order.wait(ORDER_MOST)
        if self._orders:
            self._lab.etcd.wait_ready()
            self._cluster.countermand()
        return now()

    def supervise(self) -> None:
        """Start the agents that have ended and may run."""
        for host in self._cluster.missing():
            due = self._started.get(host.name, 0) + RESTART_AFTER
            if not self._kept_down[host.name] and now() >= due:
                self._started[host.name] = now()
                self._cluster.start([host])

    # --- beginning and ending

    def _at(self, at: Instant, act: Undo) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), act))

    def _begin(self, action: Action, beginning: Instant) -> None:
        host = self._whom(action)
        before = now()
        act = self._doing.get(action.kind, self._cut)
        undo = act(action, host)
        deed = Deed(action, host.name if action.about_one_host else "", before)
        self.deeds.append(deed)
        if undo is None:
            deed.ended = now()
            return
        self._open.append((deed, undo))
        self._at(beginning + action.end, lambda: self._end(deed, undo))

    def _end(self, deed: Deed, undo: Undo) -> None:
        if deed.ended is None:
            undo()
            deed.ended = now()
            self._open.remove((deed, undo))

    def _whom(self, action: Action) -> Host:
        owner = self._owner()
        hosts = [self._lab.host(owner), *(host for host in self._lab.hosts if host.name != owner)]
        return hosts[tuple(type(action.role)).index(action.role)]

    def _keep_down(self, host: Host) -> Undo:
        self._kept_down[host.name] += 1

        def let() -> None:
            self._kept_down[host.name] -= 1

        return let

    # --- processes

    def _kill(self, _: Action, host: Host) -> Undo:
        self._cluster.agents[host.name].begin_kill()
        return self._keep_down(host)

    def _term(self, _: Action, host: Host) -> Undo:
        self._cluster.agents[host.name].signal(signal.SIGTERM)
        return self._keep_down(host)

    def _stop(self, _: Action, host: Host) -> Undo:
        agent = self._cluster.agents[host.name]
        agent.pause()
        return agent.resume

    def _starve(self, action: Action, _: Host) -> Undo:
        # Ends by itself, and with the lab, whatever becomes of us.
        seconds = action.lasts / S + 0.5
        code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
        count = action.amount * len(os.sched_getaffinity(0))
        argv = [sys.executable, "-I", "-S", "-c", code]
        loops = [self._lab.client.spawn(argv, name="starve") for _ in range(count)]
        return lambda: [loop.kill() for loop in loops]

    def _lose_host(self, _: Action, host: Host) -> Undo:
        fault = self._lab.lose_host(host)
        self._lost.add(host.name)
        let = self._keep_down(host)

        def back() -> None:
            fault.undo()
            self._lost.discard(host.name)
            let()

        return back

    # --- networks

    def _cut(self, action: Action, host: Host) -> Undo:
        lab, direction = self._lab, action.direction
        faults: list[Fault] = []
        match action.kind:
            case Kind.CUT_ETCD:
                faults = [lab.cut_from_etcd(host, direction)]
            case Kind.CUT_PEERS:
                faults = [lab.cut_peers(host, direction)]
            case Kind.CUT_CLUSTER:
                faults = [lab.cut_peers(host, direction), lab.cut_from_etcd(host, direction)]
            case Kind.CUT_ALL:
                faults = [lab.isolate(host, direction)]
            case Kind.CUT_STREAMS:
                faults = self._cut_streams(host, direction)
            case Kind.CUT_VRRP:
                faults = [lab.cut_vrrp(host, direction)]
            case _:
                assert action.kind is Kind.LOSS, action
                faults = [lab.lose_packets(host, action.amount, direction)]
        return lambda: [fault.undo() for fault in faults]

    def _cut_streams(self, host: Host, direction: Direction) -> list[Fault]:
        """What peers say to each other, and nothing else."""
        pairs = [(host, other) for other in self._others(host)]
        ways = [*pairs] if direction is not Direction.IN else []
        ways += [(other, host) for _, other in pairs] if direction is not Direction.OUT else []
        return [self._lab.cut(source, target, network=Network.CONTROL) for source, target in ways]

    def _pull_cable(self, action: Action, host: Host) -> Undo | None:
        if host.name in self._lost:
            return None
        networks = {Direction.BOTH: None, Direction.OUT: Network.SERVICE, Direction.IN: Network.CONTROL}
        fault = self._lab.link_down(host, networks[action.direction])
        # The cables of a host that was lost meanwhile are gone, and come back with it.
        return lambda: None if host.name in self._lost else fault.undo()

    # --- what an operator does to a host

    def _link_down(self, _: Action, host: Host) -> Undo:
        self._run(host, "ip", "link", "set", "eth0", "down")
        return lambda: self._give_own_addresses(host)

    def _delete(self, _: Action, host: Host) -> None:
        for address in (f"{topology.vip4()}/24", f"{topology.vip6()}/64"):
            self._run(host, "ip", "address", "del", address, "dev", "eth0")

    def _flush(self, _: Action, host: Host) -> Undo:
        self._run(host, "ip", "address", "flush", "dev", "eth0")
        return lambda: self._give_own_addresses(host)

    def _unfence(self, _: Action, host: Host) -> None:
        self._run(host, "nft", "flush", "ruleset")
        self._run(host, "tc", "qdisc", "del", "dev", "eth0", "clsact")

    def _step_clock(self, action: Action, host: Host) -> Undo:
        dial = self._cluster.dials[host.name]
        dial.set(action.amount * HOUR)
        return lambda: dial.set(0)

    def _reload(self, action: Action, host: Host) -> Undo:
        self._cluster.reload(host, **self._cluster.variants[action.reload])
        return lambda: self._cluster.unchange(host)

    # --- what an operator orders of the cluster

    def _switchover(self, _: Action, host: Host) -> None:
        target = self._others(host)[0] if host.name == self._owner() else host
        self._order(self._others(target)[-1], "switchover", self._cluster.group, "--to", target.name, "--force")

    def _drain(self, _: Action, host: Host) -> Undo:
        asked = self._others(host)[0]
        self._order(asked, "drain", host.name, "--force", "--wait", "5s")
        return lambda: self._order(asked, "undrain", host.name)

    def _pause(self, _: Action, host: Host) -> Undo:
        self._order(host, "pause")
        return lambda: self._order(host, "resume")

    def _order(self, asked: Host, *words: str) -> None:
        if asked.name not in self._lost:
            self._orders.append(self._cluster.order(asked, *words))

    def _others(self, host: Host) -> Sequence[Host]:
        return [other for other in self._lab.hosts if other is not host]

    def _give_own_addresses(self, host: Host) -> None:
        self._touched.add(host.name)
        if host.name not in self._lost:
            ip_batch(topology.station_commands(host.station), namespace=host.namespace, force=True)

    def _change_mac(self, _: Action, host: Host) -> Undo:
        undo = meddling.change_mac(host)
        return lambda: None if host.name in self._lost else undo()

    def _by_hand(self, action: Action, host: Host) -> Undo:
        undo = meddling.configure_by_hand(host, WHICH[Kind.BY_HAND][action.amount])
        return lambda: None if host.name in self._lost else undo()

    def _restore_etcd(self, _: Action, host: Host) -> None:
        meddling.restore_etcd(self._cluster, self._snapshot, [host])

    def _run(self, host: Host, *argv: str) -> None:
        self._touched.add(host.name)
        host.run(argv, check=False)

    # --- etcd

    def _kill_etcd(self, _action: Action, _host: Host) -> Undo:
        etcd = self._lab.etcd
        etcd.kill()
        return lambda: [member.start() for member in etcd.members if not member.running]

    def _pause_etcd(self, _action: Action, _host: Host) -> Undo:
        self._lab.etcd.pause()
        return self._lab.etcd.resume

    def _slow_etcd(self, action: Action, _: Host) -> Undo:
        etcd, period, end = self._lab.etcd, action.amount * MS, now() + action.lasts

        def pause() -> None:
            if now() < end:
                etcd.pause()
                self._at(now() + period * 3 // 4, resume)

        def resume() -> None:
            etcd.resume()
            self._at(now() + period // 4, pause)

        pause()
        return etcd.resume

    def _compact(self, _action: Action, _host: Host) -> None:
        # Not waited for: etcd may be down.
        control = f"timeout 5 etcdctl --endpoints={','.join(self._lab.etcd.endpoints)}"
        revision = f"{control} put haagent-lab/compaction '' -w fields | sed -n 's/\"Revision\" : //p'"
        script = f"{control} compact $({revision})"
        self._lab.host("e1").spawn(
            ["sh", "-c", script], name="compact", env={"ETCDCTL_API": "3", **self._cluster.credentials()}
        )

    def _kill_member(self, action: Action, _: Host) -> Undo:
        member = self._lab.etcd.members[action.amount]
        member.kill()
        return lambda: None if member.running else member.start()

    def _cut_member(self, action: Action, _: Host) -> Undo:
        members = [self._lab.host(member.name) for member in self._lab.etcd.members]
        alone = members.pop(action.amount)
        pairs = [pair for other in members for pair in ((alone, other), (other, alone))]
        faults = [self._lab.cut(*pair, network=Network.CONTROL) for pair in pairs]
        return lambda: [fault.undo() for fault in faults]
