"""Why bytes from outside were refused: one name for each kind, so that each kind can be counted.

Every decoder of this package returns its value or a `Rejected`; none raises, whatever the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Each kind of refusal. The values are the names in logs and metrics, and stay as they are."""

    # Form: wrong for any receiver.
    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    BAD_ETHERTYPE = "bad_ethertype"
    BAD_HEADER = "bad_header"
    FRAGMENT = "fragment"
    BAD_PROTOCOL = "bad_protocol"
    BAD_CHECKSUM = "bad_checksum"
    BAD_TTL = "bad_ttl"
    BAD_VERSION = "bad_version"
    BAD_TYPE = "bad_type"

    # VRRP: wrong for any router.
    BAD_VRID = "bad_vrid"
    BAD_COUNT = "bad_count"
    BAD_INTERVAL = "bad_interval"
    BAD_AUTH_TYPE = "bad_auth_type"
    AH = "ah"
    FAMILY_MISMATCH = "family_mismatch"

    # VRRP: wrong for this router, as it is configured.
    UNKNOWN_VRID = "unknown_vrid"
    OWN_ADDRESS = "own_address"
    VERSION_MISMATCH = "version_mismatch"
    MULTICAST_TO_UNICAST = "multicast_to_unicast"
    UNICAST_TO_MULTICAST = "unicast_to_multicast"
    UNKNOWN_PEER = "unknown_peer"
    AUTH_TYPE_MISMATCH = "auth_type_mismatch"
    AUTH_MISMATCH = "auth_mismatch"
    INTERVAL_MISMATCH = "interval_mismatch"

    # ARP and neighbour discovery.
    BAD_HARDWARE = "bad_hardware"
    BAD_OPERATION = "bad_operation"
    BAD_CODE = "bad_code"
    BAD_SOURCE = "bad_source"
    BAD_TARGET = "bad_target"
    BAD_FLAGS = "bad_flags"
    BAD_OPTION = "bad_option"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Bytes that were refused. `detail` says what was found and what is allowed; short, without secrets."""

    reason: Reason
    detail: str
