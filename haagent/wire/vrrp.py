"""VRRP advertisements, bytes to values and back: version 2 (RFC 3768) and 3 (RFC 9568), IPv4 and IPv6.

`decode` judges what is wrong for any router; whether an advert is meant for a router of ours, and is one
that its configuration allows, is `expectation.accept`. Both stay cheap under a flood: what costs little is
checked first, the checksum is one division, and addresses are taken apart only when it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from haagent.core.units import MS, S
from haagent.wire.inet import (
    ETHERNET_MIN_PAYLOAD,
    IPPROTO_VRRP,
    TTL_LINK_LOCAL,
    VRRP_GROUP_V4,
    checksum_holds,
    pseudo_header,
    seal,
)
from haagent.wire.rejection import Reason, Rejected

PASSWORD_MAX: Final = 8
CENTISECOND: Final = 10 * MS


class Dialect(StrEnum):
    """What a version 3 advert in IPv4 is summed over: the RFCs left room, and all three are in the field."""

    RFC = "rfc"
    """A pseudo-header with the real destination (RFC 9568 5.2.8)."""
    GROUP = "group"
    """A pseudo-header with the multicast group, to unicast peers too: keepalived's `old_unicast_checksum`."""
    V2STYLE = "v2style"
    """No pseudo-header, as in version 2."""


@dataclass(frozen=True, slots=True)
class Advert:
    """One advertisement.

    `interval` is in nanoseconds; the wire has whole seconds, 1 to 255, in version 2 and centiseconds, 1 to
    4095, in version 3. `addresses` are packed, all of one family, in the sender's order. `password` is
    version 2's simple authentication (RFC 2338 5.3.6) without its padding, None where there is none.
    """

    version: int
    vrid: int
    priority: int
    interval: int
    addresses: tuple[bytes, ...]
    password: bytes | None = field(default=None, repr=False)


class Password(NamedTuple):
    """A password as the wire can carry it, and whether something of it had to go."""

    value: bytes
    truncated: bool


def fit_password(password: bytes) -> Password:
    """Cut a password to the 8 bytes that version 2 carries, as keepalived does. The caller warns."""
    return Password(password[:PASSWORD_MAX], len(password) > PASSWORD_MAX)


