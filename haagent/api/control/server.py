"""The doors of Control: a unix socket, and a TCP port for which a certificate is needed.

What strangers can make of it is bounded: bytes of a request, requests at a time, watchers, connections, handshakes in
time. A request that is no message, or names what can not be a name, is refused before anything looks at it.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from haagent.api.control.access import Access, Caller, Role
from haagent.api.control.service import ControlService, UnansweredError
from haagent.api.credentials import Credentials, listening
from haagent.v1 import control_pb2 as pb
from haagent.wire.records import MAX_NAME, MAX_TEXT

_LOG: Final = logging.getLogger("haagent.control")

SERVICE: Final = "haagent.v1.Control"
REQUEST_MOST: Final = 64 * 1024
RUNNING_MOST: Final = 64
"""Requests at a time, watchers among them."""
WATCHERS_MOST: Final = 32
CONNECTIONS_MOST: Final = 128
LONGEST: Final = 330.0
"""Seconds that a request may take, whatever deadline comes with it: the longest wait and some. Watchers may stay."""

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", REQUEST_MOST),
    ("grpc.max_concurrent_streams", RUNNING_MOST),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_MOST),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_metadata_size", 4096),
    ("grpc.absolute_max_metadata_size", 8192),
)
_TEXTS: Final = {"by": MAX_TEXT}


class CannotServeError(Exception):
    """A door can not be opened; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class Doors:
    """`socket`: the unix socket, for root and the members of `group`. `listen`: `address:port`, with `credentials`."""

    socket: Path | None
    group: str | None = None
    listen: str | None = None
    credentials: Credentials | None = None


