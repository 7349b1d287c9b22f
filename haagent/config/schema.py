"""The keys of haagent.yaml, with the words of keepalived.conf where it has them.

What each key takes stands here; what must agree between keys is in `checks.py`. Key by key: nothing here depends on
anything but the text at that key. A key without a value is refused wherever it stands: `unicast_peers:` with the list
forgotten must not quietly mean multicast.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)

from haagent.config.defaults import DEFAULT_SOCKET
from haagent.config.durations import DAY, HOUR, MINUTE
from haagent.config.values import (
    Absolute,
    Choice,
    Endpoint,
    Host,
    HostPort,
    Interface,
    Ip,
    OrOff,
    Password,
    Prefixed,
    SocketPath,
    Span,
    Switch,
    Text,
    Times,
    Virtual,
    Whole,
    Word,
)
from haagent.core.host import Passing
from haagent.core.model import Strangers, Unreachable
from haagent.core.units import MS, Duration, S
from haagent.runtime.ports import Checksum, GateKind, OnRelease
from haagent.runtime.windows import Window


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Failback(StrEnum):
    """When a better node asks for the group back: never, always, or only within `failback_window`."""

    NEVER = "never"
    ALWAYS = "always"
    WINDOW = "window"


def _given(value: object) -> object:
    if value is None:
        raise ValueError("must be a mapping")
    return value


class EtcdKeys(_Section):
    """How etcd is reached. Paths are relative to the directory of the file.

    `compact_after`: history that is older is compacted, if nobody else does it; 0: this node never does.
    """

    endpoints: list[Annotated[str, Endpoint()]] = Field(min_length=1, max_length=16)
    ca: Annotated[str | None, Text()] = None
    cert: Annotated[str | None, Text()] = None
    key: Annotated[str | None, Text()] = None
    user: Annotated[str | None, Text()] = None
    password: Annotated[str | None, Text()] = None
    password_file: Annotated[str | None, Text()] = None
    compact_after: Annotated[Duration, Span(10 * MINUTE, 7 * DAY, zero=True)] = 3 * HOUR


class LeaseKeys(_Section):
    """The lease: how long it runs, how much earlier its holder lets go, how much longer the others wait.

    `ttl` in whole milliseconds: that is how the others read it in etcd.
    """

    ttl: Annotated[Duration, Span(300 * MS, 60 * S, step=1 * MS)] = 1 * S
    margin: Annotated[Duration, Span(5 * MS, 15 * S)] = 30 * MS
    guard: Annotated[Duration, Span(5 * MS, 15 * S)] = 20 * MS


class AddressKeys(_Section):
    """A virtual address, on the virtual router's interface or on another. A text alone is the address.

    `without_lease`: what passes of it while this node does not own it, as the host has it for another purpose.
    """

    address: Annotated[Prefixed, Virtual()]
    interface: Annotated[str | None, Interface()] = None
    without_lease: Annotated[Passing, Choice(tuple(Passing), Passing)] = Passing.NOTHING

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if value is None or isinstance(value, list):
            raise ValueError("must be an address, or a mapping with an address and an interface")
        return {"address": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        long = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [Virtual().schema(), dict(long)]}


def _some_peers(peers: list[Ip]) -> list[Ip]:
    if not peers:
        raise ValueError("must name at least one peer; leave the key away for multicast")
    return peers


class DampingKeys(_Section):
    """A node that lost the group so often within that time lets others go first; `losses` 0: it never does."""

    losses: Annotated[int, Whole(0, 100)] = 3
    within: Annotated[Duration, Span(1 * S, DAY)] = 10 * MINUTE


class _Owned(_Section):
    """How ownership moves, of whatever is owned as one: a sync group, or a virtual router that is in none."""

    name: Annotated[str, Word()]
    preempt: Annotated[bool, Switch()] = False
    preempt_delay: Annotated[Duration, Span(0, 1000 * S)] = 0
    failback: Annotated[Failback | None, Choice(tuple(Failback), Failback)] = None
    failback_window: list[Annotated[Window, Times()]] = Field(default=[], max_length=100)
    min_hold: Annotated[Duration, Span(0, HOUR)] = 0
    damping: Annotated[DampingKeys | None, BeforeValidator(_given)] = None
    on_unreachable: Annotated[Unreachable, Choice(tuple(Unreachable), Unreachable)] = Unreachable.ALARM
    on_release: Annotated[OnRelease, Choice(tuple(OnRelease), OnRelease)] = OnRelease.NOTHING

    @property
    def fails_back(self) -> Failback:
        """`failback`, or what keepalived's word for it means."""
        return self.failback or (Failback.ALWAYS if self.preempt else Failback.NEVER)


OWNED = tuple(name for name in _Owned.model_fields if name != "name")
"""The keys that a virtual router in a sync group leaves to that."""


