"""The kernel's addresses behind the gate: one `Kernel` port for the pump, in which the order of the two is kept.

Open first, then install: what is installed is never without a gate. Renew with the lease, and after it. Close first,
then remove: from the moment in which the node decides to leave nothing passes, however long the removal takes. The
dead-man timer runs while anything is open.

Opening or closing costs about as much for a hundred groups as for one, so both are gathered until `flush`. What closes
goes first, and all of it at once. What opens comes after that, `OPENED_AT_ONCE` at a time, and may wait: a group whose
gate opens later is owned, and silent, for so much longer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
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

OPENED_AT_ONCE: Final = 100
"""Groups. The rest of what is gathered waits for the next `flush`, so that the event loop has its turn."""


class Deadman(Protocol):
    """Ends this process at an instant, unless that is put off in time."""

    def arm(self, until: Instant) -> None:
        """Die at this instant instead of the one before; NEVER: do not."""
        ...


class GatedKernel:
    """The `Kernel` port with a gate in front of it.

    `grace`: how long after the lease's end a process that hangs may live.
    """

    def __init__(self, kernel: Kernel, gate: Gate, deadman: Deadman, deliver: Deliver, grace: Duration) -> None:
        self._kernel = kernel
        self._gate = gate
        self._deadman = deadman
        self._deliver = deliver
        self.grace = grace
        self._may_hold: Mapping[str, tuple[VirtualAddress, ...]] = {}
        self._open: set[str] = set()
        self._opening: dict[str, InstallAddresses] = {}
        self._closing: dict[str, RemoveAddresses] = {}
        self._until: Instant = 0

    def protect(self, groups: Mapping[str, tuple[VirtualAddress, ...]], interfaces: Iterable[str]) -> None:
        """Have a gate, closed unless opened, for just what these groups may come to hold.

        If that cannot be, everything is closed.
        """
        self._may_hold = groups
        try:
            self._gate.protect({one for addresses in groups.values() for one in addresses}, interfaces)
        except GateFailedError as error:
            self.closed(str(error))

    def left_until(self) -> Mapping[str, Instant]:
        """By group: until when the gate lets pass all that an earlier incarnation held of it. Ask before any sweep."""
        try:
            return self._gate.left_until(self._may_hold)
        except GateFailedError as error:
            _LOG.error("cannot ask what the gate still lets pass, so it is swept: %s", error)
            return {}

    def install(self, effect: InstallAddresses) -> None:
        """Let the addresses pass while the lease runs, then install them: with the next `flush`."""
        self._supersede(effect.group)
        self._opening[effect.group] = effect
        self._until = effect.until

    def remove(self, effect: RemoveAddresses) -> None:
        """Let nothing pass any more, then remove the addresses; they may be of the incarnation before this one."""
        self._supersede(effect.group)
        self._closing[effect.group] = effect

    def extend(self, effect: ExtendAddresses) -> None:
        """The lease was renewed: so is the gate, or the node is told that the kernel has closed it."""
        self._until = effect.until  # of what is still to be opened, too: all that is owned has one end
        if not self._open:
            return
        try:
            self._gate.renew(effect.until)
        except (GateClosedError, GateFailedError) as error:
            self.closed(str(error))
            return
        self._deadman.arm(effect.until + self.grace)
        self._kernel.extend(effect)

    def flush(self, *, opening: bool = True) -> bool:
        """Do what was gathered: what closes, and with `opening` what opens. Whether something is left to open."""
        if self._closing:
            self._close()
        if opening and self._opening:
            self._open_some()
        return bool(self._opening)

    def closed(self, why: str) -> None:
        """The kernel closed the gate, or somebody took it away: the node must not believe that it answers."""
        self._deliver(GateClosed(why))

    def _supersede(self, group: str) -> None:
        before = self._opening.pop(group, None)
        if before is not None:
            self._deliver(KernelFailed(group, before.serial, "superseded"))

    def _close(self) -> None:
        effects, self._closing = self._closing, {}
        opened = effects.keys() & self._open
        if opened:
            self._silence(lambda: self._gate.close(opened), opened)
        if left := effects.keys() - opened:
            # Just these groups': another one may be about to go on with what was left of it.
            those = [one for group in left for one in self._may_hold.get(group, ())]
            self._silence(lambda: self._gate.sweep(those), left)
        self._open -= opened
        if not self._open:
            self._deadman.arm(NEVER)
        for effect in effects.values():
            self._kernel.remove(effect)

    def _silence(self, close: Callable[[], None], groups: Iterable[str]) -> None:
        try:
            close()
        except GateFailedError as error:
            several = ", ".join(sorted(groups))
            _LOG.error("%s: could not close the gate, the addresses are removed: %s", several, error)

    def _open_some(self) -> None:
        effects = list(islice(self._opening.values(), OPENED_AT_ONCE))
        for effect in effects:
            del self._opening[effect.group]
        try:
            self._open_all(effects)
        except GateFailedError as error:
            if len(effects) == 1:
                self._fail(effects, error)
                return
            for effect in effects:  # it may be for the fault of one
                self._open_alone(effect)

    def _open_alone(self, effect: InstallAddresses) -> None:
        try:
            self._open_all([effect])
        except GateFailedError as error:
            self._fail([effect], error)

    def _open_all(self, effects: Sequence[InstallAddresses]) -> None:
        """Open, and install. GateFailedError: nothing of it was done."""
        until = self._until
        try:
            self._gate.open({one.group: one.addresses for one in effects}, until)
        except GateClosedError as error:
            self._fail(effects, error)
            return
        self._open.update(one.group for one in effects)
        self._deadman.arm(until + self.grace)
        for effect in effects:
            self._kernel.install(effect if effect.until == until else replace(effect, until=until))

    def _fail(self, effects: Iterable[InstallAddresses], error: Exception) -> None:
        for effect in effects:
            self._deliver(KernelFailed(effect.group, effect.serial, f"gate: {error}"))
