"""Whatever disturbs an owner's kernel is mended while the lease holds; what can not be mended is let go at once.

Three agents own an IPv4 and an IPv6 address as one group. The client's prober asks for both all the time, and beside it
somebody hears what is announced.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from haagent.core.units import MS, Instant, S
from haagent.lab import topology
from haagent.lab.cluster import Cluster, web_router
from haagent.lab.commands import ip_batch, now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import Network, vip4, vip6
from haagent.wire import arp, ndisc
from tests.integration.clusters import Story, answering, held, key, one_owner, others, resident, silence
from tests.integration.conftest import Measure
from tests.integration.flooding import Orders, Report

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
]

FOUR, SIX = vip4(), vip6()
ROUTERS = [web_router(), web_router(name="six", vrid=52, addresses=[f"{SIX}/64"])]
TRIALS = 20
FORGED: Final = "02:aa:00:00:00:09"


class Ward:
    """A cluster whose owner is disturbed."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        groups = [{"name": "both", "routers": ["web", "six"]}]
        self.cluster = Cluster(lab, ttl="1s", routers=ROUTERS, group="both", keys={"groups": groups})
        self.prober = lab.probe([FOUR, SIX])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, FOUR).cold_start()

    def begin(self) -> Host:
        """A whole cluster, and its owner."""
        self.cluster.restore()
        owner = answering(self.prober, FOUR)
        assert answering(self.prober, SIX) == owner
        self.epoch = self.cluster.epoch()
        self.since = now()
        self.story.forget()
        return self.lab.host(owner)

    def kept(self, owner: Host) -> None:
        """The group did not move."""
        assert (self.cluster.owner(), self.cluster.epoch()) == (owner.name, self.epoch)
        assert answering(self.prober, FOUR) == answering(self.prober, SIX) == owner.name

    def moved(self, owner: Host, why: str, since: Instant) -> dict[str, float]:
        """Another has it, because the owner released it for this reason; how long that took, in milliseconds."""
        first = self.prober.wait_for_answer(FOUR, after=since, other_than=owner.name)
        assert self.prober.wait_for_answer(SIX, after=since, other_than=owner.name).node == first.node
        self.story.wait(rf"^both: MASTER -> FAULT \({why}", owner.name)
        self.story.wait(rf"^both: BACKUP -> MASTER \(released by {owner.name}\)", first.node)
        assert first.at - since < 800 * MS, "a release is not waited for"
        assert self.cluster.epoch() == self.epoch + 1
        return {"takeover_ms": (first.at - since) / MS, "gap_ms": silence(self.prober, FOUR, since)}

    def owns_again(self, owner: Host) -> None:
        """It is fit by itself, and becomes the owner when asked to."""
        self.story.wait(r"^both: FAULT -> BACKUP \(fit again\)", owner.name)
        self.cluster.restore()
        wish = {"to": owner.name, "from_epoch": self.cluster.epoch(), "by": "test"}
        wish |= {"v": 1, "not_before_ms": 0, "expires_ms": 0}
        self.lab.etcd.ctl("put", key("intents", "both"), json.dumps(wish))
        for vip in (FOUR, SIX):
            answering(self.prober, vip, owner.name)
        assert {FOUR, SIX} <= held(owner)


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ward]:
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Ward(lab)


class Kernel:
    """What a host's kernel tells of its addresses: when one was gone, and when it was there again."""

    def __init__(self, host: Host) -> None:
        with host.inside():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._socket.bind((0, 0x10 | 0x100))  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
        self._socket.settimeout(5)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def returned(self, vip: str) -> Instant:
        """When the address is told to be there again, after it was told to be gone."""
        gone = False
        packed = ip_address(vip).packed
        while True:
            data, at = self._socket.recv(65536), now()
            if packed not in data:
                continue
            kind = int.from_bytes(data[4:6], sys.byteorder)
            if kind == 21:  # RTM_DELADDR
                gone = True
            elif kind == 20 and gone:  # RTM_NEWADDR
                return at


