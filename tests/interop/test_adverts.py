"""Our adverts as a bystander sees them: scapy and tcpdump read them, the IP header is as the RFCs say.

RFC 9568 5.1.1 (TTL 255, protocol 112, the group), 5.2 (the PDU), 6.4.2 (advert, then gratuitous ARP or neighbour
advertisements, at once), 6.4.3 (priority 0 at the end); TOS 0xc0 and DF clear as keepalived has them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from haagent.lab.commands import run
from tests.interop.agent import SLACK, one_agent
from tests.interop.capture import Advert, Ear
from tests.interop.conftest import MakeLab
from tests.interop.dialect import ALL, PASSWORD, VRID, Dialect

pytestmark = pytest.mark.interop

PRIORITY = 100
REPEATS = 5  # garp_master_repeat
GROUPS = {4: ("224.0.0.18", "01:00:5e:00:00:12"), 6: ("ff02::12", "33:33:00:00:00:12")}
EVERYBODY = {4: "ff:ff:ff:ff:ff:ff", 6: "33:33:00:00:00:01"}
AT_ONCE = SLACK


def tcpdump(frames: Iterable[bytes], file: Path) -> list[str]:
    """What tcpdump makes of the frames, a line or two each."""
    records = b"".join(struct.pack("=IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames)
    file.write_bytes(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    return run(["tcpdump", "-r", str(file), "-vv", "-n", "-t"]).stdout.splitlines()


@pytest.mark.parametrize("dialect", ALL, ids=str)
def test_adverts(dialect: Dialect, make_lab: MakeLab, tmp_path: Path):
    lab = make_lab(2)
    here, there = lab.hosts
    us = dialect.address(here)
    with Ear(there if dialect.unicast else lab.client) as ear:
        _, agent = one_agent(lab, here, dialect.router(here, there, priority=PRIORITY))
        heard = [ear.wait(us, count=count) for count in (1, 2, 3)]
        agent.process.stop()
        farewell = ear.farewell(us)
        assert ear.hear(us)[-1] == farewell
        adverts = [*heard, farewell]

    destination = (dialect.address(there), there.mac) if dialect.unicast else GROUPS[dialect.family]
    for advert in adverts:
        assert (advert.destination, advert.to_mac) == destination
        assert (advert.mac, advert.ttl, advert.tos, advert.fragmentable) == (here.mac, 255, 0xC0, True)
        assert (advert.version, advert.vrid, advert.interval) == (dialect.version, VRID, dialect.interval)
        assert advert.addresses == tuple(address.partition("/")[0] for address in dialect.addresses)
        assert advert.password == (None if dialect.password is None else PASSWORD[:8].encode())
        assert advert.checksum_holds is (dialect.checksum == "rfc")
    assert [advert.priority for advert in adverts] == [PRIORITY, PRIORITY, PRIORITY, 0]
    for before, after in pairwise(heard):
        # One may leave late, and the next in time.
        assert dialect.interval // 2 < after.at - before.at < dialect.interval + SLACK

    announced(ear, heard[0], dialect, here.mac)
    lines = tcpdump((advert.frame for advert in adverts), tmp_path / "adverts.pcap")
    told = [line for line in lines if f"vrid {VRID}, prio " in line]
    assert len(told) == len(adverts), lines
    assert all(f"VRRPv{dialect.version}, Advertisement" in line for line in told)
    if dialect.checksum == "rfc":
        assert not [line for line in lines if "bad" in line]


def announced(ear: Ear, first: Advert, dialect: Dialect, mac: str) -> None:
    """Right after the first advert, each address so many times, and each once before any a second time."""
    addresses = [address.partition("/")[0] for address in dialect.addresses]
    told = ear.announcements
    assert [each.address for each in told] == addresses * REPEATS
    assert {(each.mac, each.to_mac, each.target) for each in told} == {(mac, EVERYBODY[dialect.family], mac)}
    assert first.at <= told[0].at
    assert told[-1].at < first.at + AT_ONCE
