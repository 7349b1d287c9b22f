"""Who is where in the lab: names, addresses, interfaces. Pure; `lab.py` makes it so.

    n1 n2 n3     hosts        eth0 10.77.0.1.., fd77::1..     eth1 10.78.0.1..
    e1 (e2 e3)   etcd                                         eth1 10.78.0.201..
    c1           client       eth0 10.77.0.250, fd77::fa
    o1           observer     eth0 10.77.0.251, fd77::fb      eth3 10.79.0.251, fd79::fb
                              service network                 control network
                              VRRP, virtual addresses         etcd, agents among themselves

Two networks, so that "cut off from etcd" and "cut off from everything" are different things. Both are bridges
in a namespace of their own, `sw`, where each station's cable ends in a port named `s-n1` (service) or `c-n1`
(control). Addresses 10.77.0.100 to .199 and fd77::100 to fd77::163 are left free for virtual addresses.

A host may have more (`Extra`), by which a client could reach it too: a second interface on the service network, one on
a third network, `side`, whose stations reach the service network through the hosts, a macvlan on eth0, a container.

    n1    eth2 10.77.0.31, fd77::1f   mv0 10.77.0.21, fd77::15   eth3 10.79.0.1, fd79::1   vk 10.80.1.1, fd80:1::1
    k1    its container: eth0 10.80.1.2, fd80:1::2, on n1's vk
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

MOST_HOSTS = 99
MOST_WITH_EXTRAS = 9


class Network(Enum):
    """One of the networks; the value names its bridge."""

    SERVICE = "service"
    CONTROL = "control"
    SIDE = "side"


class Extra(Enum):
    """What a host can have beside its two interfaces; the value names the interface."""

    SECOND = "eth2"
    ROUTED = "eth3"
    MACVLAN = "mv0"
    CONTAINER = "vk"


@dataclass(frozen=True)
class Port:
    """A station's cable to a network: `name` is its end at the bridge, `interface` the station's, `addresses` are the
    station's, with prefix.
    """

    name: str
    network: Network
    interface: str
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
    extras: frozenset[Extra] = frozenset()

    def port_names(self, network: Network | None = None) -> tuple[str, ...]:
        """The names of its ports on one network, or on all."""
        return tuple(port.name for port in self.ports if network in (None, port.network))


def host(index: int, extras: frozenset[Extra] = frozenset()) -> Station:
    """Host `n<index>`, from 1."""
    assert 1 <= index <= (MOST_WITH_EXTRAS if extras else MOST_HOSTS)
    name = f"n{index}"
    ports = [_service_port(name, index), _control_port(name, index)]
    if Extra.SECOND in extras:
        own = f"10.77.0.{30 + index}/24", f"fd77::{30 + index:x}/64"
        ports.append(Port(f"t-{name}", Network.SERVICE, "eth2", f"02:7a:00:00:00:{30 + index:02x}", own))
    if Extra.ROUTED in extras:
        ports.append(_side_port(name, index))
    return Station(name, tuple(ports), extras)


def etcd_station(index: int) -> Station:
    """The station of etcd member `e<index>`, from 1."""
    assert 1 <= index <= 9
    name = f"e{index}"
    return Station(name, (_control_port(name, 200 + index),))


def client() -> Station:
    """The client `c1`, outside the hosts."""
    return Station("c1", (_service_port("c1", 250),))


def observer() -> Station:
    """The observer `o1`, in whose name hosts are asked by each of their cables."""
    return Station("o1", (_service_port("o1", 251), _side_port("o1", 251)))


def container(index: int) -> Station:
    """The container `k<index>` of a host; its cable ends in that host."""
    assert 1 <= index <= MOST_WITH_EXTRAS
    own = f"10.80.{index}.2/24", f"fd80:{index}::2/64"
    return Station(f"k{index}", (Port("vk", Network.SERVICE, "eth0", f"02:80:00:00:00:{index:02x}", own),))


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
    """`ip` commands that make the bridges."""
    for network in Network:
        # No spanning tree, so that a port forwards at once; no snooping, so that multicast reaches everyone.
        yield f"link add {network.value} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        yield f"link set {network.value} up"


def cable_commands(station: Station, namespace: str) -> Iterator[str]:
    """`ip` commands, for the bridges' namespace, that plug a station in, the bridges' ends still down."""
    for port in station.ports:
        far_end = f"{port.interface} netns {namespace} address {port.mac}"
        yield f"link add {port.name} type veth peer name {far_end}"
        yield f"link set {port.name} master {port.network.value}"


def station_commands(station: Station) -> Iterator[str]:
    """`ip` commands, for the station's namespace, that give it its addresses."""
    yield "link set lo up"
    for port in station.ports:
        yield from _address_commands(port.interface, (*port.addresses, port.link_local))
    if Extra.MACVLAN in station.extras:
        index = _index(station)
        yield f"link add mv0 link eth0 address {macvlan_mac(station)} type macvlan mode bridge"
        yield from _address_commands(
            "mv0", (f"10.77.0.{20 + index}/24", f"fd77::{20 + index:x}/64", f"fe80::{20 + index:x}/64")
        )


def container_commands(station: Station, namespace: str) -> Iterator[str]:
    """`ip` commands, for a host's namespace, that connect its container, which is in `namespace`."""
    index = _index(station)
    mac = container(index).ports[0].mac
    yield f"link add vk address {container_side_mac(station)} type veth peer name eth0 netns {namespace} address {mac}"
    yield from _address_commands("vk", (f"10.80.{index}.1/24", f"fd80:{index}::1/64", "fe80::ff/64"))


def routes_of_container(index: int) -> Iterator[str]:
    """`ip` commands, for a container's namespace, that have its host be the router to everywhere."""
    yield f"route add default via 10.80.{index}.1"
    yield f"route add ::/0 via fd80:{index}::1"


def macvlan_mac(station: Station) -> str:
    """The MAC address of a host's mv0."""
    return f"02:7b:00:00:00:{_index(station):02x}"


def container_side_mac(station: Station) -> str:
    """The MAC address of a host's vk."""
    return f"02:81:00:00:00:{_index(station):02x}"


def _address_commands(interface: str, addresses: Iterable[str]) -> Iterator[str]:
    # Our own addresses are ready at once, the link-local one too, which the kernel would make with duplicate address
    # detection. For addresses that others add, detection stays as it is by default: a second without an answer.
    yield f"link set {interface} addrgenmode none"
    yield f"link set {interface} up"
    for address in addresses:
        yield f"address add {address} dev {interface}{' nodad' if ':' in address else ''}"


def _index(station: Station) -> int:
    return int(station.name[1:])


def _service_port(name: str, number: int) -> Port:
    mac = f"02:77:00:00:00:{number:02x}"
    return Port(f"s-{name}", Network.SERVICE, "eth0", mac, (f"10.77.0.{number}/24", f"fd77::{number:x}/64"))


def _control_port(name: str, number: int) -> Port:
    return Port(f"c-{name}", Network.CONTROL, "eth1", f"02:78:00:00:00:{number:02x}", (f"10.78.0.{number}/24",))


def _side_port(name: str, number: int) -> Port:
    mac = f"02:79:00:00:00:{number:02x}"
    return Port(f"r-{name}", Network.SIDE, "eth3", mac, (f"10.79.0.{number}/24", f"fd79::{number:x}/64"))