def encode(advert: Advert, *, source: bytes, destination: bytes, dialect: Dialect = Dialect.RFC) -> bytes:
    """The advert without its IP header, which a raw socket of protocol 112 adds.

    `source` and `destination` are packed and enter version 3's checksum; `dialect` counts in version 3 over
    IPv4 only. ValueError for a value that the wire can not carry: the configuration let it through.
    """
    _check_fits(advert, source, destination)
    first = advert.version << 4 | _ADVERTISEMENT
    count = len(advert.addresses)
    addresses = b"".join(advert.addresses)
    if advert.version == 2:
        auth_type, password = (_AUTH_NONE, b"") if advert.password is None else (_AUTH_PASS, advert.password)
        header = _V2.pack(first, advert.vrid, advert.priority, count, auth_type, advert.interval // S)
        return seal(header + addresses + password.ljust(PASSWORD_MAX, b"\0"), _CHECKSUM_AT)
    header = _V3.pack(first, advert.vrid, advert.priority, count, advert.interval // CENTISECOND)
    pseudo = _pseudo_header(source, destination, len(header) + len(addresses), dialect)
    return seal(header + addresses, _CHECKSUM_AT, pseudo)


def decode(pdu: bytes, *, source: bytes, destination: bytes, ttl: int, multicast: bool) -> Advert | Rejected:
    """Read an advert without its IP header. All three dialects of version 3's checksum in IPv4 are accepted.

    `source`, `destination` (packed) and `ttl` (or hop limit) are the IP header's. `multicast` says that the
    packet came to the group: only then must it be unforwarded; keepalived's IPv6 unicast starts at 64.
    """
    if multicast and ttl != TTL_LINK_LOCAL:
        return Rejected(Reason.BAD_TTL, f"TTL {ttl}, must be 255")
    if len(pdu) < _V2.size:
        return Rejected(Reason.TRUNCATED, f"{len(pdu)} bytes, an advert has 8 and its addresses")
    first, vrid = pdu[0], pdu[1]
    version = first >> 4
    if version not in (2, 3):
        return Rejected(Reason.BAD_VERSION, f"VRRP version {version}, must be 2 or 3")
    if first & 0x0F != _ADVERTISEMENT:
        return Rejected(Reason.BAD_TYPE, f"VRRP type {first & 0x0F}, must be 1")
    if vrid == 0:
        return Rejected(Reason.BAD_VRID, "VRID 0, must be 1 to 255")
    if pdu[3] == 0:
        return Rejected(Reason.BAD_COUNT, "no addresses, must be 1 to 255")
    if len(source) != len(destination) or len(source) not in _ADDRESS_SIZES[version]:
        return Rejected(
            Reason.FAMILY_MISMATCH,
            f"version {version} from {len(source)} to {len(destination)} bytes of address",
        )
    if version == 2:
        return _decode_v2(pdu)
    return _decode_v3(pdu, source, destination)


def _decode_v2(pdu: bytes) -> Advert | Rejected:
    _, vrid, priority, count, auth_type, seconds = _V2.unpack_from(pdu)
    if auth_type == _AUTH_AH:
        return Rejected(Reason.AH, "authentication type 2 (IP authentication header) is not supported")
    if auth_type not in (_AUTH_NONE, _AUTH_PASS):
        return Rejected(Reason.BAD_AUTH_TYPE, f"authentication type {auth_type}, must be 0 or 1")
    if seconds == 0:
        return Rejected(Reason.BAD_INTERVAL, "interval 0 s, must be 1 to 255")
    end = _V2.size + count * 4
    # RFC 3768 5.3.10: the authentication data is there even where there is no authentication.
    exact = _trim(pdu, end + PASSWORD_MAX, 4)
    if isinstance(exact, Rejected):
        return exact
    if not checksum_holds(exact):
        return Rejected(Reason.BAD_CHECKSUM, "checksum does not match")
    password = exact[end:].rstrip(b"\0") if auth_type == _AUTH_PASS else None
    addresses = _addresses(4, count).unpack_from(pdu, _V2.size)
    return Advert(2, vrid, priority, seconds * S, addresses, password)


def _decode_v3(pdu: bytes, source: bytes, destination: bytes) -> Advert | Rejected:
    _, vrid, priority, count, interval = _V3.unpack_from(pdu)
    # RFC 9568 5.2.6: the four bits above the interval are reserved, and ignored.
    interval &= 0x0FFF
    if interval == 0:
        return Rejected(Reason.BAD_INTERVAL, "interval 0 cs, must be 1 to 4095")
    size = len(source)
    exact = _trim(pdu, _V3.size + count * size, size)
    if isinstance(exact, Rejected):
        return exact
    if not _v3_checksum_holds(exact, source, destination):
        return Rejected(Reason.BAD_CHECKSUM, "checksum does not match")
    addresses = _addresses(size, count).unpack_from(pdu, _V3.size)
    return Advert(3, vrid, priority, interval * CENTISECOND, addresses)


def _v3_checksum_holds(pdu: bytes, source: bytes, destination: bytes) -> bool:
    if checksum_holds(pdu, pseudo_header(source, destination, IPPROTO_VRRP, len(pdu))):
        return True
    if len(source) == 16:
        return False
    return checksum_holds(pdu, pseudo_header(source, VRRP_GROUP_V4, IPPROTO_VRRP, len(pdu))) or checksum_holds(pdu)


def _trim(pdu: bytes, length: int, address_size: int) -> bytes | Rejected:
    """The first `length` bytes, if nothing follows but what a short Ethernet frame is padded with."""
    if len(pdu) == length:
        return pdu
    if len(pdu) < length:
        return Rejected(Reason.TRUNCATED, f"{len(pdu)} bytes, must be {length}")
    ip_header = 20 if address_size == 4 else 40
    if ip_header + len(pdu) > ETHERNET_MIN_PAYLOAD:
        return Rejected(Reason.OVERSIZED, f"{len(pdu)} bytes, must be {length}")
    return pdu[:length]


def _pseudo_header(source: bytes, destination: bytes, length: int, dialect: Dialect) -> int:
    if len(source) == 4 and dialect is Dialect.V2STYLE:
        return 0
    if len(source) == 4 and dialect is Dialect.GROUP:
        destination = VRRP_GROUP_V4
    return pseudo_header(source, destination, IPPROTO_VRRP, length)


def _check_fits(advert: Advert, source: bytes, destination: bytes) -> None:
    unit, most = (S, 255) if advert.version == 2 else (CENTISECOND, 4095)
    size = len(source)
    password = advert.password
    for fits, what in (
        (advert.version in _ADDRESS_SIZES, f"version {advert.version}, must be 2 or 3"),
        (1 <= advert.vrid <= 255, f"vrid {advert.vrid}, must be 1 to 255"),
        (0 <= advert.priority <= 255, f"priority {advert.priority}, must be 0 to 255"),
        (
            advert.interval % unit == 0 and 1 <= advert.interval // unit <= most,
            f"interval {advert.interval} ns, must be 1 to {most} times {unit} ns",
        ),
        (1 <= len(advert.addresses) <= 255, f"{len(advert.addresses)} addresses, must be 1 to 255"),
        (
            size in _ADDRESS_SIZES.get(advert.version, ()),
            f"source of {size} bytes in version {advert.version}",
        ),
        (len(destination) == size, f"destination of {len(destination)} bytes, source of {size}"),
        (all(len(address) == size for address in advert.addresses), f"addresses, must all be {size} bytes"),
        (password is None or advert.version == 2, "a password, which only version 2 has"),
        (
            password is None or len(password) <= PASSWORD_MAX,
            f"password, must be at most {PASSWORD_MAX} bytes",
        ),
        (not password or password[-1] != 0, "password, must not end in a zero byte: that is its padding"),
    ):
        if not fits:
            raise ValueError(f"advert can not be sent: {what}")


@cache
def _addresses(size: int, count: int) -> Struct:
    return Struct(f"{size}s" * count)


_V2 = Struct("!BBBBBBxx")
_V3 = Struct("!BBBBHxx")
_CHECKSUM_AT = 6
_ADVERTISEMENT = 1
_AUTH_NONE, _AUTH_PASS, _AUTH_AH = 0, 1, 2
_ADDRESS_SIZES = {2: (4,), 3: (4, 16)}
