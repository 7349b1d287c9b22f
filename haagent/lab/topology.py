"""Who is where in the lab: names, addresses, interfaces. Pure; `lab.py` makes it so.

    n1 n2 n3     hosts        eth0 10.77.0.1.., fd77::1..     eth1 10.78.0.1..
    e1 (e2 e3)   etcd                                         eth1 10.78.0.201..
    c1           client       eth0 10.77.0.250, fd77::fa
                              service network                 control network
                              VRRP, virtual addresses         etcd, agents among themselves

Two networks, so that "cut off from etcd" and "cut off from everything" are different things. Both are bridges
in a namespace of their own, `sw`, where each station's cable ends in a port named `s-n1` (service) or `c-n1`
(control). Addresses 10.77.0.100 to .199 and fd77::100 to fd77::163 are left free for virtual addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

MOST_HOSTS = 99


class Network(Enum):
    """One of the two networks; the value names its bridge."""

    SERVICE = "service"
    CONTROL = "control"

    @property
    def interface(self) -> str:
        """Its interface on every station that is on it."""
        return "eth0" if self is Network.SERVICE else "eth1"


@dataclass(frozen=True)
class Port:
    """A station's cable to a network: `name` is its end at the bridge, `addresses` are the station's, with
    prefix.
    """

    name: str
    network: Network
    mac: str
    addresses: tuple[str, ...]

    @property
    def link_local(self) -> str:
        """Its IPv6 link-local address, with prefix."""
        return f"fe80::{int(self.mac[-2:], 16):x}/64"


@dataclass(frozen=True)
class Station:
    """Anything with a namespace of its own and at least one cable."""

    name: str
    ports: tuple[Port, ...]

    def port_names(self, network: Network | None = None) -> tuple[str, ...]:
        """The names of its ports on one network, or on all."""
        return tuple(port.name for port in self.ports if network in (None, port.network))


def host(index: int) -> Station:
    """Host `n<index>`, from 1."""
    assert 1 <= index <= MOST_HOSTS
    name = f"n{index}"
    return Station(name, (_service_port(name, index), _control_port(name, index)))


def etcd_station(index: int) -> Station:
    """The station of etcd member `e<index>`, from 1."""
    assert 1 <= index <= 9
    name = f"e{index}"
    return Station(name, (_control_port(name, 200 + index),))


def client() -> Station:
    """The client `c1`, outside the hosts."""
    return Station("c1", (_service_port("c1", 250),))


def vip4(index: int = 1) -> str:
    """An IPv4 address of the service network that no station has; index 1 to 99."""
    assert 1 <= index <= 99
    return f"10.77.0.{100 + index}"


def many4(count: int) -> list[str]:
    """So many IPv4 addresses of the service network, up to 200, that no station of a lab of 40 hosts has."""
    assert 1 <= count <= 200
    return [f"10.77.0.{41 + index}" for index in range(count)]


def vip6(index: int = 1) -> str:
    """An IPv6 address of the service network that no station has; index 1 to 99."""
    assert 1 <= index <= 99
    return f"fd77::{0x100 + index:x}"


def switch_commands() -> Iterator[str]:
    """`ip` commands that make the two bridges."""
    for network in Network:
        # No spanning tree, so that a port forwards at once; no snooping, so that multicast reaches everyone.
        yield f"link add {network.value} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        yield f"link set {network.value} up"


def cable_commands(station: Station, namespace: str) -> Iterator[str]:
    """`ip` commands, for the bridges' namespace, that plug a station in, the bridges' ends still down."""
    for port in station.ports:
        far_end = f"{port.network.interface} netns {namespace} address {port.mac}"
        yield f"link add {port.name} type veth peer name {far_end}"
        yield f"link set {port.name} master {port.network.value}"


def station_commands(station: Station) -> Iterator[str]:
    """`ip` commands, for the station's namespace, that give it its addresses."""
    yield "link set lo up"
    for port in station.ports:
        # Our own addresses are ready at once, the link-local one too, which the kernel would make with
        # duplicate address detection. For addresses that others add, detection stays as it is by default: a
        # second without an answer.
        yield f"link set {port.network.interface} addrgenmode none"
        yield f"link set {port.network.interface} up"
        for address in (*port.addresses, port.link_local):
            flags = " nodad" if ":" in address else ""
            yield f"address add {address} dev {port.network.interface}{flags}"


def _service_port(name: str, number: int) -> Port:
    mac = f"02:77:00:00:00:{number:02x}"
    return Port(f"s-{name}", Network.SERVICE, mac, (f"10.77.0.{number}/24", f"fd77::{number:x}/64"))


def _control_port(name: str, number: int) -> Port:
    return Port(f"c-{name}", Network.CONTROL, f"02:78:00:00:00:{number:02x}", (f"10.78.0.{number}/24",))
