"""Asking an agent: the service `haagent.v1.Control` over gRPC, on a unix socket or TCP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, cast

import grpc

from haagent.cli.ctl.errors import CtlError, RefusedError, UnknownError, UnreachableError
from haagent.cli.ctl.reach import Tls
from haagent.cli.ctl.service import GET_STATUS, WATCH_STATUS, A, Method, Q
from haagent.core.units import MS, Duration, S
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2

MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of one answer that are taken: a thousand groups on a hundred nodes are some of them."""

_TO_FIND: Final = 3 * S
"""An agent that says nothing for so long is left for the next, or for etcd."""
_TO_ANSWER: Final = 10 * S
"""An agent that asks etcd in vain says so itself, after some seconds: better its answer than none."""

_OPTIONS: Final = (
    ("grpc.enable_retries", 0),  # what was sent is never sent twice behind our back
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)

_REFUSALS: Final = {
    grpc.StatusCode.PERMISSION_DENIED: "permission denied",
    grpc.StatusCode.UNAUTHENTICATED: "not authenticated",
    grpc.StatusCode.INVALID_ARGUMENT: "refused",
    grpc.StatusCode.FAILED_PRECONDITION: "refused",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "refused",
    grpc.StatusCode.UNIMPLEMENTED: "this agent does not know the request; is it older than haagentctl?",
}


class _Failed(Protocol):
    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...


class Agent:
    """A `Service`. `endpoint`: `unix:PATH` or `HOST:PORT`. The first question connects."""

    agent = True

    def __init__(self, endpoint: str, tls: Tls | None, timeout: Duration | None) -> None:
        self.name = endpoint
        self._timeout = timeout
        if tls is None or endpoint.startswith("unix:"):
            self._channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        else:
            self._channel = grpc.secure_channel(endpoint, _credentials(tls), options=_OPTIONS)

    def ask(self, method: Method[Q, A], request: Q, *, wait: Duration = 0) -> A:
        call = cast(
            "Callable[..., A]",
            self._channel.unary_unary(
                f"/haagent.v1.Control/{method.name}",
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.reply.FromString,
            ),
        )
        patience = self._timeout or (_TO_FIND if method is GET_STATUS else _TO_ANSWER)
        try:
            return call(request, timeout=(patience + wait) / S)
        except grpc.RpcError as error:
            raise self._error(cast("_Failed", error), method.changes, patience) from None
        except KeyboardInterrupt:
            if method.changes:
                raise UnknownError(f"{self.name}: interrupted, the outcome is unknown: look with `list`") from None
            raise

    def watch(self, interval: Duration) -> Iterator[status_pb2.Status]:
        call = cast(
            "Callable[..., Iterator[status_pb2.Status]]",
            self._channel.unary_stream(
                f"/haagent.v1.Control/{WATCH_STATUS.name}",
                request_serializer=WATCH_STATUS.request.SerializeToString,
                response_deserializer=WATCH_STATUS.reply.FromString,
            ),
        )
        try:
            yield from call(control.WatchStatusRequest(interval_ms=interval // MS))
        except grpc.RpcError as error:
            raise self._error(cast("_Failed", error), False, 0) from None
        raise UnreachableError(f"{self.name}: the agent ended the stream")

    def close(self) -> None:
        self._channel.close()

    def _error(self, error: _Failed, changes: bool, patience: Duration) -> CtlError:
        code = error.code()
        # Of a failure to connect, gRPC tells the layers that it went through; the last one says it.
        details = " ".join((error.details() or "").split()).rpartition(" error: ")[2]
        if code in _REFUSALS:
            return RefusedError(f"{self.name}: {_REFUSALS[code]}" + (f": {details}" if details else ""))
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED
        why = f"no answer within {patience / S:g} s" if late and not changes else details or code.name
        if not changes:
            return UnreachableError(f"{self.name}: {why}")
        why = "no answer in time" if late else why
        return UnknownError(f"{self.name}: the outcome is unknown, it may or may not be done: {why}; look with `list`")


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(_read(tls.ca), _read(tls.key), _read(tls.certificate))


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefusedError(f"{path}: {(error.strerror or str(error)).lower()}") from None
