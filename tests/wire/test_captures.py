"""What other implementations put on the wire is read as what they meant, and ours is the same, byte for byte.

The frames are in `captures/`: keepalived 2.2.7 and FRR's vrrpd 8.4.4, both Debian 12, and the Linux kernel.
"""

from __future__ import annotations

from typing import Any

import pytest

from haagent.core.units import MS, S
from haagent.wire import arp, ndisc
from haagent.wire.inet import IPv4Datagram, split_ipv4
from haagent.wire.rejection import Reason, Rejected
from haagent.wire.vrrp import Advert, Dialect, decode, encode
from tests.wire.frames import FRR, KEEPALIVED, LINUX, ip, mac, packet

HOST = mac("02:00:00:00:09:01")


def advert(version: int, vrid: int, priority: int, interval: int, *addresses: str, password: Any = None) -> Advert:
    return Advert(version, vrid, priority, interval, tuple(map(ip, addresses)), password)


ADVERTS = {
    "v2_pass": advert(2, 51, 200, S, "10.9.0.100", password=b"12345678"),
    "v2_pass_stop": advert(2, 51, 0, S, "10.9.0.100", password=b"12345678"),
    "v2_three_addresses": advert(2, 52, 150, 3 * S, "10.9.0.101", "10.9.0.102", "10.9.0.103"),
    "v2_unicast": advert(2, 58, 1, S, "10.9.0.108"),
    "v3_multicast": advert(3, 53, 200, S, "10.9.0.104"),
    "v3_multicast_stop": advert(3, 53, 0, S, "10.9.0.104"),
    "v3_unicast_to_2": advert(3, 54, 200, 250 * MS, "10.9.0.105"),
    "v3_unicast_to_3": advert(3, 54, 200, 250 * MS, "10.9.0.105"),
    "v3_old_checksum_to_2": advert(3, 55, 200, S, "10.9.0.106"),
    "v3_old_checksum_to_3": advert(3, 55, 200, S, "10.9.0.106"),
    "v6_multicast": advert(3, 56, 255, 40_950 * MS, "fe80::56:1", "fd00:9::56"),
    "v6_unicast": advert(3, 57, 255, S, "fd00:9::57"),
}

FRR_ADVERTS = {
    "v3_multicast": advert(3, 61, 200, S, "10.9.0.110", "10.9.0.111"),
    "v3_multicast_stop": advert(3, 61, 0, S, "10.9.0.110", "10.9.0.111"),
    "v6_multicast": advert(3, 61, 200, S, "fe80::61:1", "fd00:9::61"),
    "v6_multicast_stop": advert(3, 61, 0, S, "fe80::61:1", "fd00:9::61"),
    "v2": advert(2, 62, 120, S, "10.9.0.112"),
}

KEEPALIVED_PAIRS = {f"keepalived-{name}": (KEEPALIVED[name], meant) for name, meant in ADVERTS.items()}
FRR_PAIRS = {f"frr-{name}": (FRR[name], meant) for name, meant in FRR_ADVERTS.items()}
ALL = KEEPALIVED_PAIRS | FRR_PAIRS
OVER_IPV4 = [frame for frame, _ in ALL.values() if frame[12:14] == b"\x08\x00"]


@pytest.mark.parametrize("frame, meant", ALL.values(), ids=ALL)
def test_advert_is_read_as_it_was_meant(frame: bytes, meant: Advert):
    cut = packet(frame)
    assert decode(cut.pdu, **cut.headers) == meant


@pytest.mark.parametrize("frame, meant", ALL.values(), ids=ALL)
def test_ours_is_the_same_bytes(frame: bytes, meant: Advert):
    cut = packet(frame)
    old = frame in (KEEPALIVED["v3_old_checksum_to_2"], KEEPALIVED["v3_old_checksum_to_3"])
    dialect = Dialect.GROUP if old else Dialect.RFC
    assert encode(meant, source=cut.source, destination=cut.destination, dialect=dialect) == cut.pdu


