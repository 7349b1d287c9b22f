"""The VRRP codec by itself: what is sent is what is read, in every dialect; what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from haagent.core.units import MS, S
from haagent.wire.inet import seal, split_ipv4, to_text
from haagent.wire.rejection import Reason, Rejected
from haagent.wire.vrrp import Advert, Dialect, Password, decode, encode, fit_password
from tests.wire.frames import KEEPALIVED, ip, packet
from tests.wire.values import GROUPS, Sent, sent

SOURCE, PEER, GROUP = ip("10.9.0.1"), ip("10.9.0.2"), GROUPS[4]
V2 = Advert(2, 51, 200, S, (ip("10.9.0.100"),), b"12345678")
V3 = Advert(3, 51, 200, S, (ip("10.9.0.100"),))


def pdu_of(item: Sent) -> bytes:
    return encode(item.advert, source=item.source, destination=item.destination, dialect=item.dialect)


@given(sent())
def test_round_trip(item: Sent):
    read = decode(pdu_of(item), source=item.source, destination=item.destination, ttl=255, multicast=False)
    assert read == item.advert


@pytest.mark.parametrize("name", [name for name in KEEPALIVED if name.startswith("v") and name != "v2_ah"])
def test_every_changed_bit_is_noticed(name: str):
    """Whatever else is wrong with it then, the checksum covers each bit, those that are ignored too."""
    cut = packet(KEEPALIVED[name])
    for bit in range(len(cut.pdu) * 8):
        changed = bytearray(cut.pdu)
        changed[bit // 8] ^= 1 << bit % 8
        assert isinstance(decode(bytes(changed), **cut.headers), Rejected), f"bit {bit}"


@pytest.mark.parametrize(
    "dialect, checksum", [(Dialect.RFC, "e768"), (Dialect.GROUP, "1161"), (Dialect.V2STYLE, "fbf9")]
)
def test_dialects_of_the_checksum(dialect: Dialect, checksum: str):
    """The first two as keepalived 2.2.7 was captured to send them; the third is the
    complement of 3133 + c801 + 0064 + 0a09 + 0064."""
    pdu = encode(V3, source=SOURCE, destination=PEER, dialect=dialect)
    assert pdu[6:8].hex() == checksum
    assert decode(pdu, source=SOURCE, destination=PEER, ttl=255, multicast=False) == V3


def test_dialects_are_for_ipv4_only():
    source, peer = ip("fd00:9::1"), ip("fd00:9::2")
    advert = Advert(3, 51, 200, S, (ip("fe80::1"),))
    sent_as = {encode(advert, source=source, destination=peer, dialect=dialect) for dialect in Dialect}
    assert len(sent_as) == 1
    without = seal(next(iter(sent_as))[:6] + bytes(2) + advert.addresses[0], 6)
    read = decode(without, source=source, destination=peer, ttl=255, multicast=False)
    assert isinstance(read, Rejected)
    assert read.reason is Reason.BAD_CHECKSUM


def test_reserved_bits_are_ignored():
    """RFC 9568 5.2.6."""
    pdu = encode(V3, source=SOURCE, destination=GROUP, dialect=Dialect.V2STYLE)
    marked = seal(pdu[:4] + bytes([pdu[4] | 0xF0, pdu[5], 0, 0]) + pdu[8:], 6)
    assert decode(marked, source=SOURCE, destination=GROUP, ttl=255, multicast=True) == V3


@pytest.mark.parametrize("advert", [V2, V3], ids=["v2", "v3"])
@pytest.mark.parametrize("filler", [b"\0", b"\xa5"], ids=["zeros", "rubbish"])
def test_padding_of_a_short_frame_is_ignored(advert: Advert, filler: bytes):
    pdu = encode(advert, source=SOURCE, destination=GROUP)
    padded = pdu.ljust(46 - 20, filler)
    assert decode(padded, source=SOURCE, destination=GROUP, ttl=255, multicast=True) == advert
    longer = decode(padded + filler, source=SOURCE, destination=GROUP, ttl=255, multicast=True)
    assert isinstance(longer, Rejected)
    assert longer.reason is Reason.OVERSIZED


def test_ipv4_trims_padding_and_options():
    frame = KEEPALIVED["v3_multicast"]
    datagram, cut = frame[14:], packet(frame)
    padded = split_ipv4(datagram.ljust(46, b"\xa5"))
    assert not isinstance(padded, Rejected)
    assert padded.payload == cut.pdu
    options = b"\x46" + datagram[1:2] + (len(datagram) + 4).to_bytes(2) + datagram[4:20] + bytes(4) + cut.pdu
    with_options = split_ipv4(options)
    assert not isinstance(with_options, Rejected)
    assert with_options.payload == cut.pdu


@pytest.mark.parametrize(
    "wrong, says",
    [
        (replace(V3, version=4), "version 4"),
        (replace(V3, vrid=0), "vrid 0"),
        (replace(V3, vrid=256), "vrid 256"),
        (replace(V3, priority=256), "priority 256"),
        (replace(V3, interval=0), "interval 0"),
        (replace(V3, interval=15 * MS), "interval 15000000"),
        (replace(V3, interval=40_960 * MS), "1 to 4095"),
        (replace(V2, interval=250 * MS), "1 to 255"),
        (replace(V2, interval=256 * S), "1 to 255"),
        (replace(V3, addresses=()), "0 addresses"),
        (replace(V3, addresses=(SOURCE,) * 256), "256 addresses"),
        (replace(V3, addresses=(ip("fe80::1"),)), "must all be 4 bytes"),
        (replace(V3, password=b"secret"), "only version 2"),
        (replace(V2, password=b"123456789"), "at most 8"),
        (replace(V2, password=b"1234\0"), "zero byte"),
    ],
)
def test_what_the_wire_cannot_carry_is_refused(wrong: Advert, says: str):
    with pytest.raises(ValueError, match=says):
        encode(wrong, source=SOURCE, destination=GROUP)


def test_families_do_not_mix():
    with pytest.raises(ValueError, match="destination of 16 bytes"):
        encode(V3, source=SOURCE, destination=GROUPS[16])
    with pytest.raises(ValueError, match="source of 16 bytes in version 2"):
        encode(V2, source=ip("fe80::1"), destination=GROUPS[16])


def test_password_is_cut_to_eight_bytes_and_it_says_so():
    assert fit_password(b"12345678") == Password(b"12345678", truncated=False)
    assert fit_password(b"123456789") == Password(b"12345678", truncated=True)


def test_password_does_not_show():
    assert "12345678" not in repr(V2)


def test_addresses_in_text():
    for text in ("10.9.0.1", "fe80::1", "ff02::12", "::"):
        assert to_text(ip(text)) == text
    with pytest.raises(ValueError, match="does not appear"):
        to_text(bytes(5))
