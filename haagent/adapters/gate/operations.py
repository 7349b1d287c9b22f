"""What can be asked of nf_tables, as far as the gate asks it: operations, as netlink messages of our own.

Numbers in attributes are big-endian; keys of elements are bytes as they stand in a register (addresses in network
order); timeouts are milliseconds, which the kernel rounds down to its tick and counts from its last tick: an element
ends early by up to two ticks, never late. A table is known by its family and its name.
Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from haagent.adapters.gate.expressions import Verdict, verdict_data
from haagent.adapters.gate.netlink import ACK, APPEND, CREATE, EXCLUSIVE, Message, attribute, nested, text


class Family(IntEnum):
    """Whose packets a table sees (linux/netfilter.h): INET those of IPv4 and IPv6, NETDEV all of a device."""

    INET = 1
    IPV4 = 2
    ARP = 3
    NETDEV = 5
    BRIDGE = 7
    IPV6 = 10


class Command(IntEnum):
    """enum nf_tables_msg_types."""

    NEW_TABLE = 0
    GET_TABLE = 1
    DELETE_TABLE = 2
    NEW_CHAIN = 3
    GET_CHAIN = 4
    DELETE_CHAIN = 5
    NEW_RULE = 6
    GET_RULE = 7
    DELETE_RULE = 8
    NEW_SET = 9
    GET_SET = 10
    DELETE_SET = 11
    NEW_ELEMENT = 12
    GET_ELEMENT = 13
    DELETE_ELEMENT = 14
    NEW_GENERATION = 15
    NEW_OBJECT = 18
    GET_OBJECT = 19
    DELETE_OBJECT = 20


class TableFlags(IntFlag):
    """enum nft_table_flags: only the owner's socket may change the table; it stays when that is closed (Linux 6.9)."""

    NONE = 0
    OWNER = 2
    PERSIST = 4


class Hook(IntEnum):
    """Where a chain sees packets. The kernel numbers the hooks of each family from 0, so some numbers come twice."""

    DEVICE_INGRESS = 0  # enum nf_dev_hooks, of NETDEV
    DEVICE_EGRESS = 1
    ARP_INPUT = 0  # linux/netfilter_arp.h
    ARP_OUTPUT = 1
    PREROUTING = 0  # enum nf_inet_hooks
    INPUT = 1
    OUTPUT = 3
    POSTROUTING = 4


class Type(IntEnum):
    """What `nft` shall show the bytes of a key as; the kernel does not care."""

    IPV4 = 7
    IPV6 = 8
    MARK = 19
    """A number of 4 bytes, in the machine's byte order."""


@dataclass(frozen=True, slots=True)
class Element:
    """Of a set; of a map, with the chain to `jump` to. `timeout`, and how long is `left`, in milliseconds."""

    key: bytes
    jump: str | None = None
    timeout: int | None = None
    left: int | None = None


