"""Whether a well-formed advert is for a virtual router of ours, and is one that its configuration allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from hmac import compare_digest

from haagent.wire.inet import to_text
from haagent.wire.rejection import Reason, Rejected
from haagent.wire.vrrp import PASSWORD_MAX, Advert


@dataclass(frozen=True, slots=True)
class Expectation:
    """What one virtual router takes for its own.

    `interval` (nanoseconds) binds in version 2 only: in version 3 backups learn the master's. `peers` are
    the packed addresses of a unicast router's peers, None for a multicast one. `own_addresses` are those of
    this host.
    """

    version: int
    vrid: int
    interval: int
    ipv6: bool = False
    password: bytes | None = field(default=None, repr=False)
    peers: frozenset[bytes] | None = None
    own_addresses: frozenset[bytes] = frozenset()


def accept(advert: Advert, expected: Expectation | None, *, source: bytes, multicast: bool) -> Advert | Rejected:
    """The advert itself, or why the router does not listen to it.

    `expected` is None where no router has the advert's VRID: `accept(advert, table.get(advert.vrid), ...)`.
    `source` is packed; `multicast` says that the packet came to the group.
    """
    if expected is None or advert.vrid != expected.vrid:
        return Rejected(Reason.UNKNOWN_VRID, f"VRID {advert.vrid} from {to_text(source)}, not configured")
    return _wrong_sender(expected, source, multicast) or _wrong_content(advert, expected, source) or advert


def _wrong_sender(expected: Expectation, source: bytes, multicast: bool) -> Rejected | None:
    if source in expected.own_addresses:
        return Rejected(Reason.OWN_ADDRESS, f"from our own address {to_text(source)}: reflected, or taken twice")
    if (len(source) == 16) != expected.ipv6:
        family = "IPv6" if expected.ipv6 else "IPv4"
        return Rejected(Reason.FAMILY_MISMATCH, f"from {to_text(source)}, must be {family}")
    if expected.peers is None:
        if not multicast:
            return Rejected(Reason.UNICAST_TO_MULTICAST, f"unicast from {to_text(source)}, must be multicast")
        return None
    if multicast:
        return Rejected(Reason.MULTICAST_TO_UNICAST, f"multicast from {to_text(source)}, must be unicast")
    if source not in expected.peers:
        return Rejected(Reason.UNKNOWN_PEER, f"from {to_text(source)}, not a configured peer")
    return None


def _wrong_content(advert: Advert, expected: Expectation, source: bytes) -> Rejected | None:
    if advert.version != expected.version:
        return Rejected(
            Reason.VERSION_MISMATCH,
            f"version {advert.version} from {to_text(source)}, must be {expected.version}",
        )
    if advert.version != 2:
        return None
    if (advert.password is None) != (expected.password is None):
        given, wanted = ("no", "a") if advert.password is None else ("a", "no")
        return Rejected(
            Reason.AUTH_TYPE_MISMATCH, f"{given} password from {to_text(source)}, must have {wanted} password"
        )
    if advert.password is not None and expected.password is not None:
        # Padded alike, so that the time taken tells nothing, not even a length.
        given = advert.password.ljust(PASSWORD_MAX, b"\0")
        if not compare_digest(given, expected.password.ljust(PASSWORD_MAX, b"\0")):
            return Rejected(Reason.AUTH_MISMATCH, f"wrong password from {to_text(source)}")
    if advert.interval != expected.interval:
        # RFC 3768 7.1: a difference is a misconfiguration, and the packet is discarded.
        return Rejected(
            Reason.INTERVAL_MISMATCH,
            f"interval {advert.interval} ns from {to_text(source)}, must be {expected.interval}",
        )
    return None
