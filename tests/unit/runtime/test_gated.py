"""The order of gate, dead-man timer and kernel: nothing is held without a gate, nothing passes once it is given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
from haagent.runtime.gated import OPENED_AT_ONCE, GatedKernel
from haagent.runtime.ports import GateClosedError, GateFailedError

VIP, OTHER = (VirtualAddress(bytes([10, 0, 0, last]), 24, "eth0") for last in (100, 101))
INSTALL = InstallAddresses("web", 3, (VIP,), until=1000 * MS)
EXTEND = ExtendAddresses(until=1250 * MS)
REMOVE = RemoveAddresses("web", 4)
GRACE = 250 * MS


class World:
    """All in one: it notes what it is told. A line that begins as `refuse` says is refused."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.delivered: list[Event] = []
        self.refuse: dict[str, Exception] = {}
        self.gated = GatedKernel(self, _Gate(self), self, self.delivered.append, GRACE)
        self.gated.protect({"web": (VIP,), "db": (OTHER,)}, ["eth0", "eth1"])
        assert self.take() == ["protect 100@eth0 101@eth0 at least on eth0 eth1"]

    def does(self, *effects: InstallAddresses | RemoveAddresses | ExtendAddresses) -> list[str]:
        """The effects of one event, and what came of them."""
        for effect in effects:
            match effect:
                case InstallAddresses():
                    self.gated.install(effect)
                case RemoveAddresses():
                    self.gated.remove(effect)
                case ExtendAddresses():
                    self.gated.extend(effect)
        self.gated.flush()
        return self.take()

    def note(self, line: str) -> None:
        self.told.append(line)
        for start, error in self.refuse.items():
            if line.startswith(start):
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

    def flush(self, *, opening: bool = True) -> bool:
        raise AssertionError("what is behind the gate gathers nothing")

    def arm(self, until: Instant) -> None:
        self.note("disarm" if until == NEVER else f"arm {until // MS}")


