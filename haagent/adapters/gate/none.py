"""`fence.gate: none`: no gate.

What is lost: an agent that is killed, stopped, hung or starved goes on answering for its addresses until their
lifetimes in the kernel end, one to two seconds after the lease, while another node may answer already. The dead-man
timer still ends a process that resumes too late, but what the kernel holds answers on. That at most one node answers
then rests on the agent being scheduled in time. For kernels with neither nftables' netdev family nor eBPF, and for
those who fence by other means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from haagent.core.model import VirtualAddress
from haagent.core.units import Instant


class NoGate:
    """The `Gate` port, with everything always passing."""

    holding: tuple[str, ...] = ()
    interfaces: frozenset[str] = frozenset()

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str] = ()) -> None:
        """Nothing is protected."""

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        """All is open."""

    def renew(self, until: Instant) -> None:
        """Nothing ends."""

    def close(self, groups: Iterable[str]) -> None:
        """Nothing is closed."""

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        """Nothing was left."""

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        """Nothing ends, so nothing can be said."""
        del groups
        return {}

    def counters(self) -> Mapping[str, int]:
        """Nothing is dropped."""
        return {}

    def remove(self) -> None:
        """Nothing is there."""

    def leave(self) -> None:
        """Nothing is held."""
