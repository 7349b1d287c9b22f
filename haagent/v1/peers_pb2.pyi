from haagent.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "promise", "ping", "pong", "status")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    promise: Promise
    ping: Ping
    pong: Pong
    status: _status_pb2.NodeStatus
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., promise: _Optional[_Union[Promise, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.NodeStatus, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("oldest_version", "newest_version", "cluster", "node", "incarnation", "release")
    OLDEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    oldest_version: int
    newest_version: int
    cluster: str
    node: str
    incarnation: str
    release: str
    def __init__(self, oldest_version: _Optional[int] = ..., newest_version: _Optional[int] = ..., cluster: _Optional[str] = ..., node: _Optional[str] = ..., incarnation: _Optional[str] = ..., release: _Optional[str] = ...) -> None: ...

class Tenure(_message.Message):
    __slots__ = ("group", "epoch")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    group: str
    epoch: int
    def __init__(self, group: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("incarnation", "round", "ttl_ns", "tenures")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TTL_NS_FIELD_NUMBER: _ClassVar[int]
    TENURES_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    round: int
    ttl_ns: int
    tenures: _containers.RepeatedCompositeFieldContainer[Tenure]
    def __init__(self, incarnation: _Optional[str] = ..., round: _Optional[int] = ..., ttl_ns: _Optional[int] = ..., tenures: _Optional[_Iterable[_Union[Tenure, _Mapping]]] = ...) -> None: ...

class Promise(_message.Message):
    __slots__ = ("incarnation", "round", "tenures", "machine")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TENURES_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    round: int
    tenures: _containers.RepeatedCompositeFieldContainer[Tenure]
    machine: str
    def __init__(self, incarnation: _Optional[str] = ..., round: _Optional[int] = ..., tenures: _Optional[_Iterable[_Union[Tenure, _Mapping]]] = ..., machine: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("number", "sent_at_ns")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_NS_FIELD_NUMBER: _ClassVar[int]
    number: int
    sent_at_ns: int
    def __init__(self, number: _Optional[int] = ..., sent_at_ns: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("number", "sent_at_ns", "at_ns")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_NS_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    number: int
    sent_at_ns: int
    at_ns: int
    def __init__(self, number: _Optional[int] = ..., sent_at_ns: _Optional[int] = ..., at_ns: _Optional[int] = ...) -> None: ...
