"""Each fault does what it says and nothing else, and undoing it undoes it: ping and TCP show it."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from haagent.lab.commands import LabError, now
from haagent.lab.faults import Direction
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.topology import Network
from tests.integration.conftest import MakeLab

pytestmark = pytest.mark.integration

OUT, IN, BOTH = Direction.OUT, Direction.IN, Direction.BOTH


# Who was cut off from a neighbour asks for its MAC address once a second: answers after a fault may be that late.
PATIENCE = 5.0
LONG_ENOUGH = 0.4


def pings(source: Host, address: str, patience: float = PATIENCE) -> bool:
    return source.run(["ping", "-c1", f"-W{patience}", address], check=False).returncode == 0


def silent(source: Host, address: str) -> bool:
    return not pings(source, address, LONG_ENOUGH)


def hears(listener: Host, sender: Host, address: str, protocol: int = socket.IPPROTO_UDP) -> bool:
    """Whether an IP packet that `sender` sends to `address` arrives at `listener`: one way, no answer needed."""
    with listener.inside():
        ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    with sender.inside():
        mouth = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    own = {found.partition("/")[0] for port in sender.station.ports for found in port.addresses}
    with ear, mouth:
        ear.settimeout(LONG_ENOUGH)
        mouth.sendto(bytes(8), (address, 0))
        try:
            while ear.recvfrom(100)[1][0] not in own:
                pass
        except TimeoutError:
            return False
        return True


def meet(lab: Lab) -> None:
    """Have everybody learn everybody's MAC address for good, so that ways can be tried in one direction."""
    stations = [*lab.hosts, lab.client, *(lab.host(member.name) for member in lab.etcd.members)]
    for station in stations:
        lines = [
            f"neigh replace {address.partition('/')[0]} lladdr {port.mac} dev {port.interface} nud permanent"
            for other in stations
            for port in other.station.ports
            for address in port.addresses
            if other is not station and station.station.port_names(port.network)
        ]
        station.run(["ip", "-batch", "-"], stdin="\n".join(lines))


def reaches_etcd(host: Host, lab: Lab, patience: float = PATIENCE) -> bool:
    with host.inside():
        try:
            socket.create_connection((lab.host("e1").control_ip, 2379), timeout=patience).close()
        except OSError:
            return False
    return True


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(hosts=3, etcd=1)


def test_without_faults_everybody_reaches_everybody(lab: Lab) -> None:
    n1, n2, n3 = lab.hosts
    for target in (n2.ip, n3.ip6, lab.client.ip, n2.control_ip, lab.host("e1").control_ip):
        assert pings(n1, target)
    assert reaches_etcd(n1, lab)
    assert lab.faults == ()


def test_cut_off_from_etcd_is_that_and_nothing_else(lab: Lab) -> None:
    n1, n2, _ = lab.hosts
    before = now()
    fault = lab.cut_from_etcd(n1)
    assert before <= fault.moment.before <= fault.moment.after <= now()
    assert not reaches_etcd(n1, lab, LONG_ENOUGH)
    assert reaches_etcd(n2, lab)
    assert pings(n1, n2.ip)
    assert pings(n1, n2.control_ip)
    assert pings(n1, lab.client.ip)
    fault.undo()
    assert reaches_etcd(n1, lab)
    assert not fault.active


@pytest.mark.parametrize("direction", [OUT, IN])
def test_one_way_cuts_from_etcd(lab: Lab, direction: Direction) -> None:
    n1, e1 = lab.host("n1"), lab.host("e1")
    meet(lab)
    with lab.cut_from_etcd(n1, direction):
        assert hears(e1, n1, e1.control_ip) == (direction is IN)
        assert hears(n1, e1, n1.control_ip) == (direction is OUT)
        assert not reaches_etcd(n1, lab, LONG_ENOUGH)
    assert hears(e1, n1, e1.control_ip)
    assert hears(n1, e1, n1.control_ip)


@pytest.mark.parametrize("direction", [OUT, IN, BOTH])
def test_vrrp_alone_is_cut_per_direction(lab: Lab, direction: Direction) -> None:
    n1, n2, n3 = lab.hosts
    meet(lab)
    with lab.cut_vrrp(n1, direction):
        assert hears(n2, n1, n2.ip, 112) == (direction is IN)
        assert hears(n1, n3, n1.ip, 112) == (direction is OUT)
        assert hears(n2, n3, n2.ip, 112)
        assert hears(n2, n1, n2.ip)
        assert hears(n1, n2, n1.ip)


