"""The classifier that judges an interface's packets: instructions for the kernel, put together here.

For each address that a packet may be about, it looks for a deadline (CLOCK_BOOTTIME) in a map. If the map has the
address and its deadline has come, it drops the packet and counts it; else the packet goes on to whatever comes next.
An odd deadline is that of an address of another interface: a packet that may only pass through this host goes on.
Source: Documentation/bpf/standardization/instruction-set.rst; bpf-helpers(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final

KEY: Final = 16
"""Bytes of a key: an IPv6 address, or an IPv4 address mapped into one (RFC 4291 2.5.5.2)."""
VALUE: Final = 8
"""Bytes of a value: an instant of CLOCK_BOOTTIME, or a count, in the machine's byte order."""
ELSEWHERE: Final = 1
"""The bit of a deadline that says so of an address of another interface."""
COUNTERS: Final = ("arp", "ipv4", "ipv6")
"""What is counted, in the order of the counters' indices."""


def key(address: bytes) -> bytes:
    """The key of an address."""
    return address if len(address) == KEY else bytes(10) + b"\xff\xff" + address


def address(key: bytes) -> bytes:
    """The address of a key."""
    return key[12:] if key[:12] == bytes(10) + b"\xff\xff" else key


def nothing() -> bytes:
    """A program that does nothing."""
    code = _Assembler(0, 0, 0)
    code.leave(_GO_ON)
    return code.assembled()


def instructions(deadlines: int, counters: int, *, egress: bool, link: int) -> bytes:
    """The program. `deadlines` and `counters`: maps; `link`: bytes of the header before ARP or IP."""
    code = _Assembler(deadlines, counters, link)
    code.begin()
    for protocol, label in ((0x0800, "ipv4"), (0x0806, "arp"), (0x86DD, "ipv6")):
        code.jump_if_equal(_R8, socket.htons(protocol), label)
    code.jump("pass")

    code.label("ipv4")  # RFC 791: source at 12, destination at 16
    code.mapped()
    code.load(12 if egress else 16, 4, _ADDRESS4)
    code.judge(COUNTERS.index("ipv4"), "pass", code.passes_through(egress=egress))

    code.label("arp")  # RFC 826: the sender's protocol address at 14, the target's at 24
    code.mapped()
    code.load(14, 4, _ADDRESS4)
    if not egress:
        # Who asks for its own address announces it: our neighbour table may learn that.
        code.load(24, 4, _SCRATCH)
        code.jump_if_same4(_ADDRESS4, _SCRATCH, "pass")
        code.load(24, 4, _ADDRESS4)
    code.judge(COUNTERS.index("arp"), "pass")

    code.label("ipv6")  # RFC 8200: source at 8, destination at 24, next header at 6
    code.load(8 if egress else 24, 16, _ADDRESS)
    code.judge(COUNTERS.index("ipv6"), "neighbour", code.passes_through(egress=egress))
    code.label("neighbour")  # RFC 4861 4.3, 4.4: type, then the target at 8
    code.jump_unless_byte(6, 58, "pass")
    code.jump_unless_byte(40, 136 if egress else 135, "pass")
    code.load(40 + 8, 16, _ADDRESS)
    code.judge(COUNTERS.index("ipv6"), "pass")

    code.label("pass")
    code.leave(_GO_ON)
    return code.assembled()


