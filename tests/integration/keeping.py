"""An agent's gate without the agent, for tests of who keeps its socket: `keeping.py PATIENCE SECONDS ADDRESS...`.

Takes the socket back or makes one, has it kept, opens the gate for so long and says `open, HOLDER, taken|made, UNTIL`;
then it follows what it is to hear, for ever.
"""

from __future__ import annotations

import os
import select
import sys

from haagent.adapters.gate import NftGate
from haagent.adapters.gate.keeper import Keeper
from haagent.adapters.systemd import ServiceManager
from haagent.core.units import S
from haagent.runtime.clock import boottime
from tests.integration.kernel import vip


def main() -> None:
    patience, seconds, addresses = int(sys.argv[1]), float(sys.argv[2]), [vip(each) for each in sys.argv[3:]]
    keeper = Keeper(ServiceManager(os.environ), patience=patience)
    opened = keeper.take()
    gate = NftGate(print, opened=opened)
    keeper.keep(gate.owner)
    gate.protect(addresses)
    until = boottime() + int(seconds * S)
    gate.open({"g": addresses}, until)
    print(f"open, {keeper.holder}, {'taken' if opened else 'made'}, {until}", flush=True)
    while True:
        select.select([keeper], [], [])
        keeper.hear()
        print(f"now {keeper.holder}", flush=True)


if __name__ == "__main__":
    main()
