"""The gate: packets from and to the virtual addresses pass only while the lease runs, by rules in the kernel.

Implementations of the `Gate` port: `NftGate` (nftables), `BpfGate` (eBPF at clsact), `Gates`, which is several at once,
and `NoGate`, which is none.
A node that has an address on one interface answers for it on all others, unless told otherwise (`arp_ignore`), and
takes packets to it on all. So the nftables gate is for the address, on all interfaces; the eBPF gate is on the
interfaces that it is told of.
"""

from haagent.adapters.gate.both import Gates
from haagent.adapters.gate.bpf import BpfGate
from haagent.adapters.gate.leftovers import remove_classifiers, remove_tables
from haagent.adapters.gate.nft import NftGate
from haagent.adapters.gate.none import NoGate

__all__ = ["BpfGate", "Gates", "NftGate", "NoGate", "remove_classifiers", "remove_tables"]
