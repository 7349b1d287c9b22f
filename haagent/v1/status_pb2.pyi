from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    INIT: _ClassVar[Role]
    BACKUP: _ClassVar[Role]
    MASTER: _ClassVar[Role]
    FAULT: _ClassVar[Role]

class Answers(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANSWERS_UNSPECIFIED: _ClassVar[Answers]
    PENDING: _ClassVar[Answers]
    YES: _ClassVar[Answers]
    NO: _ClassVar[Answers]
ROLE_UNSPECIFIED: Role
INIT: Role
BACKUP: Role
MASTER: Role
FAULT: Role
ANSWERS_UNSPECIFIED: Answers
PENDING: Answers
YES: Answers
NO: Answers

class GroupRole(_message.Message):
    __slots__ = ("group", "role", "state", "epoch", "priority", "faults", "answers_since_boot_ns", "silent_since_boot_ns", "answers_since_wall_ns", "silent_since_wall_ns", "addresses_held", "addresses_missing", "answers", "asked_epoch", "silent")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_SINCE_BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    SILENT_SINCE_BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_SINCE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    SILENT_SINCE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_HELD_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_MISSING_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    ASKED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    group: str
    role: Role
    state: str
    epoch: int
    priority: int
    faults: _containers.RepeatedScalarFieldContainer[str]
    answers_since_boot_ns: int
    silent_since_boot_ns: int
    answers_since_wall_ns: int
    silent_since_wall_ns: int
    addresses_held: int
    addresses_missing: int
    answers: Answers
    asked_epoch: int
    silent: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, group: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., state: _Optional[str] = ..., epoch: _Optional[int] = ..., priority: _Optional[int] = ..., faults: _Optional[_Iterable[str]] = ..., answers_since_boot_ns: _Optional[int] = ..., silent_since_boot_ns: _Optional[int] = ..., answers_since_wall_ns: _Optional[int] = ..., silent_since_wall_ns: _Optional[int] = ..., addresses_held: _Optional[int] = ..., addresses_missing: _Optional[int] = ..., answers: _Optional[_Union[Answers, str]] = ..., asked_epoch: _Optional[int] = ..., silent: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "incarnation", "release", "groups", "lease", "failsafe", "gate", "alarms", "stopping", "started_wall_ns", "etcd", "at_boot_ns", "at_wall_ns")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    FAILSAFE_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    STARTED_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    ETCD_FIELD_NUMBER: _ClassVar[int]
    AT_BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    AT_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: str
    release: str
    groups: _containers.RepeatedCompositeFieldContainer[GroupRole]
    lease: LeaseStatus
    failsafe: FailsafeStatus
    gate: GateStatus
    alarms: _containers.RepeatedCompositeFieldContainer[Alarm]
    stopping: bool
    started_wall_ns: int
    etcd: EtcdStatus
    at_boot_ns: int
    at_wall_ns: int
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[str] = ..., release: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[GroupRole, _Mapping]]] = ..., lease: _Optional[_Union[LeaseStatus, _Mapping]] = ..., failsafe: _Optional[_Union[FailsafeStatus, _Mapping]] = ..., gate: _Optional[_Union[GateStatus, _Mapping]] = ..., alarms: _Optional[_Iterable[_Union[Alarm, _Mapping]]] = ..., stopping: _Optional[bool] = ..., started_wall_ns: _Optional[int] = ..., etcd: _Optional[_Union[EtcdStatus, _Mapping]] = ..., at_boot_ns: _Optional[int] = ..., at_wall_ns: _Optional[int] = ...) -> None: ...

class LeaseStatus(_message.Message):
    __slots__ = ("held", "ttl_ns", "left_ns", "age_ns", "renewal_ns")
    HELD_FIELD_NUMBER: _ClassVar[int]
    TTL_NS_FIELD_NUMBER: _ClassVar[int]
    LEFT_NS_FIELD_NUMBER: _ClassVar[int]
    AGE_NS_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_NS_FIELD_NUMBER: _ClassVar[int]
    held: bool
    ttl_ns: int
    left_ns: int
    age_ns: int
    renewal_ns: int
    def __init__(self, held: _Optional[bool] = ..., ttl_ns: _Optional[int] = ..., left_ns: _Optional[int] = ..., age_ns: _Optional[int] = ..., renewal_ns: _Optional[int] = ...) -> None: ...

