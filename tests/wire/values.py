"""hypothesis strategies: every advert that the wire can carry, and the addresses it goes between."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from haagent.core.units import MS, S
from haagent.wire.vrrp import Advert, Dialect
from tests.wire.frames import ip

GROUPS = {4: ip("224.0.0.18"), 16: ip("ff02::12")}
MACS = st.binary(min_size=6, max_size=6)
IPV4 = st.binary(min_size=4, max_size=4)
IPV6 = st.binary(min_size=16, max_size=16)
UNICAST_IPV6 = IPV6.filter(lambda address: address[0] != 0xFF and any(address))


@dataclass(frozen=True)
class Sent:
    """An advert and how it travels."""

    advert: Advert
    source: bytes
    destination: bytes
    dialect: Dialect


@st.composite
def sent(draw: st.DrawFn, versions: tuple[int, ...] = (2, 3)) -> Sent:
    version = draw(st.sampled_from(versions))
    size = 4 if version == 2 else draw(st.sampled_from((4, 16)))
    address = st.binary(min_size=size, max_size=size)
    interval = st.integers(1, 255).map(lambda seconds: seconds * S)
    if version == 3:
        interval = st.integers(1, 4095).map(lambda centiseconds: centiseconds * 10 * MS)
    password = st.none()
    if version == 2:
        password |= st.binary(max_size=8).map(lambda value: value.rstrip(b"\0"))
    advert = Advert(
        version,
        draw(st.integers(1, 255)),
        draw(st.integers(0, 255)),
        draw(interval),
        tuple(draw(st.lists(address, min_size=1, max_size=20))),
        draw(password),
    )
    destination = draw(st.just(GROUPS[size]) | address)
    return Sent(advert, draw(address), destination, draw(st.sampled_from(Dialect)))
