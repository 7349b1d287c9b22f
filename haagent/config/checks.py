"""What must agree between the keys of haagent.yaml, each of which is valid by itself.

Works on what is valid of a file, so that one wrong key does not hide the mistakes elsewhere: virtual routers and
groups come with their index in the file, without those that have an error of their own.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from haagent.config.durations import written
from haagent.config.schema import (
    OWNED,
    ControlKeys,
    EtcdKeys,
    Failback,
    FailsafeKeys,
    FenceKeys,
    GroupKeys,
    LeaseKeys,
    PeersKeys,
    RouterKeys,
)
from haagent.config.values import Ip, unspecified
from haagent.core.host import Passing
from haagent.core.units import MS, S
from haagent.runtime.ports import Checksum, GateKind
from haagent.wire.vrrp import PASSWORD_MAX, fit_password

UNFRAGMENTED_V6 = 90
"""IPv6 addresses in an advert that fits 1500 bytes: (1500 - 40 - 8) / 16."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Something at `path` is wrong, or (with `warning`) only questionable. `given`: say first what stands there."""

    path: tuple[str | int, ...]
    why: str
    warning: bool = False
    given: bool = True


@dataclass(frozen=True, slots=True)
class Valid:
    """What of a file is valid key by key. `names`: of all virtual routers, valid or not."""

    etcd: EtcdKeys | None
    lease: LeaseKeys | None
    peers: PeersKeys | None
    control: ControlKeys | None
    failsafe: FailsafeKeys | None
    fence: FenceKeys | None
    routers: Mapping[int, RouterKeys]
    groups: Mapping[int, GroupKeys]
    names: Collection[str]


