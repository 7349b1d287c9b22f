"""What the agent offers to others beside owning addresses: how things are, and the service that operators steer by.

Made before the pump, which it observes; started when everything that it tells of is there. None of it is needed to own
anything: a socket that can not be had is said loudly, and the agent goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from haagent.adapters.etcd import Condition, EtcdStore
from haagent.adapters.gate import Gates, NoGate
from haagent.adapters.host import sysctls
from haagent.adapters.neighbours import Asker
from haagent.adapters.netlink import held
from haagent.api.bulletin import Bulletin
from haagent.api.control import Access, CannotServeError, ControlServer, ControlService, Doors, Reading
from haagent.api.credentials import Credentials, CredentialsError
from haagent.api.doctor import Host
from haagent.api.operator import Operator
from haagent.api.peers import GrpcPeers
from haagent.api.reach import Reporter, targets
from haagent.api.status import Around, Counted, GateState, NoPeerTable
from haagent.api.witness import AgentWitness
from haagent.config.build import Config, ControlSettings
from haagent.core.fitness import used
from haagent.core.model import Effect, Event, ExtendAddresses, Role, RoleChanged
from haagent.core.node import Node
from haagent.core.units import Instant
from haagent.prepare import control_credentials
from haagent.runtime.chronicle import Chronicle
from haagent.runtime.clock import boottime
from haagent.runtime.meters import Histogram, Meters
from haagent.runtime.ports import GateFailedError, GateKind
from haagent.runtime.pump import Pump
from haagent.v1 import status_pb2
from haagent.wire.rejection import Reason

if TYPE_CHECKING:
    from haagent.api.http.service import HttpService

_LOG: Final = logging.getLogger("haagent.control")

BEGINNING: Final = 2.0
"""Seconds after which metrics are served although some group is in INIT: etcd may be away."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is to tell of. `counters`: by the word that goes before their names. `reload`: as SIGHUP.

    `rejected`: VRRP packets that were refused, by virtual router (or interface) and reason.
    """

    pump: Pump
    store: EtcdStore
    gate: Gates | NoGate
    counters: Mapping[str, Mapping[str, int]]
    rejected: Mapping[tuple[str, Reason], int]
    reload: Callable[[], Awaitable[Reading]]
    peers: GrpcPeers | None = None


class Serving:
    """Made on the running event loop. An observer of the pump, for all that observe."""

    def __init__(self, config: Config, node: Node, turns: Histogram) -> None:
        self.chronicle = Chronicle(config.node, time.time_ns)
        self.meters = Meters(node.rules, turns)
        self.bulletin: Bulletin | None = None
        self._config = config
        self._node = node
        self._asker: Asker | None = None
        self._control: ControlServer | None = None
        self._http: HttpService | None = None
        self._begun = asyncio.Event()
        self._uncounted = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, parts: Parts) -> None:
        """Begin to tell."""
        peers = NoPeerTable() if parts.peers is None else _Table(parts.peers)
        bulletin = Bulletin(
            self._node,
            self.chronicle,
            peers,
            lambda counted: self._around(parts, counted),
            self._count,
            Reporter(self._node, parts.pump.deliver),
        )
        self.bulletin = bulletin
        if parts.peers is not None:  # without them nobody could say what it finds
            self._asker = Asker(lambda: targets(self._node, boottime()), self._sources, bulletin.touch)
            self._asker.start()
        self._keep(bulletin.publish(), "status")
        if self._config.http is not None:
            self._keep(self._serve_http(self._config.http, parts, bulletin), "http")
        witness = AgentWitness(self._node, peers, bulletin.own, boottime)
        operator = Operator(parts.store.records(), witness, wall=time.time_ns, clock=boottime)
        service = ControlService(bulletin, operator, parts.reload, lambda: self._host(parts))
        await self._open(service, self._config.control)

    def renew(self, credentials: Credentials | None) -> bool:
        """Prove to operators by these who we are; whether they are others than before."""
        return self._control is not None and self._control.renew(credentials)

    async def close(self) -> None:
        """Tell nothing any more."""
        for task in self._tasks:
            task.cancel()
        if self._asker is not None:
            self._asker.close()
        if self._control is not None:
            await self._control.close()

    def heard(self, event: Event, now: Instant) -> None:
        """An event is about to be fed."""
        self.chronicle.heard(event, now)
        self.meters.heard(event, now)
        if self.bulletin is not None:
            self.bulletin.heard(event, now)

    def done(self, effect: Effect, now: Instant) -> None:
        """An effect is about to be performed."""
        self.chronicle.done(effect, now)
        self.meters.done(effect, now)
        if isinstance(effect, RoleChanged) and not self._begun.is_set() and not self._beginning():
            self._begun.set()
        if self._http is not None and isinstance(effect, ExtendAddresses):
            self._http.renewed()
        if self.bulletin is not None:
            self.bulletin.done(effect, now)

    def _beginning(self) -> bool:
        return Role.INIT in self._node.roles.values()

    async def _open(self, service: ControlService, keys: ControlSettings) -> None:
        if keys.socket is None and keys.listen is None:
            return
        server = ControlServer(service, Access(keys.operators, keys.viewers))
        try:
            credentials = await asyncio.to_thread(control_credentials, self._config)
            socket = None if keys.socket is None else Path(keys.socket)
            await server.start(Doors(socket, keys.group, keys.listen, credentials))
        except (CannotServeError, CredentialsError, OSError) as error:
            _LOG.error("operators can not reach this agent: %s", error)
            await server.close()
            return
        self._control = server

    async def _serve_http(self, listen: str, parts: Parts, bulletin: Bulletin) -> None:
        # Its library takes a third of a second to import, and a restarted agent has more urgent things to do.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEGINNING):
                await self._begun.wait()
        service = await asyncio.to_thread(_http_service)
        self._http = service(self._node, parts.pump, self.meters, bulletin, parts.rejected)
        await self._http.serve(listen)

    def _keep(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("%s ended", task.get_name(), exc_info=error)

    # --- what there is to tell

    def _around(self, parts: Parts, counted: Mapping[str, Counted]) -> Around:
        counters = {f"{word}_{name}": count for word, some in parts.counters.items() for name, count in some.items()}
        if self._asker is not None:
            counters |= {f"reach_{name}": count for name, count in self._asker.counters.items()}
        if self._control is not None:
            counters |= {f"control_{name}": count for name, count in self._control.counters.items()}
        latencies = parts.store.latencies
        return Around(
            cluster=self._config.cluster,
            boot=boottime(),
            wall=time.time_ns(),
            chronicle=self.chronicle,
            gate=_gate(parts.gate),
            etcd=parts.store.reachable,
            condition=_condition(parts.store.condition),
            renewal=latencies[-1] if latencies else None,
            counted=counted,
            counters=counters,
            failsafe=self._failsafe(),
            verdicts={} if self._asker is None else self._asker.verdicts,
        )

    def _sources(self) -> Mapping[str, tuple[bytes | None, bytes | None]]:
        """This host's addresses by interface, as the kernel has told the node."""
        return {name: (one.v4, one.v6) for name, one in self._node.interfaces.items()}

    def _host(self, parts: Parts) -> Host:
        groups = self._node.rules.groups.values()
        interfaces = sorted({one for group in groups for one in used(group)})
        expires = {
            "etcd": parts.store.certificate_expires,
            "peers": None if parts.peers is None else parts.peers.expires,
            "control": None if self._control is None else self._control.expires,
        }
        return Host(
            sysctls={name: sysctls(name) for name in interfaces},
            renewals=tuple(parts.store.latencies),
            expires={section: ends for section, ends in expires.items() if ends is not None},
        )

    def _failsafe(self) -> status_pb2.FailsafeStatus:
        if self._config.peers is None:
            return status_pb2.FailsafeStatus(off_because="no peers")
        if not self._config.failsafe:
            return status_pb2.FailsafeStatus(off_because="off")
        failsafe, now = self._node.failsafe, boottime()
        if not failsafe.since:
            return status_pb2.FailsafeStatus(missing=failsafe.missing)
        return status_pb2.FailsafeStatus(
            active=True,
            since_wall_ns=time.time_ns() - (now - failsafe.since),
            left_ns=max(0, failsafe.ends - now),
            missing=failsafe.missing,
        )

    async def _count(self) -> Mapping[str, Counted]:
        groups = {
            name: tuple(address for router in group.routers for address in router.addresses)
            for name, group in self._node.rules.groups.items()
        }
        try:
            there = await held(address for some in groups.values() for address in some)
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._uncounted:
                _LOG.error("which addresses the kernel has cannot be counted: %s", why)
            self._uncounted = why
            return {}
        self._uncounted = ""
        return {
            name: Counted(tuple(one for one in some if one in there), tuple(one for one in some if one not in there))
            for name, some in groups.items()
        }


