"""A small client of nf_tables: performs operations (see `operations`) in one atomic batch, and lists what there is.

Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from haagent.adapters.gate.netlink import (
    NETLINK_NETFILTER,
    Message,
    NetlinkError,
    Requests,
    attribute,
    attribute_list,
    attributes,
    read_text,
    text,
)
from haagent.adapters.gate.operations import (
    GENERAL,
    NFTABLES,
    OBJECT_COUNTER,
    UDATA_TABLE_COMMENT,
    Command,
    Element,
    Ref,
    TableFlags,
    message,
)

NFNLGRP_NFTABLES: Final = 7


@dataclass(frozen=True, slots=True)
class Table:
    """What the kernel says of a table. `owner`: the port id of the socket that owns it, 0 if none does."""

    family: int
    name: str
    flags: TableFlags
    owner: int
    comment: str


@dataclass(frozen=True, slots=True)
class Rule:
    """As much of a rule as a gate must know: the value that it loads first, if that is a constant."""

    constant: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody changed a table: what they did, to what, and with which socket (0: the kernel by itself)."""

    command: Command
    family: int
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

    def tables(self) -> list[Table]:
        """The tables of all families."""
        return list(map(_table, self._requests.dump(message(_ALL, Command.GET_TABLE, 0, b""))))

    def chains(self, table: Ref) -> dict[str, tuple[str, ...]]:
        """The chains of a table, and the devices that each hooks."""
        listed = self._dump(table, Command.GET_CHAIN)
        return {read_text(each.get(3, b"")): _devices(attributes(each.get(4, b""))) for each in listed}

    def rules(self, table: Ref) -> dict[str, list[Rule]]:
        """The rules of each chain of a table; chains without are not there."""
        found: dict[str, list[Rule]] = {}
        for each in self._dump(table, Command.GET_RULE):
            found.setdefault(read_text(each.get(2, b"")), []).append(_rule(each.get(4, b"")))
        return found

    def sets(self, table: Ref) -> set[str]:
        """The names of a table's sets and maps."""
        return {read_text(each.get(2, b"")) for each in self._dump(table, Command.GET_SET)}

    def elements(self, table: Ref, name: str) -> list[Element]:
        """The elements of a set or map; those that have expired are not there."""
        listed = self._dump(table, Command.GET_ELEMENT, text(2, name))
        return [_element(one) for each in listed for _, one in attribute_list(each.get(3, b""))]

    def counters(self, table: Ref) -> dict[str, int]:
        """The packets that each named counter of a table has counted."""
        found: dict[str, int] = {}
        for each in self._dump(table, Command.GET_OBJECT, attribute(3, OBJECT_COUNTER.to_bytes(4))):
            found[read_text(each.get(2, b""))] = _number(attributes(each.get(4, b"")).get(2, b""))
        return found

    def _dump(self, table: Ref, command: Command, which: bytes = b"") -> Iterable[dict[int, bytes]]:
        """The attributes of each thing listed of a table."""
        for each in self._requests.dump(message(table.family, command, 0, text(1, table.name) + which)):
            found = attributes(each.body[GENERAL.size :])
            if read_text(found.get(1, b"")) == table.name:
                yield found


def change(message: Message) -> Change | Generation | None:
    """What a message to NFNLGRP_NFTABLES tells; None if it is nothing that a gate must know, or no such message."""
    if message.kind >> 8 != NFTABLES or len(message.body) < GENERAL.size:
        return None
    told = attributes(message.body[GENERAL.size :])
    try:
        command = Command(message.kind & 0xFF)
    except ValueError:
        return None
    if command is Command.NEW_GENERATION:
        return Generation(_number(told.get(2, b"")), read_text(told.get(3, b"")), message.portid)
    if 1 not in told:
        return None
    return Change(command, message.body[0], read_text(told[1]), message.portid)


# The bytes.


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


def _rule(expressions: bytes) -> Rule:
    for _, first in attribute_list(expressions)[:1]:
        told = attributes(first)
        if read_text(told.get(1, b"")) == "immediate":
            return Rule(attributes(attributes(told.get(2, b"")).get(2, b"")).get(1, b""))
    return Rule(b"")


def _table(listed: Message) -> Table:
    told = attributes(listed.body[GENERAL.size :])
    userdata = told.get(6, b"")
    comment = read_text(userdata[2:]) if userdata[:1] == bytes((UDATA_TABLE_COMMENT,)) else ""
    flags = TableFlags(_number(told.get(2, b"")) & (TableFlags.OWNER | TableFlags.PERSIST))
    return Table(listed.body[0], read_text(told.get(1, b"")), flags, _number(told.get(7, b"")), comment)


def _devices(hook: dict[int, bytes]) -> tuple[str, ...]:
    listed = [read_text(value) for _, value in attribute_list(hook.get(4, b""))]
    return tuple(listed) or ((read_text(hook[3]),) if 3 in hook else ())


def _batch(kind: int) -> Message:
    return Message(kind, 0, GENERAL.pack(0, 0, NFTABLES))


def _number(value: bytes) -> int:
    return int.from_bytes(value)


_ALL: Final = 0  # NFPROTO_UNSPEC
_BATCH_BEGIN, _BATCH_END = 16, 17
