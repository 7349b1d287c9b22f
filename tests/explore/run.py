"""Small worlds, looked at exhaustively: how many states, how fast, how deep; and which mutants that finds.

tests/explore/run.py --states 20000 --deviations 1            every world, so many distinct states of each at the most
tests/explore/run.py --world two --deviations 2               one of them
tests/explore/run.py --mutants                                each mistake of the core, in each world, until it is found
tests/explore/run.py --mutant no-drift --world long --trace   one of them, and how it came to it
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.explore.mutants import BEYOND
from tests.explore.search import Found, retold, search
from tests.explore.worlds import WORLDS, Small
from tests.sim.mutants import MUTANTS
from tests.sim.planting import planted


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: no violation (with mutants: as many found as there must be)."""
    options = _options(arguments)
    worlds = [WORLDS[options.world]] if options.world else list(WORLDS.values())
    if options.mutants or options.mutant:
        names = [options.mutant] if options.mutant else [name for name in MUTANTS if name not in BEYOND]
        return _mutants(names, worlds, options)
    work = [(small, options.deviations, options.states, "") for small in worlds]
    founds = list(_tell_each(work, options.jobs))
    states, seconds = sum(one.states for one in founds), sum(one.seconds for one in founds)
    _say(f"\n{states} distinct states in {seconds:.0f} s of work: {states / max(seconds, 0.001):.0f} a second")
    failed = [one for one in founds if one.violation]
    for one in failed:
        _say("\n" + "\n".join([one.world, *retold(WORLDS[one.world], one.path)]))
    return int(bool(failed))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=200_000, help="distinct states of each world, at the most")
    parser.add_argument("--deviations", type=int, default=1, help="how many may be on one way")
    parser.add_argument("--world", choices=sorted(WORLDS), default="", help="only this one")
    parser.add_argument("--mutants", action="store_true", help="which mistakes are found, and with how much")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="", help="plant this one")
    parser.add_argument("--trace", action="store_true", help="tell the way to each violation")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    return parser.parse_args(arguments)


def _tell_each(work: list[tuple[Small, int, int, str]], jobs: int) -> Iterable[Found]:
    _say(f"{'world':10} {'dev.':>4} {'states':>9} {'a second':>9} {'depth':>6} {'branching':>9}  all?  violation")
    with get_context("fork").Pool(min(jobs, len(work)), maxtasksperchild=1) as pool:
        for one in pool.imap(_one, work):
            _say(
                f"{one.world:10} {one.budget:4} {one.states:9} {one.rate:9.0f} {one.depth:6} {one.branching:9.3f}  "
                f"{'all ' if one.complete else 'part'}  {one.violation or '-'}"
            )
            yield one


def _one(work: tuple[Small, int, int, str]) -> Found:
    small, deviations, states, mutant = work
    with planted(mutant):
        return search(small, deviations, states)


def _mutants(names: list[str], worlds: list[Small], options: argparse.Namespace) -> int:
    work = [(name, worlds, options.deviations, options.states) for name in names]
    missed = 0
    with get_context("fork").Pool(min(options.jobs, len(work)), maxtasksperchild=1) as pool:
        for name, one, states, seconds in pool.imap_unordered(hunted, work):
            missed += not one.violation
            where = f"{one.world}, {one.deviations} deviations, {one.steps} steps" if one.violation else "not found"
            _say(f"{name:26} {where:44} {states:9} states {seconds:6.1f} s  {one.violation[:90]}")
            if options.trace and one.violation:
                with planted(name):
                    _say("\n".join(retold(WORLDS[one.world], one.path)))
    _say(f"\n{len(names) - missed} of {len(names)} found")
    return int(bool(missed and options.mutant))


def hunted(work: tuple[str, list[Small], int, int]) -> tuple[str, Found, int, float]:
    """Look for a mutant: first with one deviation in every world, then with more."""
    name, worlds, deviations, most = work
    began, states, one = time.monotonic(), 0, Found("", 0)
    for budget in range(1, deviations + 1):
        for small in worlds:
            one = _one((small, budget, most, name))
            states += one.states
            if one.violation:
                return name, one, states, time.monotonic() - began
    return name, one, states, time.monotonic() - began


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
