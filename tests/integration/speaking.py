"""What tests of the VRRP sockets share: two hosts on a cable, virtual routers, a capture read by scapy."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from haagent.adapters.vrrp_socket import VrrpSpeaker
from haagent.core.model import AdvertReceived, Event, RouterRules, VirtualAddress
from haagent.core.units import S
from haagent.runtime.ports import Checksum, RouterWire
from tests.integration.namespace import Neighbour, sh

HERE, THERE = ip_address("10.9.0.1").packed, ip_address("10.9.0.2").packed
HERE6, THERE6 = ip_address("fe80::1").packed, ip_address("fe80::2").packed


def cable() -> Neighbour:
    """eth0 here, 10.9.0.1 and fe80::1; peer there, 10.9.0.2 and fe80::2; quiet otherwise."""
    other = Neighbour("eth0", "peer")
    address(other)
    return other


def address(other: Neighbour) -> None:
    for run, interface, last in ((_here, "eth0", 1), (other.run, "peer", 2)):
        for line in (
            f"ip address flush dev {interface} scope link",
            f"ip address add 10.9.0.{last}/24 dev {interface}",
            f"ip address add fe80::{last}/64 dev {interface} nodad",
        ):
            run(lambda line=line: sh(line))


def _here(call: Any) -> Any:
    return call()


def router(
    name: str = "r",
    *,
    vrid: int = 51,
    version: int = 3,
    family: int = 4,
    interface: str = "eth0",
    addresses: tuple[str, ...] = (),
    source: bytes | None = None,
    peers: tuple[bytes, ...] = (),
    password: bytes | None = None,
    checksum: Checksum = Checksum.RFC,
    ttl: int = 255,
    repeat: int = 5,
) -> RouterWire:
    texts = addresses or (("10.9.0.100",) if family == 4 else ("fe80::100", "2001:db8::100"))
    packed = [ip_address(text).packed for text in texts]
    held = tuple(VirtualAddress(each, len(each) * 8, interface) for each in packed)
    rules = RouterRules(name, vrid, version, family, interface, 200, 1 * S, held, source=source)
    return RouterWire(rules, peers, password, checksum, ttl, repeat)


@dataclass
class Station:
    """A speaker that was told of its interface, and what it delivered."""

    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.speaker = VrrpSpeaker(self.events.append)
        self.speaker.addresses("eth0", HERE, HERE6)

    def heard(self) -> list[AdvertReceived]:
        return [event for event in self.events if isinstance(event, AdvertReceived)]


class Capture:
    """A plain packet socket on the neighbour's end: sees all that arrives there, and injects frames."""

    def __init__(self, other: Neighbour) -> None:
        self.socket = other.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
        self.socket.bind((other.there, 3))
        self.socket.setblocking(False)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def frames(self, seconds: float = 0.2) -> list[bytes]:
        """What arrived, once nothing more arrives for so long."""
        got: list[bytes] = []
        quiet_at = time.monotonic() + seconds
        while time.monotonic() < quiet_at:
            try:
                frame, about = self.socket.recvfrom(65536)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            if about[2] != socket.PACKET_OUTGOING:
                got.append(frame)
                quiet_at = time.monotonic() + seconds
        return got

    def adverts(self) -> list[Any]:
        """The VRRP packets that arrived, dissected by scapy from their IP header on."""
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.l2 import Ether

        packets = [Ether(frame) for frame in self.frames()]
        return [p[IP] if IP in p else p[IPv6] for p in packets if _protocol(p) == 112]


def _protocol(packet: Any) -> int | None:
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    return packet[IP].proto if IP in packet else packet[IPv6].nh if IPv6 in packet else None


def injected(payload: bytes, *, source: bytes = THERE, destination: bytes | None = None, ttl: int = 255) -> bytes:
    """An Ethernet frame, forged at will, that carries `payload` as protocol 112."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    if len(source) == 4:
        to = ip_address(destination or bytes((224, 0, 0, 18)))
        ip = IP(src=str(ip_address(source)), dst=str(to), ttl=ttl, proto=112)
    else:
        to = ip_address(destination or bytes.fromhex("ff02" + "00" * 13 + "12"))
        ip = IPv6(src=str(ip_address(source)), dst=str(to), hlim=ttl, nh=112)
    mac = _group_mac(to.packed) if to.is_multicast else mac_of()
    return bytes(Ether(src="02:00:00:00:00:02", dst=mac) / ip / Raw(payload))


def mac_of(interface: str = "eth0") -> str:
    """Its MAC address; /sys would show that of the namespace in which it was mounted."""
    return json.loads(sh(f"ip -j link show dev {interface}"))[0]["address"]


def _group_mac(packed: bytes) -> str:
    raw = b"\x01\x00\x5e" + bytes((packed[1] & 0x7F,)) + packed[2:] if len(packed) == 4 else b"\x33\x33" + packed[-4:]
    return raw.hex(":")
