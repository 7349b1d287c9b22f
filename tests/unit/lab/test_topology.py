"""Names, addresses and ports of the stations."""

from __future__ import annotations

from ipaddress import ip_interface

from haagent.lab import topology
from haagent.lab.topology import Network


def test_no_two_stations_share_a_port_a_mac_or_an_address() -> None:
    stations = [
        *(topology.host(index) for index in range(1, topology.MOST_HOSTS + 1)),
        *(topology.etcd_station(index) for index in (1, 2, 3)),
        topology.client(),
    ]
    ports = [port for station in stations for port in station.ports]
    addresses = [ip_interface(address).ip for port in ports for address in port.addresses]
    addresses += [ip_interface(vip(index)).ip for vip in (topology.vip4, topology.vip6) for index in (1, 99)]
    for values in ([port.name for port in ports], [port.mac for port in ports], addresses):
        assert len(set(values)) == len(values)
    assert max(len(port.name) for port in ports) <= 15  # IFNAMSIZ


def test_hosts_are_on_both_networks_etcd_and_client_on_one() -> None:
    assert topology.host(2).port_names() == ("s-n2", "c-n2")
    assert topology.host(2).port_names(Network.CONTROL) == ("c-n2",)
    assert topology.etcd_station(1).port_names() == ("c-e1",)
    assert topology.client().port_names() == ("s-c1",)