class _Gate:
    def __init__(self, world: World) -> None:
        self._note = world.note

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str]) -> None:
        self._note(f"protect {_names(addresses)} at least on {' '.join(sorted(interfaces))}")

    def open(self, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        named = " ".join(f"{group} {_names(addresses)}" for group, addresses in groups.items())
        self._note(f"open {named} until {until // MS}")

    def renew(self, until: Instant) -> None:
        self._note(f"renew until {until // MS}")

    def close(self, groups: Iterable[str]) -> None:
        self._note(f"close {' '.join(sorted(groups))}")

    def sweep(self, addresses: Iterable[VirtualAddress]) -> None:
        self._note(f"sweep {_names(addresses)}")

    def left_until(self, groups: Mapping[str, Iterable[VirtualAddress]]) -> Mapping[str, Instant]:
        self._note(" ".join(["left", *(f"{name}:{_names(addresses)}" for name, addresses in groups.items())]))
        return {"db": 700 * MS}

    def remove(self) -> None:
        raise AssertionError("only at the end, by who wired it")

    def leave(self) -> None:
        raise AssertionError("only at the end, by who wired it")


def _names(addresses: Iterable[VirtualAddress]) -> str:
    return " ".join(sorted(f"{one.address[-1]}@{one.interface}" for one in addresses))


def test_what_is_held_was_opened_first_and_is_closed_first():
    world = World()
    assert world.does(INSTALL) == ["open web 100@eth0 until 1000", "arm 1250", "install 3"]
    assert world.does(EXTEND) == ["renew until 1250", "arm 1500", "extend"]
    assert world.does(REMOVE) == ["close web", "disarm", "remove 4"]
    assert world.delivered == []


def test_what_an_earlier_incarnation_held_is_asked_about_by_group_or_taken_for_closed():
    world = World()
    assert world.gated.left_until() == {"db": 700 * MS}
    assert world.take() == ["left web:100@eth0 db:101@eth0"]
    world.refuse["left"] = GateFailedError("no such table")
    assert world.gated.left_until() == {}


def test_a_lease_that_runs_while_nothing_is_held_needs_no_gate():
    assert World().does(EXTEND) == []


def test_what_an_earlier_incarnation_left_of_a_group_is_closed_before_it_is_removed():
    """Of this group only: of another it may be about to be adopted."""
    assert World().does(REMOVE) == ["sweep 100@eth0", "disarm", "remove 4"]


def test_the_timer_runs_until_the_last_group_is_given_up():
    world = World()
    world.does(INSTALL, InstallAddresses("db", 1, (VIP,), until=1000 * MS))
    assert "disarm" not in world.does(REMOVE)
    assert "disarm" in world.does(RemoveAddresses("db", 2))


@pytest.mark.parametrize("error", [GateClosedError("too late"), GateFailedError("no nftables")])
def test_no_gate_no_address(error: Exception):
    world = World()
    world.refuse["open"] = error
    assert world.does(INSTALL) == ["open web 100@eth0 until 1000"]
    assert world.delivered == [KernelFailed("web", 3, f"gate: {error}")]


@pytest.mark.parametrize("error", [GateClosedError("it had closed"), GateFailedError("no nftables")])
def test_a_renewal_that_the_kernel_refuses_ends_the_lease(error: Exception):
    world = World()
    world.does(INSTALL)
    world.refuse["renew"] = error
    assert world.does(EXTEND) == ["renew until 1250"]
    assert world.delivered == [GateClosed(str(error))]


def test_a_gate_that_can_not_be_closed_keeps_no_address():
    world = World()
    world.does(INSTALL)
    world.refuse["close"] = GateFailedError("no nftables")
    assert world.does(REMOVE) == ["close web", "disarm", "remove 4"]


def test_an_address_that_can_not_be_guarded_closes_everything():
    world = World()
    world.refuse["protect"] = GateFailedError("no nftables")
    world.gated.protect({"web": (VIP,)}, ["eth0"])
    assert world.delivered == [GateClosed("no nftables")]


# Many groups.


def test_many_groups_are_opened_by_one_call_and_closed_by_one():
    world = World()
    opened = world.does(INSTALL, InstallAddresses("db", 1, (OTHER,), until=1000 * MS))
    assert opened == [
        "open web 100@eth0 db 101@eth0 until 1000",
        "arm 1250",
        "install 3",
        "install 1",
    ]
    assert world.does(REMOVE, RemoveAddresses("db", 2)) == ["close db web", "disarm", "remove 4", "remove 2"]


def test_what_closes_does_not_wait_for_what_opens():
    world = World()
    world.does(INSTALL)
    world.gated.install(InstallAddresses("db", 1, (OTHER,), until=1000 * MS))
    world.gated.remove(REMOVE)
    assert world.gated.flush(opening=False)
    assert world.take() == ["close web", "disarm", "remove 4"]
    assert not world.gated.flush()
    assert world.take() == ["open db 101@eth0 until 1000", "arm 1250", "install 1"]


def test_what_is_given_up_before_it_was_opened_is_never_opened():
    world = World()
    world.gated.install(INSTALL)
    assert world.gated.flush(opening=False)
    assert world.does(REMOVE) == ["sweep 100@eth0", "disarm", "remove 4"]
    assert world.delivered == [KernelFailed("web", 3, "superseded")]
    assert world.does() == []


@pytest.mark.parametrize("until", [900, 1250], ids=["shorter", "longer"])
def test_what_waits_to_be_opened_ends_with_all_else_that_is_owned(until: int):
    """Else it would open for longer than the lease runs by now, or cut short what is open already."""
    world = World()
    world.gated.install(INSTALL)
    world.gated.extend(ExtendAddresses(until * MS))
    assert world.does() == [f"open web 100@eth0 until {until}", f"arm {until + 250}", "install 3"]


def test_a_crowd_is_opened_in_bites():
    world = World()
    for number in range(OPENED_AT_ONCE + 1):
        world.gated.install(InstallAddresses(f"g{number}", 1, (VIP,), until=1000 * MS))
    assert world.gated.flush()
    assert world.take().count("install 1") == OPENED_AT_ONCE
    assert not world.gated.flush()
    assert world.take().count("install 1") == 1


def test_one_group_that_has_no_gate_keeps_no_other_closed():
    world = World()
    world.refuse["open web"] = GateFailedError("web has no gate")
    db = InstallAddresses("db", 1, (OTHER,), until=1000 * MS)
    assert world.does(INSTALL, db)[-3:] == ["open db 101@eth0 until 1000", "arm 1250", "install 1"]
    assert world.delivered == [KernelFailed("web", 3, "gate: web has no gate")]