class Ear:
    """Hears on the client's network what these stations announce, and nobody else's flood."""

    def __init__(self, client: Host, *macs: str) -> None:
        with client.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        program = [(0x28, 0, 0, 10), (0x02, 0, 0, 0)]  # the source's last two bytes, kept
        program += [(0x20, 0, 0, 6)]  # its first four
        for mac in macs:
            packed = bytes.fromhex(mac.replace(":", ""))
            program += [(0x15, 0, 4, int.from_bytes(packed[:4])), (0x60, 0, 0, 0)]
            program += [(0x15, 0, 1, int.from_bytes(packed[4:])), (0x06, 0, 0, 0xFFFF), (0x20, 0, 0, 6)]
        program += [(0x06, 0, 0, 0)]
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
        self._socket.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(program), ctypes.addressof(code)))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_ATTACH_FILTER, SO_RCVBUFFORCE
        self._socket.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        self._socket.bind(("eth0", 3))  # ETH_P_ALL
        self._ahead = time.time_ns() - now()
        self._heard: list[tuple[Instant, str, bytes]] = []

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def times(self, vip: str, mac: str, since: Instant = 0) -> list[Instant]:
        """When it was announced, in order, that the address is at this MAC address."""
        while True:
            try:
                frame, about, _, _ = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                break
            seconds, nanoseconds = struct.unpack("=qq", about[0][2])
            self._take(frame, seconds * 1_000_000_000 + nanoseconds - self._ahead)
        packed = bytes.fromhex(mac.replace(":", ""))
        return [at for at, text, said in self._heard if text == vip and said == packed and at >= since]

    def _take(self, frame: bytes, at: Instant) -> None:
        match arp.decode(frame), ndisc.decode(frame):
            case arp.Arp(sender_ip=told, target_ip=target, sender_mac=mac), _ if told == target:
                self._heard.append((at, str(ip_address(told)), mac))
            case _, ndisc.Advertisement(target=told, mac=bytes(mac), solicited=False):
                self._heard.append((at, str(ip_address(told)), mac))
            case _:
                pass


@pytest.mark.parametrize("vip, prefix", [(FOUR, 24), (SIX, 64)])
def test_an_address_removed_by_hand_is_back_and_announced(ward: Ward, vip: str, prefix: int, measure: Measure) -> None:
    owner = ward.begin()
    took: list[float] = []
    with Kernel(owner) as kernel, Ear(ward.lab.client, owner.mac) as ear, ThreadPoolExecutor(1) as pool:
        for _ in range(TRIALS):
            began = now()
            back = pool.submit(kernel.returned, vip)
            owner.run(["ip", "address", "del", f"{vip}/{prefix}", "dev", "eth0"])
            took.append((back.result(10) - began) / MS)  # with the command's own start
            ward.cluster.wait(lambda at=began: bool(ear.times(vip, owner.mac, at)), "announced again", timeout=2)
            time.sleep(0.25)
    measure("back_ms", f"median {statistics.median(took):.2f}, worst {max(took):.2f}")
    assert statistics.median(took) < 50
    ward.story.wait(rf"^both: put back {vip} on eth0: somebody removed it", owner.name)
    ward.kept(owner)
    one_owner(ward.story, ward.prober, ward.since)


def test_both_are_replaced_by_what_somebody_configures(ward: Ward) -> None:
    """Put there again without a lifetime, with another prefix: ours again, and the group stays where it is."""
    owner = ward.begin()
    for vip, prefix in ((FOUR, 24), (SIX, 64)):
        owner.run(["ip", "address", "replace", f"{vip}/{prefix}", "dev", "eth0", "valid_lft", "forever"])
    ward.story.wait(r"took back ", owner.name)
    time.sleep(0.5)
    ward.kept(owner)
    shown = json.loads(owner.run(["ip", "-j", "address", "show", "dev", "eth0"]).stdout)
    lives = {info["local"]: info["valid_life_time"] for link in shown for info in link.get("addr_info", ())}
    assert max(lives[FOUR], lives[SIX]) < 10
    one_owner(ward.story, ward.prober, ward.since)