class FailsafeStatus(_message.Message):
    __slots__ = ("off_because", "active", "since_wall_ns", "left_ns", "missing")
    OFF_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    SINCE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    LEFT_NS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    off_because: str
    active: bool
    since_wall_ns: int
    left_ns: int
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, off_because: _Optional[str] = ..., active: _Optional[bool] = ..., since_wall_ns: _Optional[int] = ..., left_ns: _Optional[int] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class GateStatus(_message.Message):
    __slots__ = ("kind", "owned", "dropped", "kept_by", "failed", "rebuilt", "uncovered")
    class DroppedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class FailedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class RebuiltEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    OWNED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    KEPT_BY_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REBUILT_FIELD_NUMBER: _ClassVar[int]
    UNCOVERED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    owned: bool
    dropped: _containers.ScalarMap[str, int]
    kept_by: str
    failed: _containers.ScalarMap[str, str]
    rebuilt: _containers.ScalarMap[str, int]
    uncovered: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[str] = ..., owned: _Optional[bool] = ..., dropped: _Optional[_Mapping[str, int]] = ..., kept_by: _Optional[str] = ..., failed: _Optional[_Mapping[str, str]] = ..., rebuilt: _Optional[_Mapping[str, int]] = ..., uncovered: _Optional[_Iterable[str]] = ...) -> None: ...

class EtcdStatus(_message.Message):
    __slots__ = ("reachable", "cluster", "revision", "members", "revisions_a_day", "compaction", "uncompacted")
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_A_DAY_FIELD_NUMBER: _ClassVar[int]
    COMPACTION_FIELD_NUMBER: _ClassVar[int]
    UNCOMPACTED_FIELD_NUMBER: _ClassVar[int]
    reachable: bool
    cluster: str
    revision: int
    members: _containers.RepeatedCompositeFieldContainer[EtcdMember]
    revisions_a_day: int
    compaction: str
    uncompacted: bool
    def __init__(self, reachable: _Optional[bool] = ..., cluster: _Optional[str] = ..., revision: _Optional[int] = ..., members: _Optional[_Iterable[_Union[EtcdMember, _Mapping]]] = ..., revisions_a_day: _Optional[int] = ..., compaction: _Optional[str] = ..., uncompacted: _Optional[bool] = ...) -> None: ...

class EtcdMember(_message.Message):
    __slots__ = ("endpoint", "version", "size", "used", "quota", "alarms")
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    endpoint: str
    version: str
    size: int
    used: int
    quota: int
    alarms: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, endpoint: _Optional[str] = ..., version: _Optional[str] = ..., size: _Optional[int] = ..., used: _Optional[int] = ..., quota: _Optional[int] = ..., alarms: _Optional[_Iterable[str]] = ...) -> None: ...

