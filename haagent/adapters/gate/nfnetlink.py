"""A small client of nf_tables: what a gate needs, in netlink messages of our own.

Functions make operations, `Nftables` performs operations in one atomic batch, and lists what there
is. Numbers in attributes are big-endian; keys of elements are bytes as they stand in a register (addresses in
network order); timeouts are milliseconds, which the kernel rounds down to its tick and counts from its last tick: an
element ends early by up to two ticks, never late. Everything is in the family netdev.
Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from haagent.adapters.gate.expressions import Verdict, verdict_data
from haagent.adapters.gate.netlink import (
    ACK,
    APPEND,
    CREATE,
    EXCLUSIVE,
    NETLINK_NETFILTER,
    Message,
    NetlinkError,
    Requests,
    attribute,
    attribute_list,
    attributes,
    nested,
    read_text,
    text,
)

NFNLGRP_NFTABLES: Final = 7


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
    """enum nf_dev_hooks."""

    INGRESS = 0
    EGRESS = 1


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


@dataclass(frozen=True, slots=True)
class Table:
    """What the kernel says of a table. `owner`: the port id of the socket that owns it, 0 if none does."""

    name: str
    flags: TableFlags
    owner: int
    comment: str


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody changed a table: what they did, to what, and with which socket (0: the kernel by itself)."""

    command: Command
    table: str
    portid: int


@dataclass(frozen=True, slots=True)
class Generation:
    """A batch was committed, by this process."""

    pid: int
    process: str
    portid: int


class Nftables:
    """The connection. A table that is made with TableFlags.OWNER belongs to it until it is closed."""

    def __init__(self, opened: socket.socket | None = None) -> None:
        """`opened`: the socket of an earlier process, and with it all tables that it owns."""
        self._requests = Requests(NETLINK_NETFILTER, opened)
        self.portid = self._requests.portid

    @property
    def owner(self) -> socket.socket:
        """What owns the tables, as long as anybody has it open."""
        return self._requests.endpoint

    def close(self) -> None:
        self._requests.close()

    def commit(self, operations: Sequence[Message]) -> None:
        """All or nothing. NetlinkError of the first that was refused; its `at` counts the operations."""
        begin, end = _batch(_BATCH_BEGIN), _batch(_BATCH_END)
        try:
            self._requests.perform([begin, *operations, end])
        except NetlinkError as error:
            error.at -= 1
            raise

    def tables(self) -> dict[str, Table]:
        """The tables of the family netdev, by name."""
        return {table.name: table for table in map(_table, self._dump(Command.GET_TABLE, b"", 1))}

    def chains(self, table: str) -> dict[str, tuple[str, ...]]:
        """The chains of a table, and the devices that each hooks."""
        found: dict[str, tuple[str, ...]] = {}
        for each in self._dump(Command.GET_CHAIN, text(1, table), 1):
            if read_text(each.get(1, b"")) == table:
                found[read_text(each.get(3, b""))] = _devices(attributes(each.get(4, b"")))
        return found

    def rules(self, table: str) -> dict[str, int]:
        """How many rules each chain of a table has; chains without are not there."""
        found: dict[str, int] = {}
        for each in self._dump(Command.GET_RULE, text(1, table), 1):
            if read_text(each.get(1, b"")) == table:
                chain = read_text(each.get(2, b""))
                found[chain] = found.get(chain, 0) + 1
        return found

    def sets(self, table: str) -> set[str]:
        """The names of a table's sets and maps."""
        listed = self._dump(Command.GET_SET, text(1, table), 1)
        return {read_text(each.get(2, b"")) for each in listed if read_text(each.get(1, b"")) == table}

    def elements(self, table: str, name: str) -> list[Element]:
        """The elements of a set or map; those that have expired are not there."""
        listed = self._dump(Command.GET_ELEMENT, text(1, table) + text(2, name), 1)
        return [_element(one) for each in listed for _, one in attribute_list(each.get(3, b""))]

    def counters(self, table: str) -> dict[str, int]:
        """The packets that each named counter of a table has counted."""
        found: dict[str, int] = {}
        for each in self._dump(Command.GET_OBJECT, text(1, table) + _be32(3, _OBJECT_COUNTER), 1):
            if read_text(each.get(1, b"")) == table:
                found[read_text(each.get(2, b""))] = _number(attributes(each.get(4, b"")).get(2, b""))
        return found

    def _dump(self, command: Command, body: bytes, least: int) -> Iterable[dict[int, bytes]]:
        """The attributes of each thing listed; what lacks the attribute `least` is no such thing."""
        for message in self._requests.dump(_message(command, 0, body)):
            found = attributes(message.body[_GENERAL.size :])
            if least in found:
                yield found


