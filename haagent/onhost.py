"""What of a configuration this host cannot fulfil: its kernel is asked for interfaces, sources, and its own addresses.

A start goes on without what is missing, as it may come later; `check` and the start say so. A reload that would take
from a group what this host has is refused: applied on all nodes, it would leave the group without an owner.
"""

from __future__ import annotations

from collections.abc import Iterator

from haagent.adapters.netlink import Survey, can_reset, survey
from haagent.config.build import Config
from haagent.core.fitness import text, used
from haagent.core.host import Passing
from haagent.core.model import GroupRules, VirtualAddress


def look(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What keeps the agent from starting, and what may only be questionable. Nothing, if the kernel does not say."""
    try:
        found = _survey(config)
    except OSError:
        return (), ()
    return tuple(_errors(config, found)), tuple(_warnings(config, found))


def refused(old: Config, new: Config) -> tuple[str, ...]:
    """Why this host must not go from one configuration to the other by a reload; empty when it may."""
    try:
        found = _survey(new)
    except OSError:
        return ()
    before = {group.name: group for group in old.groups}
    return tuple(why for group in new.groups for why in _lost(before.get(group.name), group, found))


def _survey(config: Config) -> Survey:
    addresses = {group.name: tuple(a for r in group.routers for a in r.addresses) for group in config.groups}
    sources = {router.source for group in config.groups for router in group.routers if router.source is not None}
    interfaces = frozenset(name for group in config.groups for name in used(group))
    return survey(interfaces, addresses, frozenset(sources))


def _lost(before: GroupRules | None, after: GroupRules, found: Survey) -> Iterator[str]:
    had = used(before) if before is not None else frozenset[str]()
    sources = {router.source for router in before.routers if router.source} if before is not None else set[bytes]()
    for name in sorted(used(after) & found.absent - had):
        yield f"{after.name}: interface {name} does not exist on this host"
    for router in after.routers:
        if router.source is not None and router.source in found.host.missing - sources:
            yield f"{router.name}: {_no_source(router.source)}"


def _errors(config: Config, found: Survey) -> Iterator[str]:
    """An address that this host is reached by would be silent while another node owns it."""
    for each in _silenced(config):
        if each.address in found.only.get(each.interface, ()):
            yield (
                f"{text(each.address)} is the only IPv4 address of {each.interface} here: give this host another one, "
                "as it is silent by this one while another node owns the group"
            )


def _warnings(config: Config, found: Survey) -> Iterator[str]:
    if config.resets and not can_reset():
        yield (
            f"{', '.join(sorted(config.resets))}: on_release: reset_connections has no effect: "
            "this kernel is built without CONFIG_INET_DIAG_DESTROY"
        )
    for group in config.groups:
        for name in sorted(used(group) & found.absent):
            yield f"{group.name}: interface {name} does not exist on this host"
        for router in group.routers:
            if router.source is not None and router.source in found.host.missing:
                yield f"{router.name}: {_no_source(router.source)}"
    silenced = {each.address for each in _silenced(config)}
    for each in (one for one in found.host.foreign if one.address in silenced):
        yield (
            f"{text(each.address)} is configured on {each.interface}, not by haagent: "
            "it is left there, and this host is silent by it while another node owns the group"
        )


def _silenced(config: Config) -> Iterator[VirtualAddress]:
    """The addresses that this host must not answer for without the lease."""
    every = (address for group in config.groups for router in group.routers for address in router.addresses)
    return (address for address in every if address.without_lease is Passing.NOTHING)


def _no_source(source: bytes) -> str:
    return f"unicast_source {text(source)} is not an address of this host"
