"""The expressions that nf_tables rules are made of, as far as the gate needs them.

`register`: 1 to 4, of 16 bytes each. A rule goes on to its next expression as long as each matches.
Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from haagent.adapters.gate.netlink import attribute, nested, text


class Base(IntEnum):
    """enum nft_payload_bases."""

    NETWORK = 1
    TRANSPORT = 2


class Meta(IntEnum):
    """enum nft_meta_keys. PROTOCOL: the ethertype, 2 bytes in network order; NFPROTO and L4PROTO: 1 byte."""

    PROTOCOL = 1
    NFPROTO = 15
    L4PROTO = 16


class End(IntEnum):
    """enum nft_fib_flags: which address of a packet is looked up."""

    SOURCE = 1
    DESTINATION = 2


class Verdict(IntEnum):
    """What becomes of a packet: include/uapi/linux/netfilter.h and enum nft_verdicts."""

    DROP = 0
    ACCEPT = 1
    JUMP = -3
    RETURN = -5


def load_meta(key: Meta, register: int = 1) -> bytes:
    return _expression("meta", _be32(2, key), _be32(1, register))


def load_payload(base: Base, offset: int, length: int, register: int = 1) -> bytes:
    """Bytes of the packet; a packet that is too short does not match."""
    return _expression("payload", _be32(1, register), _be32(2, base), _be32(3, offset), _be32(4, length))


def load_constant(value: bytes, register: int = 1) -> bytes:
    return _expression("immediate", _be32(1, register), nested(2, attribute(1, value)))


def equals(value: bytes, register: int = 1) -> bytes:
    return _expression("cmp", _be32(1, register), _be32(2, 0), nested(3, attribute(1, value)))


def is_in(name: str, register: int = 1) -> bytes:
    """Match if the register's value is in a set."""
    return _expression("lookup", text(1, name), _be32(2, register))


def is_not_in(name: str, register: int = 1) -> bytes:
    """Match if the register's value is not in a set."""
    return _expression("lookup", text(1, name), _be32(2, register), _be32(5, _INVERTED))


def look_up(name: str, register: int = 1) -> bytes:
    """Jump where a map says for the register's value; a value that is not in it does not match."""
    return _expression("lookup", text(1, name), _be32(2, register), _be32(3, 0))


def count(name: str) -> bytes:
    """Count the packet with a named counter."""
    return _expression("objref", _be32(1, _COUNTER), text(2, name))


def is_local(end: End) -> tuple[bytes, ...]:
    """Match if the packet's source or destination is an address of this host, on whatever interface."""
    asked = _expression("fib", _be32(1, 1), _be32(2, _FIB_ADDRTYPE), _be32(3, end))
    return asked, equals(struct.pack("=I", _RTN_LOCAL))


def verdict(code: Verdict, chain: str | None = None) -> bytes:
    """What to do with the packet; JUMP names the chain."""
    return _expression("immediate", _be32(1, 0), nested(2, verdict_data(code, chain)))


def verdict_data(code: Verdict, chain: str | None = None) -> bytes:
    """A verdict as data of a rule or of a map."""
    return nested(2, _be32(1, code & 0xFFFFFFFF), *(() if chain is None else (text(2, chain),)))


def _expression(name: str, *data: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *data))


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value & 0xFFFFFFFF))


_U32 = struct.Struct(">I")
_COUNTER: Final = 1
_INVERTED: Final = 1  # NFT_LOOKUP_F_INV
_FIB_ADDRTYPE: Final = 3  # enum nft_fib_result
_RTN_LOCAL: Final = 2  # linux/rtnetlink.h
