"""Whether a node may own a group, as far as its own interfaces go, and how it then stands among the candidates."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from ipaddress import ip_address

from haagent.core.model import GroupRules, InterfaceChanged, RouterRules, Rules, VirtualAddress
from haagent.core.records import Standing

LEAST = 1
"""The priority of a node that goes last, and may own."""

Interfaces = Mapping[str, InterfaceChanged]


def source(router: RouterRules, interfaces: Interfaces) -> bytes | None:
    """The packed source address of the router's adverts: configured, else its interface's primary one."""
    if router.source is not None:
        return router.source
    interface = interfaces.get(router.interface)
    if interface is None:
        return None
    return interface.v4 if router.family == 4 else interface.v6


def used(group: GroupRules) -> frozenset[str]:
    """The interfaces that the group needs: its routers', and those of their addresses."""
    routers = {router.interface for router in group.routers}
    return frozenset(routers | {address.interface for router in group.routers for address in router.addresses})


def scope(rules: Rules) -> tuple[set[str], dict[str, tuple[VirtualAddress, ...]]]:
    """The interfaces that any group needs, and the addresses that each group may come to hold."""
    groups = rules.groups
    interfaces = {interface for group in groups.values() for interface in used(group)}
    return interfaces, {name: tuple(a for r in group.routers for a in r.addresses) for name, group in groups.items()}


def unseen(group: GroupRules, interfaces: Interfaces) -> bool:
    """Whether the kernel has not told yet of an interface that the group needs. Of an absent one it tells, too."""
    return not used(group) <= interfaces.keys()


def faults(group: GroupRules, interfaces: Interfaces, missing: Container[bytes] = ()) -> tuple[str, ...]:
    """Why this node must not own the group, by name; empty when it may. `missing`: sources that this host has not.

    Without its source an owner cannot send adverts, and a keepalived beside it would become a second master.
    """
    found = [_interface_fault(name, interfaces) for name in sorted(used(group))]
    found += [_source_fault(router, interfaces, missing) for router in group.routers]
    return tuple(dict.fromkeys(fault for fault in found if fault))


def _interface_fault(name: str, interfaces: Interfaces) -> str:
    interface = interfaces.get(name)
    if interface is None:
        return f"interface {name} not seen yet"
    return "" if interface.up else f"interface {name} is down or absent"


def _source_fault(router: RouterRules, interfaces: Interfaces, missing: Container[bytes]) -> str:
    if router.source is not None and router.source in missing:
        return f"unicast_source {text(router.source)} is not an address of this host"
    interface = interfaces.get(router.interface)
    if interface is None or not interface.up or source(router, interfaces) is not None:
        return ""
    kind = "IPv4" if router.family == 4 else "link-local IPv6"
    return f"interface {router.interface} has no {kind} address"


def banned(group: GroupRules, retiring: Sequence[GroupRules], stopping: bool) -> tuple[str, ...]:
    """Why this node must not own the group, interfaces apart. `retiring`: the groups that a reload removed."""
    reasons = ["the agent stops"] if stopping else []
    if group in retiring:
        return (*reasons, "removed from the configuration")
    # A reload may move a virtual router here from a group that is no more: first that one is given up.
    routers = {router.name for router in group.routers}
    left = (old.name for old in retiring if routers & {router.name for router in old.routers})
    return (*reasons, *(f"group {name} is given up first" for name in left))


def standing(group: GroupRules, interfaces: Interfaces, unfit: bool, damped: bool = False) -> Standing:
    """The group's effective priority: its weakest router's, or the least. The first router's source breaks ties."""
    address = source(group.routers[0], interfaces) or b""
    priority = LEAST if damped else min(router.priority for router in group.routers)
    return Standing(0 if unfit else priority, address)


def sources(groups: Iterable[GroupRules], interfaces: Interfaces) -> tuple[bytes, ...]:
    """All sources of this node's adverts, by which the other members know it."""
    found = {source(router, interfaces) for group in groups for router in group.routers}
    return tuple(sorted(address for address in found if address is not None))


def text(address: bytes) -> str:
    """A packed address as people write it."""
    return str(ip_address(address)) if len(address) in (4, 16) else address.hex()
