"""Names, addresses and ports of the stations."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from haagent.lab import topology
from haagent.lab.topology import Extra, Network, Station

PLAIN = [topology.host(index) for index in range(1, topology.MOST_HOSTS + 1)]
WITH_ALL = [topology.host(index, frozenset(Extra)) for index in range(1, topology.MOST_WITH_EXTRAS + 1)]
CONTAINERS = [topology.container(index) for index in range(1, topology.MOST_WITH_EXTRAS + 1)]


@pytest.mark.parametrize("hosts", [PLAIN, WITH_ALL + CONTAINERS], ids=["plain", "with all extras"])
def test_no_two_stations_share_a_port_a_mac_or_an_address(hosts: list[Station]) -> None:
    stations = [
        *hosts,
        *(topology.etcd_station(index) for index in (1, 2, 3)),
        topology.client(),
        topology.observer(),
    ]
    ports = [port for station in stations for port in station.ports]
    addresses = [ip_interface(address).ip for port in ports for address in port.addresses]
    addresses += [ip_interface(vip(index)).ip for vip in (topology.vip4, topology.vip6) for index in (1, 99)]
    names = [port.name for port in ports if port.name != "vk"]
    for values in (names, [port.mac for port in ports], addresses):
        assert len(set(values)) == len(values)
    assert max(len(port.name) for port in ports) <= 15  # IFNAMSIZ


def test_hosts_are_on_both_networks_etcd_and_client_on_one() -> None:
    assert topology.host(2).port_names() == ("s-n2", "c-n2")
    assert topology.host(2).port_names(Network.CONTROL) == ("c-n2",)
    assert topology.etcd_station(1).port_names() == ("c-e1",)
    assert topology.client().port_names() == ("s-c1",)
    assert topology.host(2, frozenset(Extra)).port_names() == ("s-n2", "c-n2", "t-n2", "r-n2")
