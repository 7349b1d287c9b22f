"""No bytes make a decoder raise, or allocate out of proportion: one fuzz target for each decoder.

Garbage is either arbitrary, or a real packet that was cut, stretched or changed: the second kind gets deeper.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haagent.core.units import S
from haagent.wire import arp, ndisc
from haagent.wire.inet import IPv4Datagram, pseudo_header, seal, split_ipv4
from haagent.wire.rejection import Rejected
from haagent.wire.vrrp import Advert, Dialect, decode, encode
from tests.wire.frames import FRR, KEEPALIVED, LINUX, ip, packet

FRAMES = [*KEEPALIVED.values(), *FRR.values(), *LINUX.values()]
SOURCE, GROUP = ip("10.9.0.1"), ip("224.0.0.18")
ADDRESSES = st.sampled_from([SOURCE, GROUP, ip("fe80::1"), ip("ff02::12"), b"", bytes(5)])


@st.composite
def spoilt(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data) + draw(st.binary(max_size=40))


def garbage(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=2000) | spoilt(samples)


PDUS = [packet(frame).pdu for name, frame in (KEEPALIVED | FRR).items() if name.startswith("v")]


@settings(max_examples=500)
@given(garbage(PDUS), ADDRESSES, ADDRESSES, st.integers(0, 255), st.booleans(), st.booleans())
def test_vrrp(pdu: bytes, source: bytes, destination: bytes, ttl: int, multicast: bool, sealed: bool):
    if sealed and len(pdu) >= 8 and len(pdu) % 2 == 0:
        pdu = seal(pdu[:6] + bytes(2) + pdu[8:], 6)
    result = decode(pdu, source=source, destination=destination, ttl=ttl, multicast=multicast)
    assert isinstance(result, Advert | Rejected)
    if isinstance(result, Advert):
        # What was accepted is within the wire's limits, so that it could be sent again.
        encode(result, source=source, destination=destination)


@settings(max_examples=500)
@given(garbage([frame[14:] for frame in FRAMES]))
def test_ipv4(datagram: bytes):
    result = split_ipv4(datagram)
    assert isinstance(result, IPv4Datagram | Rejected)
    if isinstance(result, IPv4Datagram):
        assert result.payload in datagram


@settings(max_examples=500)
@given(garbage(FRAMES))
def test_arp(frame: bytes):
    assert isinstance(arp.decode(frame), arp.Arp | Rejected)


@settings(max_examples=500)
@given(garbage(FRAMES), st.booleans())
def test_ndisc(frame: bytes, sealed: bool):
    if sealed and len(frame) >= 78 and len(frame) % 2 == 0:
        # With a length and a checksum that fit, it gets as far as the options.
        body = frame[54:56] + bytes(2) + frame[58:]
        frame = frame[:18] + len(body).to_bytes(2) + b"\x3a\xff" + frame[22:54]
        frame += seal(body, 2, pseudo_header(frame[22:38], frame[38:54], 58, len(body)))
    assert isinstance(ndisc.decode(frame), ndisc.Solicitation | ndisc.Advertisement | Rejected)


HUGE = b"\x31\x01\xff\xff\x00\x64" + bytes(65_000)
FULL = encode(Advert(3, 1, 1, S, (SOURCE,) * 255), source=SOURCE, destination=GROUP, dialect=Dialect.V2STYLE)
OPTIONS = KEEPALIVED["na_global"][:18] + (1480).to_bytes(2) + KEEPALIVED["na_global"][20:78] + b"\x0e\x01" * 728


def read(pdu: bytes) -> Callable[[], object]:
    return lambda: decode(pdu, source=SOURCE, destination=GROUP, ttl=255, multicast=True)


@pytest.mark.parametrize(
    "size, act",
    [
        pytest.param(len(HUGE), read(HUGE), id="vrrp: a packet far too long"),
        pytest.param(len(FULL), read(FULL), id="vrrp: 255 addresses"),
        pytest.param(len(FULL) - 1, read(FULL[:-1]), id="vrrp: 255 addresses, cut"),
        pytest.param(12, read(FULL[:12]), id="vrrp: 255 addresses promised, one sent"),
        pytest.param(len(HUGE), lambda: split_ipv4(HUGE), id="ipv4: not one"),
        pytest.param(len(HUGE) + 14, lambda: arp.decode(bytes(12) + b"\x08\x06" + HUGE), id="arp: far too long"),
        pytest.param(len(OPTIONS), lambda: ndisc.decode(OPTIONS), id="ndisc: many options"),
    ],
)
def test_memory_is_bounded_by_the_packet(size: int, act: Callable[[], object]):
    """Four bytes of address are a Python object of about 50, hence the factor; no claim adds to it."""
    act()  # what is made once and kept, is made here
    tracemalloc.start()
    try:
        result = act()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result is not None
    assert peak <= 16 * size + 2048


def test_a_flood_of_refused_packets_leaves_nothing_behind():
    flood = [bytes([0x31, vrid, 255, 1, 0, 100, 0, 0]) + SOURCE for vrid in range(1, 256)]
    for pdu in flood:
        read(pdu)()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            for pdu in flood:
                assert isinstance(read(pdu)(), Rejected)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4096
