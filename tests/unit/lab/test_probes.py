"""Probes as the kernel would see them (scapy is the oracle), and what is read from answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from haagent.lab.probes import Asker, Connection, Datagram, Echo, Kind, Neighbour, Reply, read, who_has, whole
from tests.wire.frames import ip, mac

CLIENT, HOST = "02:77:00:00:00:fa", "02:77:00:00:00:01"
ASKER = Asker(mac(CLIENT), ip("10.77.0.250"), ip("fd77::fa"), 0xBEEF)
HOST_MAC = mac(HOST)
VIP4, VIP6 = ip("10.77.0.101"), ip("fd77::101")


@given(st.integers(0, 2**63))
def test_echo_over_ipv4(asked_at: int) -> None:
    frame = Echo(ASKER, VIP4, HOST_MAC, 2).frame(asked_at)
    seen = Ether(frame)
    assert (seen.dst, seen.src, seen[IP].dst, seen[IP].src) == (HOST, CLIENT, "10.77.0.101", "10.77.0.250")
    assert (seen[ICMP].type, seen[ICMP].id, seen[ICMP].seq) == (8, 2, 0xBEEF)
    assert seen[Raw].load == asked_at.to_bytes(8)
    found = seen[IP].chksum, seen[ICMP].chksum
    del seen[IP].chksum, seen[ICMP].chksum
    again = Ether(bytes(seen))
    # RFC 1071: zero has two forms in ones' complement.
    assert found[0] == again[IP].chksum
    assert found[1] % 0xFFFF == again[ICMP].chksum % 0xFFFF


@given(st.integers(0, 2**63))
def test_echo_over_ipv6(asked_at: int) -> None:
    seen = Ether(Echo(ASKER, VIP6, HOST_MAC, 2).frame(asked_at))
    assert (seen.dst, seen[IPv6].dst, seen[IPv6].src) == (HOST, "fd77::101", "fd77::fa")
    echo = seen[ICMPv6EchoRequest]
    assert (echo.id, echo.seq, bytes(echo.data)) == (2, 0xBEEF, asked_at.to_bytes(8))
    found = echo.cksum
    del echo.cksum
    assert found % 0xFFFF == Ether(bytes(seen))[ICMPv6EchoRequest].cksum % 0xFFFF


@given(st.integers(0, 2**63), st.sampled_from([VIP4, VIP6]))
def test_datagrams(asked_at: int, vip: bytes) -> None:
    seen = Ether(Datagram(ASKER, vip, HOST_MAC, 2).frame(asked_at))
    outer = seen[IP] if vip is VIP4 else seen[IPv6]
    assert (seen.dst, ip(outer.dst)) == (HOST, vip)
    assert (seen[UDP].sport, seen[UDP].dport, seen[UDP].len) == (0xBEEF, 33436, 16)
    assert bytes(seen[UDP].payload) == asked_at.to_bytes(8)
    found = seen[UDP].chksum
    assert found != 0
    del seen[UDP].chksum
    assert found % 0xFFFF == Ether(bytes(seen))[UDP].chksum % 0xFFFF


def test_refused_datagrams_are_answers() -> None:
    outer = Ether(dst=CLIENT, src=HOST)
    asked4, asked6 = (Ether(Datagram(ASKER, vip, HOST_MAC, 2).frame(5)) for vip in (VIP4, VIP6))
    udp = outer / IP(src="10.77.0.101", dst="10.77.0.250") / ICMP(type=3, code=3) / asked4[IP]
    assert read(bytes(udp), 0xBEEF) == Reply(Kind.UDP, VIP4, HOST_MAC, 5, 2)
    udp6 = outer / IPv6(src="fd77::101", dst="fd77::fa") / ICMPv6DestUnreach(code=4) / asked6[IPv6]
    assert read(bytes(udp6), 0xBEEF) == Reply(Kind.UDP6, VIP6, HOST_MAC, 5, 2)
    assert read(bytes(udp), 0xBEEE) is None
    elsewhere = outer / IP(src="10.77.0.1", dst="10.77.0.250") / ICMP(type=3, code=1) / asked4[IP]
    assert read(bytes(elsewhere), 0xBEEF) is None, "a router that says that nobody is there"


@given(st.integers(0, 2**63), st.sampled_from([VIP4, VIP6]))
def test_connections(asked_at: int, vip: bytes) -> None:
    seen = Ether(Connection(ASKER, vip, HOST_MAC, 2).frame(asked_at))
    outer = seen[IP] if vip is VIP4 else seen[IPv6]
    assert (seen.dst, ip(outer.dst)) == (HOST, vip)
    assert (seen[TCP].sport, seen[TCP].dport, seen[TCP].flags) == (0xBEEF, 33436, "S")
    assert whole(seen[TCP].seq, asked_at + 3_000_000_000) == asked_at
    found = seen[TCP].chksum
    del seen[TCP].chksum
    assert found % 0xFFFF == Ether(bytes(seen))[TCP].chksum % 0xFFFF


def test_refused_and_accepted_connections_are_answers() -> None:
    outer = Ether(dst=CLIENT, src=HOST)
    ip4, ip6 = IP(src="10.77.0.101", dst="10.77.0.250"), IPv6(src="fd77::101", dst="fd77::fa")
    for flags in ("RA", "SA"):
        segment = TCP(sport=33436, dport=0xBEEF, flags=flags, ack=6)
        assert read(bytes(outer / ip4 / segment), 0xBEEF) == Reply(Kind.TCP, VIP4, HOST_MAC, 5, 2)
        assert read(bytes(outer / ip6 / segment), 0xBEEF) == Reply(Kind.TCP6, VIP6, HOST_MAC, 5, 2)
        assert read(bytes(outer / ip4 / segment), 0xBEEE) is None


def test_what_a_router_forwarded_is_no_answer_of_the_router() -> None:
    outer = Ether(dst=CLIENT, src=HOST)
    echo = ICMP(type=0, id=2, seq=0xBEEF) / (5).to_bytes(8)
    assert read(bytes(outer / IP(src="10.77.0.101", ttl=63) / echo), 0xBEEF) is None
    segment = TCP(sport=33436, dport=0xBEEF, flags="RA", ack=6)
    assert read(bytes(outer / IPv6(src="fd77::101", hlim=63) / segment), 0xBEEF) is None


def test_questions_to_one_neighbour() -> None:
    request = Ether(Neighbour(ASKER, VIP4, HOST_MAC, 2).frame(0))
    assert (request.dst, request[ARP].op, request[ARP].pdst) == (HOST, 1, "10.77.0.101")
    asked = Ether(Neighbour(ASKER, VIP6, HOST_MAC, 2).frame(0))
    assert (asked.dst, asked[IPv6].dst, asked[IPv6].hlim) == (HOST, "fd77::101", 255)
    assert (asked[ICMPv6ND_NS].tgt, asked[ICMPv6NDOptSrcLLAddr].lladdr) == ("fd77::101", CLIENT)
    found = asked[ICMPv6ND_NS].cksum
    del asked[ICMPv6ND_NS].cksum
    assert found == Ether(bytes(asked))[ICMPv6ND_NS].cksum


def test_questions_to_everybody() -> None:
    request = Ether(who_has(ASKER, VIP4))
    assert (request.dst, request[ARP].op, request[ARP].psrc) == ("ff:ff:ff:ff:ff:ff", 1, "10.77.0.250")
    assert request[ARP].pdst == "10.77.0.101"
    assert Ether(who_has(ASKER, VIP6)).dst == "33:33:ff:00:01:01"


def test_answers_are_read() -> None:
    outer = Ether(dst=CLIENT, src=HOST)
    arp = outer / ARP(op=2, hwsrc=HOST, psrc="10.77.0.101", hwdst=CLIENT, pdst="10.77.0.250")
    assert read(bytes(arp), 0xBEEF) == Reply(Kind.ARP, VIP4, HOST_MAC, None, None)
    icmp = outer / IP(src="10.77.0.101", dst="10.77.0.250") / ICMP(type=0, id=2, seq=0xBEEF)
    assert read(bytes(icmp / (5).to_bytes(8)), 0xBEEF) == Reply(Kind.ICMP, VIP4, HOST_MAC, 5, 2)
    ip6 = outer / IPv6(src="fd77::101", dst="fd77::fa")
    icmp6 = ip6 / ICMPv6EchoReply(id=2, seq=0xBEEF, data=(5).to_bytes(8))
    assert read(bytes(icmp6), 0xBEEF) == Reply(Kind.ICMP6, VIP6, HOST_MAC, 5, 2)
    na = outer / IPv6(src="fd77::1", dst="fd77::fa", hlim=255) / ICMPv6ND_NA(tgt="fd77::101", S=1)
    assert read(bytes(na), 0xBEEF) == Reply(Kind.ND, VIP6, HOST_MAC, None, None)


@pytest.mark.parametrize("vip", [VIP4, VIP6])
def test_questions_and_other_probers_echoes_are_no_answers(vip: bytes) -> None:
    assert read(Echo(ASKER, vip, HOST_MAC, 2).frame(5), ASKER.cookie) is None
    assert read(who_has(ASKER, vip), ASKER.cookie) is None
    foreign = Ether(dst=CLIENT, src=HOST) / IP(src="10.77.0.101") / ICMP(type=0, id=2, seq=1) / bytes(8)
    assert read(bytes(foreign), 0xBEEF) is None


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x08\x06", b"\x08\x00\x45", b"\x86\xdd\x60"]))
def test_garbage_is_no_answer(data: bytes, ethertype: bytes) -> None:
    assert read(bytes(12) + ethertype + data, 0xBEEF) is None or len(data) > 20