def _cable(ward: Ward, owner: Host) -> Callable[[], object]:
    return ward.lab.link_down(owner, Network.SERVICE).undo


def _operator(_ward: Ward, owner: Host) -> Callable[[], object]:
    owner.run(["ip", "link", "set", "eth0", "down"])

    def undo() -> None:
        owner.run(["ip", "link", "set", "eth0", "up"])
        # An interface that goes down loses its IPv6 addresses; who configured them puts them back.
        _configure(owner)

    return undo


def _renamed(_ward: Ward, owner: Host) -> Callable[[], object]:
    owner.run(["ip", "link", "set", "eth0", "name", "lan0"])
    return lambda: owner.run(["ip", "link", "set", "lan0", "name", "eth0"])


def _deleted(ward: Ward, owner: Host) -> Callable[[], object]:
    ports = tuple(port for port in owner.station.ports if port.network is Network.SERVICE)
    station = replace(owner.station, ports=ports)
    ward.lab._switch.unplug(station)

    def undo() -> None:
        ward.lab._switch.plug([(station, owner.namespace)])
        ip_batch(topology.station_commands(station), namespace=owner.namespace)

    return undo


def _configure(host: Host) -> None:
    """Give the host's eth0 its own addresses, those that it lacks."""
    ports = tuple(port for port in host.station.ports if port.network is Network.SERVICE)
    commands = topology.station_commands(replace(host.station, ports=ports))
    ip_batch((line for line in commands if line.startswith("address")), namespace=host.namespace, force=True)


@pytest.mark.parametrize("happens", [_cable, _operator, _renamed, _deleted], ids=lambda each: each.__name__[1:])
def test_an_unfit_interface_is_let_go_and_taken_back(
    ward: Ward, happens: Callable[[Ward, Host], Callable[[], object]], measure: Measure
) -> None:
    """Another has the group in tens of milliseconds; when the interface is there again, the node can own again."""
    owner = ward.begin()
    began = now()
    undo = happens(ward, owner)
    for name, value in ward.moved(owner, "interface eth0 is down or absent", began).items():
        measure(name, round(value, 1))
    assert not {FOUR, SIX} & _held_anywhere(owner)
    time.sleep(0.3)
    undo()
    ward.owns_again(owner)
    one_owner(ward.story, ward.prober, ward.since)


@pytest.mark.parametrize("pause", [0.0, 0.001, 0.2], ids=["at-once", "1-ms", "200-ms"])
def test_all_addresses_flushed_and_configured_again(ward: Ward, pause: float, measure: Measure) -> None:
    """As a reload of a network manager does it. Adverts need a source: without one for long, the group is let go.

    Whether the virtual addresses or the host's own were there first afterwards: the host's own survive the release.
    """
    owner = ward.begin()
    owner.run(["sysctl", "-q", "-w", "net.ipv4.conf.eth0.promote_secondaries=0"])
    began = now()
    ip_batch(["address flush dev eth0"], namespace=owner.namespace)
    time.sleep(pause)
    _configure(owner)
    time.sleep(1)
    same = ward.cluster.owner() == owner.name
    measure("gap_ms", round(silence(ward.prober, FOUR, began), 1))
    measure("owner", "the same" if same else "another")
    if same and ward.cluster.epoch() == ward.epoch:
        ward.kept(owner)
    elif same:  # it let go, and was fit again before another node claimed
        for vip in (FOUR, SIX):
            answering(ward.prober, vip, owner.name)
    else:
        ward.owns_again(owner)
    assert {owner.ip, owner.ip6, FOUR, SIX} <= held(owner)
    ward.cluster.agents[owner.name].stop()
    ward.prober.wait_for_answer(FOUR, after=now(), other_than=owner.name)
    assert {owner.ip, owner.ip6} <= held(owner)
    assert not {FOUR, SIX} & held(owner)
    one_owner(ward.story, ward.prober, ward.since)