class Ref(NamedTuple):
    """A table, by family and name; its methods make operations on it, for `Nftables.commit`."""

    family: Family
    name: str

    def __str__(self) -> str:
        return f"{self.family.name.lower()} {self.name}"

    def add_table(self, flags: TableFlags, comment: str) -> Message:
        """The table; one that is there is left as it is, but for its flags: its owner becomes us, if nobody owns it."""
        told = comment.encode() + b"\0"
        userdata = bytes((UDATA_TABLE_COMMENT, len(told))) + told
        return self._new(Command.NEW_TABLE, text(1, self.name) + _be32(2, flags) + attribute(6, userdata))

    def delete_table(self) -> Message:
        """The table, with all that is in it."""
        return message(self.family, Command.DELETE_TABLE, ACK, text(1, self.name))

    def add_base_chain(self, name: str, hook: Hook, priority: int, device: str | None = None) -> Message:
        """A chain that sees packets at a hook, of one device or of all; lower priorities see them first."""
        where = _be32(1, hook) + _be32(2, priority) + (b"" if device is None else text(3, device))
        body = self._at(3, name) + nested(4, where) + _be32(5, Verdict.ACCEPT) + text(7, "filter")
        return self._new(Command.NEW_CHAIN, body)

    def add_chain(self, name: str) -> Message:
        """A chain to jump to."""
        return self._new(Command.NEW_CHAIN, self._at(3, name))

    def delete_chain(self, name: str) -> Message:
        """A chain and its rules. EBUSY if something still jumps there."""
        return message(self.family, Command.DELETE_CHAIN, ACK, self._at(3, name))

    def add_rule(self, chain: str, *expressions: bytes) -> Message:
        """A rule at the end of a chain."""
        body = self._at(2, chain) + nested(4, *expressions)
        return message(self.family, Command.NEW_RULE, ACK | CREATE | APPEND, body)

    def delete_rules(self, chain: str) -> Message:
        """All rules of a chain."""
        return message(self.family, Command.DELETE_RULE, ACK, self._at(2, chain))

    def add_set(self, name: str, key: Type, *, timed: bool = False) -> Message:
        """A set."""
        return self._set(name, key, _SET_TIMEOUT if timed else 0, b"")

    def add_map(self, name: str, key: Type) -> Message:
        """A map to jumps."""
        return self._set(name, key, _SET_MAP, _be32(6, _DATA_VERDICT))

    def delete_set(self, name: str) -> Message:
        """A set or map that no rule uses."""
        return message(self.family, Command.DELETE_SET, ACK, self._at(2, name))

    def add_counter(self, name: str) -> Message:
        """A named counter."""
        return self._new(Command.NEW_OBJECT, self._at(2, name) + _be32(3, OBJECT_COUNTER) + nested(4))

    def add_elements(self, name: str, elements: Sequence[Element]) -> list[Message]:
        """Elements that are not there yet: EEXIST otherwise."""
        return self._elements(Command.NEW_ELEMENT, ACK | CREATE | EXCLUSIVE, name, elements)

    def delete_elements(self, name: str, elements: Sequence[Element]) -> list[Message]:
        """Elements that are there and have not expired: ENOENT otherwise."""
        return self._elements(Command.DELETE_ELEMENT, ACK, name, elements)

    def _at(self, kind: int, name: str) -> bytes:
        """What names something in the table."""
        return text(1, self.name) + text(kind, name)

    def _new(self, command: Command, body: bytes) -> Message:
        return message(self.family, command, ACK | CREATE, body)

    def _set(self, name: str, key: Type, flags: int, data: bytes) -> Message:
        # The id names the set inside its batch, for those that refer to it there by id; we refer by name.
        sort = _be32(3, flags) + _be32(4, key) + _be32(5, _SIZES[key]) + data + _be32(10, 1)
        return self._new(Command.NEW_SET, self._at(2, name) + sort)

    def _elements(self, command: Command, flags: int, name: str, elements: Sequence[Element]) -> list[Message]:
        head = self._at(2, name)
        return [
            message(
                self.family, command, flags, head + nested(3, *map(_packed, elements[start : start + _PER_MESSAGE]))
            )
            for start in range(0, len(elements), _PER_MESSAGE)
        ]


def message(family: int, command: Command, flags: int, body: bytes) -> Message:
    """A request to nf_tables."""
    return Message(NFTABLES << 8 | command, flags, GENERAL.pack(family, 0, 0) + body)


def _packed(element: Element) -> bytes:
    parts = [nested(1, attribute(1, element.key))]
    if element.jump is not None:
        parts.append(nested(2, verdict_data(Verdict.JUMP, element.jump)))
    if element.timeout is not None:
        parts.append(attribute(4, _U64.pack(element.timeout)))
    return nested(1, *parts)


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value & 0xFFFFFFFF))


GENERAL: Final = struct.Struct(">BBH")
"""struct nfgenmsg: family, version, resource id."""
NFTABLES: Final = 10
OBJECT_COUNTER: Final = 1
UDATA_TABLE_COMMENT: Final = 0
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")
_SET_MAP, _SET_TIMEOUT = 0x8, 0x10
_DATA_VERDICT: Final = 0xFFFFFF00
_SIZES: Final = {Type.IPV4: 4, Type.IPV6: 16, Type.MARK: 4}
_PER_MESSAGE: Final = 400
"""Elements per message: the attribute that holds them can have 64 KiB, one of them takes 72 bytes at most."""
