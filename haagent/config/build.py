"""From valid keys to what the core and the adapters go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from haagent.config.schema import (
    AddressKeys,
    ControlKeys,
    EtcdKeys,
    ExecKeys,
    Failback,
    FileKeys,
    GroupKeys,
    PeersKeys,
    RouterKeys,
)
from haagent.core.model import GroupRules, RouterRules, Rules, VirtualAddress
from haagent.core.planned import NEVER_DAMPED, Damping
from haagent.core.units import Duration
from haagent.runtime.ports import FenceCommand, GateKind, OnRelease, RouterWire
from haagent.runtime.windows import Window
from haagent.wire.vrrp import fit_password


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How etcd is reached. `ca`, `cert`, `key` and `password_file` are paths as written in the file.

    `compact_after`: older history is compacted, if nobody else does it; 0: never.
    """

    endpoints: tuple[str, ...]
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password: str | None = None
    password_file: str | None = None
    compact_after: Duration = 0

    def __repr__(self) -> str:
        """Without the password, wherever it may end up."""
        return f"EtcdSettings({', '.join(self.endpoints)})"


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """The lease's times."""

    ttl: Duration
    margin: Duration
    guard: Duration


@dataclass(frozen=True, slots=True)
class PeersSettings:
    """Where peers find this node. `ca`, `cert` and `key` are paths as written in the file; None: plain text."""

    listen: str
    advertise: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def insecure(self) -> bool:
        """Whether peers talk in plain text, and nobody proves who he is."""
        return self.ca is None


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Where operators reach the agent, and who they are. `ca`, `cert` and `key` are paths as written in the file."""

    socket: str | None
    group: str | None = None
    listen: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    operators: frozenset[str] = frozenset()
    viewers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`level`: debug, info, warning or error; `format`: text or json."""

    level: str
    format: str


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration: what of it the core goes by is `rules`. `http`: where it is served; None: nowhere.

    `windows`: the times of failback, by group. `resets`: the groups whose connections are reset when they leave.
    """

    node: str
    cluster: str
    etcd: EtcdSettings
    lease: LeaseSettings
    routers: tuple[RouterWire, ...]
    groups: tuple[GroupRules, ...]
    windows: Mapping[str, tuple[Window, ...]]
    resets: frozenset[str]
    gate: GateKind
    watchdog: str | None
    fencing: FenceCommand | None
    peers: PeersSettings | None
    failsafe: Duration
    http: str | None
    control: ControlSettings
    log: LogSettings

    def summary(self) -> str:
        """`2 virtual routers in 1 group`."""
        return f"{_counted(len(self.routers), 'virtual router')} in {_counted(len(self.groups), 'group')}"

    def rules(self, *, host: str, incarnation: str, version: str, machine: str) -> Rules:
        """The core's rules for this start of the agent on this host, on this machine."""
        return Rules(
            node=self.node,
            incarnation=incarnation,
            host=host,
            version=version,
            groups={group.name: group for group in self.groups},
            ttl=self.lease.ttl,
            margin=self.lease.margin,
            guard=self.lease.guard,
            fence=0 if self.fencing is None else self.fencing.patience,
            failsafe=0 if self.peers is None else self.failsafe,
            endpoint="" if self.peers is None else self.peers.advertise,
            machine=machine,
        )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def build(file: FileKeys, hostname: str) -> Config:
    """The configuration that a file without errors means."""
    routers = {keys.name: _router(keys) for keys in file.virtual_routers}
    grouped = {name for group in file.groups for name in group.routers}
    single = [keys for keys in file.virtual_routers if keys.name not in grouped]
    owned: list[RouterKeys | GroupKeys] = [*file.groups, *single]
    alone = [_group(keys, (routers[keys.name].rules,)) for keys in single]
    synced = [_group(keys, tuple(routers[name].rules for name in keys.routers)) for keys in file.groups]
    return Config(
        node=file.node or hostname,
        cluster=file.cluster,
        etcd=build_etcd(file.etcd),
        lease=LeaseSettings(file.lease.ttl, file.lease.margin, file.lease.guard),
        routers=tuple(routers.values()),
        groups=(*synced, *alone),
        windows={keys.name: tuple(keys.failback_window) for keys in owned if keys.failback_window},
        resets=frozenset(keys.name for keys in owned if keys.on_release is OnRelease.RESET_CONNECTIONS),
        gate=file.fence.gate,
        watchdog=file.fence.watchdog,
        fencing=None if file.fence.exec is None else _fencing(file.fence.exec),
        peers=None if file.peers is None else _peers(file.peers),
        failsafe=file.failsafe.max,
        http=file.http.listen,
        control=_control(file.control),
        log=LogSettings(file.log.level, file.log.format),
    )


def build_etcd(keys: EtcdKeys) -> EtcdSettings:
    """How etcd is reached, without the rest of the file."""
    return EtcdSettings(
        endpoints=tuple(keys.endpoints),
        ca=keys.ca,
        cert=keys.cert,
        key=keys.key,
        user=keys.user,
        password=keys.password,
        password_file=keys.password_file,
        compact_after=keys.compact_after,
    )


def _fencing(keys: ExecKeys) -> FenceCommand:
    return FenceCommand(tuple(keys.command), keys.timeout, keys.user)


def _control(keys: ControlKeys) -> ControlSettings:
    return ControlSettings(
        socket=keys.socket,
        group=keys.group,
        listen=keys.listen,
        ca=keys.ca,
        cert=keys.cert,
        key=keys.key,
        operators=frozenset(keys.operators),
        viewers=frozenset(keys.viewers),
    )


def _peers(keys: PeersKeys) -> PeersSettings:
    return PeersSettings(keys.listen, keys.advertise or keys.listen, keys.ca, keys.cert, keys.key)


def _group(keys: RouterKeys | GroupKeys, routers: tuple[RouterRules, ...]) -> GroupRules:
    # RFC 9568 6.1: the owner of the addresses (priority 255) always preempts, whatever Preempt_Mode says.
    always = any(router.priority == 255 for router in routers)
    return GroupRules(
        keys.name,
        routers,
        preempt=always or keys.fails_back is not Failback.NEVER,
        preempt_delay=keys.preempt_delay,
        windowed=not always and keys.fails_back is Failback.WINDOW,
        min_hold=keys.min_hold,
        damping=NEVER_DAMPED if keys.damping is None else Damping(keys.damping.losses, keys.damping.within),
        on_unreachable=keys.on_unreachable,
    )


def _router(keys: RouterKeys) -> RouterWire:
    source = keys.unicast_source
    rules = RouterRules(
        name=keys.name,
        vrid=keys.vrid,
        version=keys.version,
        family=keys.addresses[0].address.ip.version,
        interface=keys.interface,
        priority=keys.priority,
        advert_interval=keys.advert_interval,
        addresses=tuple(_address(address, keys.interface) for address in keys.addresses),
        strangers=keys.strangers,
        source=None if source is None else source.packed,
        announce_refresh=keys.garp_master_refresh,
        unicast=bool(keys.unicast_peers),
    )
    return RouterWire(
        rules=rules,
        peers=tuple(peer.packed for peer in keys.unicast_peers),
        password=None if keys.auth_pass is None else fit_password(keys.auth_pass.encode()).value,
        checksum=keys.checksum,
        ttl=keys.unicast_ttl,
        announce_repeat=keys.garp_master_repeat,
    )


def _address(keys: AddressKeys, interface: str) -> VirtualAddress:
    return VirtualAddress(keys.address.ip.packed, keys.address.prefix, keys.interface or interface, keys.without_lease)
