"""What is used of aetcd's generated stubs, whose messages exist only at run time (etcd's rpc.proto, kv.proto)."""

# ruff: noqa: N802, N803, N815 - the names are etcd's

from collections.abc import Iterable, Sequence
from typing import Literal

import grpc.aio
from google.protobuf.message import Message

class ResponseHeader:
    def CopyFrom(self, other: ResponseHeader) -> None: ...
    cluster_id: int
    member_id: int
    revision: int

class KeyValue:
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int

class Event:
    PUT: Literal[0]
    DELETE: Literal[1]
    type: int
    kv: KeyValue

class RangeRequest:
    key: bytes
    def __init__(self, *, key: bytes = ..., range_end: bytes = ..., limit: int = ..., revision: int = ...) -> None: ...

class RangeResponse:
    header: ResponseHeader
    kvs: Sequence[KeyValue]
    more: bool
    def ByteSize(self) -> int: ...

class PutRequest:
    key: bytes
    def __init__(self, *, key: bytes = ..., value: bytes = ..., lease: int = ...) -> None: ...

class DeleteRangeRequest:
    key: bytes
    def __init__(self, *, key: bytes = ...) -> None: ...

class Compare:
    key: bytes
    EQUAL: Literal[0]
    GREATER: Literal[1]
    CREATE: Literal[1]
    MOD: Literal[2]
    def __init__(
        self,
        *,
        result: int = ...,
        target: int = ...,
        key: bytes = ...,
        create_revision: int = ...,
        mod_revision: int = ...,
    ) -> None: ...

class RequestOp:
    request_range: RangeRequest
    request_put: PutRequest
    request_delete_range: DeleteRangeRequest
    def __init__(
        self,
        *,
        request_range: RangeRequest = ...,
        request_put: PutRequest = ...,
        request_delete_range: DeleteRangeRequest = ...,
        request_txn: TxnRequest = ...,
    ) -> None: ...

class ResponseOp:
    response_txn: TxnResponse
    response_range: RangeResponse

class TxnRequest:
    compare: Sequence[Compare]
    success: Sequence[RequestOp]
    failure: Sequence[RequestOp]
    def __init__(
        self,
        *,
        compare: Iterable[Compare] = ...,
        success: Iterable[RequestOp] = ...,
        failure: Iterable[RequestOp] = ...,
    ) -> None: ...

class TxnResponse:
    header: ResponseHeader
    succeeded: bool
    responses: Sequence[ResponseOp]

class WatchCreateRequest:
    def __init__(
        self,
        *,
        key: bytes = ...,
        range_end: bytes = ...,
        start_revision: int = ...,
        progress_notify: bool = ...,
    ) -> None: ...

class WatchRequest:
    def __init__(self, *, create_request: WatchCreateRequest = ...) -> None: ...

class WatchResponse:
    header: ResponseHeader
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    events: Sequence[Event]

class LeaseGrantRequest:
    def __init__(self, *, TTL: int = ..., ID: int = ...) -> None: ...

class LeaseGrantResponse:
    ID: int
    TTL: int
    error: str

class LeaseKeepAliveRequest:
    def __init__(self, *, ID: int = ...) -> None: ...

class LeaseKeepAliveResponse:
    ID: int
    TTL: int

class LeaseRevokeRequest:
    def __init__(self, *, ID: int = ...) -> None: ...

class LeaseRevokeResponse: ...

class AuthenticateRequest:
    def __init__(self, *, name: str = ..., password: str = ...) -> None: ...

class AuthenticateResponse:
    token: str

class StatusRequest: ...

class StatusResponse(Message):
    header: ResponseHeader
    version: str
    dbSize: int
    dbSizeInUse: int
    errors: Sequence[str]

class CompactionRequest:
    def __init__(self, *, revision: int = ..., physical: bool = ...) -> None: ...

class CompactionResponse:
    header: ResponseHeader

class KVStub:
    Range: grpc.aio.UnaryUnaryMultiCallable[RangeRequest, RangeResponse]
    Txn: grpc.aio.UnaryUnaryMultiCallable[TxnRequest, TxnResponse]
    Compact: grpc.aio.UnaryUnaryMultiCallable[CompactionRequest, CompactionResponse]
    def __init__(self, channel: grpc.aio.Channel) -> None: ...

class WatchStub:
    Watch: grpc.aio.StreamStreamMultiCallable[WatchRequest, WatchResponse]
    def __init__(self, channel: grpc.aio.Channel) -> None: ...

class LeaseStub:
    LeaseGrant: grpc.aio.UnaryUnaryMultiCallable[LeaseGrantRequest, LeaseGrantResponse]
    LeaseRevoke: grpc.aio.UnaryUnaryMultiCallable[LeaseRevokeRequest, LeaseRevokeResponse]
    LeaseKeepAlive: grpc.aio.StreamStreamMultiCallable[LeaseKeepAliveRequest, LeaseKeepAliveResponse]
    def __init__(self, channel: grpc.aio.Channel) -> None: ...

class AuthStub:
    Authenticate: grpc.aio.UnaryUnaryMultiCallable[AuthenticateRequest, AuthenticateResponse]
    def __init__(self, channel: grpc.aio.Channel) -> None: ...

class MaintenanceStub:
    Status: grpc.aio.UnaryUnaryMultiCallable[StatusRequest, StatusResponse]
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
