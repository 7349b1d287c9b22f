"""Addresses of the cluster that somebody else configured on a host: told by name, left alone, and owned as they are.

And a source of adverts that goes away: the node that cannot speak lets go, and another owns.
"""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

from haagent.core.units import MS
from haagent.lab.cluster import Cluster, web_router
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, held, one_owner, others

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VIP = vip4()


class Ward:
    """Two nodes that speak unicast."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.cluster = Cluster(lab, ttl="1s")
        for host in lab.hosts:
            peers = [one.ip for one in lab.hosts if one is not host]
            router = web_router(unicast_peers=peers, unicast_source=host.ip)
            self.cluster.differences[host.name] = {"virtual_routers": [router]}
        self.prober = lab.probe([VIP])
        self.story = Story(self.cluster)
        Rehearsal(self.cluster, self.prober, VIP).cold_start()

    def begin(self) -> tuple[Host, Host]:
        """The owner, and the other."""
        self.cluster.restore()
        self.since = now()
        self.story.forget()
        owner = answering(self.prober, VIP)
        (other,) = others(self.cluster, owner)
        return self.lab.host(owner), other


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ward]:
    with Lab(2, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Ward(lab)


def test_an_address_by_hand_on_a_backup_is_told_by_name_until_it_is_gone(ward: Ward) -> None:
    owner, other = ward.begin()
    words = rf"address-foreign {VIP} on lo: {VIP} is configured on lo, not by haagent"
    other.run(["ip", "address", "add", f"{VIP}/32", "dev", "lo"])
    ward.story.wait(rf"^alarm: {words}", other.name)
    doctor = ward.cluster.ctl(other, "doctor")
    assert f"{VIP} is configured on lo, not by haagent" in doctor.stdout, doctor.stdout
    other.run(["ip", "address", "del", f"{VIP}/32", "dev", "lo"])
    ward.story.wait(r"^alarm over: address-foreign", other.name)
    assert not ward.story.lines(owner.name, "address-foreign")


def test_the_hosts_own_address_outlives_the_agent_whatever_it_owns(ward: Ward) -> None:
    """It is also a virtual one. The agent starts as a backup, becomes the owner, stops, and the address is there."""
    owner, other = ward.begin()
    ward.cluster.agents[other.name].stop()
    other.run(["ip", "address", "add", f"{VIP}/24", "dev", "eth0"])
    try:
        ward.cluster.restore()
        ward.story.wait(rf"^alarm: address-foreign {VIP} on eth0", other.name)
        assert VIP in held(other)
        ward.cluster.agents[owner.name].stop()
        ward.story.wait(r"^web: BACKUP -> MASTER", other.name)
        ward.story.wait(r"^alarm over: address-foreign", other.name)
        assert answering(ward.prober, VIP) == other.name
        ward.cluster.agents[other.name].stop()
        assert VIP in held(other)
        assert not ward.story.lines(other.name, rf"^removed {VIP}")
    finally:
        other.run(["ip", "address", "del", f"{VIP}/24", "dev", "eth0"])


def test_who_has_lost_the_source_of_its_adverts_lets_go(ward: Ward) -> None:
    """Else its adverts were lost, and a keepalived beside it would become a second master."""
    owner, other = ward.begin()
    why = rf"unicast_source {owner.ip} is not an address of this host"
    owner.run(["ip", "address", "del", f"{owner.ip}/24", "dev", "eth0"])
    lost = now()
    try:
        ward.story.wait(rf"^web: MASTER -> FAULT \({why}\)", owner.name)
        first = ward.prober.wait_for_answer(VIP, after=lost, node=other.name)
        assert first.at - lost < 900 * MS, "a release is not waited for"
        doctor = ward.cluster.ctl(owner, "doctor")
        assert "is not an address of this host" in doctor.stdout, doctor.stdout
    finally:
        owner.run(["ip", "address", "add", f"{owner.ip}/24", "dev", "eth0"])
    ward.story.wait(r"^web: FAULT -> BACKUP \(fit again\)", owner.name)
    time.sleep(0.3)
    assert answering(ward.prober, VIP) == other.name
    one_owner(ward.story, ward.prober, ward.since)
