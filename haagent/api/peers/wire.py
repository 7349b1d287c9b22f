"""gRPC as the peers use it: options, the one method, and both kinds of stream as a `Pipe`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast

import grpc
import grpc.aio

from haagent.api.peers import messages
from haagent.api.peers.greeting import Greeting
from haagent.api.peers.messages import MESSAGE_MOST
from haagent.api.peers.reasons import EXPECTED, Reason, Refused
from haagent.api.peers.session import Pipe

SERVICE: Final = "haagent.v1.Peers"
METHOD: Final = "Exchange"
DEADLINE: Final = 2.0
"""Seconds for connecting and greeting, together."""
REFUSAL: Final = grpc.StatusCode.FAILED_PRECONDITION
"""The status by which the listening side ends a stream; its text is a reason and a detail."""

COMMON: Final = (
    # What is a little too long is refused by name, and the stream goes on; what is longer ends it.
    ("grpc.max_receive_message_length", 2 * MESSAGE_MOST),
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A message must not become a megabyte on arrival: nothing is compressed, and nothing is taken that is.
    ("grpc.compression_enabled_algorithms_bitset", 1),
)

FAILURES: Final = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""Everything that gRPC raises out of a stream."""

_LONGEST: Final = 300


class DialedPipe:
    """A stream that we opened. `call`: gRPC's StreamStreamCall of bytes."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> bytes | Refused:
        """The next message, or why there is none."""
        try:
            data = await self._call.read()
            if isinstance(data, bytes):
                return data
            return ended(await self._call.code(), await self._call.details())
        except grpc.aio.AioRpcError as error:
            return ended(error.code(), error.details())
        except FAILURES as error:
            return Refused(Reason.CLOSED, type(error).__name__)

    async def write(self, data: bytes) -> None:
        """Send a message. What ended the stream, `read` tells."""
        with contextlib.suppress(*FAILURES):
            await self._call.write(data)


class HeardPipe:
    """A stream that a peer opened. `context`: gRPC's ServicerContext."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def read(self) -> bytes | Refused:
        """The next message, or why there is none."""
        try:
            data = await self._context.read()
        except FAILURES as error:
            return Refused(Reason.CLOSED, type(error).__name__)
        return data if isinstance(data, bytes) else Refused(Reason.CLOSED, "")

    async def write(self, data: bytes) -> None:
        """Send a message. What ended the stream, `read` tells."""
        with contextlib.suppress(*FAILURES):
            await self._context.write(data)


def exchange(channel: grpc.aio.Channel) -> Any:
    """Open a stream: gRPC's StreamStreamCall. Messages are bytes: what is none must not end it."""
    return cast("Any", channel).stream_stream(f"/{SERVICE}/{METHOD}")()


def handler(method: Callable[[Any, Any], Awaitable[None]]) -> Any:
    """For a server: streams that are opened go to `method(requests, context)`."""
    grpc_: Any = grpc
    found = grpc_.stream_stream_rpc_method_handler(method)
    return grpc_.method_handlers_generic_handler(SERVICE, {METHOD: found})


async def greet(pipe: Pipe, ours: Greeting) -> Greeting | Refused:
    """Say hello, and hear it. TimeoutError: not within `DEADLINE`."""
    async with asyncio.timeout(DEADLINE):
        await pipe.write(messages.greeting(ours))
        data = await pipe.read()
    return data if isinstance(data, Refused) else messages.read_greeting(data)


def ended(code: grpc.StatusCode, details: str | None) -> Refused:
    """What gRPC's status of a stream that we opened says."""
    text = printable(details or "")
    if code is grpc.StatusCode.OK or code is grpc.StatusCode.CANCELLED:
        return Refused(Reason.CLOSED, text)
    if code is REFUSAL:
        word = text.partition(":")[0]
        if word in EXPECTED:
            return Refused(Reason(word), text.partition(": ")[2])
        return Refused(Reason.REFUSED, text)
    for marker, reason, plainly in _PLAINLY:
        if marker in text:
            return Refused(reason, plainly or _tail(text))
    if code is grpc.StatusCode.UNAVAILABLE:
        return Refused(Reason.UNREACHABLE, _tail(text))
    return Refused(Reason.REFUSED, f"{code.name}: {_tail(text)}")


def printable(text: str) -> str:
    """Text from a peer, in a form that can do nothing to a log or a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text[: 2 * _LONGEST])


def _tail(text: str) -> str:
    """The last, most exact part of what gRPC says."""
    return text.rpartition("last error: ")[2][:_LONGEST]


_PLAINLY: Final[Iterable[tuple[str, Reason, str]]] = (
    ("certificate has expired", Reason.EXPIRED, "its certificate has expired"),
    ("CERTIFICATE_VERIFY_FAILED", Reason.AUTHORITY, "its certificate is not signed by our ca"),
    ("Hostname Verification Check failed", Reason.NAME, "its certificate is for another name"),
    ("WRONG_VERSION_NUMBER", Reason.PLAIN, "it speaks plain text, we speak TLS"),
    ("message larger than max", Reason.OVERSIZED, ""),
    # A message that we were sending when the stream ended; why it did is lost.
    ("Internal error from Core", Reason.CLOSED, ""),
    ("Connection refused", Reason.UNREACHABLE, "connection refused"),
    # In TLS 1.3 our end is done before the other one has looked at our certificate.
    ("Socket closed", Reason.BROKEN_OFF, "it closed the connection"),
    ("TSI_DATA_CORRUPTED", Reason.BROKEN_OFF, "it broke off the handshake"),
    ("Connection reset", Reason.BROKEN_OFF, "it closed the connection"),
    ("Broken pipe", Reason.BROKEN_OFF, "it closed the connection"),
    ("End of TCP stream", Reason.BROKEN_OFF, "it closed the connection"),
    ("Handshake read failed", Reason.BROKEN_OFF, "it broke off the handshake"),
)
