"""Holds addresses on eth0 as an agent would, without etcd: `gate_holder.py nft|bpf TTL_NS NOTES ADDRESS...`.

Renews every quarter of the ttl; appends each deadline to NOTES before it asks the gate for it. When the gate says that
it has closed, prints so, and opens anew.
"""

from __future__ import annotations

import struct
import sys
import time
from pathlib import Path

from haagent.adapters.gate import BpfGate, NftGate
from haagent.core.units import S
from haagent.runtime.clock import boottime
from haagent.runtime.ports import GateClosedError
from tests.integration.gating import hold
from tests.integration.kernel import vip


def main() -> None:
    which, ttl, notes = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    addresses = [vip(each) for each in sys.argv[4:]]
    guard = {"nft": NftGate, "bpf": BpfGate}[which](print)
    guard.protect(addresses)
    hold(*addresses)
    opened = False
    with notes.open("ab", buffering=0) as file:
        while True:
            until = boottime() + ttl
            file.write(struct.pack("=Q", until))
            try:
                if opened:
                    guard.renew(until)
                else:
                    guard.open({"g": addresses}, until)
                    opened = True
            except GateClosedError as error:
                print(f"closed: {error}", flush=True)
                guard.close(["g"])
                opened = False
                continue
            time.sleep(ttl / 4 / S)


if __name__ == "__main__":
    main()
