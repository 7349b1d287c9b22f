"""What the gates cost and how exactly they close: `PYTHONPATH=. .venv/bin/python tests/bench/gate.py` (root).

Processor time of a renewal for 1 and for 200 addresses, of the dead-man timer, and, with the holder stopped, when its
last answer came relative to its deadline, in a lab that is asked every millisecond. Numbers, no verdict.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click

from haagent.adapters.deadman import Deadman
from haagent.adapters.gate import BpfGate, NftGate
from haagent.core.units import MS, US, S
from haagent.lab.lab import Lab
from haagent.lab.topology import vip4, vip6
from haagent.runtime.clock import boottime
from tests.integration.kernel import vips
from tests.integration.namespace import Neighbour, unshare
from tests.integration.test_gate_deadline import Holder

KINDS: dict[str, Callable[[], NftGate | BpfGate]] = {"nft": lambda: NftGate(print), "bpf": lambda: BpfGate(print)}


@click.command()
@click.option("--trials", default=30, show_default=True, help="Stops of the holder, for each gate and ttl.")
@click.option("--renewals", default=1000, show_default=True)
def main(trials: int, renewals: int) -> None:
    """Print what was measured."""
    worker = threading.Thread(target=_costs, args=(renewals,))  # its namespace ends with it
    worker.start()
    worker.join()
    for kind in KINDS:
        for ttl in (300 * MS, 1 * S):
            _stops(kind, ttl, trials)


def _costs(renewals: int) -> None:
    unshare()
    Neighbour("eth0", "p0")
    for kind, make in KINDS.items():
        for count in (1, 200):
            gate = make()
            gate.protect(vips(count))
            gate.open({"g": vips(count)}, boottime() + 10 * S)
            _print_cost(f"{kind} renew {count}", renewals, lambda gate=gate: gate.renew(boottime() + 10 * S))
            _print_cost(f"{kind} protect {count}, unchanged", 50, lambda gate=gate, n=count: gate.protect(vips(n)))
            gate.remove()
    deadman = Deadman()
    _print_cost("deadman arm", renewals, lambda: deadman.arm(boottime() + 100 * S))
    deadman.close()


def _print_cost(what: str, times: int, call: Callable[[], None]) -> None:
    walls: list[int] = []
    began = time.thread_time_ns()
    for _ in range(times):
        before = time.perf_counter_ns()
        call()
        walls.append(time.perf_counter_ns() - before)
    cpu = (time.thread_time_ns() - began) / times / US
    walls.sort()
    p50, p99 = walls[times // 2] / US, walls[times * 99 // 100] / US
    print(f"{what}: cpu {cpu:.0f} us, wall p50 {p50:.0f} us, p99 {p99:.0f} us", flush=True)


def _stops(kind: str, ttl: int, trials: int) -> None:
    late: list[float] = []
    with Lab(hosts=1, etcd=0) as lab, tempfile.TemporaryDirectory() as directory:
        prober = lab.probe([vip4(), vip6()], step=1 * MS)
        holder = Holder(lab, kind, ttl, Path(directory) / "notes")
        for _ in range(trials):
            began = boottime()
            for each in (vip4(), vip6()):
                prober.wait_for_answer(each, after=began)
            holder.process.pause()
            deadline = holder.deadline()
            time.sleep(max(0, deadline - boottime()) / S + 0.03)
            seen = prober.timeline(began, boottime())
            late += [(seen.answers(each)[-1].at - deadline) / MS for each in (vip4(), vip6())]
            holder.process.resume()
    late.sort()
    median = statistics.median(late)
    print(f"{kind} ttl {ttl // MS} ms: last answer - deadline, ms: {late[0]:.2f} .. {median:.2f} .. {late[-1]:.2f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