def change(message: Message) -> Change | Generation | None:
    """What a message to NFNLGRP_NFTABLES tells; None if it is nothing that a gate must know, or no such message."""
    if message.kind >> 8 != _NFTABLES or len(message.body) < _GENERAL.size:
        return None
    told = attributes(message.body[_GENERAL.size :])
    try:
        command = Command(message.kind & 0xFF)
    except ValueError:
        return None
    if command is Command.NEW_GENERATION:
        return Generation(_number(told.get(2, b"")), read_text(told.get(3, b"")), message.portid)
    if message.body[0] != _NETDEV or 1 not in told:
        return None
    return Change(command, read_text(told[1]), message.portid)


# Operations.


def add_table(name: str, flags: TableFlags, comment: str) -> Message:
    """A table; one that is there is left as it is, but for its flags: its owner becomes us, if nobody owns it."""
    told = comment.encode() + b"\0"
    userdata = bytes((_UDATA_TABLE_COMMENT, len(told))) + told
    return _new(Command.NEW_TABLE, text(1, name) + _be32(2, flags) + attribute(6, userdata))


def delete_table(name: str) -> Message:
    """A table, with all that is in it."""
    return _message(Command.DELETE_TABLE, ACK, text(1, name))


def add_base_chain(table: str, name: str, hook: Hook, priority: int, device: str) -> Message:
    """A chain that sees the packets of a device; lower priorities see them first."""
    hooked = nested(4, _be32(1, hook), _be32(2, priority), text(3, device))
    return _new(
        Command.NEW_CHAIN, text(1, table) + text(3, name) + hooked + _be32(5, Verdict.ACCEPT) + text(7, "filter")
    )


def add_chain(table: str, name: str) -> Message:
    """A chain to jump to."""
    return _new(Command.NEW_CHAIN, text(1, table) + text(3, name))


def delete_rules(table: str, chain: str) -> Message:
    """All rules of a chain."""
    return _message(Command.DELETE_RULE, ACK, text(1, table) + text(2, chain))


def delete_chain(table: str, name: str) -> Message:
    """A chain and its rules. EBUSY if something still jumps there."""
    return _message(Command.DELETE_CHAIN, ACK, text(1, table) + text(3, name))


def add_rule(table: str, chain: str, *expressions: bytes) -> Message:
    """A rule at the end of a chain."""
    body = text(1, table) + text(2, chain) + nested(4, *expressions)
    return _message(Command.NEW_RULE, ACK | CREATE | APPEND, body)


def add_set(table: str, name: str, key: Type, *, timed: bool = False) -> Message:
    """A set."""
    return _set(table, name, key, _SET_TIMEOUT if timed else 0, b"")


def add_map(table: str, name: str, key: Type) -> Message:
    """A map to jumps."""
    return _set(table, name, key, _SET_MAP, _be32(6, _DATA_VERDICT))


def delete_set(table: str, name: str) -> Message:
    """A set or map that no rule uses."""
    return _message(Command.DELETE_SET, ACK, text(1, table) + text(2, name))


def add_counter(table: str, name: str) -> Message:
    """A named counter."""
    return _new(Command.NEW_OBJECT, text(1, table) + text(2, name) + _be32(3, _OBJECT_COUNTER) + nested(4))


