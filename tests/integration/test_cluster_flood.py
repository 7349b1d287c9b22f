"""10,000 packets a second, malformed, spoofed and replayed, at a cluster of real agents: nothing moves.

From outside the hosts, by somebody who knows everything but the password: VRIDs, addresses, the owner's own adverts.
The address stays where it is, the owner's adverts keep coming, no agent grows, each kind is counted by its name.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import pytest

from haagent.core.units import MS, S
from haagent.lab.cluster import Cluster, web_router
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from haagent.wire import vrrp
from haagent.wire.inet import VRRP_GROUP_V4
from tests.integration.clusters import Story, answering, one_owner, others, resident, silence
from tests.integration.conftest import Measure
from tests.integration.flooding import Orders, Report
from tests.integration.speaking import injected

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.alone,
]

RATE, SECONDS = 10_000, 10.0
INTERVAL = 100 * MS
STRANGER, ANOTHER = "10.77.0.66", "10.77.0.67"
PASSWORD = "let-me-i"
# Two virtual routers owned as one: one of today's, one with the password that VRRPv2 has.
ROUTERS = [
    web_router(name="v3", advert_interval="100ms"),
    web_router(name="v2", vrid=52, version=2, auth_pass=PASSWORD, addresses=[f"{vip4(2)}/24"]),
]


def packed(text: str) -> bytes:
    return ip_address(text).packed


def advert(source: str, priority: int, *, vrid: int = 51, address: str = vip4(), interval: int = INTERVAL) -> bytes:
    """A valid one of version 3."""
    said = vrrp.Advert(3, vrid, priority, interval, (packed(address),))
    return vrrp.encode(said, source=packed(source), destination=VRRP_GROUP_V4)


def old_advert(password: bytes | None) -> bytes:
    said = vrrp.Advert(2, 52, 255, 1 * S, (packed(vip4(2)),), password)
    return vrrp.encode(said, source=packed(STRANGER), destination=VRRP_GROUP_V4)


def flood_of(owner: Host, backup: Host, replayed: bytes) -> dict[str, bytes]:
    """The frames, by what is wrong with them."""
    good = advert(STRANGER, 254)
    wrong = {
        "bad_checksum": good[:6] + bytes((good[6] ^ 0xFF, good[7])) + good[8:],
        "truncated": good[:6],
        "truncated in its addresses": advert(STRANGER, 254)[:3] + b"\x05" + good[4:],
        "oversized": good + bytes(1000),
        "unknown_vrid": advert(STRANGER, 254, vrid=99),
        "bad_version": b"\x71" + good[1:],
        "bad_type": b"\x32" + good[1:],
        "bad_vrid": good[:1] + b"\x00" + good[2:],
        "bad_count": good[:3] + b"\x00" + good[4:],
        "auth_mismatch": old_advert(b"guess"),
        "auth_type_mismatch": old_advert(None),
        "ah": old_advert(None)[:4] + b"\x02" + old_advert(None)[5:],
    }
    frames = {kind: injected(pdu, source=packed(STRANGER)) for kind, pdu in wrong.items()}
    valid = {
        "a stranger, higher priority": (STRANGER, good),
        "another stranger": (ANOTHER, advert(ANOTHER, 255)),
        "the owner's source, priority 0": (owner.ip, advert(owner.ip, 0)),
        "the owner's source, another address": (owner.ip, advert(owner.ip, 100, address="10.77.0.199")),
        "a member's source, higher priority": (backup.ip, advert(backup.ip, 255)),
    }
    frames |= {kind: injected(pdu, source=packed(source)) for kind, (source, pdu) in valid.items()}
    frames["bad_ttl"] = injected(good, source=packed(STRANGER), ttl=64)
    frames["the owner's advert, replayed"] = injected(replayed, source=packed(owner.ip))
    return frames


class Ear:
    """Hears the adverts that a host sends, at the client, from its making until `stop`."""

    def __init__(self, client: Host, speaker: Host) -> None:
        self._mac = bytes.fromhex(speaker.mac.replace(":", ""))
        with client.inside():
            # Not ETH_P_ALL: that would hear what the client itself sends.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self._socket.bind(("eth0", 0x0800))
        self._socket.settimeout(0.2)
        self._over = threading.Event()
        self.pdus: list[bytes] = []
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()

    def stop(self) -> list[bytes]:
        self._over.set()
        self._thread.join()
        self._socket.close()
        return self.pdus

    def _hear(self) -> None:
        while not self._over.is_set():
            try:
                frame = self._socket.recv(2048)
            except TimeoutError:
                continue
            if frame[6:12] == self._mac and frame[23] == 112:
                self.pdus.append(frame[34:])


class Burden:
    """What the agents' processes cost, from its making on."""

    def __init__(self, cluster: Cluster) -> None:
        self._pids = {name: agent.pid for name, agent in cluster.agents.items()}
        self._memory = {name: resident(pid) for name, pid in self._pids.items()}
        self._ticks = {name: _ticks(pid) for name, pid in self._pids.items()}
        self._since = time.monotonic()

    def grown(self) -> dict[str, int]:
        """KiB of resident memory, by node."""
        return {name: resident(pid) - self._memory[name] for name, pid in self._pids.items()}

    def busy(self) -> dict[str, float]:
        """The part of one core's time, by node."""
        passed = (time.monotonic() - self._since) * 100  # USER_HZ
        return {name: round((_ticks(pid) - self._ticks[name]) / passed, 2) for name, pid in self._pids.items()}


