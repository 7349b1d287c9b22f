"""The core's vocabulary: its rules (configuration), its events (facts), its effects (imperatives).

An effect that will be answered carries its question (`Ask` or a group's `serial`); the answer is an event that
names it. Effects of one step are performed in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from haagent.core.asking import Ask
from haagent.core.asking import Asking as Asking  # noqa: PLC0414 - a word of this vocabulary, too
from haagent.core.fence import Fence, FenceConfirmed, FenceRefused, FenceTimedOut
from haagent.core.heartbeat import HeartbeatReceived, Meet, PromiseReceived, SendHeartbeat, SendPromise
from haagent.core.host import HostAddresses, InterfaceChanged
from haagent.core.host import VirtualAddress as VirtualAddress  # noqa: PLC0414 - a word of this vocabulary, too
from haagent.core.planned import NEVER_DAMPED, Damping, WallClockRead, WindowChanged
from haagent.core.reach import ReachReported, Unreachable
from haagent.core.records import Guard, Key, Put, Revision, Seen
from haagent.core.units import MS, Duration, Instant, S

# --- rules ---------------------------------------------------------------------------------------------------


class Strangers(StrEnum):
    """What a VRRP speaker that is no member may do to us: raise an alarm, or have its way as plain VRRP says."""

    ALARM = "alarm"
    YIELD = "yield"


@dataclass(frozen=True, slots=True)
class RouterRules:
    """One virtual router. `source` overrides the interface's primary address; `advert_interval` in nanoseconds.

    `unicast`: adverts go to named peers, whose MAC addresses must be known, as ours must be to them.
    """

    name: str
    vrid: int
    version: int
    family: int
    interface: str
    priority: int
    advert_interval: Duration
    addresses: tuple[VirtualAddress, ...]
    strangers: Strangers = Strangers.ALARM
    source: bytes | None = None
    announce_refresh: Duration = 0
    unicast: bool = False


@dataclass(frozen=True, slots=True)
class GroupRules:
    """What is owned as one: the virtual routers of a sync group, or a single one.

    `windowed`: it preempts only while its failback window is open. `min_hold`: how long an owner holds at the least
    before it grants a wish to preempt.
    """

    name: str
    routers: tuple[RouterRules, ...]
    preempt: bool = False
    preempt_delay: Duration = 0
    windowed: bool = False
    min_hold: Duration = 0
    damping: Damping = NEVER_DAMPED
    on_unreachable: Unreachable = Unreachable.ALARM


@dataclass(frozen=True, slots=True)
class Rules:
    """What a node goes by. `host` names the kernel it keeps, `incarnation` this start of the agent.

    `fence`: how long the fencing of a holder that lapsed may take, which must be confirmed before it is claimed from
    (0: none is asked for).
    `failsafe`: how long the promises of all candidates may carry what is owned while etcd is away; 0: not at all.
    `endpoint`: where peers reach this node (`host:port`), empty when it has none. `machine`: which machine this is.
    """

    node: str
    incarnation: str
    host: str
    version: str
    groups: Mapping[str, GroupRules]
    ttl: Duration = 1 * S
    margin: Duration = 30 * MS
    guard: Duration = 20 * MS
    stagger: Duration = 20 * MS
    fence: Duration = 0
    failsafe: Duration = 0
    endpoint: str = ""
    machine: str = ""


# --- events --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """A linearizable list of the whole prefix at `revision`; what it does not show does not exist."""

    cluster: str
    revision: Revision
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """The next changes after what was listed and watched so far, without a gap, up to `revision`."""

    revision: Revision
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction was done at `revision`."""

    ask: Ask
    revision: Revision


@dataclass(frozen=True, slots=True)
class Refused:
    """A guard did not hold (or the question was `Look`): the keys asked about, as they were at `revision`."""

    ask: Ask
    revision: Revision
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer in time, or an error: it may or may not have been done."""

    ask: Ask
    why: str


@dataclass(frozen=True, slots=True)
class AddressesInstalled:
    """The kernel confirmed that it has the group's addresses."""

    group: str
    serial: int


@dataclass(frozen=True, slots=True)
class AddressesRemoved:
    """The kernel confirmed that it no longer has any of the group's addresses."""

    group: str
    serial: int


