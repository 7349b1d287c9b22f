"""Where an eBPF classifier is attached: the clsact qdisc of an interface, by traffic control's netlink messages.

Numbers are in the machine's byte order. Source: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from haagent.adapters.gate.netlink import (
    ACK,
    CREATE,
    EXCLUSIVE,
    NETLINK_ROUTE,
    Message,
    NetlinkError,
    Requests,
    attribute,
    attributes,
    nested,
    read_text,
    text,
)

RTNLGRP_TC: Final = 4


class Side(IntEnum):
    """Which of an interface's packets: TC_H_MIN_INGRESS and TC_H_MIN_EGRESS of TC_H_CLSACT."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


@dataclass(frozen=True, slots=True)
class Filter:
    """A classifier that is attached: its name, and the id of its program."""

    name: str
    program: int


class TrafficControl:
    """The connection."""

    def __init__(self) -> None:
        self._requests = Requests(NETLINK_ROUTE)
        self.portid = self._requests.portid

    def close(self) -> None:
        self._requests.close()

    def add_clsact(self, index: int) -> None:
        """Let an interface have classifiers. Nothing happens if it has them."""
        body = _tcmsg(index, _CLSACT_HANDLE, _CLSACT, 0) + text(_KIND, "clsact")
        try:
            self._requests.perform([Message(_NEW_QDISC, ACK | CREATE | EXCLUSIVE, body)])
        except NetlinkError as error:
            if error.number != errno.EEXIST:
                raise

    def attach(self, index: int, side: Side, program: int, name: str) -> None:
        """Attach a program (a descriptor) as the first classifier, in place of the one that was at its place before."""
        options = nested(
            _OPTIONS,
            attribute(_BPF_FD, _UINT.pack(program)),
            text(_BPF_NAME, name),
            attribute(_BPF_FLAGS, _UINT.pack(_DIRECT_ACTION)),
        )
        body = _tcmsg(index, _HANDLE, side, _INFO) + text(_KIND, "bpf") + options
        self._requests.perform([Message(_NEW_FILTER, ACK | CREATE | _REPLACE, body)])

    def detach(self, index: int, side: Side) -> None:
        """Detach what `attach` attached. Nothing happens if that, or the interface, is not there."""
        body = _tcmsg(index, _HANDLE, side, _INFO) + text(_KIND, "bpf")
        try:
            self._requests.perform([Message(_DELETE_FILTER, ACK, body)])
        except NetlinkError as error:
            if error.number not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
                raise

    def attached(self, index: int, side: Side) -> Filter | None:
        """What is attached at the place where `attach` does; None also if the interface does not exist."""
        try:
            listed = self._requests.dump(Message(_GET_FILTER, 0, _tcmsg(index, 0, side, 0)))
        except NetlinkError as error:
            if error.number in (errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP):
                return None
            raise
        for message in listed:
            if len(message.body) < _TCMSG.size:
                continue
            _, at, handle, _, info = _TCMSG.unpack_from(message.body)
            options = attributes(attributes(message.body[_TCMSG.size :]).get(_OPTIONS, b""))
            if (at, handle, info) == (index, _HANDLE, _INFO) and len(options.get(_BPF_ID, b"")) == _UINT.size:
                return Filter(read_text(options.get(_BPF_NAME, b"")), _UINT.unpack(options[_BPF_ID])[0])
        return None


def touched(message: Message) -> int | None:
    """The index of the interface whose qdiscs or classifiers a message of RTNLGRP_TC says have changed."""
    if message.kind not in _CHANGES or len(message.body) < _TCMSG.size:
        return None
    return _TCMSG.unpack_from(message.body)[1]


def _tcmsg(index: int, handle: int, parent: int, info: int) -> bytes:
    return _TCMSG.pack(0, index, handle, parent, info)


_TCMSG = struct.Struct("=B3xiIII")  # family, index, handle, parent, info
_UINT = struct.Struct("=I")
_NEW_QDISC, _DELETE_QDISC, _NEW_FILTER, _DELETE_FILTER, _GET_FILTER = 36, 37, 44, 45, 46
_CHANGES: Final = (_NEW_QDISC, _DELETE_QDISC, _NEW_FILTER, _DELETE_FILTER)
_REPLACE: Final = 0x100
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_KIND, _OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION: Final = 1
_HANDLE: Final = 0x68
"""Ours, so that another's classifier of the same priority is not replaced."""
_PRIORITY: Final = 1
_INFO: Final = _PRIORITY << 16 | socket.htons(0x0003)  # ETH_P_ALL