def add_elements(table: str, name: str, elements: Sequence[Element]) -> list[Message]:
    """Elements that are not there yet: EEXIST otherwise."""
    return _elements(Command.NEW_ELEMENT, ACK | CREATE | EXCLUSIVE, table, name, elements)


def delete_elements(table: str, name: str, elements: Sequence[Element]) -> list[Message]:
    """Elements that are there and have not expired: ENOENT otherwise."""
    return _elements(Command.DELETE_ELEMENT, ACK, table, name, elements)


# The bytes.


def _set(table: str, name: str, key: Type, flags: int, data: bytes) -> Message:
    # The id names the set inside its batch, for those that refer to it there by id; we refer by name.
    body = (
        text(1, table) + text(2, name) + _be32(3, flags) + _be32(4, key) + _be32(5, _SIZES[key]) + data + _be32(10, 1)
    )
    return _new(Command.NEW_SET, body)


def _elements(command: Command, flags: int, table: str, name: str, elements: Sequence[Element]) -> list[Message]:
    head = text(1, table) + text(2, name)
    return [
        _message(command, flags, head + nested(3, *map(_packed, elements[start : start + _PER_MESSAGE])))
        for start in range(0, len(elements), _PER_MESSAGE)
    ]


def _packed(element: Element) -> bytes:
    parts = [nested(1, attribute(1, element.key))]
    if element.jump is not None:
        parts.append(nested(2, verdict_data(Verdict.JUMP, element.jump)))
    if element.timeout is not None:
        parts.append(attribute(4, _U64.pack(element.timeout)))
    return nested(1, *parts)


def _element(value: bytes) -> Element:
    told = attributes(value)
    data = attributes(told.get(2, b""))
    jump = attributes(data.get(2, b"")).get(2)
    return Element(
        attributes(told.get(1, b"")).get(1, b""),
        jump=None if jump is None else read_text(jump),
        timeout=_number(told[4]) if 4 in told else None,
        left=_number(told[5]) if 5 in told else None,
    )


def _table(told: dict[int, bytes]) -> Table:
    userdata = told.get(6, b"")
    comment = read_text(userdata[2:]) if userdata[:1] == bytes((_UDATA_TABLE_COMMENT,)) else ""
    flags = TableFlags(_number(told.get(2, b"")) & (TableFlags.OWNER | TableFlags.PERSIST))
    return Table(read_text(told[1]), flags, _number(told.get(7, b"")), comment)


def _devices(hook: dict[int, bytes]) -> tuple[str, ...]:
    listed = [read_text(value) for _, value in attribute_list(hook.get(4, b""))]
    return tuple(listed) or ((read_text(hook[3]),) if 3 in hook else ())


def _new(command: Command, body: bytes) -> Message:
    return _message(command, ACK | CREATE, body)


def _message(command: Command, flags: int, body: bytes) -> Message:
    return Message(_NFTABLES << 8 | command, flags, _GENERAL.pack(_NETDEV, 0, 0) + body)


def _batch(kind: int) -> Message:
    return Message(kind, 0, _GENERAL.pack(0, 0, _NFTABLES))


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value & 0xFFFFFFFF))


def _number(value: bytes) -> int:
    return int.from_bytes(value)


_GENERAL = struct.Struct(">BBH")  # struct nfgenmsg: family, version, resource id
_U32, _U64 = struct.Struct(">I"), struct.Struct(">Q")
_NETDEV: Final = 5
_NFTABLES: Final = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_SET_MAP, _SET_TIMEOUT = 0x8, 0x10
_DATA_VERDICT: Final = 0xFFFFFF00
_SIZES: Final = {Type.IPV4: 4, Type.IPV6: 16, Type.MARK: 4}
_OBJECT_COUNTER: Final = 1
_UDATA_TABLE_COMMENT: Final = 0
_PER_MESSAGE: Final = 400
"""Elements per message: the attribute that holds them can have 64 KiB, one of them takes 72 bytes at most."""