@dataclass(frozen=True, slots=True)
class KernelFailed:
    """The kernel refused, or did not confirm in time."""

    group: str
    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class AddressesRepaired:
    """Somebody took these addresses of the group from the kernel, or their interface; it has them again."""

    group: str
    addresses: tuple[VirtualAddress, ...]


@dataclass(frozen=True, slots=True)
class AddressSeenElsewhere:
    """Somebody else told his neighbours that one of the group's addresses is at `mac` (6 bytes), which is not ours."""

    group: str
    address: VirtualAddress
    mac: bytes


@dataclass(frozen=True, slots=True)
class GateClosed:
    """The kernel lets nothing pass any more, although the lease was thought to run: a stall, or a foreign hand."""

    why: str


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """A valid advert for one of our virtual routers, from somebody else. `interval` in nanoseconds."""

    router: str
    source: bytes
    priority: int
    interval: Duration
    addresses: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """A reload that was found valid. Node, incarnation and host stay what they were."""

    rules: Rules


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Give everything up cleanly, then leave."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`due` has come."""


Event = (
    Listed
    | Watched
    | Committed
    | Refused
    | Unanswered
    | AddressesInstalled
    | AddressesRemoved
    | KernelFailed
    | AddressesRepaired
    | AddressSeenElsewhere
    | GateClosed
    | InterfaceChanged
    | HostAddresses
    | AdvertReceived
    | FenceConfirmed
    | FenceRefused
    | FenceTimedOut
    | HeartbeatReceived
    | PromiseReceived
    | ReachReported
    | WallClockRead
    | WindowChanged
    | RulesChanged
    | StopRequested
    | TimePassed
)


# --- effects -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Commit:
    """One etcd transaction: if all guards hold, do the puts and deletes. Answered within `patience`, in any case."""

    ask: Ask
    guards: tuple[Guard, ...]
    puts: tuple[Put, ...]
    deletes: tuple[Key, ...]
    patience: Duration


@dataclass(frozen=True, slots=True)
class Look:
    """A linearizable read of some keys now, because the watch may be behind. Answered by `Refused`."""

    ask: Ask
    keys: tuple[Key, ...]
    patience: Duration


@dataclass(frozen=True, slots=True)
class Resync:
    """What the watch shows is not what stands in etcd: list again and watch from there.

    `broken`: another history has begun. Answers to what was asked before say nothing any more, and are not delivered.
    """

    broken: bool = False


@dataclass(frozen=True, slots=True)
class InstallAddresses:
    """Make the kernel hold just these addresses for the group, unless `until` has passed. Confirmed, then announced."""

    group: str
    serial: int
    addresses: tuple[VirtualAddress, ...]
    until: Instant


@dataclass(frozen=True, slots=True)
class RemoveAddresses:
    """Make the kernel hold none of the group's addresses. Confirmed before a release or handover is written."""

    group: str
    serial: int


@dataclass(frozen=True, slots=True)
class ExtendAddresses:
    """The lease now runs until then: what limits the addresses in the kernel follows.

    Later than before when a renewal was seen; earlier when a shorter ttl is asked for, and then it is performed before
    that `Commit`.
    """

    until: Instant


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """One advert of a virtual router at once."""

    router: str
    priority: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the neighbours where the virtual router's addresses are: gratuitous ARP, unsolicited NA.

    `refresh`: nothing has changed; it is for those who missed it, once and without hurry.
    """

    router: str
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Resolve:
    """Have the kernel find out the MAC addresses of the virtual router's unicast peers, by which they learn ours."""

    router: str


class Role(StrEnum):
    """The word that VRRP's users know for a group's state."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """A group changed its role here: for the log, the notifications, the metrics."""

    group: str
    before: Role
    after: Role
    why: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something an operator must know; `raised` False when it is over. Said once, not once a packet."""

    kind: str
    subject: str
    detail: str
    raised: bool


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """The node's lease runs (again), or has lapsed; `late`: how long after its end that was noticed."""

    held: bool
    why: str
    late: Duration = 0


@dataclass(frozen=True, slots=True)
class Resign:
    """Everything is given up: end the etcd session (its keys go with it), then end the agent."""


Effect = (
    Commit
    | Look
    | Resync
    | InstallAddresses
    | RemoveAddresses
    | ExtendAddresses
    | SendAdvert
    | Announce
    | Resolve
    | Fence
    | RoleChanged
    | Alarm
    | LeaseChanged
    | Meet
    | SendHeartbeat
    | SendPromise
    | Resign
)