class _Assembler:
    """Instructions, and jumps to labels that are resolved at the end. Packets too short for a load pass."""

    def __init__(self, deadlines: int, counters: int, link: int) -> None:
        self._deadlines, self._counters, self._link = deadlines, counters, link
        self._code: list[tuple[int, int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}
        self._drops = 0

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def begin(self) -> None:
        """r6: the packet, r8: its protocol, and zeros where keys are made."""
        self._put(_MOVE, _R6, _R1)
        for slot in (_ADDRESS, _ADDRESS + 8, _SCRATCH):
            self._put(_STORE64, _R10, 0, slot)
        self._put(_LOAD32, _R8, _R6, _SKB_PROTOCOL)

    def mapped(self) -> None:
        """The key of an IPv4 address, but for the address; no number here has a byte order."""
        self._put(_STORE16, _R10, 0, _ADDRESS + 10, -1)

    def load(self, offset: int, length: int, slot: int) -> None:
        """Bytes of the packet to the stack."""
        self._put(_MOVE, _R1, _R6)
        self._put(_MOVE_VALUE, _R2, 0, 0, self._link + offset)
        self._pointer(_R3, slot)
        self._put(_MOVE_VALUE, _R4, 0, 0, length)
        self._put(_CALL, 0, 0, 0, _SKB_LOAD_BYTES)
        self._put(_IF_NOT, _R0, 0, "pass", 0)

    def passes_through(self, *, egress: bool) -> Callable[[str], None]:
        """For `judge`: go on at the label if r7 is a deadline from elsewhere, and the packet may only pass through.

        On the way in that is every packet; on the way out, one that came in by an interface.
        """

        def put(otherwise: str) -> None:
            own = f"own{self._drops}"
            self._put(_MOVE, _R1, _R7)
            self._put(_AND_VALUE, _R1, 0, 0, ELSEWHERE)
            self._put(_IF, _R1, 0, own, 0)
            if egress:
                self._put(_LOAD32, _R1, _R6, _SKB_INGRESS_IFINDEX)
                self._put(_IF_NOT, _R1, 0, otherwise, 0)
            else:
                self.jump(otherwise)
            self.label(own)

        return put

    def judge(self, counter: int, otherwise: str, unless: Callable[[str], None] | None = None) -> None:
        """Count and drop if the address on the stack has a deadline that has come; else go on at the label."""
        self._map(self._deadlines, _ADDRESS)
        self._put(_IF, _R0, 0, otherwise, 0)
        self._put(_LOAD64, _R7, _R0)
        if unless is not None:
            unless(otherwise)
        self._put(_CALL, 0, 0, 0, _KTIME_GET_BOOT_NS)
        self._put(_IF_LESS, _R0, _R7, otherwise)
        self._put(_STORE32, _R10, 0, _SCRATCH, counter)
        self._map(self._counters, _SCRATCH)
        self._drops += 1
        self._put(_IF, _R0, 0, f"drop{self._drops}", 0)
        self._put(_MOVE_VALUE, _R1, 0, 0, 1)
        self._put(_ADD64_ATOMIC, _R0, _R1)
        self.label(f"drop{self._drops}")
        self.leave(_DROP)

    def jump(self, label: str) -> None:
        self._put(_GOTO, 0, 0, label)

    def jump_if_equal(self, register: int, value: int, label: str) -> None:
        self._put(_IF, register, 0, label, value)

    def jump_if_same4(self, slot: int, other: int, label: str) -> None:
        self._put(_LOAD32, _R1, _R10, slot)
        self._put(_LOAD32, _R2, _R10, other)
        self._put(_IF_SAME, _R1, _R2, label)

    def jump_unless_byte(self, offset: int, value: int, label: str) -> None:
        self.load(offset, 1, _SCRATCH)
        self._put(_LOAD8, _R1, _R10, _SCRATCH)
        self._put(_IF_NOT, _R1, 0, label, value)

    def leave(self, action: int) -> None:
        self._put(_MOVE_VALUE, _R0, 0, 0, action)
        self._put(_EXIT)

    def assembled(self) -> bytes:
        packed: list[bytes] = []
        for at, (operation, target, source, offset, value) in enumerate(self._code):
            there = offset if isinstance(offset, int) else self._labels[offset] - at - 1
            packed.append(_pack(operation, target, source, there, value))
        return b"".join(packed)

    def _map(self, descriptor: int, slot: int) -> None:
        """r0: a pointer to the value of the key on the stack, or null."""
        self._put(_MAP, _R1, _PSEUDO_MAP_FD, 0, descriptor)
        self._put(0)  # the second half of a value of 64 bits
        self._pointer(_R2, slot)
        self._put(_CALL, 0, 0, 0, _MAP_LOOKUP_ELEM)

    def _pointer(self, register: int, slot: int) -> None:
        self._put(_MOVE, register, _R10)
        self._put(_ADD_VALUE, register, 0, 0, slot)

    def _put(self, operation: int, target: int = 0, source: int = 0, offset: int | str = 0, value: int = 0) -> None:
        self._code.append((operation, target, source, offset, value))


def _pack(operation: int, target: int, source: int, offset: int, value: int) -> bytes:
    """struct bpf_insn: two registers share a byte, in which order is the machine's."""
    registers = target | source << 4 if _LITTLE else target << 4 | source
    return struct.pack("=BBhi", operation, registers, offset, value)


_LITTLE: Final = struct.pack("=H", 1) == b"\1\0"
_R0, _R1, _R2, _R3, _R4, _R6, _R7, _R8, _R10 = 0, 1, 2, 3, 4, 6, 7, 8, 10
_MOVE, _MOVE_VALUE, _ADD_VALUE, _AND_VALUE = 0xBF, 0xB7, 0x07, 0x57
_LOAD8, _LOAD32, _LOAD64 = 0x71, 0x61, 0x79
_STORE16, _STORE32, _STORE64 = 0x6A, 0x62, 0x7A
_ADD64_ATOMIC: Final = 0xDB
_GOTO, _IF, _IF_NOT, _IF_SAME, _IF_LESS = 0x05, 0x15, 0x55, 0x1D, 0xAD
_CALL, _EXIT, _MAP = 0x85, 0x95, 0x18
_PSEUDO_MAP_FD: Final = 1
_MAP_LOOKUP_ELEM, _SKB_LOAD_BYTES, _KTIME_GET_BOOT_NS = 1, 26, 125
_SKB_PROTOCOL, _SKB_INGRESS_IFINDEX = 16, 36  # offsets in struct __sk_buff
_DROP, _GO_ON = 2, -1  # TC_ACT_SHOT, TC_ACT_UNSPEC
# Where things are on the stack.
_ADDRESS, _ADDRESS4, _SCRATCH = -16, -4, -24
