"""What each request of Control does, for a caller who may ask for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from haagent.api.bulletin import Bulletin
from haagent.api.control.access import Caller
from haagent.api.doctor import Host, findings
from haagent.api.operator import Operator
from haagent.api.status import Counted, address_text
from haagent.core.units import MS, S
from haagent.runtime.clock import boottime
from haagent.runtime.log import fields
from haagent.runtime.ports import UnreadableError
from haagent.v1 import control_pb2 as pb
from haagent.v1 import status_pb2

_LOG: Final = logging.getLogger("haagent.control")

INTERVAL_MS: Final = (100, 60_000)
"""What a watcher may ask for."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading the configuration again: `refused`: nothing changed. `lines`: what is said about it."""

    refused: bool
    lines: tuple[str, ...]


class UnansweredError(Exception):
    """The request can not be answered now; the message says why."""


R = TypeVar(
    "R", pb.SwitchoverRequest, pb.FailoverRequest, pb.PauseRequest, pb.ResumeRequest, pb.DrainRequest, pb.UndrainRequest
)


class ControlService:
    """Answers for one agent. `reload`: as SIGHUP. `host`: what only the agent knows of its host."""

    def __init__(
        self,
        bulletin: Bulletin,
        operator: Operator,
        reload: Callable[[], Awaitable[Reading]],
        host: Callable[[], Host],
    ) -> None:
        self._bulletin = bulletin
        self._operator = operator
        self._reload = reload
        self._host = host

    # --- for viewers

    async def get_status(self, _request: pb.GetStatusRequest, _caller: Caller) -> status_pb2.Status:
        return await self._bulletin.status()

    def watch_status(self, request: pb.WatchStatusRequest, _caller: Caller) -> AsyncGenerator[status_pb2.Status]:
        low, high = INTERVAL_MS
        return self._bulletin.watch(min(max(request.interval_ms or 1000, low), high) * MS / S)

    async def history(self, request: pb.HistoryRequest, _caller: Caller) -> pb.HistoryReply:
        try:
            return await self._operator.history(request)
        except UnreadableError as error:
            raise UnansweredError(f"etcd: {error}") from None

    async def doctor(self, _request: pb.DoctorRequest, _caller: Caller) -> pb.DoctorReply:
        return pb.DoctorReply(findings=findings(await self._bulletin.status(), self._host()))

    async def verify(self, request: pb.VerifyRequest, _caller: Caller) -> pb.VerifyReply:
        counted, own = (await self._bulletin.count()).get(request.group, Counted()), await self._bulletin.own()
        role = next((one for one in own.groups if one.group == request.group), None)
        return pb.VerifyReply(
            node=own.node,
            role=role,
            addresses_held=[address_text(one) for one in counted.held],
            addresses_missing=[address_text(one) for one in counted.missing],
            at_boot_ns=boottime(),
        )

    # --- for operators

    async def switchover(self, request: pb.SwitchoverRequest, caller: Caller) -> pb.Outcome:
        what = f"switchover of {request.group or 'the group'} to {request.to or 'the other candidate'}"
        return await self._told(what, request, self._operator.switchover, caller)

    async def failover(self, request: pb.FailoverRequest, caller: Caller) -> pb.Outcome:
        what = f"failover of {request.group or 'the group'} to {request.to or 'the other candidate'}"
        return await self._told(what, request, self._operator.failover, caller)

    async def pause(self, request: pb.PauseRequest, caller: Caller) -> pb.Outcome:
        return await self._told("pause", request, self._operator.pause, caller)

    async def resume(self, request: pb.ResumeRequest, caller: Caller) -> pb.Outcome:
        return await self._told("resume", request, self._operator.resume, caller)

    async def drain(self, request: pb.DrainRequest, caller: Caller) -> pb.Outcome:
        return await self._told(f"drain of {request.node}", request, self._operator.drain, caller)

    async def undrain(self, request: pb.UndrainRequest, caller: Caller) -> pb.Outcome:
        return await self._told(f"undrain of {request.node}", request, self._operator.undrain, caller)

    async def reload(self, _request: pb.ReloadRequest, caller: Caller) -> pb.Outcome:
        _LOG.info("reload asked for by %s", caller.name, extra=fields(caller=caller.name))
        reading = await self._reload()
        text = "\n".join(reading.lines)
        if reading.refused:
            return pb.Outcome(result=pb.REFUSED, reason="configuration", text=text)
        return pb.Outcome(result=pb.DONE, text=text)

    async def _told(
        self, what: str, request: R, do: Callable[[R], Awaitable[pb.Outcome]], caller: Caller
    ) -> pb.Outcome:
        """Do it, and log who asked and what came of it, even if he does not wait for that."""
        who = f"{request.by} ({caller.name})" if request.by else caller.name
        if not request.by:
            request.by = caller.name
        about = fields(caller=caller.name)
        _LOG.info("%s asked for by %s", what, who, extra=about)
        try:
            outcome = await do(request)
        except asyncio.CancelledError:
            _LOG.warning("%s: %s did not wait for what came of it", what, who, extra=about)
            raise
        result = pb.Result.Name(outcome.result).lower()
        words = " ".join(part for part in (result, outcome.reason) if part)
        _LOG.info("%s: %s: %s", what, words, outcome.text, extra=about)
        return outcome
