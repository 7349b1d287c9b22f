"""Two gates at once: one that is left holds, and the lease goes on; only when all are gone the node must step down."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from haagent.adapters.gate import BpfGate, Gates, NftGate
from haagent.adapters.gate.keeper import Keeper
from haagent.adapters.systemd import ServiceManager
from haagent.core.model import VirtualAddress
from haagent.core.units import MS
from haagent.runtime.ports import GateClosedError, GateFailedError
from tests.integration.gating import OTHERS, VIPS, AnyGate, Client, hold, later, nft
from tests.integration.namespace import in_namespace, sh

pytestmark = pytest.mark.integration

FLUSH = "flush ruleset"
CLSACT = "tc qdisc del dev eth0 clsact"


def both(lost: list[str], *, owned: bool = False) -> Gates:
    """Both gates; nftables' tables can be flushed unless they are `owned`."""
    return Gates(lost.append, {"nft": lambda lost: NftGate(lost, owned=owned), "bpf": BpfGate}, None)


def ready(lost: list[str], *, owned: bool = False) -> Gates:
    guard = both(lost, owned=owned)
    guard.protect(VIPS, ("eth0",))
    return guard


@in_namespace
def test_both_must_be_open():
    client = Client()
    lost: list[str] = []
    guard = ready(lost)
    assert guard.holding == ("nft", "bpf")
    assert all(client.silent(each) for each in VIPS)
    guard.open({"g": VIPS}, later())
    assert all(client.answered(each) for each in VIPS)
    guard.renew(later())
    assert all(client.answered(each) for each in VIPS)
    guard.close(["g"])
    assert all(client.silent(each) for each in VIPS)
    assert sum(guard.counters().values()) > 0
    # What another one holds shut stays shut, whichever of them is taken away.
    for disturb in (lambda: nft(FLUSH), lambda: sh(CLSACT)):
        disturb()
        assert all(client.silent(each) for each in VIPS)
        guard.hear()
        assert all(client.silent(each) for each in VIPS)
    assert lost == []
    assert guard.rebuilt == {"nft": 1, "bpf": 1}
    guard.remove()
    assert all(client.answered(each) for each in VIPS)


@in_namespace
def test_when_one_is_taken_away_the_lease_goes_on():
    client = Client()
    lost: list[str] = []
    guard = ready(lost)
    until = later()
    guard.open({"g": VIPS}, until)
    for kind, disturb in (("nft", lambda: nft(FLUSH)), ("bpf", lambda: sh(CLSACT))):
        disturb()
        assert client.answered(VIPS[0])
        guard.hear()
        assert guard.rebuilt[kind] == 1
        assert all(client.answered(each) for each in VIPS)
        disturb()
        guard.renew(until)  # before anybody heard of it
        guard.hear()
        assert all(client.answered(each) for each in VIPS)
    assert lost == []
    until = later(80 * MS)
    guard.renew(until)
    last = client.last_answer(VIPS[0], until)
    assert last is not None
    assert last <= until + 5 * MS, "what was built again ends as the other one does"


@in_namespace
def test_one_alone_closes_at_the_deadline():
    """The agent is dead: nobody builds anything again."""
    for disturb in (lambda: nft(FLUSH), lambda: sh(CLSACT)):
        client = Client(here="eth0", there="p0")
        lost: list[str] = []
        guard = ready(lost)
        until = later(300 * MS)
        guard.open({"g": VIPS}, until)
        guard.leave()
        disturb()
        last = client.last_answer(VIPS[0], until)
        assert last is not None
        assert last <= until + 5 * MS
        assert all(client.silent(each) for each in VIPS)
        ready(lost).remove()
        sh("ip link del eth0")


@in_namespace
def test_when_all_are_taken_away_the_node_is_told():
    client = Client()
    lost: list[str] = []
    guard = Gates(lost.append, {"bpf": BpfGate}, None)
    guard.protect(VIPS, ("eth0",))
    guard.open({"g": VIPS}, later())
    sh(CLSACT)
    guard.hear()
    assert len(lost) == 1
    assert all(client.silent(each) for each in VIPS)
    with pytest.raises(GateClosedError):
        guard.renew(later())


@in_namespace
def test_what_came_too_late_is_open_in_none():
    client = Client()
    guard = ready([])
    hold(*OTHERS)
    guard.protect((*VIPS, *OTHERS), ("eth0",))
    guard.open({"a": VIPS}, later())
    with pytest.raises(GateClosedError):
        guard.open({"b": OTHERS}, later(-MS))
    guard.renew(later())
    assert all(client.silent(each) for each in OTHERS)
    sh(CLSACT)
    guard.hear()
    assert all(client.silent(each) for each in OTHERS)
    assert all(client.answered(each) for each in VIPS)


@in_namespace
def test_the_next_agent_takes_over_both():
    client = Client()
    first = ready([])
    until = later(400 * MS)
    first.open({"g": VIPS}, until)
    first.leave()
    second = ready([])
    left = second.left_until({"g": VIPS, "h": OTHERS})
    assert set(left) == {"g"}
    assert until - 100 * MS <= left["g"] <= until
    assert client.answered(VIPS[0])
    second.open({"g": VIPS}, later())
    assert all(client.answered(each) for each in VIPS)
    second.sweep(VIPS)
    assert all(client.answered(each) for each in VIPS)


class Broken(BpfGate):
    """A kernel, or rights, that do not let it."""

    broken = True

    def protect(self, addresses: Iterable[VirtualAddress], interfaces: Iterable[str] = ()) -> None:
        if self.broken:
            raise GateFailedError("not permitted")
        super().protect(addresses, interfaces)


@in_namespace
def test_one_that_cannot_be_had_is_tried_again():
    client = Client()
    Broken.broken = True
    lost: list[str] = []
    guard = Gates(lost.append, {"nft": NftGate, "bpf": Broken}, None)
    guard.protect(VIPS, ("eth0",))
    assert (guard.holding, guard.failed) == (("nft",), {"bpf": "not permitted"})
    guard.open({"g": VIPS}, later())
    for broken in (True, False):
        Broken.broken = broken
        guard.tend()
        assert all(client.answered(each) for each in VIPS)
    assert (guard.holding, guard.failed, lost) == (("nft", "bpf"), {}, [])
    guard.close(["g"])
    assert all(client.silent(each) for each in VIPS)


@in_namespace
def test_none_can_be_had():
    def fails(_: object) -> AnyGate:
        raise GateFailedError("not in this kernel")

    with pytest.raises(GateFailedError, match="nft: not in this kernel; bpf: not in this kernel"):
        Gates(pytest.fail, {"nft": fails, "bpf": fails})
    guard = Gates(pytest.fail, {"nft": fails, "bpf": BpfGate})
    assert (guard.holding, guard.failed) == (("bpf",), {"nft": "not in this kernel"})


@in_namespace
def test_a_firewall_that_is_reloaded_all_the_time_costs_no_answer():
    client = Client()
    lost: list[str] = []
    keeper = Keeper(ServiceManager({}), patience=1)
    guard = Gates(lost.append, {"nft": NftGate, "bpf": BpfGate}, keeper)
    guard.protect(VIPS, ("eth0",))
    guard.open({"g": VIPS}, later())
    for turn, disturb in zip(range(20), itertools.cycle((lambda: nft(FLUSH), lambda: sh(CLSACT))), strict=False):
        disturb()
        guard.hear()
        assert client.answered(VIPS[0]), turn
    assert lost == []
    assert guard.kept_by.startswith("keeper process")
    guard.remove()