def _http_service() -> type[HttpService]:
    from haagent.api.http.service import HttpService

    return HttpService


class _Table:
    """The peers, in the words of a status."""

    def __init__(self, peers: GrpcPeers) -> None:
        self.statuses = peers.statuses
        self.publish = peers.publish
        self._peers = peers

    def table(self) -> Mapping[str, status_pb2.Peer]:
        return {
            name: status_pb2.Peer(
                connected=state.connected,
                since_wall_ns=state.since_wall,
                round_trip_ns=state.round_trip or 0,
                clock_ahead_ns=state.clock_ahead or 0,
                error=state.error,
            )
            for name, state in self._peers.table().items()
        }


def _condition(found: Condition) -> status_pb2.EtcdStatus:
    return status_pb2.EtcdStatus(
        members=[
            status_pb2.EtcdMember(
                endpoint=member.endpoint,
                version=member.version,
                size=member.size,
                used=member.used,
                quota=member.quota,
                alarms=member.alarms,
            )
            for member in found.members
        ],
        revisions_a_day=found.revisions_a_day,
        compaction=found.compaction,
        uncompacted=found.uncompacted,
    )


def _gate(gate: Gates | NoGate) -> GateState:
    if isinstance(gate, NoGate):
        return GateState(GateKind.NONE)
    dropped: Mapping[str, int] = {}
    with contextlib.suppress(GateFailedError):
        dropped = gate.counters()
    state = GateState("+".join(gate.holding), gate.owned, dropped, gate.kept_by, dict(gate.failed), dict(gate.rebuilt))
    return replace(state, uncovered=tuple(sorted(gate.uncovered)))
