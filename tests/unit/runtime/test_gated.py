"""The order of gate, dead-man timer and kernel: nothing is held without a gate, nothing passes once it is given up."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from haagent.core.model import (
    Event,
    ExtendAddresses,
    GateClosed,
    InstallAddresses,
    KernelFailed,
    RemoveAddresses,
    VirtualAddress,
)
from haagent.core.units import MS, NEVER, Instant
from haagent.runtime.gated import GatedKernel
from haagent.runtime.ports import GateClosedError, GateFailedError

VIP, OTHER = (VirtualAddress(bytes([10, 0, 0, last]), 24, "eth0") for last in (100, 101))
INSTALL = InstallAddresses("web", 3, (VIP,), until=1000 * MS)
EXTEND = ExtendAddresses(until=1250 * MS)
REMOVE = RemoveAddresses("web", 4)
GRACE = 250 * MS


class World:
    """Gate, dead-man timer and kernel in one, which notes what it is told; a verb in `refuse` raises."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.delivered: list[Event] = []
        self.refuse: dict[str, Exception] = {}
        self.gated = GatedKernel(self, _Gate(self), self, self.delivered.append, GRACE)
        self.gated.protect({"web": (VIP,), "db": (OTHER,)}, ["eth0", "eth1"])
        assert self.take() == ["protect 100@eth0 100@eth1 101@eth0 101@eth1"]

    def note(self, line: str) -> None:
        self.told.append(line)
        if (error := self.refuse.get(line.partition(" ")[0])) is not None:
            raise error

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told

    # the kernel and the timer

    def install(self, effect: InstallAddresses) -> None:
        self.note(f"install {effect.serial}")

    def remove(self, effect: RemoveAddresses) -> None:
        self.note(f"remove {effect.serial}")

    def extend(self, effect: ExtendAddresses) -> None:
        self.note("extend")

    def arm(self, until: Instant) -> None:
        self.note("disarm" if until == NEVER else f"arm {until // MS}")


class _Gate:
    def __init__(self, world: World) -> None:
        self._note = world.note

    def protect(self, addresses: Iterable[VirtualAddress]) -> None:
        self._note(f"protect {_names(addresses)}")

    def open(self, group: str, addresses: Iterable[VirtualAddress], until: Instant) -> None:
        self._note(f"open {group} {_names(addresses)} until {until // MS}")

    def renew(self, until: Instant) -> None:
        self._note(f"renew until {until // MS}")

    def close(self, group: str) -> None:
        self._note(f"close {group}")

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        self._note(f"sweep {_names(addresses)}")

    def remove(self) -> None:
        raise AssertionError("only at the end, by who wired it")

    def leave(self) -> None:
        raise AssertionError("only at the end, by who wired it")


def _names(addresses: Iterable[VirtualAddress]) -> str:
    return " ".join(sorted(f"{one.address[-1]}@{one.interface}" for one in addresses))


def test_what_is_held_was_opened_first_and_is_closed_first():
    world = World()
    world.gated.install(INSTALL)
    assert world.take() == ["open web 100@eth0 100@eth1 until 1000", "arm 1250", "install 3"]
    world.gated.extend(EXTEND)
    assert world.take() == ["renew until 1250", "arm 1500", "extend"]
    world.gated.remove(REMOVE)
    assert world.take() == ["close web", "disarm", "remove 4"]
    assert world.delivered == []


def test_a_lease_that_runs_while_nothing_is_held_needs_no_gate():
    world = World()
    world.gated.extend(EXTEND)
    assert world.take() == []


def test_what_an_earlier_incarnation_left_of_a_group_is_closed_before_it_is_removed():
    """Of this group only: of another it may be about to be adopted."""
    world = World()
    world.gated.remove(REMOVE)
    assert world.take() == ["sweep 100@eth0 100@eth1", "disarm", "remove 4"]


def test_the_timer_runs_until_the_last_group_is_given_up():
    world = World()
    world.gated.install(INSTALL)
    world.gated.install(InstallAddresses("db", 1, (VIP,), until=1000 * MS))
    world.take()
    world.gated.remove(REMOVE)
    assert "disarm" not in world.take()
    world.gated.remove(RemoveAddresses("db", 2))
    assert "disarm" in world.take()


@pytest.mark.parametrize("error", [GateClosedError("too late"), GateFailedError("no nftables")])
def test_no_gate_no_address(error: Exception):
    world = World()
    world.refuse["open"] = error
    world.gated.install(INSTALL)
    assert world.take() == ["open web 100@eth0 100@eth1 until 1000"]
    assert world.delivered == [KernelFailed("web", 3, f"gate: {error}")]


@pytest.mark.parametrize("error", [GateClosedError("it had closed"), GateFailedError("no nftables")])
def test_a_renewal_that_the_kernel_refuses_ends_the_lease(error: Exception):
    world = World()
    world.gated.install(INSTALL)
    world.take()
    world.refuse["renew"] = error
    world.gated.extend(EXTEND)
    assert world.take() == ["renew until 1250"]
    assert world.delivered == [GateClosed(str(error))]


def test_a_gate_that_can_not_be_closed_keeps_no_address():
    world = World()
    world.gated.install(INSTALL)
    world.take()
    world.refuse["close"] = GateFailedError("no nftables")
    world.gated.remove(REMOVE)
    assert world.take() == ["close web", "disarm", "remove 4"]


def test_an_address_that_can_not_be_guarded_closes_everything():
    world = World()
    world.refuse["protect"] = GateFailedError("no nftables")
    world.gated.protect({"web": (VIP,)}, ["eth0"])
    assert world.delivered == [GateClosed("no nftables")]
