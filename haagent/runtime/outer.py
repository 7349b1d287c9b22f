"""The layers around the agent that must hear that it is well: the service manager's watchdog, and the machine's.

A sign of life means: the event loop turned, the node took in an event, and its invariants held after it. So each beat
feeds the node `TimePassed`, and only then lets the watchdogs know. A loop that hangs beats no more; a node that fails
its check is never fed again, and so counts no more steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Final, Protocol

from haagent.core.model import Role
from haagent.core.units import Duration, S
from haagent.runtime.pump import Pump

TOLD_MOST: Final = 10
"""Groups that a status names; of the others it says how many they are."""
SIGNS: Final = 4
"""Signs of life in the time that the least patient watchdog waits: two may be late, and one more be lost."""


class Watch(Protocol):
    """Something that acts if it hears nothing for its `patience`; None: it does not wait for anything."""

    @property
    def patience(self) -> Duration | None: ...

    def pet(self) -> None:
        """A sign of life."""
        ...

    def close(self, *, clean: bool) -> None:
        """No sign will follow; `clean`: and none is needed, nothing is held any more."""
        ...


class Manager(Watch, Protocol):
    """The service manager."""

    def ready(self) -> None: ...
    def reloading(self) -> None: ...
    def stopping(self) -> None: ...
    def status(self, text: str) -> None: ...


class Outer:
    """Tells the outer layers how the agent is, from `start` until `close`."""

    def __init__(self, manager: Manager, pump: Pump) -> None:
        self._manager = manager
        self._watches: list[Watch] = [manager]
        self._pump = pump
        self._checked = 0
        self._loop = asyncio.get_running_loop()
        self._beat: asyncio.TimerHandle | None = None

    def add(self, device: Watch) -> None:
        """One more that waits for signs of life; before `start`."""
        self._watches.append(device)

    def start(self) -> None:
        """The node has begun: say so, and give signs of life from now on."""
        self._manager.ready()
        if any(watch.patience is not None for watch in self._watches):
            self._beats()

    def close(self, *, clean: bool) -> None:
        """The agent ends; `clean`: the kernel confirmed that nothing is held."""
        if self._beat is not None:
            self._beat.cancel()
        for watch in self._watches:
            watch.close(clean=clean)

    def _beats(self) -> None:
        patience = min(watch.patience for watch in self._watches if watch.patience is not None)
        self._beat = self._loop.call_later(patience / SIGNS / S, self._beats)
        self._pump.tick()
        if self._pump.checked > self._checked:
            self._checked = self._pump.checked
            for watch in self._watches:
                watch.pet()


class Status:
    """Says the groups' roles to the manager, once for all that change in one turn of the event loop."""

    def __init__(self, manager: Manager, roles: Mapping[str, Role], epochs: Mapping[str, int]) -> None:
        """`roles` and `epochs` as they are when it is said."""
        self._manager = manager
        self._roles = roles
        self._epochs = epochs
        self._due = False

    def changed(self) -> None:
        """Some role is another one than before."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._say)

    def _say(self) -> None:
        self._due = False
        self._manager.status(told(self._roles, self._epochs))


def told(roles: Mapping[str, Role], epochs: Mapping[str, int]) -> str:
    """`web MASTER epoch 42; db BACKUP`."""
    parts = [
        f"{name} {role} epoch {epochs.get(name, 0)}" if role is Role.MASTER else f"{name} {role}"
        for name, role in islice(roles.items(), TOLD_MOST)
    ]
    if (more := len(roles) - len(parts)) > 0:
        masters = sum(role is Role.MASTER for role in roles.values())
        parts.append(f"{more} more, {masters} MASTER in all")
    return "; ".join(parts)