def _ticks(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(stat[11]) + int(stat[12])


class Siege:
    """A cluster of two under attack: what happened in those seconds."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = Cluster(lab, routers=ROUTERS, keys={"groups": [{"name": "web", "routers": ["v3", "v2"]}]})
        self.prober: Prober = lab.probe([vip4()])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, vip4()).cold_start()
        self.owner = lab.host(answering(self.prober, vip4()))
        (self.backup,) = others(self.cluster, self.owner.name)
        self.epoch = self.cluster.epoch()
        ear = Ear(lab.client, self.owner)
        time.sleep(1)
        replayed = next(pdu for pdu in ear.stop() if pdu[0] == 0x31)
        self.frames = flood_of(self.owner, self.backup, replayed)
        self._attack()

    def _attack(self) -> None:
        orders = Orders(
            interface="eth0", frames=[frame.hex() for frame in self.frames.values()], rate=RATE, seconds=SECONDS
        )
        self._send({**orders, "seconds": 1.0})  # the first second makes what stays: lines, sockets' buffers, caches
        self.story.forget()
        burden, ear = Burden(self.cluster), Ear(self.lab.client, self.owner)
        self.since = now()
        self.report = self._send(orders)
        self.until = now()
        self.heard = [pdu for pdu in ear.stop() if pdu[0] == 0x31]
        self.busy = burden.busy()
        time.sleep(1)
        self.grown = burden.grown()
        self.lines = self.story.lines()

    def _send(self, orders: Orders) -> Report:
        root = Path(__file__).resolve().parents[2]
        argv = [sys.executable, str(root / "tests/integration/flooding.py")]
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self.lab.client.run, argv, stdin=json.dumps(orders), timeout=60)
            return json.loads(done.result().stdout)


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Generator[Siege]:
    with Lab(2, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Siege(lab)


def test_it_is_a_flood(siege: Siege, measure: Measure) -> None:
    """What the other tests rest on: the rate was reached, and of each kind came many."""
    rate = sum(siege.report["sent"]) / siege.report["seconds"]
    measure("packets_a_second", round(rate))
    measure("busy", str(siege.busy))
    assert rate >= 8_000
    assert min(siege.report["sent"]) > 3_000


def test_the_address_does_not_move(siege: Siege, measure: Measure) -> None:
    assert (siege.cluster.owner(), siege.cluster.epoch()) == (siege.owner.name, siege.epoch)
    timeline = siege.prober.timeline(siege.since, siege.until)
    assert timeline.nodes == (siege.owner.name,)
    gap = silence(siege.prober, vip4(), siege.since)
    measure("longest_silence_ms", gap)
    assert gap < 150
    assert not siege.story.lines(pattern="-> MASTER|-> BACKUP|lease lapsed")
    one_owner(siege.story, siege.prober, siege.since)


def test_the_owner_is_not_silenced(siege: Siege, measure: Measure) -> None:
    """Its adverts come in their interval, with its own priority, as if nothing were."""
    expected = (siege.until - siege.since) / INTERVAL
    measure("adverts", f"{len(siege.heard)} of {expected:.0f}")
    assert 0.8 * expected <= len(siege.heard) <= 1.1 * expected
    assert {pdu[2] for pdu in siege.heard} == {100}


def test_no_agent_grows(siege: Siege, measure: Measure) -> None:
    measure("grown_kib", str(siege.grown))
    assert max(siege.grown.values()) < 5 * 1024


def test_the_log_stays_a_log(siege: Siege, measure: Measure) -> None:
    """Each kind is said now and then, not once a packet, whatever comes in turns."""
    for host in siege.lab.hosts:
        lines = siege.story.lines(host.name)
        measure(f"lines_of_{host.name}", len(lines))
        assert len(lines) < 100, [line.text for line in lines[:50]]


def test_each_kind_is_counted_by_its_name(siege: Siege, measure: Measure) -> None:
    """In the log while it lasts, and in all at the end. The agents are stopped here: this is the last test."""
    refusals = {kind.split()[0] for kind in siege.frames if re.fullmatch("[a-z_]+", kind.split()[0]) and "_" in kind}
    refusals |= {"truncated", "oversized", "ah"}
    assert len(refusals) == 12
    for host in siege.lab.hosts:
        told = {match[1] for line in siege.story.lines(host.name, whole=True) if (match := _REFUSED.search(line.text))}
        assert told >= refusals, refusals - told
        assert siege.story.lines(host.name, r"^alarm: stranger v3: 10\.77\.0\.6\d advertises priority 25\d", whole=True)
    siege.cluster.agents[siege.backup.name].stop()
    siege.cluster.agents[siege.owner.name].stop()
    for host in siege.lab.hosts:
        (line,) = siege.story.lines(host.name, "^refused in all, of")
        measure(f"totals_of_{host.name}", line.text)
        counts = {reason: int(count) for reason, count in re.findall(r" ([a-z_]+) (\d+)(?:,|;)", line.text)}
        unread = int(re.search(r"(\d+) more came too fast", line.text)[1])  # pyright: ignore[reportOptionalSubscript]
        least = min(siege.report["sent"])
        assert unread < 0.5 * sum(siege.report["sent"]), "most are read"
        assert {reason for reason, count in counts.items() if count > least / 4} >= refusals


_REFUSED = re.compile(r"^\w+: refused (\w+) from")
