from haagent.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Result(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_UNSPECIFIED: _ClassVar[Result]
    DONE: _ClassVar[Result]
    REFUSED: _ClassVar[Result]
    FAILED: _ClassVar[Result]
    UNKNOWN: _ClassVar[Result]
    SCHEDULED: _ClassVar[Result]
RESULT_UNSPECIFIED: Result
DONE: Result
REFUSED: Result
FAILED: Result
UNKNOWN: Result
SCHEDULED: Result

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchStatusRequest(_message.Message):
    __slots__ = ("interval_ms",)
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    interval_ms: int
    def __init__(self, interval_ms: _Optional[int] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("group", "newest")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    group: str
    newest: int
    def __init__(self, group: _Optional[str] = ..., newest: _Optional[int] = ...) -> None: ...

class HistoryReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[HistoryEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[HistoryEntry, _Mapping]]] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("group", "epoch", "node", "reason", "at_wall_ns")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    group: str
    epoch: int
    node: str
    reason: str
    at_wall_ns: int
    def __init__(self, group: _Optional[str] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ..., reason: _Optional[str] = ..., at_wall_ns: _Optional[int] = ...) -> None: ...

class DoctorRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DoctorReply(_message.Message):
    __slots__ = ("findings",)
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("level", "subject", "text", "advice")
    class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LEVEL_UNSPECIFIED: _ClassVar[Finding.Level]
        OK: _ClassVar[Finding.Level]
        WARNING: _ClassVar[Finding.Level]
        WRONG: _ClassVar[Finding.Level]
    LEVEL_UNSPECIFIED: Finding.Level
    OK: Finding.Level
    WARNING: Finding.Level
    WRONG: Finding.Level
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    level: Finding.Level
    subject: str
    text: str
    advice: str
    def __init__(self, level: _Optional[_Union[Finding.Level, str]] = ..., subject: _Optional[str] = ..., text: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("result", "reason", "text", "moves")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    result: Result
    reason: str
    text: str
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    def __init__(self, result: _Optional[_Union[Result, str]] = ..., reason: _Optional[str] = ..., text: _Optional[str] = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("group", "from_node", "to_node", "from_epoch", "to_epoch", "gap_ns", "gap_error_ns", "verified", "known", "unreachable")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    FROM_NODE_FIELD_NUMBER: _ClassVar[int]
    TO_NODE_FIELD_NUMBER: _ClassVar[int]
    FROM_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TO_EPOCH_FIELD_NUMBER: _ClassVar[int]
    GAP_NS_FIELD_NUMBER: _ClassVar[int]
    GAP_ERROR_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    group: str
    from_node: str
    to_node: str
    from_epoch: int
    to_epoch: int
    gap_ns: int
    gap_error_ns: int
    verified: bool
    known: str
    unreachable: str
    def __init__(self, group: _Optional[str] = ..., from_node: _Optional[str] = ..., to_node: _Optional[str] = ..., from_epoch: _Optional[int] = ..., to_epoch: _Optional[int] = ..., gap_ns: _Optional[int] = ..., gap_error_ns: _Optional[int] = ..., verified: _Optional[bool] = ..., known: _Optional[str] = ..., unreachable: _Optional[str] = ...) -> None: ...

class SwitchoverRequest(_message.Message):
    __slots__ = ("group", "to", "by", "not_before_wall_ns", "expires_wall_ns", "wait_ms", "from_epoch", "force")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    FROM_EPOCH_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    group: str
    to: str
    by: str
    not_before_wall_ns: int
    expires_wall_ns: int
    wait_ms: int
    from_epoch: int
    force: bool
    def __init__(self, group: _Optional[str] = ..., to: _Optional[str] = ..., by: _Optional[str] = ..., not_before_wall_ns: _Optional[int] = ..., expires_wall_ns: _Optional[int] = ..., wait_ms: _Optional[int] = ..., from_epoch: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class FailoverRequest(_message.Message):
    __slots__ = ("group", "to", "by", "wait_ms", "dead")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    group: str
    to: str
    by: str
    wait_ms: int
    dead: bool
    def __init__(self, group: _Optional[str] = ..., to: _Optional[str] = ..., by: _Optional[str] = ..., wait_ms: _Optional[int] = ..., dead: _Optional[bool] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("by",)
    BY_FIELD_NUMBER: _ClassVar[int]
    by: str
    def __init__(self, by: _Optional[str] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("by",)
    BY_FIELD_NUMBER: _ClassVar[int]
    by: str
    def __init__(self, by: _Optional[str] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("node", "by", "wait_ms", "force")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    node: str
    by: str
    wait_ms: int
    force: bool
    def __init__(self, node: _Optional[str] = ..., by: _Optional[str] = ..., wait_ms: _Optional[int] = ..., force: _Optional[bool] = ...) -> None: ...

class UndrainRequest(_message.Message):
    __slots__ = ("node", "by")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    node: str
    by: str
    def __init__(self, node: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: str
    def __init__(self, group: _Optional[str] = ...) -> None: ...

class VerifyReply(_message.Message):
    __slots__ = ("node", "role", "addresses_held", "addresses_missing", "at_boot_ns")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_HELD_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_MISSING_FIELD_NUMBER: _ClassVar[int]
    AT_BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    node: str
    role: _status_pb2.GroupRole
    addresses_held: _containers.RepeatedScalarFieldContainer[str]
    addresses_missing: _containers.RepeatedScalarFieldContainer[str]
    at_boot_ns: int
    def __init__(self, node: _Optional[str] = ..., role: _Optional[_Union[_status_pb2.GroupRole, _Mapping]] = ..., addresses_held: _Optional[_Iterable[str]] = ..., addresses_missing: _Optional[_Iterable[str]] = ..., at_boot_ns: _Optional[int] = ...) -> None: ...
