"""Packet sockets that see only what a program in the kernel passes, and what the kernel says of an interface."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from typing import Final

LARGEST: Final = 2048
"""Bytes of a frame that are of interest."""

Instruction = tuple[int, int, int, int]
"""Code, instructions to pass over if true, if false, operand (linux/filter.h)."""
# linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_LD|BPF_H|BPF_ABS, BPF_LD|BPF_B|BPF_ABS, BPF_LD|BPF_B|BPF_IND,
# BPF_LDX|BPF_B|BPF_MSH, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JA, BPF_RET|BPF_K. Offsets are from the Ethernet header.
LOAD_WORD, LOAD_HALF, LOAD_BYTE, LOAD_BYTE_AT_X, LOAD_IP_LENGTH = 0x20, 0x28, 0x30, 0x50, 0xB1
IF_EQUAL, IF_ALWAYS, RETURN = 0x15, 0x05, 0x06


def tap(interface: str, protocol: int, program: Sequence[Instruction]) -> socket.socket | None:
    """A socket that receives what the program passes of this ethertype; None where there is no Ethernet. OSError."""
    # Of no protocol, which receives nothing, until the filter stands.
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        if mac_address(opened, interface) is None:
            opened.close()
            return None
        kept = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*step) for step in program))
        code = struct.pack("HL", len(program), ctypes.addressof(kept))
        opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, code)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        opened.bind((interface, protocol))
    except OSError:
        opened.close()
        raise
    return opened


def interface_index(interface: str) -> int | None:
    """The interface's index; None if there is no such interface."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None


def mac_address(asked: socket.socket, interface: str) -> bytes | None:
    """The interface's MAC address; None for what is no Ethernet: a loopback, a tunnel. OSError."""
    _, kind, address = _IFREQ.unpack(fcntl.ioctl(asked, _SIOCGIFHWADDR, _IFREQ.pack(os.fsencode(interface), 0, b"")))
    return address if kind == _ARPHRD_ETHER else None


_INSTRUCTION = struct.Struct("=HBBI")
# linux/sockios.h, linux/if_arp.h; struct ifreq: a name, and here a struct sockaddr, of 40 bytes in all.
_SIOCGIFHWADDR: Final = 0x8927
_ARPHRD_ETHER: Final = 1
_IFREQ = struct.Struct("=16sH6s16x")
# asm-generic/socket.h, linux/if_packet.h: the socket module lacks them.
_SO_ATTACH_FILTER: Final = 26
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_RECEIVE_BUFFER: Final = 64 * 1024