@pytest.mark.parametrize("direction", [OUT, IN])
def test_one_way_cut_between_two_hosts(lab: Lab, direction: Direction) -> None:
    n1, n2, n3 = lab.hosts
    meet(lab)
    source, target = (n1, n2) if direction is OUT else (n2, n1)
    lab.cut(source, target, network=Network.SERVICE)
    assert not hears(target, source, target.ip)
    assert hears(source, target, source.ip)
    assert hears(target, source, target.control_ip)
    assert hears(n3, source, n3.ip)


def test_cut_off_from_peers_leaves_etcd_and_client(lab: Lab) -> None:
    n1, n2, n3 = lab.hosts
    with lab.cut_peers(n1):
        assert silent(n1, n2.ip)
        assert silent(n1, n3.control_ip)
        assert pings(n2, n3.ip)
        assert reaches_etcd(n1, lab)
        assert pings(n1, lab.client.ip)


@pytest.mark.parametrize("direction", [OUT, IN, BOTH])
def test_cut_off_from_everything_keeps_the_carrier(lab: Lab, direction: Direction) -> None:
    n1, n2, _ = lab.hosts
    meet(lab)
    with lab.isolate(n1, direction):
        assert hears(n2, n1, n2.ip) == (direction is IN)
        assert hears(n1, n2, n1.control_ip) == (direction is OUT)
        assert silent(lab.client, n1.ip)
        assert not reaches_etcd(n1, lab, LONG_ENOUGH)
        assert carrier(n1, "eth0") == "1"
    assert pings(lab.client, n1.ip)


def carrier(host: Host, interface: str) -> str:
    return host.run(["cat", f"/sys/class/net/{interface}/carrier"]).stdout.strip()


def test_a_pulled_cable_is_seen_by_the_host(lab: Lab) -> None:
    n1 = lab.host("n1")
    with lab.link_down(n1, Network.SERVICE):
        assert (carrier(n1, "eth0"), carrier(n1, "eth1")) == ("0", "1")
        assert silent(lab.client, n1.ip)
        assert reaches_etcd(n1, lab)
    assert carrier(n1, "eth0") == "1"
    assert pings(lab.client, n1.ip)
    assert pings(n1, lab.client.ip6)


@pytest.mark.parametrize("percent", [10, 50])
def test_loss_is_about_what_was_asked_for(lab: Lab, percent: int) -> None:
    n1 = lab.host("n1")
    assert pings(lab.client, n1.ip)
    lab.lose_packets(n1, percent, OUT)
    report = lab.client.run(["ping", "-q", "-c400", "-i0.002", "-W1", n1.ip], check=False).stdout
    received = int(report.partition(" received")[0].rpartition(" ")[2])
    # Five standard deviations of 400 throws at 50 % are 50.
    assert 400 * (100 - percent) / 100 == pytest.approx(received, abs=50)


def test_faults_overlap_and_heal_undoes_all(lab: Lab) -> None:
    n1, n2, n3 = lab.hosts
    first, second = lab.isolate(n1), lab.link_down(n1)
    first.undo()
    assert silent(lab.client, n1.ip)
    second.undo()
    assert pings(lab.client, n1.ip)
    lab.isolate(n1)
    lab.link_down(n2)
    lab.cut_from_etcd(n3)
    lab.lose_host(n3)
    healed = lab.heal()
    assert healed.before <= healed.after
    assert lab.faults == ()
    for host in (n1, n2, n3):
        assert pings(lab.client, host.ip)
        assert reaches_etcd(host, lab)


def test_a_lost_host_is_gone_with_all_its_processes_and_comes_back_bare(lab: Lab) -> None:
    n1 = lab.host("n1")
    n1.run(["ip", "address", "add", "10.77.0.101/32", "dev", "eth0"])
    agent = n1.spawn(["sh", "-c", "setsid sleep 600 & sleep 600"])
    fault = lab.lose_host(n1)
    assert agent.wait() == -9
    assert silent(lab.client, "10.77.0.101")
    assert silent(lab.client, n1.ip)
    fault.undo()
    assert pings(lab.client, n1.ip)
    assert pings(lab.client, n1.ip6)
    assert silent(lab.client, "10.77.0.101")
    assert reaches_etcd(n1, lab)
    assert n1.spawn(["true"]).wait() == 0


def test_cutting_off_from_nobody_is_an_error(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=1, etcd=0)
    with pytest.raises(LabError, match="nobody to cut off"):
        lab.cut_from_etcd(lab.host("n1"))
    with pytest.raises(LabError, match="no such host"):
        lab.host("n9")


def test_processes_started_by_a_thread_outlive_the_thread(lab: Lab) -> None:
    with ThreadPoolExecutor(max_workers=1) as pool:
        sleeper = pool.submit(lab.host("n1").spawn, ["sleep", "600"]).result()
    time.sleep(0.1)
    assert sleeper.running
    sleeper.pause()
    assert sleeper.running
    sleeper.resume()
    assert sleeper.stop() == -15