class ControlServer:
    """Made on the running event loop; `start`, then `close`.

    `counters`: requests by `denied`, `garbage`, `too_many_watchers`, `failed`, and all that were `asked`; TLS
    `connections` begun.
    """

    def __init__(self, service: ControlService, access: Access) -> None:
        self.counters: Counter[str] = Counter()
        self.port = 0
        self._access = access
        self._watchers = 0
        self._credentials: Credentials | None = None
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=RUNNING_MOST)
        self._server.add_generic_rpc_handlers((self._handlers(service),))
        self._socket: tuple[Path, int] | None = None

    async def start(self, doors: Doors) -> None:
        """Open the doors. CannotServeError: one of them can not be, and none is."""
        if doors.listen is not None:
            self._credentials = doors.credentials
            try:
                made = listening(lambda: self._credentials, self._begun)
                self.port = self._server.add_secure_port(doors.listen, made)
            except RuntimeError:
                raise CannotServeError(
                    f"control.listen: {doors.listen}: not an address of this host, or taken"
                ) from None
        if doors.socket is not None:
            await asyncio.to_thread(_make_way, doors.socket)
            self._bind(doors.socket, doors.group)
        await self._server.start()

    def renew(self, credentials: Credentials | None) -> bool:
        """Show these from the next connection on; whether they are others than before. Requests under way go on."""
        if self._credentials is None or credentials is None or credentials == self._credentials:
            return False
        self._credentials = credentials
        return True

    @property
    def expires(self) -> float | None:
        """When our certificate does, in seconds since 1970; None if there is no TCP port."""
        return None if self._credentials is None else self._credentials.expires

    async def close(self) -> None:
        """Let no more in, and end what is under way."""
        await self._server.stop(0.1)
        if self._socket is not None:
            path, inode = self._socket
            try:
                if path.stat().st_ino == inode:
                    path.unlink()
            except OSError:
                pass  # it is gone, as it should be

    def _begun(self) -> None:
        self.counters["connections"] += 1

    def _bind(self, path: Path, group: str | None) -> None:
        # Nobody but root may connect before the permissions are what they are to be.
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError:
            raise CannotServeError(f"control.socket: {path}: cannot listen there") from None
        finally:
            os.umask(before)
        try:
            self._socket = path, path.stat().st_ino
            if group is not None:
                os.chown(path, -1, grp.getgrnam(group).gr_gid)
            path.chmod(0o660)
        except KeyError:
            raise CannotServeError(f"control.group: there is no group {group!r}") from None
        except OSError as error:
            raise CannotServeError(f"control.socket: {path}: {error.strerror}") from None

    # --- requests

    def _handlers(self, service: ControlService) -> grpc.GenericRpcHandler:
        calls: dict[str, tuple[type[Message], Callable[[Any, Caller], Awaitable[Message]], Role]] = {
            "GetStatus": (pb.GetStatusRequest, service.get_status, Role.VIEWER),
            "History": (pb.HistoryRequest, service.history, Role.VIEWER),
            "Doctor": (pb.DoctorRequest, service.doctor, Role.VIEWER),
            "Verify": (pb.VerifyRequest, service.verify, Role.VIEWER),
            "Switchover": (pb.SwitchoverRequest, service.switchover, Role.OPERATOR),
            "Failover": (pb.FailoverRequest, service.failover, Role.OPERATOR),
            "Pause": (pb.PauseRequest, service.pause, Role.OPERATOR),
            "Resume": (pb.ResumeRequest, service.resume, Role.OPERATOR),
            "Drain": (pb.DrainRequest, service.drain, Role.OPERATOR),
            "Undrain": (pb.UndrainRequest, service.undrain, Role.OPERATOR),
            "Reload": (pb.ReloadRequest, service.reload, Role.OPERATOR),
        }
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._one(name, *call)) for name, call in calls.items()
        }
        handlers["WatchStatus"] = grpc.unary_stream_rpc_method_handler(self._watch(service))
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _one(
        self, name: str, kind: type[Message], do: Callable[[Any, Caller], Awaitable[Message]], role: Role
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def answer(data: bytes, context: Any) -> bytes:
            request, caller = await self._admit(name, data, kind, context, role)
            try:
                async with asyncio.timeout(LONGEST):
                    reply = await do(request, caller)
            except (UnansweredError, TimeoutError) as error:
                self.counters["failed"] += 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(error) or "it took too long")
                raise
            return reply.SerializeToString()

        return answer

    def _watch(self, service: ControlService) -> Callable[[bytes, Any], AsyncGenerator[bytes]]:
        async def answer(data: bytes, context: Any) -> AsyncGenerator[bytes]:
            request, caller = await self._admit("WatchStatus", data, pb.WatchStatusRequest, context, Role.VIEWER)
            assert isinstance(request, pb.WatchStatusRequest), "as asked"
            if self._watchers >= WATCHERS_MOST:
                self.counters["too_many_watchers"] += 1
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHERS_MOST} watch already")
            self._watchers += 1
            try:
                async for status in service.watch_status(request, caller):
                    yield status.SerializeToString()
            finally:
                self._watchers -= 1

        return answer

    async def _admit(
        self, name: str, data: bytes, kind: type[Message], context: Any, role: Role
    ) -> tuple[Message, Caller]:
        """The request and who asks; or the call is aborted."""
        self.counters["asked"] += 1
        caller = self._access.caller(context.peer(), context.auth_context())
        if caller.role is Role.NOBODY or (role is Role.OPERATOR and caller.role is not Role.OPERATOR):
            self.counters["denied"] += 1
            _LOG.warning("%s refused: %s, who is no %s, asked", name, caller.name, role.name.lower())
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{caller.name} is no {role.name.lower()} here")
        request = kind()
        try:
            request.ParseFromString(data)
        except DecodeError:
            self.counters["garbage"] += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "that is no message")
        if wrong := _wrong(request):
            self.counters["garbage"] += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        return request, caller


def _wrong(request: Message) -> str:
    """What in a request can not be; empty if all can."""
    for field, value in request.ListFields():
        if isinstance(value, str):
            most = _TEXTS.get(field.name, MAX_NAME)
            if len(value) > most or not value.isprintable():
                return f"{field.name}: must be at most {most} printable characters"
        elif isinstance(value, int) and not isinstance(value, bool) and not 0 <= value < 1 << 62:
            return f"{field.name}: must be 0 to 2^62"
    return ""


def _make_way(path: Path) -> None:
    """A directory for the socket, and no socket that nobody answers at. CannotServeError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise CannotServeError(f"control.socket: {path}: is there, and no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
        raise CannotServeError(f"control.socket: {path}: another process answers there")
    except OSError as error:
        raise CannotServeError(f"control.socket: {path}: {error.strerror or error}") from None
