"""ARP for IPv4 over Ethernet (RFC 826): announce an address, ask for one, read what others say.

`gratuitous` is byte for byte what keepalived and FRR send when they take an address.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from haagent.wire import ethernet
from haagent.wire.rejection import Reason, Rejected

ANY_ADDRESS: Final = bytes(4)
"""0.0.0.0 as sender makes a request a probe: it asks without changing anyone's cache (RFC 5227 2.1.1)."""


class Operation(IntEnum):
    REQUEST = 1
    REPLY = 2


@dataclass(frozen=True, slots=True)
class Arp:
    """One ARP packet; MAC addresses are 6 bytes, IP addresses 4."""

    operation: Operation
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes


def gratuitous(address: bytes, mac: bytes, *, reply: bool = False) -> bytes:
    """The broadcast frame that tells every neighbour that `address` is at `mac`.

    As a request (default) its target hardware address is the broadcast one, as keepalived and FRR have
    it. As a reply, for the few devices that learn from nothing else, it is `mac` again (RFC 5944 4.6).
    """
    if reply:
        return _frame(ethernet.BROADCAST, Arp(Operation.REPLY, mac, address, mac, address))
    return _frame(ethernet.BROADCAST, Arp(Operation.REQUEST, mac, address, ethernet.BROADCAST, address))


def request(target: bytes, *, mac: bytes, sender: bytes = ANY_ADDRESS) -> bytes:
    """The broadcast frame that asks who has `target`: a probe unless `sender` is an address of ours."""
    return _frame(ethernet.BROADCAST, Arp(Operation.REQUEST, mac, sender, bytes(6), target))


def decode(frame: bytes) -> Arp | Rejected:
    """Read an Ethernet frame that carries ARP; padding of a short frame is ignored."""
    outer = ethernet.split(frame, ethernet.ETHERTYPE_ARP)
    if isinstance(outer, Rejected):
        return outer
    if wrong := ethernet.wrong_length(outer.payload, _ARP.size):
        return wrong
    kind, operation, sender_mac, sender_ip, target_mac, target_ip = _ARP.unpack_from(outer.payload)
    if kind != _IPV4_OVER_ETHERNET:
        return Rejected(Reason.BAD_HARDWARE, f"address types {kind.hex()}, must be {_IPV4_OVER_ETHERNET.hex()}")
    if operation not in _OPERATIONS:
        return Rejected(Reason.BAD_OPERATION, f"ARP operation {operation}, must be 1 or 2")
    return Arp(_OPERATIONS[operation], sender_mac, sender_ip, target_mac, target_ip)


def _frame(destination: bytes, arp: Arp) -> bytes:
    payload = _ARP.pack(
        _IPV4_OVER_ETHERNET, arp.operation, arp.sender_mac, arp.sender_ip, arp.target_mac, arp.target_ip
    )
    return ethernet.build(destination, arp.sender_mac, ethernet.ETHERTYPE_ARP, payload)


_ARP = Struct("!6sH6s4s6s4s")
_IPV4_OVER_ETHERNET = bytes.fromhex("0001 0800 06 04")
_OPERATIONS = {operation.value: operation for operation in Operation}