def forge(ward: Ward, rate: int, seconds: float) -> Report:
    """Have somebody on the client's network say at a rate that he has both addresses, in turn."""
    mac = bytes.fromhex(FORGED.replace(":", ""))
    frames = [arp.gratuitous(ip_address(FOUR).packed, mac), ndisc.unsolicited(ip_address(SIX).packed, mac)]
    orders = Orders(interface="eth0", frames=[each.hex() for each in frames], rate=rate, seconds=seconds)
    argv = [sys.executable, str(Path(__file__).with_name("flooding.py"))]
    return json.loads(ward.lab.client.run(argv, stdin=json.dumps(orders)).stdout)


def settled(ward: Ward) -> Host:
    """The owner, once it has been for long enough that what it hears can be no late word of the one before."""
    owner = ward.begin()
    became = ward.story.lines(owner.name, "^both: BACKUP -> MASTER", whole=True)[-1].at
    time.sleep(max(0, became + 1100 * MS - now()) / S)
    return owner


def test_the_addresses_said_elsewhere_are_defended_and_an_alarm(ward: Ward, measure: Measure) -> None:
    """Claims of each, once: the neighbours are told better within the pause, and the owner's log names him."""
    owner = settled(ward)
    with Ear(ward.lab.client, owner.mac, FORGED) as ear:
        forge(ward, rate=100, seconds=0.05)
        for router, vip in (("web", FOUR), ("six", SIX)):
            words = rf"^alarm: address-elsewhere {router}: {FORGED} says that it has {vip} on eth0"
            ward.story.wait(words, owner.name)
            ward.cluster.wait(lambda vip=vip: bool(ear.times(vip, owner.mac)), "announced again", timeout=2)
            first, told = ear.times(vip, FORGED)[0], ear.times(vip, owner.mac)[0]
            measure(f"{router}_corrected_ms", round((told - first) / MS, 1))
            assert first < told < first + 500 * MS
    for host in others(ward.cluster, owner.name):
        assert not ward.story.lines(host.name, "address-elsewhere"), "only the owner says so"
    ward.kept(owner)
    one_owner(ward.story, ward.prober, ward.since)


def test_a_flood_of_forged_claims_moves_nothing(ward: Ward, measure: Measure) -> None:
    """10,000 a second: no move, no loud log, no storm of announcements; and the last word is the owner's."""
    owner = settled(ward)
    pid, seconds = ward.cluster.agents[owner.name].pid, 5.0
    with Ear(ward.lab.client, owner.mac) as ear:
        memory, cpu, began = resident(pid), _cpu(pid), now()
        report = forge(ward, rate=10_000, seconds=seconds)
        memory, cpu, over = resident(pid) - memory, _cpu(pid) - cpu, now()
        measure("sent", sum(report["sent"]))
        measure("agent", f"{cpu / seconds * 100:.0f} % CPU, {memory} KiB")
        for vip in (FOUR, SIX):
            ward.cluster.wait(lambda vip=vip: bool(ear.times(vip, owner.mac, over - 50 * MS)), "last word", timeout=3)
            told = ear.times(vip, owner.mac, began)
            apart = [each for each, before in zip(told, [0, *told], strict=False) if each - before > 50 * MS]
            measure(f"announced_{vip}", len(apart))
            assert seconds - 2 <= len(apart) <= 2 * (seconds + 2)  # one a second
    assert len(ward.story.lines(owner.name)) <= 4
    assert sum(report["sent"]) > 10_000
    assert memory < 4096
    ward.kept(owner)
    one_owner(ward.story, ward.prober, ward.since)


def _cpu(pid: int) -> float:
    """Seconds that a process has run."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _held_anywhere(host: Host) -> set[str]:
    shown = json.loads(host.run(["ip", "-j", "address", "show"]).stdout)
    return {info["local"] for link in shown for info in link.get("addr_info", ())}
