"""The kernel's addresses behind the gate: one `Kernel` port for the pump, in which the order of the two is kept.

Open first, then install: what is installed is never without a gate. Renew with the lease, and after it. Close first,
then remove: from the moment in which the node decides to leave nothing passes, however long the removal takes. The
dead-man timer runs while anything is open.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from haagent.core.model import (
    ExtendAddresses,
    GateClosed,
    InstallAddresses,
    KernelFailed,
    RemoveAddresses,
    VirtualAddress,
)
from haagent.core.units import NEVER, Duration, Instant
from haagent.runtime.ports import Deliver, Gate, GateClosedError, GateFailedError, Kernel

_LOG: Final = logging.getLogger("haagent.gate")


class Deadman(Protocol):
    """Ends this process at an instant, unless that is put off in time."""

    def arm(self, until: Instant) -> None:
        """Die at this instant instead of the one before; NEVER: do not."""
        ...


class GatedKernel:
    """The `Kernel` port with a gate in front of it.

    A host answers on every interface for an address that it has on one, so an address is gated on all `interfaces`.
    `grace`: how long after the lease's end a process that hangs may live.
    """

    def __init__(self, kernel: Kernel, gate: Gate, deadman: Deadman, deliver: Deliver, grace: Duration) -> None:
        self._kernel = kernel
        self._gate = gate
        self._deadman = deadman
        self._deliver = deliver
        self.grace = grace
        self._interfaces: frozenset[str] = frozenset()
        self._may_hold: Mapping[str, tuple[VirtualAddress, ...]] = {}
        self._open: set[str] = set()

    def protect(self, groups: Mapping[str, tuple[VirtualAddress, ...]], interfaces: Iterable[str]) -> None:
        """Have a gate, closed unless opened, for just what these groups may come to hold.

        If that can not be, everything is closed.
        """
        self._interfaces, self._may_hold = frozenset(interfaces), groups
        try:
            self._gate.protect(self._everywhere({one for addresses in groups.values() for one in addresses}))
        except GateFailedError as error:
            self.closed(str(error))

    def install(self, effect: InstallAddresses) -> None:
        """Let the addresses pass while the lease runs, then install them."""
        try:
            self._gate.open(effect.group, self._everywhere(effect.addresses), effect.until)
        except (GateClosedError, GateFailedError) as error:
            self._deliver(KernelFailed(effect.group, effect.serial, f"gate: {error}"))
            return
        self._open.add(effect.group)
        self._deadman.arm(effect.until + self.grace)
        self._kernel.install(effect)

    def extend(self, effect: ExtendAddresses) -> None:
        """The lease was renewed: so is the gate, or the node is told that the kernel has closed it."""
        if not self._open:
            return
        try:
            self._gate.renew(effect.until)
        except (GateClosedError, GateFailedError) as error:
            self.closed(str(error))
            return
        self._deadman.arm(effect.until + self.grace)
        self._kernel.extend(effect)

    def remove(self, effect: RemoveAddresses) -> None:
        """Let nothing pass any more, then remove the addresses; they may be of the incarnation before this one."""
        try:
            if effect.group in self._open:
                self._gate.close(effect.group)
            else:
                # Just this group's: another one may be about to go on with what was left of it.
                self._gate.sweep(self._everywhere(self._may_hold.get(effect.group, ())))
        except GateFailedError as error:
            _LOG.error("%s: could not close the gate, the addresses are removed: %s", effect.group, error)
        self._open.discard(effect.group)
        if not self._open:
            self._deadman.arm(NEVER)
        self._kernel.remove(effect)

    def closed(self, why: str) -> None:
        """The kernel closed the gate, or somebody took it away: the node must not believe that it answers."""
        self._deliver(GateClosed(why))

    def _everywhere(self, addresses: Iterable[VirtualAddress]) -> list[VirtualAddress]:
        return [replace(one, interface=name) for one in addresses for name in self._interfaces | {one.interface}]
