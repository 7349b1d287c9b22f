"""The agent as a process: the only place that wires. Loads, locks, connects adapters and node, ends in order.

It starts whatever is missing outside: etcd may be down, interfaces may not exist yet. What it needs of its own host
(the lock, netlink, the sockets) it needs at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import logging
import signal
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from haagent import __version__, gating
from haagent.adapters.deadman import Deadman
from haagent.adapters.etcd.store import EtcdStore
from haagent.adapters.fencing import ExecFencer
from haagent.adapters.host import HostLock, TakenError, identity, incarnation, index_of, machine, missing_capabilities
from haagent.adapters.neighbours import Neighbours
from haagent.adapters.netlink import NetlinkKernel, Resets
from haagent.adapters.systemd import ServiceManager
from haagent.adapters.vrrp_socket import VrrpSpeaker
from haagent.adapters.wallclock import WallClock
from haagent.adapters.watchdog import NoWatchdogError, Watchdog
from haagent.config.build import Config
from haagent.config.load import Invalid
from haagent.core.fitness import scope
from haagent.core.model import (
    AddressesRemoved,
    Event,
    GateClosed,
    InterfaceChanged,
    KernelFailed,
    RemoveAddresses,
    Rules,
    RulesChanged,
    StopRequested,
    VirtualAddress,
)
from haagent.core.node import Node
from haagent.core.states import Following
from haagent.core.units import S
from haagent.prepare import control_credentials, etcd_settings, peers_credentials, peers_of, prepare
from haagent.reloading import Reloads
from haagent.runtime import early
from haagent.runtime.clock import boottime
from haagent.runtime.gated import GatedKernel
from haagent.runtime.log import Log, fields
from haagent.runtime.meters import QUICK, Histogram
from haagent.runtime.narrator import Narrator
from haagent.runtime.outer import Outer, Status
from haagent.runtime.ports import GateFailedError, GateKind, NoPeers, Peers, RouterWire
from haagent.runtime.pump import Pump
from haagent.runtime.timer import BoottimeTimer
from haagent.runtime.turns import timed_loop
from haagent.serving import Parts, Serving

_LOG: Final = logging.getLogger("haagent")

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ABANDON_PATIENCE: Final = 2.5
"""Seconds that the kernel gets to confirm that the addresses are gone, when the node can not be asked any more."""


class Exit(IntEnum):
    """How `haagent run` ends; `haagent.cli.agent` tells users."""

    OK = 0
    FAILED = 1
    UNUSABLE = 3
    TAKEN = 5
    UNCLEAN = 6


def run_agent(path: Path) -> Exit:
    """Run the agent of this file until it is told to stop. What keeps it from starting goes to standard error."""
    loaded = prepare(path)
    if isinstance(loaded, Invalid):
        return _refuse(Exit.UNUSABLE, *loaded.errors)
    if missing := missing_capabilities():
        return _refuse(Exit.FAILED, f"haagent: needs {' and '.join(missing)}, which root has")
    try:
        lock = HostLock.take()
    except TakenError as error:
        return _refuse(Exit.TAKEN, f"haagent: {error}")
    log = Log(loaded.config.log.level, loaded.config.log.format)
    try:
        for line in loaded.warnings:
            _LOG.warning("%s", line)
        turns = Histogram(QUICK)
        with asyncio.Runner(loop_factory=lambda: timed_loop(turns.add)) as runner:
            return runner.run(_Agent(path, loaded.config, log, turns).run())
    finally:
        log.close()
        lock.release()


class _Agent:
    """One run of the agent: the ports that the pump performs effects through, and what signals do."""

    def __init__(self, path: Path, config: Config, log: Log, turns: Histogram) -> None:
        self._path = path
        self._config = config
        self._log = log
        self._turns = turns
        self._identity = {
            "host": identity(),
            "machine": machine(),
            "incarnation": incarnation(),
            "version": __version__,
        }
        self._node = Node(config.rules(**self._identity))
        self._wires: dict[str, RouterWire] = {}
        self._guarded: dict[str, int] = {}
        self._manager = ServiceManager()
        self.changed = Status(self._manager, self._node.roles, self._node.view.epochs).changed
        self._released = False
        self._begun = self._reload_waits = False

    async def run(self) -> Exit:
        """From the first request to the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        self._serving = Serving(self._config, self._node, self._turns)
        self._pump = Pump(self._node, self, boottime, (Narrator(), self._serving))
        self._reloads = Reloads(self._path, self._config, self, self._manager)
        self._stopping: asyncio.Future[None] = loop.create_future()
        self._at_once: asyncio.Future[None] = loop.create_future()
        self._heed_signals(loop)
        self._make_ports()
        self._learn_wires(self._config)
        about = fields(node=self._config.node, cluster=self._config.cluster, **self._identity)
        _LOG.info("haagent starts: %s", self._config.summary(), extra=about)
        rules = self._node.rules
        try:
            self.gate = gating.make(self._config.gate, self._lost_gate, self._manager)
            deadman = Deadman()
        except (GateFailedError, OSError) as error:
            _LOG.error("cannot start: no gate: %s; fence.gate chooses, and only `none` starts without", error)
            return Exit.FAILED
        self.kernel = GatedKernel(self.netlink, self.gate, deadman, self._pump.deliver, grace=rules.ttl // 4)
        timer = BoottimeTimer(self._pump.tick)
        storing = asyncio.create_task(self.store.run(), name="etcd")
        try:
            await self._begin(timer)
            return await self._end(storing)
        except (OSError, NoWatchdogError, GateFailedError) as error:
            _LOG.error("cannot start: %s", error)
            return Exit.FAILED
        finally:
            await self._serving.close()
            self._outer.close(clean=self._released)
            self._wall.close()
            timer.close()
            storing.cancel()
            await asyncio.wait([storing], timeout=1)
            self._fall_silent()
            if self.network is not None:
                await self.network.close()
            await self.fencer.close()
            await asyncio.gather(self.netlink.close(), self._resets.close())
            self.gate.leave()

    def _make_ports(self) -> None:
        """All but the kernel's, which needs the gate."""
        deliver = self._pump.deliver
        self.store = EtcdStore(etcd_settings(self._config), deliver)
        self.speaker = VrrpSpeaker(deliver)
        self.netlink = NetlinkKernel(self._heard_of_kernel)
        self._resets = Resets()
        self.neighbours = Neighbours(deliver)
        self.fencer = ExecFencer(deliver, self._config.cluster, self._config.node)
        self.network = peers_of(self._config, self._identity["incarnation"], deliver)
        self.peers: Peers = self.network or NoPeers()
        self._outer = Outer(self._manager, self._pump)
        self._wall = WallClock(deliver)
        self._wall.configure(self._config.windows)

    async def _begin(self, timer: BoottimeTimer) -> None:
        """Start the kernel's port, the outer layers and the node. OSError, NoWatchdogError, GateFailedError."""
        rules = self._node.rules
        # First the sweep: what is no longer configured must be gone before the gate lets go of it.
        adopt = self._config.gate is not GateKind.NONE
        await self.netlink.start(*scope(rules), _sources(rules), adopt=adopt)
        self._protect(rules)
        gating.remove_leftovers(self.gate, self._manager)
        self._listen(rules)
        self.fencer.configure(self._config.fencing)
        if self.network is not None:
            await self.network.start()
        if self._config.watchdog is not None:
            self._outer.add(Watchdog(self._config.watchdog, rules.ttl))
        self._pump.start(timer, self.kernel.left_until())
        self._wall.start()
        self._outer.start()  # not waiting for etcd, which may be down: the agent must run before it is up
        # What was made so far stays: the collector need not look at it ever, and its pauses stay short. Nor now: the
        # lease of an incarnation that was killed is running out.
        gc.freeze()
        gc.enable()
        await self._serving.start(self._parts())
        self._begun = True
        if self._reload_waits or early.came(signal.SIGHUP):
            _LOG.info("SIGHUP came during the start: the file is read again")
            self._reload()

    def _parts(self) -> Parts:
        counters = {
            "etcd": self.store.counters,
            "kernel": self.netlink.counters,
            "vrrp": self.speaker.counters,
            "neighbours": self.neighbours.counters,
        }
        if self.network is not None:
            counters["peers"] = self.network.counters
        rejected, reload = self.speaker.rejected, self._reloads.asked
        return Parts(self._pump, self.store, self.gate, counters, rejected, reload, self.network)

    # --- what the pump needs beside the ports

    def configure(self, rules: Rules) -> None:
        """Let gate, sockets and netlink follow what the node goes by now."""
        self._protect(rules)
        self.netlink.configure(*scope(rules), _sources(rules))
        self._listen(rules)
        self.fencer.configure(self._config.fencing)

    def _listen(self, rules: Rules) -> None:
        """Speak and hear VRRP, and hear who else claims addresses."""
        self.speaker.configure(self._spoken(rules))
        self.neighbours.configure(scope(rules)[1])

    def _fall_silent(self) -> None:
        self.neighbours.close()
        self.speaker.close()

    def _lost_gate(self, why: str) -> None:
        self._pump.deliver(GateClosed(why))

    def _protect(self, rules: Rules) -> None:
        """Have the gate around all that any group may hold, now or until a removal under way is confirmed."""
        interfaces, groups = scope(rules)
        self._guarded = {name: index_of(name) for name in interfaces}
        self.kernel.protect(groups, interfaces)
        self.kernel.grace = rules.ttl // 4

    def _heard_of_kernel(self, event: Event) -> None:
        """Gate, sockets and sources follow the interfaces, before the node hears of them and speaks."""
        if isinstance(event, InterfaceChanged):
            if event.up and self._guarded.get(event.name) != index_of(event.name):
                self._protect(self._node.rules)  # it is there anew, without what guarded it
            self.speaker.addresses(event.name, event.v4, event.v6)
            self.neighbours.refresh(event.name)
        left: tuple[VirtualAddress, ...] = ()
        if isinstance(event, AddressesRemoved) and event.group in self._config.resets:
            left = scope(self._node.rules)[1].get(event.group, ())
        self._pump.deliver(event)
        if left:  # only now: it never delays a release
            self._resets.ask(each.address for each in left)

    def _spoken(self, rules: Rules) -> list[RouterWire]:
        """How each router of the node's rules speaks; those being given up speak as they did."""
        routers = [router for group in rules.groups.values() for router in group.routers]
        self._wires = {router.name: dataclasses.replace(self._wires[router.name], rules=router) for router in routers}
        return list(self._wires.values())

    def _learn_wires(self, config: Config) -> None:
        self._wires |= {wire.rules.name: wire for wire in config.routers}

    # --- the end

    async def _end(self, storing: asyncio.Task[None]) -> Exit:
        """Wait for whatever ends the agent, and let go of everything."""
        pump = self._pump
        netlink = asyncio.create_task(self.netlink.ended.wait(), name="netlink")
        ends: set[asyncio.Future[Any]] = {pump.resigned, pump.failed, self._at_once, storing, netlink}
        await asyncio.wait({*ends, self._stopping}, return_when=asyncio.FIRST_COMPLETED)
        if self._stopping.done():
            patience = 2 * self._node.rules.ttl / S + 2
            await asyncio.wait(ends, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if pump.resigned.done():
            self._released = True
            await self._end_gate()
            await self.store.resign()
            _LOG.info("stopped")
            return Exit.OK
        if pump.failed.done() or storing.done() or netlink.done():
            if storing.done() and not storing.cancelled() and (error := storing.exception()) is not None:
                _LOG.critical("the etcd adapter ended", exc_info=error)
            await self._abandon()
            return Exit.FAILED
        left = [name for name, state in self._node.groups.items() if not isinstance(state, Following)]
        gone = [] if self._at_once.done() else await self._abandon()
        if not gone and not self._at_once.done():
            await self._end_gate()
        _LOG.error(
            "stopped, but not cleanly: in etcd %s not given up, so that the others wait until the lease is over; %s",
            f"{', '.join(left) or 'the session'} is",
            "a second signal ended the wait" if self._at_once.done() else _removed(gone),
        )
        return Exit.UNCLEAN

    async def _end_gate(self) -> None:
        """Nothing is held any more."""
        interfaces, groups = scope(self._node.rules)
        await gating.end(self.gate, [one for those in groups.values() for one in those], interfaces)

    async def _abandon(self) -> list[str]:
        """Take all addresses away without asking the node; return the groups whose removal was not confirmed."""
        waiting = set(self._node.rules.groups)
        over = asyncio.get_running_loop().create_future()

        def heard(event: Event) -> None:
            if isinstance(event, AddressesRemoved | KernelFailed) and event.serial == 0:
                if isinstance(event, AddressesRemoved):
                    waiting.discard(event.group)
                if not waiting and not over.done():
                    over.set_result(None)

        self._pump.divert(heard)
        for group in tuple(waiting):
            self.kernel.remove(RemoveAddresses(group, 0))
        self.kernel.flush()
        await asyncio.wait([over], timeout=ABANDON_PATIENCE)
        if waiting:
            _LOG.error("the kernel did not confirm that the addresses are gone: %s", ", ".join(sorted(waiting)))
        self._released = not waiting
        return sorted(waiting)

    def _heed_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number, act in {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._reload}.items():
            loop.add_signal_handler(number, act)
        if early.came(signal.SIGTERM, signal.SIGINT):
            self._stop()

    def _stop(self) -> None:
        if self._stopping.done():
            if not self._at_once.done():
                self._at_once.set_result(None)
            return
        self._stopping.set_result(None)
        self._reloads.end()
        self._manager.stopping()
        self._pump.deliver(StopRequested())

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback raised. Each stands for itself (a packet, a timer), so the agent goes on, and says so."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            _LOG.error("%s: %s (see LimitNOFILE=)", context.get("message"), error.strerror)
        else:
            _LOG.error("%s", context.get("message"), exc_info=error)

    def _reload(self) -> None:
        if not self._begun:
            self._reload_waits = True
        elif not self._stopping.done():
            self._reloads.ask()

    def apply(self, config: Config) -> None:
        """The file was read again, and something in it is new."""
        self._config = config
        self._learn_wires(config)
        self._log.set_level(config.log.level)
        self._pump.deliver(RulesChanged(config.rules(**self._identity)))
        self._wall.configure(config.windows)

    async def refresh(self, config: Config) -> tuple[str, ...]:
        """Which credentials, of those that the file names, are other ones than before."""
        ours, for_operators = await asyncio.to_thread(lambda: (peers_credentials(config), control_credentials(config)))
        renewed = {
            "the peers' certificates": self.network is not None and self.network.renew(ours),
            "the operators' certificates": self._serving.renew(for_operators),
        }
        renewed_at_etcd = await self.store.renew(etcd_settings(config))
        return *renewed_at_etcd, *(words for words, done in renewed.items() if done)


def _refuse(code: Exit, *lines: str) -> Exit:
    for line in lines:
        print(line, file=sys.stderr)
    return code


def _sources(rules: Rules) -> set[bytes]:
    """The sources that the file has adverts come from."""
    return {each.source for group in rules.groups.values() for each in group.routers if each.source is not None}


def _removed(left: list[str]) -> str:
    return f"the addresses of {', '.join(left)} may still be there" if left else "the addresses are gone"