class Alarm(_message.Message):
    __slots__ = ("kind", "subject", "detail", "since_wall_ns")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SINCE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    subject: str
    detail: str
    since_wall_ns: int
    def __init__(self, kind: _Optional[str] = ..., subject: _Optional[str] = ..., detail: _Optional[str] = ..., since_wall_ns: _Optional[int] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("name", "owner", "last_owner", "epoch", "reason", "since_wall_ns", "candidates", "addresses", "routers", "intent", "answers", "unanswered", "silence")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LAST_OWNER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SINCE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ROUTERS_FIELD_NUMBER: _ClassVar[int]
    INTENT_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    UNANSWERED_FIELD_NUMBER: _ClassVar[int]
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    owner: str
    last_owner: str
    epoch: int
    reason: str
    since_wall_ns: int
    candidates: _containers.RepeatedScalarFieldContainer[str]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    routers: _containers.RepeatedCompositeFieldContainer[Router]
    intent: Intent
    answers: Answers
    unanswered: _containers.RepeatedScalarFieldContainer[str]
    silence: str
    def __init__(self, name: _Optional[str] = ..., owner: _Optional[str] = ..., last_owner: _Optional[str] = ..., epoch: _Optional[int] = ..., reason: _Optional[str] = ..., since_wall_ns: _Optional[int] = ..., candidates: _Optional[_Iterable[str]] = ..., addresses: _Optional[_Iterable[str]] = ..., routers: _Optional[_Iterable[_Union[Router, _Mapping]]] = ..., intent: _Optional[_Union[Intent, _Mapping]] = ..., answers: _Optional[_Union[Answers, str]] = ..., unanswered: _Optional[_Iterable[str]] = ..., silence: _Optional[str] = ...) -> None: ...

class Router(_message.Message):
    __slots__ = ("name", "vrid", "version", "interface", "addresses")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VRID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    vrid: int
    version: int
    interface: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., vrid: _Optional[int] = ..., version: _Optional[int] = ..., interface: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class Intent(_message.Message):
    __slots__ = ("to", "from_epoch", "by", "not_before_wall_ns", "expires_wall_ns")
    TO_FIELD_NUMBER: _ClassVar[int]
    FROM_EPOCH_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    to: str
    from_epoch: int
    by: str
    not_before_wall_ns: int
    expires_wall_ns: int
    def __init__(self, to: _Optional[str] = ..., from_epoch: _Optional[int] = ..., by: _Optional[str] = ..., not_before_wall_ns: _Optional[int] = ..., expires_wall_ns: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node", "alive", "release", "incarnation", "endpoint", "addresses", "priorities", "drained", "peer", "status")
    class PrioritiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    PRIORITIES_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    node: str
    alive: bool
    release: str
    incarnation: str
    endpoint: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    priorities: _containers.ScalarMap[str, int]
    drained: bool
    peer: Peer
    status: NodeStatus
    def __init__(self, node: _Optional[str] = ..., alive: _Optional[bool] = ..., release: _Optional[str] = ..., incarnation: _Optional[str] = ..., endpoint: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., priorities: _Optional[_Mapping[str, int]] = ..., drained: _Optional[bool] = ..., peer: _Optional[_Union[Peer, _Mapping]] = ..., status: _Optional[_Union[NodeStatus, _Mapping]] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("connected", "since_wall_ns", "round_trip_ns", "clock_ahead_ns", "error")
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    SINCE_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_AHEAD_NS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    connected: bool
    since_wall_ns: int
    round_trip_ns: int
    clock_ahead_ns: int
    error: str
    def __init__(self, connected: _Optional[bool] = ..., since_wall_ns: _Optional[int] = ..., round_trip_ns: _Optional[int] = ..., clock_ahead_ns: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("at_wall_ns", "group", "before", "after", "why", "epoch", "gap_ns")
    AT_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GAP_NS_FIELD_NUMBER: _ClassVar[int]
    at_wall_ns: int
    group: str
    before: Role
    after: Role
    why: str
    epoch: int
    gap_ns: int
    def __init__(self, at_wall_ns: _Optional[int] = ..., group: _Optional[str] = ..., before: _Optional[_Union[Role, str]] = ..., after: _Optional[_Union[Role, str]] = ..., why: _Optional[str] = ..., epoch: _Optional[int] = ..., gap_ns: _Optional[int] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("cluster", "at_wall_ns", "at_boot_ns", "self", "groups", "members", "changes", "paused_by", "counters")
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    AT_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    AT_BOOT_NS_FIELD_NUMBER: _ClassVar[int]
    SELF_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    PAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    at_wall_ns: int
    at_boot_ns: int
    self: NodeStatus
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    paused_by: str
    counters: _containers.ScalarMap[str, int]
    def __init__(self_, cluster: _Optional[str] = ..., at_wall_ns: _Optional[int] = ..., at_boot_ns: _Optional[int] = ..., self: _Optional[_Union[NodeStatus, _Mapping]] = ..., groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., paused_by: _Optional[str] = ..., counters: _Optional[_Mapping[str, int]] = ...) -> None: ...
