"""Each kind of refusal, and the bytes or the configuration that provoke it. No kind is without a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from haagent.core.units import S
from haagent.wire import arp, ethernet, ndisc
from haagent.wire.expectation import Expectation, accept
from haagent.wire.inet import pseudo_header, seal, split_ipv4
from haagent.wire.rejection import Reason, Rejected
from haagent.wire.vrrp import Advert, Dialect, decode, encode
from tests.wire.frames import KEEPALIVED, LINUX, ip, packet

SOURCE, US, PEER, GROUP = ip("10.9.0.1"), ip("10.9.0.9"), ip("10.9.0.2"), ip("224.0.0.18")
V2 = packet(KEEPALIVED["v2_pass"]).pdu
V3 = packet(KEEPALIVED["v3_multicast"]).pdu
V6 = packet(KEEPALIVED["v6_multicast"])
DATAGRAM = KEEPALIVED["v2_pass"][14:]
GARP = KEEPALIVED["garp"]
NA, NS, PROBE = LINUX["na"], LINUX["ns"], LINUX["dad_probe"]


def put(data: bytes, at: int, *values: int) -> bytes:
    """`data` with other bytes at `at`."""
    return data[:at] + bytes(values) + data[at + len(values) :]


def vrrp(pdu: bytes, source: bytes = SOURCE, destination: bytes = GROUP, ttl: int = 255, multicast: bool = True):
    return lambda: decode(pdu, source=source, destination=destination, ttl=ttl, multicast=multicast)


def ipv4(datagram: bytes):
    return lambda: split_ipv4(datagram)


def read_arp(frame: bytes):
    return lambda: arp.decode(frame)


def read_nd(frame: bytes):
    return lambda: ndisc.decode(frame)


def resealed(frame: bytes, at: int, *values: int):
    """A neighbour discovery frame with other bytes at `at`, and a checksum that fits them."""
    frame = put(frame, at, *values)
    body = put(frame[54:], 2, 0, 0)
    pseudo = pseudo_header(frame[22:38], frame[38:54], 58, len(body))
    return read_nd(frame[:54] + seal(body, 2, pseudo))


ADVERT = Advert(2, 51, 200, S, (ip("10.9.0.100"),), b"12345678")
MULTICAST = Expectation(2, 51, S, password=b"12345678", own_addresses=frozenset({US}))
UNICAST = replace(MULTICAST, peers=frozenset({SOURCE, PEER}))


def judged(expected: Expectation | None, advert: Advert = ADVERT, source: bytes = SOURCE, multicast: bool = True):
    return lambda: accept(advert, expected, source=source, multicast=multicast)


CASES: list[tuple[Reason, str, Callable[[], object]]] = [
    (Reason.TRUNCATED, "nothing", vrrp(b"")),
    (Reason.TRUNCATED, "seven bytes", vrrp(V3[:7])),
    (Reason.TRUNCATED, "v3 without its address", vrrp(V3[:8])),
    (Reason.TRUNCATED, "v2 without its authentication data", vrrp(V2[:12])),
    (Reason.TRUNCATED, "v2 with more addresses promised", vrrp(put(V2, 3, 2))),
    (Reason.TRUNCATED, "v6 cut in an address", vrrp(V6.pdu[:-1], V6.source, V6.destination)),
    (Reason.TRUNCATED, "IPv4 header cut", ipv4(DATAGRAM[:19])),
    (Reason.TRUNCATED, "IPv4 payload cut", ipv4(DATAGRAM[:-1])),
    (Reason.TRUNCATED, "Ethernet header cut", read_arp(GARP[:13])),
    (Reason.TRUNCATED, "ARP cut", read_arp(GARP[:-1])),
    (Reason.TRUNCATED, "IPv6 header cut", read_nd(NA[:53])),
    (Reason.TRUNCATED, "ICMPv6 cut", read_nd(NA[:-1])),
    (Reason.TRUNCATED, "ICMPv6 too short", read_nd(put(NA, 18, 0, 23)[: 54 + 23])),
    (Reason.OVERSIZED, "v3 with a keyed trailer of 28 bytes", vrrp(V3 + bytes(28))),
    (Reason.OVERSIZED, "v2 a byte beyond padding", vrrp(V2.ljust(27, b"\0"))),
    (Reason.OVERSIZED, "v6 a byte too long", vrrp(V6.pdu + b"\0", V6.source, V6.destination)),
    (Reason.OVERSIZED, "IPv4 with a tail", ipv4(DATAGRAM.ljust(47, b"\0"))),
    (Reason.OVERSIZED, "ARP beyond padding", read_arp(GARP.ljust(61, b"\0"))),
    (Reason.OVERSIZED, "ICMPv6 with a tail", read_nd(NA + b"\0")),
    (Reason.BAD_ETHERTYPE, "ARP is not IPv6", read_arp(NA)),
    (Reason.BAD_ETHERTYPE, "IPv6 is not ARP", read_nd(GARP)),
    (Reason.BAD_ETHERTYPE, "VLAN tag", read_arp(put(GARP, 12, 0x81, 0))),
    (Reason.BAD_HEADER, "IPv6 on an IPv4 socket", ipv4(put(DATAGRAM, 0, 0x65))),
    (Reason.BAD_HEADER, "IPv4 header of 16 bytes", ipv4(put(DATAGRAM, 0, 0x44))),
    (Reason.BAD_HEADER, "IPv4 total length below its header", ipv4(put(DATAGRAM, 2, 0, 19))),
    (Reason.BAD_HEADER, "IPv4 in an IPv6 frame", read_nd(put(NA, 14, 0x45))),
    (Reason.FRAGMENT, "more fragments", ipv4(put(DATAGRAM, 6, 0x20, 0))),
    (Reason.FRAGMENT, "fragment offset", ipv4(put(DATAGRAM, 6, 0, 1))),
    (Reason.BAD_PROTOCOL, "UDP", ipv4(put(DATAGRAM, 9, 17))),
    (Reason.BAD_PROTOCOL, "VRRP over IPv6", read_nd(KEEPALIVED["v6_multicast"])),
    (Reason.BAD_CHECKSUM, "v2", vrrp(put(V2, 2, 201))),
    (Reason.BAD_CHECKSUM, "v3", vrrp(put(V3, 2, 201))),
    (Reason.BAD_CHECKSUM, "v3 from another source", vrrp(V3, source=PEER)),
    (Reason.BAD_CHECKSUM, "v6", vrrp(put(V6.pdu, 2, 1), V6.source, V6.destination)),
    (Reason.BAD_CHECKSUM, "ICMPv6", read_nd(put(NA, 56, 0))),
    (Reason.BAD_TTL, "forwarded multicast", vrrp(V3, ttl=254)),
    (Reason.BAD_TTL, "forwarded advertisement", read_nd(put(NA, 21, 64))),
    (Reason.BAD_VERSION, "version 1", vrrp(put(V3, 0, 0x11))),
    (Reason.BAD_VERSION, "version 4", vrrp(put(V3, 0, 0x41))),
    (Reason.BAD_TYPE, "VRRP type 2", vrrp(put(V3, 0, 0x32))),
    (Reason.BAD_TYPE, "router solicitation", read_nd(put(NA, 54, 133))),
    (Reason.BAD_VRID, "VRID 0", vrrp(put(V3, 1, 0))),
    (Reason.BAD_COUNT, "no addresses", vrrp(put(V3, 3, 0))),
    (Reason.BAD_INTERVAL, "v2 0 s", vrrp(put(V2, 5, 0))),
    (Reason.BAD_INTERVAL, "v3 0 cs, reserved bits set", vrrp(put(V3, 4, 0xF0, 0))),
    (Reason.BAD_AUTH_TYPE, "type 3", vrrp(put(V2, 4, 3))),
    (Reason.AH, "authentication type 2", vrrp(put(V2, 4, 2))),
    (Reason.AH, "protocol 51", ipv4(KEEPALIVED["v2_ah"][14:])),
    (Reason.FAMILY_MISMATCH, "v2 over IPv6", vrrp(V2, V6.source, V6.destination)),
    (Reason.FAMILY_MISMATCH, "two families", vrrp(V3, SOURCE, V6.destination)),
    (Reason.FAMILY_MISMATCH, "no family", vrrp(V3, b"", b"")),
    (Reason.FAMILY_MISMATCH, "IPv4 for an IPv6 router", judged(replace(MULTICAST, ipv6=True))),
    (Reason.FAMILY_MISMATCH, "IPv6 for an IPv4 router", judged(MULTICAST, source=V6.source)),
    (Reason.UNKNOWN_VRID, "no such router", judged(None)),
    (Reason.UNKNOWN_VRID, "another router", judged(replace(MULTICAST, vrid=52))),
    (Reason.OWN_ADDRESS, "reflected", judged(MULTICAST, source=US)),
    (Reason.VERSION_MISMATCH, "v2 for a v3 router", judged(replace(MULTICAST, version=3, password=None))),
    (Reason.MULTICAST_TO_UNICAST, "multicast", judged(UNICAST)),
    (Reason.UNICAST_TO_MULTICAST, "unicast", judged(MULTICAST, multicast=False)),
    (Reason.UNKNOWN_PEER, "stranger", judged(UNICAST, source=ip("10.9.0.77"), multicast=False)),
    (
        Reason.AUTH_TYPE_MISMATCH,
        "none where one is wanted",
        judged(MULTICAST, replace(ADVERT, password=None)),
    ),
    (Reason.AUTH_TYPE_MISMATCH, "one where none is wanted", judged(replace(MULTICAST, password=None))),
    (Reason.AUTH_MISMATCH, "wrong", judged(MULTICAST, replace(ADVERT, password=b"12345679"))),
    (Reason.AUTH_MISMATCH, "a beginning", judged(MULTICAST, replace(ADVERT, password=b"1234567"))),
    (Reason.INTERVAL_MISMATCH, "v2 2 s", judged(MULTICAST, replace(ADVERT, interval=2 * S))),
    (Reason.BAD_HARDWARE, "token ring", read_arp(put(GARP, 14, 0, 6))),
    (Reason.BAD_HARDWARE, "MAC address of 8 bytes", read_arp(put(GARP, 18, 8))),
    (Reason.BAD_OPERATION, "reverse request", read_arp(put(GARP, 20, 0, 3))),
    (Reason.BAD_CODE, "code 1", read_nd(put(NA, 55, 1))),
    (Reason.BAD_SOURCE, "probe to all nodes", resealed(PROBE, 38, *ndisc.ALL_NODES)),
    (Reason.BAD_TARGET, "multicast target", resealed(NA, 62, 0xFF)),
    (Reason.BAD_FLAGS, "solicited to all nodes", resealed(KEEPALIVED["na_global"], 58, 0x60)),
    (Reason.BAD_OPTION, "option of length 0", resealed(PROBE, 79, 0)),
    (Reason.BAD_OPTION, "option beyond the end", resealed(PROBE, 79, 2)),
    (Reason.BAD_OPTION, "MAC address of 14 bytes", resealed(put(NA, 18, 0, 40) + bytes(8), 79, 2)),
    (Reason.BAD_OPTION, "half an option", read_nd(put(NA, 18, 0, 28)[:-4])),
    (Reason.BAD_OPTION, "probe with a source link-layer address", resealed(PROBE, 78, 1)),
]


@pytest.mark.parametrize("reason, act", [pytest.param(r, act, id=f"{r}: {what}") for r, what, act in CASES])
def test_is_refused_by_name(reason: Reason, act: Callable[[], object]):
    result = act()
    assert isinstance(result, Rejected)
    assert result.reason is reason, result.detail
    assert 0 < len(result.detail) < 120


def test_no_reason_is_without_a_case():
    assert set(Reason) == {reason for reason, _, _ in CASES}


def test_what_is_meant_for_the_router_is_accepted():
    """As the cases above, but with nothing wrong: the refusals are not for another reason."""
    assert judged(MULTICAST)() is ADVERT
    assert judged(UNICAST, multicast=False)() is ADVERT
    v3 = Advert(3, 51, 200, 2 * S, ADVERT.addresses)
    # Version 3 learns the master's interval, so that a different one is no mismatch.
    assert judged(replace(MULTICAST, version=3, password=None), v3)() is v3
    six = replace(MULTICAST, version=3, password=None, ipv6=True)
    assert judged(six, v3, source=V6.source)() is v3


def test_expected_password_does_not_show():
    assert "12345678" not in repr(MULTICAST)
    refused = judged(MULTICAST, replace(ADVERT, password=b"guessing"))()
    assert "12345678" not in repr(refused)
    assert "guessing" not in repr(refused)


def test_cheap_refusals_come_before_the_checksum():
    """A packet with everything wrong is refused for what costs nothing to see."""
    rubbish = put(V3, 0, 0x31, 0, 0, 0, 0, 0)
    result = vrrp(rubbish, ttl=1)()
    assert isinstance(result, Rejected)
    assert result.reason is Reason.BAD_TTL
    result = vrrp(V3 + bytes(1400), source=PEER)()
    assert isinstance(result, Rejected)
    assert result.reason is Reason.OVERSIZED


def test_unicast_may_have_been_forwarded():
    pdu = encode(Advert(3, 1, 1, S, (SOURCE,)), source=SOURCE, destination=US, dialect=Dialect.GROUP)
    assert isinstance(vrrp(pdu, destination=US, ttl=3, multicast=False)(), Advert)


def test_frames_are_built_as_they_are_split():
    frame = ethernet.build(b"\1" * 6, b"\2" * 6, 0x0806, b"payload")
    assert ethernet.split(frame, 0x0806) == ethernet.Frame(b"\1" * 6, b"\2" * 6, 0x0806, b"payload")