@pytest.mark.parametrize("frame", OVER_IPV4)
def test_ipv4_header_is_taken_off(frame: bytes):
    cut = packet(frame)
    assert split_ipv4(frame[14:]) == IPv4Datagram(cut.source, cut.destination, 255, cut.pdu)


def test_authentication_header_is_refused_by_name():
    frame = KEEPALIVED["v2_ah"]
    outer = split_ipv4(frame[14:])
    assert isinstance(outer, Rejected)
    assert outer.reason is Reason.AH
    # And so is the advert within, behind an authentication header of 24 bytes.
    cut = packet(frame)
    inner = decode(cut.pdu[24:], **cut.headers)
    assert isinstance(inner, Rejected)
    assert inner.reason is Reason.AH


def test_unicast_over_ipv6_is_accepted_with_a_hop_limit_of_64():
    """The rule of 255 is for multicast: keepalived sends IPv6 unicast with the kernel's default."""
    assert packet(KEEPALIVED["v6_unicast"]).ttl == 64


def test_gratuitous_arp_is_keepaliveds_and_frrs():
    assert arp.gratuitous(ip("10.9.0.100"), HOST) == KEEPALIVED["garp"]
    assert arp.gratuitous(ip("10.9.0.110"), mac("00:00:5e:00:01:3d")) == FRR["garp"]


def test_unsolicited_advertisement_is_keepaliveds_and_frrs():
    assert ndisc.unsolicited(ip("fe80::56:1"), HOST) == KEEPALIVED["na_link_local"]
    assert ndisc.unsolicited(ip("fd00:9::56"), HOST) == KEEPALIVED["na_global"]
    virtual = mac("00:00:5e:00:02:3d")
    assert ndisc.unsolicited(ip("fe80::61:1"), virtual, router=True) == FRR["na_link_local"]
    assert ndisc.unsolicited(ip("fd00:9::61"), virtual, router=True) == FRR["na_global"]


def test_announcements_are_read():
    asked = arp.decode(KEEPALIVED["garp"])
    address = ip("10.9.0.100")
    assert asked == arp.Arp(arp.Operation.REQUEST, HOST, address, b"\xff" * 6, address)
    target = ip("fd00:9::56")
    told = ndisc.decode(KEEPALIVED["na_global"])
    assert told == ndisc.Advertisement(target, ip("ff02::1"), target, HOST, False, False, True)


def test_requests_are_the_kernels():
    assert arp.request(ip("10.9.0.2"), mac=HOST, sender=ip("10.9.0.1")) == LINUX["arp_request"]
    assert ndisc.solicitation(ip("fd00:9::2"), mac=HOST, source=ip("fd00:9::1")) == LINUX["ns"]


def test_the_kernels_answers_are_read():
    ours, theirs, their_mac = ip("fd00:9::1"), ip("fd00:9::2"), mac("02:00:00:00:09:02")
    assert arp.decode(LINUX["arp_reply"]) == arp.Arp(
        arp.Operation.REPLY, their_mac, ip("10.9.0.2"), HOST, ip("10.9.0.1")
    )
    assert ndisc.decode(LINUX["ns"]) == ndisc.Solicitation(ours, ip("ff02::1:ff00:2"), theirs, HOST)
    assert ndisc.decode(LINUX["na"]) == ndisc.Advertisement(theirs, ours, theirs, their_mac, False, True, True)
    bare = ndisc.decode(LINUX["na_without_option"])
    assert isinstance(bare, ndisc.Advertisement)
    assert bare.mac is None


def test_duplicate_address_probe_with_a_nonce_is_read():
    target = ip("fd00:9::ff:fe00:902")
    assert ndisc.decode(LINUX["dad_probe"]) == ndisc.Solicitation(
        ndisc.ANY_ADDRESS, ip("ff02::1:ff00:902"), target, None
    )
