"""The file that the probing process writes and the observer reads: records of 18 bytes, appended in batches.

A record is either an answer, or a stretch in which the prober itself did not get to ask (`BLIND`): a gap in
the answers that lies in one is the prober's, not the cluster's.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from haagent.core.units import Instant

STRANGER: Final = 255
"""The host of an answer whose MAC address is no host's."""
START: Final = 0
"""The kind of the record that says that probing has begun at `at`."""
ASKED: Final = 254
"""The kind of the record of a step before which nothing was answered: the prober was asking at `at`."""
BLIND: Final = 255
"""The kind of a record of blindness: from `at`, until the instant that stands in the place of the MAC
address.
"""


class Sighting(NamedTuple):
    """`kind` is START, ASKED, BLIND or a `probes.Kind`; `vip` an index into the addresses that are probed.

    `path` is 0 for the client's own wire, else 1 and an index into the paths; `host` an index into the hosts, or
    STRANGER, of whom only the MAC address is known.
    """

    at: Instant
    vip: int
    kind: int
    path: int
    host: int
    mac: bytes

    def until(self) -> Instant:
        """The end of a BLIND stretch."""
        return self.at + int.from_bytes(self.mac)


_RECORD = Struct("!QBBBB6s")
SIZE: Final = _RECORD.size


def pack(at: Instant, kind: int, vip: int = 0, path: int = 0, host: int = STRANGER, mac: bytes = bytes(6)) -> bytes:
    """An answer at `at` by `host` for the address number `vip`."""
    return _RECORD.pack(at, vip, kind, path, host, mac)


def pack_blind(start: Instant, end: Instant) -> bytes:
    """Nothing was asked between `start` and `end`."""
    return pack(start, BLIND, mac=min(end - start, (1 << 48) - 1).to_bytes(6))


def unpack(data: bytes) -> Iterator[Sighting]:
    """All whole records in `data`, whose length is a multiple of SIZE."""
    return map(Sighting._make, _RECORD.iter_unpack(data))
