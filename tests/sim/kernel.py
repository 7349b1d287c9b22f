"""One host's kernel: the addresses of each group, put and removed in order, at times late, refusing or hanging.

It answers for a group while it has the group's addresses, the interface is up, and the gate (if there is one) is open.
An address lifetime ends what an agent no longer looks after: one to two seconds after the lease.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    InstallAddresses,
    KernelFailed,
    RemoveAddresses,
)
from haagent.core.units import MS, US, Duration, Instant, S

if TYPE_CHECKING:
    from tests.sim.host import Agent, Host

Operation = InstallAddresses | RemoveAddresses

SLOWEST: Duration = 25 * MS
"""What a healthy kernel takes at the most: with a timer's lateness it fits in margin + guard."""


@dataclass(slots=True)
class Entry:
    """One group in one kernel. `excuse`: why it may answer although its agent's right is over; None when nothing is."""

    group: str
    present: bool = False
    valid_until: Instant = 0
    busy: bool = False
    queue: list[tuple[Agent, Operation]] = field(default_factory=list["tuple[Agent, Operation]"])
    excuse: str | None = None


class Kernel:
    """The addresses of one host. `trouble` ("fail" or "slow") lasts until `trouble_until`."""

    def __init__(self, host: Host) -> None:
        self.entries: dict[str, Entry] = {}
        self.up = True
        self.trouble = ""
        self.trouble_until: Instant = 0
        self.slowness: Duration = 2 * MS
        self._host = host
        self._extended: Instant = 0
        self._gone = False

    def answers(self, group: str) -> bool:
        """Whether anyone who asks for the group's addresses is answered from here."""
        entry = self.entries.get(group)
        gate = self._host.gate
        return entry is not None and entry.present and self.up and (gate is None or gate.lets_pass(group))

    def entry(self, group: str) -> Entry:
        """The group's entry, made when first asked for."""
        found = self.entries.get(group)
        if found is None:
            found = self.entries[group] = Entry(group)
        return found

    def request(self, agent: Agent, operation: Operation) -> None:
        """Queue what the agent wants: operations on one group are done in order."""
        entry = self.entry(operation.group)
        entry.queue.append((agent, operation))
        if not entry.busy:
            self._begin(entry)

    def extend(self, until: Instant) -> None:
        """The lease runs until then, by the host's clock: the lifetimes follow, those that are being put as well."""
        host = self._host
        self._extended = until
        valid = host.real(until) + S + host.world.rng.randrange(S)
        for entry in self.entries.values():
            if entry.present:
                entry.valid_until = valid

    def abandoned(self, by: Agent, excuse: str | None) -> None:
        """The agent died, or sleeps: what is not begun is not done, and lifetimes run out."""
        for entry in self.entries.values():
            if excuse is not None:
                self._extended = 0
                entry.queue = [one for one in entry.queue if one[0] is not by]
                if entry.present or entry.busy:
                    entry.excuse = excuse
            if entry.present:
                self._host.world.at(entry.valid_until, self._expire, entry)

    def resumed(self) -> None:
        """The agent runs again, and works off what waits."""
        for entry in self.entries.values():
            if not entry.busy and entry.queue:
                self._begin(entry)

    def clear(self) -> None:
        """The machine is gone."""
        self._gone = True
        for entry in self.entries.values():
            entry.queue.clear()
            self._set(entry, False)

    def _expire(self, entry: Entry) -> None:
        now = self._host.world.now
        if not entry.present:
            return
        if now >= entry.valid_until:
            self._set(entry, False)
        elif self._host.absent():
            self._host.world.at(entry.valid_until, self._expire, entry)

    def _begin(self, entry: Entry) -> None:
        world = self._host.world
        agent, operation = entry.queue.pop(0)
        entry.busy = True
        takes = int(self.slowness * world.random()) + 50 * US
        fails = False
        if world.now < self.trouble_until:
            if self.trouble == "slow":
                takes = int((self.trouble_until - world.now) * world.random())
            else:
                fails = world.random() < 0.7
            entry.excuse = f"kernel: {self.trouble}"
        world.at(world.now + takes, self._finish, entry, agent, operation, fails)

    def _finish(self, entry: Entry, agent: Agent, operation: Operation, fails: bool) -> None:
        host, world = self._host, self._host.world
        if self._gone:
            return
        entry.busy = False
        installs = isinstance(operation, InstallAddresses)
        if installs and host.clock(world.now) >= operation.until and not entry.excuse:
            answer = KernelFailed(operation.group, operation.serial, "lease over")
        elif fails:
            if world.random() < 0.3:  # half done: for all that anyone knows
                self._set(entry, installs)
                entry.valid_until = world.now + 2 * S
            answer = KernelFailed(operation.group, operation.serial, "no")
        elif installs:
            entry.valid_until = host.real(max(operation.until, self._extended)) + S + world.rng.randrange(S)
            if agent.alive and not agent.paused and host.clock(world.now) < operation.until:
                entry.excuse = None
            self._set(entry, True)
            answer = AddressesInstalled(operation.group, operation.serial)
        else:
            self._set(entry, False)
            answer = AddressesRemoved(operation.group, operation.serial)
        world.tell(agent, answer, 20 * US)
        if entry.queue and not host.absent():
            self._begin(entry)

    def _set(self, entry: Entry, present: bool) -> None:
        if not present:
            entry.excuse = None
        if entry.present is not present:
            entry.present = present
            self._host.world.checker.kernel_changed(self._host, entry.group)
