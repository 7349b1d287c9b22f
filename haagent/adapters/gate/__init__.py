"""The gate: packets from and to the virtual addresses pass only while the lease runs, by rules in the kernel.

Three implementations of the `Gate` port: `NftGate` (nftables), `BpfGate` (eBPF at clsact), and `NoGate`, which is none.
All guard (interface, address): the same address on another interface is another one, which must be named too. A node
that has an address on one interface answers for it on all others, unless told otherwise (`arp_ignore`), and takes
packets to it on all: name it on every interface by which clients could reach it.
"""

from haagent.adapters.gate.bpf import BpfGate
from haagent.adapters.gate.nft import NftGate
from haagent.adapters.gate.none import NoGate

__all__ = ["BpfGate", "NftGate", "NoGate"]
