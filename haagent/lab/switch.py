"""The bridges in their namespace, and the faults that are in force there.

Level-triggered: a fault is added to the list or taken from it, and then what the list says as a whole is put
in force. So faults may overlap, and be undone in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from haagent.core.units import Instant
from haagent.lab import topology
from haagent.lab.commands import Moment, ip_batch, nft, now
from haagent.lab.faults import Drop, ruleset
from haagent.lab.topology import Station


class Fault:
    """A fault that is in force, from `moment` on, until `undo`; as a context manager, until the end."""

    def __init__(
        self,
        switch: Switch,
        what: str,
        *,
        drops: Sequence[Drop] = (),
        ports_down: Sequence[str] = (),
    ) -> None:
        self.what = what
        self.drops = tuple(drops)
        self.ports_down = tuple(ports_down)
        self.before_undo: Callable[[], None] | None = None
        """Done first when the fault is undone."""
        self._switch = switch
        self.moment = switch.add(self)

    @property
    def active(self) -> bool:
        return self in self._switch.faults

    def undo(self) -> Moment:
        """Take it back, and say when; what other faults do as well stays. Undoing twice is nothing."""
        if self.active and self.before_undo is not None:
            self.before_undo()
        return self._switch.remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<{self.what}>"


class Switch:
    """Both bridges, in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.faults: list[Fault] = []
        self._drops: tuple[Drop, ...] = ()
        self._down: frozenset[str] = frozenset()

    def build(self, stations: Sequence[tuple[Station, str]]) -> None:
        """Make the bridges, with these stations, each in its namespace, plugged in."""
        ip_batch(topology.switch_commands(), namespace=self.namespace)
        self.plug(stations)

    def plug(self, stations: Sequence[tuple[Station, str]]) -> None:
        """Plug stations in; a port that a fault holds down stays down."""
        lines: list[str] = []
        for station, namespace in stations:
            lines += topology.cable_commands(station, namespace)
            lines += [f"link set {port} up" for port in station.port_names() if port not in self._down]
        ip_batch(lines, namespace=self.namespace)

    def unplug(self, station: Station) -> None:
        """Take a station's cables away, and with them its interfaces."""
        ip_batch((f"link del {port}" for port in station.port_names()), namespace=self.namespace)

    def add(self, fault: Fault) -> Moment:
        """Put a fault in force."""
        self.faults.append(fault)
        return self._apply()

    def remove(self, *faults: Fault) -> Moment:
        """Take faults out of force, all at once."""
        self.faults = [fault for fault in self.faults if fault not in faults]
        return self._apply()

    def _apply(self) -> Moment:
        drops = tuple(drop for fault in self.faults for drop in fault.drops)
        down = frozenset(port for fault in self.faults for port in fault.ports_down)
        before: Instant = now()
        # Frames first, all at one moment: a host that is lost must not tell by one cable that the other was pulled.
        if drops != self._drops:
            nft(ruleset(drops), namespace=self.namespace)
        if changed := sorted(down ^ self._down, reverse=True):
            states = (f"link set {port} {'down' if port in down else 'up'}" for port in changed)
            ip_batch(states, namespace=self.namespace)
        self._drops, self._down = drops, down
        return Moment(before, now())
