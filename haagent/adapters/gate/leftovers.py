"""What is left of gates: of another kind, of another version, on interfaces that are no longer guarded.

A gate outlives its agent, and nobody opens one that no agent knows of. So whoever starts removes what it does not take
over, after it has its own gate; and `haagent release` removes all. Raises GateFailedError.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Container

from haagent.adapters.gate.bpf import NAME
from haagent.adapters.gate.layout import MARK, TABLE
from haagent.adapters.gate.netlink import NetlinkError
from haagent.adapters.gate.nfnetlink import Nftables
from haagent.adapters.gate.operations import Family, Ref
from haagent.adapters.gate.tc import Side, TrafficControl
from haagent.runtime.ports import GateFailedError


def remove_tables(opened: socket.socket | None = None) -> list[str]:
    """Delete the tables of every version of the nftables gate; what was there is returned, for people.

    `opened`: the socket that owns them, where somebody kept it. It is closed.
    """
    try:
        with contextlib.closing(Nftables(opened)) as kernel:
            there = [each for each in kernel.tables() if each.name == TABLE and each.comment.startswith(MARK)]
            found = [Ref(Family(each.family), each.name) for each in there]
            if found:
                kernel.commit([table.delete_table() for table in found])
    except (NetlinkError, OSError) as error:
        raise GateFailedError(f"cannot remove the nftables gate of an earlier run: {error}") from error
    return [f"table {table}" for table in found]


def remove_classifiers(kept: Container[str] = ()) -> list[str]:
    """Detach the classifiers of the eBPF gate from all interfaces but those `kept`; where is returned, for people."""
    found: list[str] = []
    try:
        with contextlib.closing(TrafficControl()) as control:
            for index, name in socket.if_nameindex():
                there = [] if name in kept else [(side, control.attached(index, side)) for side in Side]
                ours = [side for side, each in there if each is not None and each.name == NAME]
                for side in ours:
                    control.detach(index, side)
                found += [f"classifiers of {name}"] if ours else []
    except (NetlinkError, OSError) as error:
        raise GateFailedError(f"cannot remove the eBPF gate of an earlier run: {error}") from error
    return found