def check(valid: Valid) -> Iterator[Issue]:
    """Everything that does not agree."""
    if valid.etcd is not None:
        yield from _etcd(valid.etcd)
    if valid.lease is not None:
        yield from _lease(valid.lease)
    if valid.peers is not None:
        yield from _peers(valid.peers)
    if valid.control is not None:
        yield from _control(valid.control)
    if valid.failsafe is not None:
        yield from _failsafe(valid.failsafe, valid)
    for index, router in valid.routers.items():
        for issue in _router(router):
            yield Issue(("virtual_routers", index, *issue.path), issue.why, issue.warning, issue.given)
    yield from _without_lease(valid)
    yield from _same_router_twice(valid.routers)
    yield from _same_address_twice(valid.routers)
    yield from _groups(valid)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`, did you mean ...?` if one of the known words is close; else which there are, if they are few."""
    close = difflib.get_close_matches(word[:64], known, n=1, cutoff=0.6)
    if close:
        return f", did you mean {close[0]}?"
    return f", must be one of {', '.join(sorted(known))}" if 0 < len(known) <= 20 else ""


# --- sections by themselves


def _etcd(etcd: EtcdKeys) -> Iterator[Issue]:
    for index, endpoint in enumerate(etcd.endpoints):
        if endpoint in etcd.endpoints[:index]:
            yield Issue(("etcd", "endpoints", index), "given twice")
    yield from _etcd_tls(etcd)
    yield from _etcd_user(etcd)


def _etcd_tls(etcd: EtcdKeys) -> Iterator[Issue]:
    secure = _secure(etcd)
    if len(secure) > 1:
        yield Issue(("etcd", "endpoints"), "must be all https or all http", given=False)
    if secure == {False}:
        for name in ("ca", "cert", "key"):
            if getattr(etcd, name) is not None:
                yield Issue(("etcd", name), "has no use with http endpoints")
    yield from _needs(etcd, "cert", "key")
    yield from _needs(etcd, "key", "cert")


def _etcd_user(etcd: EtcdKeys) -> Iterator[Issue]:
    if etcd.password is not None and etcd.password_file is not None:
        yield Issue(("etcd", "password_file"), "must not be given beside password")
    for name in ("password", "password_file"):
        yield from _needs(etcd, name, "user")
    if etcd.user is not None and etcd.password is None and etcd.password_file is None:
        yield Issue(("etcd", "user"), "needs password or password_file")
    if etcd.user is not None and _secure(etcd) == {False}:
        yield Issue(("etcd", "user"), "its password goes over the network in clear (http)", warning=True)


def _secure(etcd: EtcdKeys) -> set[bool]:
    return {endpoint.startswith("https:") for endpoint in etcd.endpoints}


def _needs(etcd: EtcdKeys, name: str, other: str) -> Iterator[Issue]:
    if getattr(etcd, name) is not None and getattr(etcd, other) is None:
        yield Issue(("etcd", name), f"needs {other} too")


def _lease(lease: LeaseKeys) -> Iterator[Issue]:
    most = lease.ttl // 4
    reasons = {
        "margin": "a longer one leaves no time to try a lost renewal again",
        "guard": "a longer one only delays every failover",
    }
    for name, reason in reasons.items():
        if getattr(lease, name) > most:
            yield Issue(("lease", name), f"must be at most {written(most)}, a quarter of ttl: {reason}")


def _peers(peers: PeersKeys) -> Iterator[Issue]:
    files = ("ca", "cert", "key")
    given = [name for name in files if getattr(peers, name) is not None]
    if peers.insecure:
        why = "plain text: whoever reaches this port can pose as any node"
        yield Issue(("peers", "insecure"), why, warning=True)
        for name in given:
            yield Issue(("peers", name), "has no use with insecure: true")
    elif len(given) < len(files):
        missing = ", ".join(name for name in files if name not in given)
        yield Issue(("peers",), f"needs {missing} too, for TLS; insecure: true does without", given=False)
    if unspecified(peers.listen) and peers.advertise is None:
        yield Issue(("peers", "listen"), "needs advertise too: all addresses are none that a peer can dial")


def _control(control: ControlKeys) -> Iterator[Issue]:
    files = ("ca", "cert", "key")
    missing = ", ".join(name for name in files if getattr(control, name) is None)
    if control.listen is not None and missing:
        yield Issue(("control", "listen"), f"needs {missing} too: who asks over TCP must prove who he is")
    for name in (*files, "operators", "viewers"):
        if control.listen is None and getattr(control, name):
            yield Issue(("control", name), "has no use without listen", warning=name not in files, given=False)
    if control.listen is not None and not control.operators and not control.viewers:
        yield Issue(("control", "listen"), "lets nobody in: name operators or viewers", warning=True)
    for index, name in enumerate(control.viewers):
        if name in control.operators:
            yield Issue(("control", "viewers", index), "is an operator too, and may do more", warning=True)
    if control.group is not None and control.socket is None:
        yield Issue(("control", "group"), "has no use with socket: off")


def _failsafe(failsafe: FailsafeKeys, valid: Valid) -> Iterator[Issue]:
    if not failsafe.max:
        return
    if valid.lease is not None and failsafe.max <= 2 * valid.lease.ttl:
        why = f"must be more than {written(2 * valid.lease.ttl)}, two ttl, or 0s"
        yield Issue(("failsafe", "max"), why)
    if valid.peers is None:
        yield Issue(("failsafe",), "has no effect without peers", warning=True, given=False)


def _router(router: RouterKeys) -> Iterator[Issue]:
    family = router.addresses[0].address.ip.version
    yield from _version(router, family)
    yield from _families(router, family)
    yield from _unicast(router)
    if router.priority == 255 and "preempt" in router.model_fields_set and not router.preempt:
        yield Issue(("preempt",), "has no effect: priority 255 always preempts (RFC 9568 6.1)", warning=True)
    if router.priority == 255 and router.failback in (Failback.NEVER, Failback.WINDOW):
        yield Issue(("failback",), "has no effect: priority 255 always preempts (RFC 9568 6.1)", warning=True)
    yield from _owned(router, router.priority == 255)


def _version(router: RouterKeys, family: int) -> Iterator[Issue]:
    interval = router.advert_interval
    if router.version == 2:
        if family == 6:
            yield Issue(("version",), "must be 3: VRRPv2 has no IPv6")
        if interval % S or not 1 * S <= interval <= 255 * S:
            yield Issue(("advert_interval",), "must be whole seconds, 1s to 255s, with version 2")
        if router.auth_pass is not None and fit_password(router.auth_pass.encode()).truncated:
            why = f"Truncating auth_pass to {PASSWORD_MAX} characters"
            yield Issue(("auth_pass",), why, warning=True, given=False)
    else:
        if interval % (10 * MS) or not 10 * MS <= interval <= 40_950 * MS:
            yield Issue(("advert_interval",), "must be a multiple of 10ms, 10ms to 40.95s, with version 3")
        if router.auth_pass is not None:
            yield Issue(("auth_pass",), "must not be given with version 3, which has no authentication", given=False)
    if router.checksum is not Checksum.RFC and (router.version, family) != (3, 4):
        yield Issue(("checksum",), "must be rfc: the others exist only for version 3 over IPv4")


def _families(router: RouterKeys, family: int) -> Iterator[Issue]:
    first = f"the first is IPv{family}, and a virtual router has one family"
    for index, address in enumerate(router.addresses):
        if address.address.ip.version != family:
            yield Issue(("addresses", index), f"must be IPv{family}: {first}")
    for index, peer in enumerate(router.unicast_peers):
        if peer.version != family:
            yield Issue(("unicast_peers", index), f"must be IPv{family}, as the addresses are")
    if router.unicast_source is not None and router.unicast_source.version != family:
        yield Issue(("unicast_source",), f"must be IPv{family}, as the addresses are")
    if family == 6 and not router.addresses[0].address.ip.is_link_local:
        why = "the first IPv6 address should be link-local (RFC 9568 5.2.9)"
        yield Issue(("addresses", 0), why, warning=True)
    if family == 6 and len(router.addresses) > UNFRAGMENTED_V6:
        why = f"more than {UNFRAGMENTED_V6} IPv6 addresses do not fit an advert of 1500 bytes"
        yield Issue(("addresses",), why, warning=True, given=False)


def _unicast(router: RouterKeys) -> Iterator[Issue]:
    virtual = {address.address.ip for address in router.addresses}
    if not router.unicast_peers:
        for name in ("unicast_source", "unicast_ttl"):
            if name in router.model_fields_set:
                yield Issue((name,), "needs unicast_peers")
    seen: set[Ip] = set()
    for index, peer in enumerate(router.unicast_peers):
        if peer == router.unicast_source:
            yield Issue(("unicast_peers", index), "must not be our own address (unicast_source)")
        elif peer in virtual:
            yield Issue(("unicast_peers", index), "must not be one of the virtual router's addresses")
        elif peer in seen:
            yield Issue(("unicast_peers", index), "given twice")
        seen.add(peer)
    if router.unicast_source in virtual:
        yield Issue(("unicast_source",), "must not be one of the virtual router's addresses")


def _owned(keys: RouterKeys | GroupKeys, always: bool) -> Iterator[Issue]:
    """`always`: it preempts, whatever is said."""
    if "preempt" in keys.model_fields_set and keys.failback not in (None, _meant_by(keys.preempt)):
        yield Issue(("failback",), f"contradicts preempt: {str(keys.preempt).lower()}; leave that away")
    if keys.failback is Failback.WINDOW and not keys.failback_window:
        yield Issue(("failback",), "needs failback_window")
    if keys.failback_window and keys.failback is not Failback.WINDOW:
        yield Issue(("failback_window",), "needs failback: window", given=False)
    preempts = always or keys.fails_back is not Failback.NEVER
    for name in ("preempt_delay", "min_hold"):
        if getattr(keys, name) and not preempts:
            yield Issue((name,), "has no effect without preempt: true", warning=True)


def _meant_by(preempt: bool) -> Failback:
    return Failback.ALWAYS if preempt else Failback.NEVER


# --- virtual routers and groups among themselves


def _same_router_twice(routers: Mapping[int, RouterKeys]) -> Iterator[Issue]:
    names: dict[str, int] = {}
    ids: dict[tuple[int, str, int], int] = {}
    for index, router in routers.items():
        path = ("virtual_routers", index)
        if router.name in names:
            yield Issue((*path, "name"), f"is the name of virtual_routers[{names[router.name]}] too")
        family = router.addresses[0].address.ip.version
        key = (router.vrid, router.interface, family)
        if key in ids:
            where = f"virtual_routers[{ids[key]}] has it on {router.interface} too, for IPv{family}"
            yield Issue((*path, "vrid"), where)
        names.setdefault(router.name, index)
        ids.setdefault(key, index)


def _without_lease(valid: Valid) -> Iterator[Issue]:
    """Hosts that are meant to have an address also while another node owns it."""
    for index, router in valid.routers.items():
        for place, address in enumerate(router.addresses):
            path = ("virtual_routers", index, "addresses", place, "without_lease")
            if address.without_lease is Passing.EVERYTHING:
                why = "this host answers for the address beside its owner whenever it has it"
                yield Issue(path, why, warning=True)
            if address.without_lease is Passing.IP and valid.fence is not None and valid.fence.gate is GateKind.BPF:
                yield Issue(path, "needs the nftables gate (fence.gate)")


def _same_address_twice(routers: Mapping[int, RouterKeys]) -> Iterator[Issue]:
    owners: dict[tuple[Ip, str], tuple[int, int]] = {}
    for index, router in routers.items():
        for place, address in enumerate(router.addresses):
            ip = address.address.ip
            # A link-local address means something on its own link only.
            scope = (address.interface or router.interface) if ip.is_link_local else ""
            if (ip, scope) in owners:
                other, its = owners[ip, scope]
                why = f"is virtual_routers[{other}].addresses[{its}] too"
                yield Issue(("virtual_routers", index, "addresses", place), why)
            owners.setdefault((ip, scope), (index, place))


def _groups(valid: Valid) -> Iterator[Issue]:
    names: dict[str, int] = {}
    group_of: dict[str, str] = {}
    always = {router.name for router in valid.routers.values() if router.priority == 255}
    for index, group in valid.groups.items():
        path = ("groups", index)
        if group.name in names:
            yield Issue((*path, "name"), f"is the name of groups[{names[group.name]}] too")
        elif group.name in valid.names:
            yield Issue((*path, "name"), "is the name of a virtual router; both name what is owned, and must differ")
        names.setdefault(group.name, index)
        preempts = not always.isdisjoint(group.routers)
        for issue in (*_members(group, valid, group_of), *_owned(group, preempts)):
            yield Issue((*path, *issue.path), issue.why, issue.warning)
    for index, router in valid.routers.items():
        for name in OWNED:
            if router.name in group_of and name in router.model_fields_set:
                why = f"belongs to group {group_of[router.name]}, which is owned as one"
                yield Issue(("virtual_routers", index, name), why)


def _members(group: GroupKeys, valid: Valid, group_of: dict[str, str]) -> Iterator[Issue]:
    for place, member in enumerate(group.routers):
        if member not in valid.names:
            yield Issue(("routers", place), f"no such virtual router{did_you_mean(member, valid.names)}")
        elif member in group_of:
            yield Issue(("routers", place), f"is in group {group_of[member]} already")
        group_of.setdefault(member, group.name)
