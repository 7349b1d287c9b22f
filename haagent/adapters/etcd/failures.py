"""Why an etcd call has no answer, and what that says about whether it was done.

gRPC's UNAVAILABLE may come before a request was sent, or after it was done; the text does not tell safely. So it is
never taken for "not sent": a call is only made on a channel that is connected (`pool`), and "not sent" means that none
was. The answers below are etcd's own, given before it writes anything (its api/v3rpc/rpctypes, interceptor.go,
and the checks with which it begins to apply a transaction).
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Final

import grpc
import grpc.aio


class Trouble(Enum):
    """What kind of failure it is, by what can be done about it."""

    NOT_SENT = auto()
    """No endpoint is connected, or what is needed for the call (token, session) is not there. Not done."""
    TURNED_AWAY = auto()
    """The endpoint has no leader, or too much to do. Not done; another one may do it."""
    TOKEN = auto()
    """The token is missing, expired or old. Not done; authenticate and try again."""
    LEASE_GONE = auto()
    """The session's lease does not exist. Not done; get another one and try again."""
    FULL = auto()
    """etcd has no space left, and takes no writes until an operator makes room. This one may have been done."""
    REFUSED = auto()
    """etcd understood, and will say the same again: permission, bad request. Not done."""
    UNKNOWN = auto()
    """No answer, or the connection broke: it may or may not have been done. The endpoint is to be left."""


class CallError(Exception):
    """A call without a usable answer. `why` is for people; `code` is gRPC's, None if nothing was sent."""

    def __init__(self, why: str, trouble: Trouble, code: grpc.StatusCode | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.trouble = trouble
        self.code = code


FAILURES: Final = (grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError)
"""Everything that gRPC raises out of a call."""


def failure(error: BaseException) -> CallError:
    """What a failed call means."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return CallError(f"{type(error).__name__}: {error}"[:_LONGEST], Trouble.UNKNOWN)
    code, details = error.code(), error.details() or ""
    for text, trouble in _BY_TEXT.items():
        if text in details:
            return CallError(_said(details), trouble, code)
    trouble = Trouble.REFUSED if code in _REFUSALS else Trouble.UNKNOWN
    if code is grpc.StatusCode.UNAUTHENTICATED:
        trouble = Trouble.TOKEN
    why = "no answer in time" if code is grpc.StatusCode.DEADLINE_EXCEEDED else _said(details)
    return CallError(why or code.name, trouble, code)


def _said(details: str) -> str:
    """The last, most exact part of what gRPC says, without etcd's prefix."""
    for marker, plain in _PLAINLY.items():
        if marker in details:
            return plain
    return details.rpartition("last error: ")[2].removeprefix("etcdserver: ")[:_LONGEST]


_LONGEST: Final = 300

_BY_TEXT: Final = {
    "etcdserver: no leader": Trouble.TURNED_AWAY,
    "etcdserver: too many requests": Trouble.TURNED_AWAY,
    "etcdserver: invalid auth token": Trouble.TOKEN,
    "etcdserver: user name is empty": Trouble.TOKEN,
    "etcdserver: revision of auth store is old": Trouble.TOKEN,
    "etcdserver: requested lease not found": Trouble.LEASE_GONE,
    "database space exceeded": Trouble.FULL,
    "message larger than max": Trouble.REFUSED,
}

_REFUSALS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}

_PLAINLY: Final = {
    "CERTIFICATE_VERIFY_FAILED": "TLS: its certificate is not signed by our ca",
    "TLSV1_ALERT_BAD_CERTIFICATE": "TLS: it refused our certificate",
    "CERTIFICATE_REQUIRED": "TLS: it wants a certificate of ours",
    "Hostname Verification Check failed": "TLS: its certificate is for another name",
    "WRONG_VERSION_NUMBER": "TLS: it speaks plain http",
    "Handshake read failed": "TLS: it broke off the handshake; does it speak TLS?",
    "TSI_DATA_CORRUPTED": "TLS: it broke off after the handshake; does it want a certificate of ours?",
    "Connection refused": "connection refused",
    "Socket closed": "connection closed",
    "Connection reset by peer": "connection closed",
    "invalid user ID or password": "wrong user or password",
    "database space exceeded": "etcd is full (NOSPACE): it takes no writes",
    "required revision has been compacted": "history was compacted since the list",
}
