"""Parts of the gates that need no kernel: netlink bytes and garbage, groups, the eBPF program, and no gate."""

from __future__ import annotations

import errno
import struct

from hypothesis import given
from hypothesis import strategies as st

from haagent.adapters.gate import BpfGate, NftGate, NoGate, bpf_program, netlink, table, tc
from haagent.adapters.gate import nfnetlink as nf
from haagent.adapters.gate.netlink import Message
from haagent.adapters.gate.operations import Element, Family, Ref, TableFlags
from haagent.adapters.gate.places import Groups, Place, places
from haagent.adapters.gate.shape import Guarded
from haagent.core.model import VirtualAddress
from haagent.runtime.ports import Gate

GATES: tuple[type[Gate], ...] = (NftGate, BpfGate, NoGate)
"""For the type checker: all implement the port."""

TABLE = Ref(Family.NETDEV, "t")
A, B, C = (Place("eth0", bytes((10, 0, 0, n))) for n in range(3))


# Netlink.


def test_an_attribute_is_padded_and_its_length_is_not():
    assert netlink.attribute(3, b"abcde") == struct.pack("=HH", 9, 3) + b"abcde\0\0\0"
    assert netlink.text(1, "x") == struct.pack("=HH", 6, 1) + b"x\0\0\0"
    nested = netlink.nested(2, netlink.attribute(1, b"12"))
    assert nested == struct.pack("=HHHH", 12, 2 | 0x8000, 6, 1) + b"12\0\0"


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=10))
def test_attributes_are_read_as_they_were_written(told: list[tuple[int, bytes]]):
    assert netlink.attribute_list(b"".join(netlink.attribute(kind, value) for kind, value in told)) == told


@given(st.binary(max_size=400))
def test_garbage_is_read_to_its_first_fault(data: bytes):
    for message in netlink.messages(data):
        nf.change(message)
        tc.touched(message)
    for _, value in netlink.attribute_list(data):
        assert len(value) + 4 <= len(data)
    netlink.attributes(data)
    netlink.read_text(data)


@given(st.integers(0, 0xFFFF), st.binary(max_size=200))
def test_a_message_of_any_kind_with_garbage_inside(kind: int, body: bytes):
    for each in (kind, 10 << 8 | kind & 0xFF, 36 + kind % 12):
        nf.change(Message(each, 0, body))
        tc.touched(Message(each, 0, body))


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_garbage_inside_whole_attributes(key: bytes, data: bytes, rest: bytes):
    element = netlink.nested(1, netlink.attribute(1, key), netlink.attribute(2, data), netlink.attribute(5, rest))
    nf._element(element)
    told = b"".join(netlink.attribute(kind, value) for kind, value in ((1, key), (2, data), (6, rest), (7, key)))
    nf._table(Message(0, 0, bytes(4) + told))
    nf._rule(netlink.nested(1, netlink.text(1, "immediate"), netlink.attribute(2, data)))
    nf._rule(data)
    nf._devices({3: key, 4: data})


@given(st.binary(min_size=1, max_size=120), st.integers(0, 119))
def test_a_message_that_is_cut_off_is_none(body: bytes, cut: int):
    whole = netlink._packed(Message(5, 0, body), 7)
    (back,) = netlink.messages(whole)
    assert (back.kind, back.body, back.sequence) == (5, body, 7)
    shortened = whole[: min(cut, 15 + len(body))]
    assert list(netlink.messages(shortened)) == []


def test_timeouts_are_milliseconds_big_endian_and_numbers_of_marks_are_not_swapped():
    (message,) = TABLE.add_elements("s", [Element(b"\x01\x02\x03\x04", timeout=1500)])
    assert struct.pack(">Q", 1500) in message.body
    assert b"\x01\x02\x03\x04" in message.body
    assert nf._element(netlink.attributes(netlink.attributes(message.body[4:])[3])[1]) == Element(
        b"\x01\x02\x03\x04", timeout=1500
    )


def test_many_elements_are_split_into_messages_that_an_attribute_can_hold():
    elements = [Element(bytes(12) + n.to_bytes(4), jump="session-0123456789abcdef") for n in range(5000)]
    made = TABLE.add_elements("s", elements)
    assert all(len(message.body) < 0xFFFF for message in made)
    listed = [one for m in made for _, one in netlink.attribute_list(netlink.attributes(m.body[4:])[3])]
    assert [nf._element(one) for one in listed] == elements


class KernelWithoutWaitingHooks:
    """As before Linux 6.16: a chain can only hook an interface that exists."""

    def __init__(self) -> None:
        self.committed: list[list[Message]] = []

    def tables(self) -> list[nf.Table]:
        return []

    def commit(self, operations: list[Message]) -> None:
        if any(b"gone0" in operation.body for operation in operations):
            raise netlink.NetlinkError(errno.ENOENT, 3)
        self.committed.append(operations)


def test_an_interface_that_does_not_exist_has_no_gate_where_hooks_need_it():
    held = table.Table.__new__(table.Table)
    held.kernel = kernel = KernelWithoutWaitingHooks()  # pyright: ignore[reportAttributeAccessIssue]
    held._flags = TableFlags.NONE
    held.build(Guarded(frozenset((Place("lo", A.address), Place("gone0", B.address)))))
    assert held.guarded.places == {Place("lo", A.address)}
    assert len(kernel.committed) == 1
    assert not held.owned


# Groups.


def test_what_another_group_has_too_is_not_gone():
    groups: Groups[Place] = Groups()
    assert not groups
    assert groups.opened({"one": frozenset((A, B))}) == set()
    assert groups.opened({"two": frozenset((B, C))}) == set()
    assert groups.closed(["one"]) == {A}
    assert set(groups.all()) == {B, C}
    assert groups.has(B)
    assert not groups.has(A)
    assert groups.opened({"two": frozenset((C,))}) == {B}
    assert groups.closed(["unknown"]) == set()
    groups.keep([A])
    assert groups
    assert set(groups.all()) == set()
    assert groups.closed(["two"]) == set()
    assert not groups


def test_a_place_is_an_address_on_an_interface_whatever_its_prefix():
    there = [VirtualAddress(A.address, prefix, name) for prefix, name in ((32, "eth0"), (24, "eth0"), (32, "eth1"))]
    assert places(there) == {A, Place("eth1", A.address)}
    assert str(A) == "10.0.0.0 on eth0"


# eBPF.


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_a_key_names_one_address(address: bytes):
    key = bpf_program.key(address)
    assert len(key) == bpf_program.KEY
    if not address.startswith(bytes(10) + b"\xff\xff") or len(address) == 4:
        assert bpf_program.address(key) == address


def test_every_jump_of_the_program_is_forward_and_inside():
    for egress in (False, True):
        code = bpf_program.instructions(3, 4, egress=egress, link=14)
        assert len(code) % 8 == 0
        count = len(code) // 8
        for at in range(count):
            operation, _, offset, _ = struct.unpack_from("=BBhi", code, at * 8)
            if operation & 7 == 5 and operation not in (0x85, 0x95):
                assert 0 <= offset < count - at - 1


def test_no_gate_does_nothing():
    gate = NoGate()
    address = VirtualAddress(A.address, 32, "eth0")
    gate.protect([address])
    gate.open({"g": [address]}, 0)
    gate.renew(0)
    gate.close(["g"])
    assert gate.counters() == {}
