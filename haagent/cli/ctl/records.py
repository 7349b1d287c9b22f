"""Asking etcd itself, when no agent answers: its records, and nothing that only an agent knows of kernels and peers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, TypeVar, cast

from google.protobuf.message import Message

from haagent.adapters.etcd import EtcdRecords, EtcdSettings, EtcdSettingsError, open_records
from haagent.api.operator import Operator
from haagent.api.planning import Scene, scene
from haagent.api.status import intent_message, member_message
from haagent.api.witness import EtcdWitness
from haagent.cli.ctl.errors import UnknownError, UnreachableError
from haagent.cli.ctl.service import DOCTOR, GET_STATUS, HISTORY, A, Method, Q
from haagent.core.records import Kind, Seen
from haagent.core.units import Duration, S
from haagent.runtime.clock import boottime
from haagent.runtime.ports import UnreadableError
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2 as pb

T = TypeVar("T")

_AGENTS_FIRST: Final = 10 * S
"""How long to follow etcd before the agents are asked again."""


class Etcd:
    """A `Service`. UnreachableError if the settings can not work."""

    agent = False

    def __init__(self, settings: EtcdSettings) -> None:
        self.name = "etcd"
        self._cluster = settings.cluster
        self._runner = asyncio.Runner()
        self._opening = open_records(settings)
        try:
            self._records: EtcdRecords = self._runner.run(self._enter())
        except (EtcdSettingsError, OSError) as error:
            self._runner.close()
            raise UnreachableError(f"etcd: {error}") from None
        self._witness = EtcdWitness(self._records)
        self._operator = Operator(self._records, self._witness, wall=time.time_ns, clock=boottime)

    def ask(self, method: Method[Q, A], request: Q, *, wait: Duration = 0) -> A:  # noqa: ARG002 - Operator bounds itself
        return cast("A", self._run(self._answer(method.name, request), method.changes))

    def watch(self, interval: Duration) -> Iterator[pb.Status]:
        end = boottime() + _AGENTS_FIRST
        while boottime() < end:
            yield self.ask(GET_STATUS, control.GetStatusRequest())
            time.sleep(interval / S)

    def close(self) -> None:
        self._runner.run(self._opening.__aexit__(None, None, None))
        self._runner.close()

    async def _enter(self) -> EtcdRecords:
        return await self._opening.__aenter__()

    def _run(self, doing: Coroutine[Any, Any, T], changes: bool) -> T:
        try:
            return self._runner.run(doing)
        except UnreadableError as error:
            raise UnreachableError(f"etcd: {error}") from None
        except KeyboardInterrupt:
            if changes:
                raise UnknownError("etcd: interrupted, the outcome is unknown: look with `list`") from None
            raise

    async def _answer(self, name: str, request: Message) -> Message:
        operator = self._operator
        doing = cast(
            "dict[str, Callable[[Message], Awaitable[Message]]]",
            {
                GET_STATUS.name: self._status,
                DOCTOR.name: self._doctor,
                HISTORY.name: operator.history,
                "Switchover": operator.switchover,
                "Failover": operator.failover,
                "Pause": operator.pause,
                "Resume": operator.resume,
                "Drain": operator.drain,
                "Undrain": operator.undrain,
            },
        )
        if name not in doing:
            raise UnreachableError(
                f"{name.lower()}: only an agent can do that, and none answers; name one by --endpoint"
            )
        return await doing[name](request)

    async def _status(self, _request: Message) -> pb.Status:
        seen, now = (await self._records.read()).seen, time.time_ns()
        found = scene(seen, now)
        alive = set(await self._witness.pulses(found))
        return pb.Status(
            cluster=self._cluster,
            at_wall_ns=now,
            at_boot_ns=boottime(),
            groups=_groups(found, seen, alive),
            members=[_member(node, found, alive) for node in sorted(found.nodes)],
            paused_by=found.orders.paused,
        )

    async def _doctor(self, request: Message) -> control.DoctorReply:
        status = await self._status(request)
        reply = control.DoctorReply()
        reply.findings.add(
            level=control.Finding.WRONG,
            subject="agents",
            text="no agent answers here: all that follows is from etcd's records",
            advice="start the agent, or name another node's by --endpoint",
        )
        for group in status.groups:
            if not group.owner:
                text = f"nobody owns it; last {group.last_owner or 'nobody'}"
                reply.findings.add(
                    level=control.Finding.WRONG, subject=group.name, text=text, advice="start its agents"
                )
        return reply


def _groups(found: Scene, seen: Iterable[Seen], alive: set[str]) -> list[pb.Group]:
    since = {one.key.name: one.since for one in seen if one.key.kind is Kind.OWNERS}
    groups: list[pb.Group] = []
    for name in found.groups:
        group = pb.Group(name=name)
        if (record := found.owners.get(name)) is not None:
            # While nobody renews the owner's lease it may still answer, until its kernel's gate closes: not for long.
            group.owner = found.owner(name) if record.incarnation in alive else ""
            group.last_owner = record.node
            group.epoch = record.epoch
            group.reason = record.reason
            group.since_wall_ns = since.get(name, 0)
            group.candidates.extend(record.candidates)
        if (intent := found.intents.get(name)) is not None:
            group.intent.CopyFrom(intent_message(intent))
        groups.append(group)
    return groups


def _member(node: str, found: Scene, alive: set[str]) -> pb.Member:
    lease = found.leases.get(node)
    return member_message(
        node,
        found.members.get(node),
        alive=lease is not None and lease.incarnation in alive,
        drained=node in found.orders.drained,
    )
