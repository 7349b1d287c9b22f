"""The host's gate from a start to an end: made, freed of what other runs left, and removed or left closed.

After a clean end nothing is held by haagent. If the host has one of the addresses all the same (somebody configured it,
on `lo`, on any interface), it would answer beside the owner from then on: so the gate stays for those, closed, until
the next start or `haagent release`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_address
from typing import Final

from haagent.adapters.gate import BpfGate, Gates, NftGate, NoGate, remove_classifiers, remove_tables
from haagent.adapters.gate.both import Lost, Makers
from haagent.adapters.gate.keeper import Keeper
from haagent.adapters.netlink import configured
from haagent.adapters.systemd import ServiceManager
from haagent.core.host import Passing
from haagent.core.model import VirtualAddress
from haagent.runtime.ports import GateFailedError, GateKind

_LOG: Final = logging.getLogger("haagent.gate")

AnyGate = Gates | NoGate

TEND_EVERY: Final = 5.0
"""Seconds between two tries to have a gate again that failed, or a keeper of its socket."""


def make(kind: GateKind, lost: Lost, manager: ServiceManager) -> AnyGate:
    """The gate that the configuration wants, heard and tended by the running event loop; with `auto`, all there are.

    GateFailedError: this kernel has none of it.
    """
    if kind is GateKind.NONE:
        _LOG.warning("fence.gate is none: an agent that dies or hangs answers on until the addresses' lifetimes end")
        return NoGate()
    keeper = Keeper(manager) if kind is not GateKind.BPF else None
    taken = [None if keeper is None else keeper.take()]

    def nft(lost: Lost) -> NftGate:
        return NftGate(lost, opened=taken.pop() if taken else None)

    kinds: Makers = {GateKind.NFT: nft, GateKind.BPF: BpfGate}
    wanted: Makers = kinds if kind is GateKind.AUTO else {kind: kinds[kind]}
    gates = Gates(lost, wanted, keeper)
    _attend(gates, lost)
    return gates


def _attend(gates: Gates, lost: Lost) -> None:
    loop = asyncio.get_running_loop()

    def look_after(do: Callable[[], None]) -> None:
        try:
            do()
        except GateFailedError as error:
            lost(str(error))

    def tend() -> None:
        look_after(gates.tend)
        loop.call_later(TEND_EVERY, tend)

    loop.add_reader(gates.fileno(), look_after, gates.hear)
    loop.call_later(TEND_EVERY, tend)


def remove_leftovers(gate: AnyGate, manager: ServiceManager) -> None:
    """Remove the gates of other kinds and on other interfaces, once what they guard is guarded or gone.

    Nobody would ever open them. GateFailedError: one cannot be removed.
    """
    removed = [] if GateKind.NFT in gate.holding else _remove_tables(manager)
    removed += remove_classifiers(gate.interfaces)
    if removed:
        _LOG.warning("removed what an earlier run left of its gate: %s", ", ".join(removed))


async def end(gate: AnyGate, addresses: Collection[VirtualAddress], interfaces: Iterable[str]) -> None:
    """haagent holds none of these addresses any more: remove the gate, or leave it for what the host still has."""
    try:
        there = await configured([one for one in addresses if one.without_lease is not Passing.EVERYTHING])
        if there:
            kept = {one.address for one in there}
            gate.protect([one for one in addresses if one.address in kept], interfaces)
            gate.leave()
            _tell_who_stays(gate, there)
        else:
            gate.remove()
    except (OSError, GateFailedError) as error:
        _LOG.error("the gate is left in place, closed: %s; `haagent release` removes it", error)


def release() -> list[str]:
    """Remove all that is left of any gate, while no agent runs; what it was. GateFailedError."""
    return _remove_tables(ServiceManager()) + remove_classifiers()


def _remove_tables(manager: ServiceManager) -> list[str]:
    """With the socket that owns them, if somebody keeps it."""
    keeper = Keeper(manager)
    removed = remove_tables(keeper.take())
    keeper.release()
    keeper.leave()
    return removed


def _tell_who_stays(gate: AnyGate, there: Iterable[VirtualAddress]) -> None:
    where = ", ".join(sorted(f"{ip_address(one.address)} on {one.interface}" for one in there))
    if isinstance(gate, NoGate):
        _LOG.error("this host goes on to answer for %s: somebody else configured that, and there is no gate", where)
    else:
        _LOG.warning(
            "the gate stays, closed, as somebody else configured %s: it would answer beside the owner. Remove it there;"
            " `haagent release` removes the gate",
            where,
        )
