"""bpf(2): maps and programs, as far as the gate needs them. Source: linux/bpf.h; bpf(2).

Descriptors are plain `int`, closed with `os.close`. All raise OSError as the system call does.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class MapType(IntEnum):
    """enum bpf_map_type."""

    HASH = 1
    ARRAY = 2


@dataclass(frozen=True, slots=True)
class Program:
    """What the kernel tells of a program. `tag`: a digest of its instructions, whatever maps they use; `maps`: ids.

    `loaded_at`: by CLOCK_BOOTTIME as the kernel itself has it, in no time namespace.
    """

    number: int
    tag: bytes
    maps: tuple[int, ...]
    loaded_at: int


def map_create(kind: MapType, key_size: int, value_size: int, entries: int, name: bytes) -> int:
    """A map, with memory for all its entries."""
    return _bpf(_MAP_CREATE, _CREATE.pack(kind, key_size, value_size, entries, 0, 0, 0, name))


def map_key_size(descriptor: int) -> int:
    """The size of a map's keys, which tells our two maps apart."""
    return _MAP_INFO.unpack_from(_info(descriptor, bytearray(_MAP_INFO.size)))[2]


def map_keys(descriptor: int, size: int) -> Iterator[bytes]:
    """The keys of a map that nobody else changes."""
    key = ctypes.create_string_buffer(size)
    first = 0  # a null pointer asks for the first
    while True:
        try:
            _bpf(_MAP_GET_NEXT_KEY, _ELEMENT.pack(descriptor, first, ctypes.addressof(key), 0))
        except FileNotFoundError:
            return
        first = ctypes.addressof(key)
        yield key.raw


def map_get(descriptor: int, key: bytes, size: int) -> bytes:
    """The value of a key, `size` bytes; FileNotFoundError if there is none."""
    keys, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    _bpf(_MAP_LOOKUP, _ELEMENT.pack(descriptor, ctypes.addressof(keys), ctypes.addressof(value), 0))
    return value.raw


def map_set(descriptor: int, key: bytes, value: bytes) -> None:
    """Put a key with its value, in place of the one that it has."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    _bpf(_MAP_UPDATE, _ELEMENT.pack(descriptor, ctypes.addressof(keys), ctypes.addressof(values), 0))


def map_delete(descriptor: int, key: bytes) -> None:
    """Delete a key; FileNotFoundError if it is not there."""
    keys = ctypes.create_string_buffer(key, len(key))
    _bpf(_MAP_DELETE, _ELEMENT.pack(descriptor, ctypes.addressof(keys), 0, 0))


def map_by_id(number: int) -> int:
    """Open a map that something else keeps alive."""
    return _bpf(_MAP_BY_ID, _UINT.pack(number))


def program_load(instructions: bytes, name: bytes) -> int:
    """Have the kernel verify and take a classifier. OSError with the end of what the verifier says, if it refuses."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"Apache-2.0")

    def load(level: int, size: int, log: int) -> int:
        count = len(instructions) // _INSTRUCTION
        at = ctypes.addressof(code), ctypes.addressof(license_)
        return _bpf(_PROG_LOAD, _LOAD.pack(_SCHED_CLS, count, *at, level, size, log, 0, 0, name))

    try:
        return load(0, 0, 0)
    except OSError as error:
        if error.errno == _EPERM:
            raise
        log = ctypes.create_string_buffer(_LOG)
        try:
            return load(1, _LOG, ctypes.addressof(log))
        except OSError as again:
            raise OSError(again.errno, f"{again.strerror}: {log.value.decode(errors='replace')[-400:]}") from None


def program_by_id(number: int) -> int:
    """Open a program that something else keeps alive."""
    return _bpf(_PROG_BY_ID, _UINT.pack(number))


def program(descriptor: int) -> Program:
    """What the kernel tells of a program."""
    ids = (ctypes.c_uint32 * _MAPS)()
    info = bytearray(_PROG_INFO.size)
    struct.pack_into("=IQ", info, _PROG_INFO_MAPS, _MAPS, ctypes.addressof(ids))
    told = _PROG_INFO.unpack_from(_info(descriptor, info))
    return Program(told[1], told[2], tuple(ids[: min(told[4], _MAPS)]), told[3])


def _info(descriptor: int, info: bytearray) -> bytes:
    buffer = ctypes.create_string_buffer(bytes(info), len(info))
    _bpf(_INFO_BY_FD, _INFO.pack(descriptor, len(info), ctypes.addressof(buffer)))
    return buffer.raw


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = _libc.syscall(_number(), command, buffer, len(attributes))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _number() -> int:
    """The number of the system call, which the C library has no function for; ENOSYS where we do not know it."""
    return _NUMBERS.get(platform.machine(), -1)


_libc = ctypes.CDLL(None, use_errno=True)
# arch/*/entry/syscalls/*.tbl; the others have include/uapi/asm-generic/unistd.h.
_NUMBERS: Final = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64le": 361,
    "s390x": 351,
    "armv7l": 386,
}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_GET_NEXT_KEY, _PROG_LOAD = range(6)
_PROG_BY_ID, _MAP_BY_ID, _INFO_BY_FD = 13, 14, 15
_SCHED_CLS: Final = 3
# The members of union bpf_attr, up to the last that we set: the kernel takes the rest as zero.
_CREATE = struct.Struct("=IIIIIII16s")
_ELEMENT = struct.Struct("=I4xQQQ")
_LOAD = struct.Struct("=IIQQIIQII16s")
_INFO = struct.Struct("=IIQ")
_UINT = struct.Struct("=I")
# struct bpf_prog_info: type, id, tag, four lengths and pointers, load time, uid, map count, pointer to map ids.
_PROG_INFO = struct.Struct("=II8s24xQ4xIQ")
_PROG_INFO_MAPS: Final = 52
_MAP_INFO = struct.Struct("=IIIIII16s")  # type, id, key size, value size, entries, flags, name
_INSTRUCTION: Final = 8
_MAPS: Final = 8
_LOG: Final = 1 << 16
_EPERM: Final = 1