class RouterKeys(_Owned):
    """A virtual router."""

    vrid: Annotated[int, Whole(1, 255)]
    interface: Annotated[str, Interface()]
    version: Annotated[int, Choice(("2", "3"), int)] = 3
    priority: Annotated[int, Whole(1, 255)] = 100
    advert_interval: Annotated[Duration, Span(10 * MS, 255 * S)] = 1 * S
    addresses: list[AddressKeys] = Field(min_length=1, max_length=255)
    unicast_peers: Annotated[list[Annotated[Ip, Host()]], AfterValidator(_some_peers)] = Field(
        default=[], max_length=255
    )
    unicast_source: Annotated[Ip | None, Host()] = None
    unicast_ttl: Annotated[int, Whole(1, 255)] = 255
    auth_pass: Annotated[str | None, Password()] = None
    checksum: Annotated[Checksum, Choice(tuple(Checksum), Checksum)] = Checksum.RFC
    strangers: Annotated[Strangers, Choice(tuple(Strangers), Strangers)] = Strangers.ALARM
    garp_master_repeat: Annotated[int, Whole(1, 100)] = 5
    garp_master_refresh: Annotated[Duration, Span(1 * S, DAY, zero=True)] = 10 * S


class GroupKeys(_Owned):
    """A sync group: virtual routers that are owned as one."""

    routers: list[Annotated[str, Word()]] = Field(min_length=1, max_length=1000)


def _program(command: list[str]) -> list[str]:
    try:
        Absolute().parse(command[0])
    except ValueError as error:
        raise ValueError(f"the program {error}") from None
    return command


class ExecKeys(_Section):
    """A program that must confirm that a node is fenced before anything is claimed from it; run without a shell."""

    command: Annotated[list[Annotated[str, Text()]], AfterValidator(_program)] = Field(min_length=1, max_length=64)
    timeout: Annotated[Duration, Span(100 * MS, 60 * S)] = 5 * S
    user: Annotated[str | None, Text(longest=64)] = None


class FenceKeys(_Section):
    """What keeps a node from answering past its lease, whatever becomes of its agent. All but `gate` are extra."""

    gate: Annotated[GateKind, Choice(tuple(GateKind), GateKind)] = GateKind.AUTO
    watchdog: Annotated[str | None, Absolute()] = None
    exec: Annotated[ExecKeys | None, BeforeValidator(_given)] = None


class PeersKeys(_Section):
    """Where this node listens for its peers, and how they know each other. Paths are relative to the file's directory.

    `advertise`: where peers reach it, where that is not `listen`.
    """

    listen: Annotated[str, HostPort(names=False)]
    advertise: Annotated[str | None, HostPort(names=True)] = None
    ca: Annotated[str | None, Text()] = None
    cert: Annotated[str | None, Text()] = None
    key: Annotated[str | None, Text()] = None
    insecure: Annotated[bool, Switch()] = False


class FailsafeKeys(_Section):
    """How long the promises of all candidates may carry what is owned while etcd is away; 0: not at all.

    `max` in whole milliseconds: that is how the others read it in etcd.
    """

    max: Annotated[Duration, Span(1 * S, HOUR, zero=True, step=1 * MS)] = 300 * S


class HttpKeys(_Section):
    """Where metrics, verdicts for load balancers and the dashboard are served; `off`: nowhere."""

    listen: Annotated[str | None, OrOff(HostPort(names=False))] = "127.0.0.1:8500"


class ControlKeys(_Section):
    """Where operators reach the agent: a unix socket for root and `group`, and TCP for those who prove a name.

    Paths of `ca`, `cert` and `key` are relative to the file's directory. `operators` may steer, `viewers` only look.
    """

    socket: Annotated[str | None, OrOff(SocketPath())] = DEFAULT_SOCKET
    group: Annotated[str | None, Text(longest=64)] = None
    listen: Annotated[str | None, OrOff(HostPort(names=False))] = None
    ca: Annotated[str | None, Text()] = None
    cert: Annotated[str | None, Text()] = None
    key: Annotated[str | None, Text()] = None
    operators: list[Annotated[str, Text(longest=253)]] = Field(default=[], max_length=256)
    viewers: list[Annotated[str, Text(longest=253)]] = Field(default=[], max_length=256)


class LogKeys(_Section):
    """What is logged, and how."""

    level: Annotated[str, Choice(("debug", "info", "warning", "error"))] = "info"
    format: Annotated[str, Choice(("text", "json"))] = "text"


class FileKeys(_Section):
    """The whole file. `node` defaults to the host's name."""

    model_config = ConfigDict(title="haagent.yaml")

    node: Annotated[str | None, Word()] = None
    cluster: Annotated[str, Word()]
    etcd: EtcdKeys
    lease: LeaseKeys = LeaseKeys()
    virtual_routers: list[RouterKeys] = Field(min_length=1, max_length=1000)
    groups: list[GroupKeys] = Field(default=[], max_length=1000)
    fence: FenceKeys = FenceKeys()
    peers: Annotated[PeersKeys | None, BeforeValidator(_given)] = None
    failsafe: FailsafeKeys = FailsafeKeys()
    http: HttpKeys = HttpKeys()
    control: ControlKeys = ControlKeys()
    log: LogKeys = LogKeys()


def json_schema() -> dict[str, Any]:
    """The JSON schema of haagent.yaml (2020-12), for editors and for whoever generates configurations."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **FileKeys.model_json_schema()}
