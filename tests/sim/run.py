"""Many seeds, or one again: progress, what went wrong, totals, and the command that replays a failure.

tests/sim/run.py --seeds 1000 --jobs 2        a thousand worlds
tests/sim/run.py --seed 17 --trace            one of them, with all that happened
tests/sim/run.py --seeds 50 --mutant NAME     with a mistake planted: it must be found
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.sim.mutants import MUTANTS
from tests.sim.planting import planted
from tests.sim.simulate import Outcome, simulate


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: no violation (with a mutant: found)."""
    options = _options(arguments)
    began = time.monotonic()
    first = options.seed if options.seed is not None else options.first
    seeds = range(first, first + (1 if options.seed is not None else options.seeds))
    totals: Counter[str] = Counter()
    failed: list[Outcome] = []
    done = 0
    for outcome in _run(seeds, options.mutant, options.jobs):
        done += 1
        totals += outcome.totals
        if outcome.violation:
            failed.append(outcome)
            _say(f"seed {outcome.seed}: {outcome.violation}")
            if len(failed) >= options.failures:
                break
        if done % 100 == 0:
            _say(f"{done} of {len(seeds)} seeds, {len(failed)} failed, {time.monotonic() - began:.1f} s")
    took = time.monotonic() - began
    _report(totals, done, took)
    if failed or options.trace:
        _retell(failed[0].seed if failed else seeds[0], options.mutant, options.lines if not options.trace else None)
    if failed:
        mutant = f" ARGS='--mutant {options.mutant}'" if options.mutant else ""
        _say(f"\n{len(failed)} of {done} seeds failed. Replay: make sim SEED={failed[0].seed}{mutant}")
    return int(bool(failed) is not bool(options.mutant))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="", help="plant this mistake")
    parser.add_argument("--trace", action="store_true", help="tell everything of the (first failed) seed")
    parser.add_argument("--lines", type=int, default=60, help="lines of trace told of a failure")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many")
    return parser.parse_args(arguments)


def _run(seeds: range, mutant: str, jobs: int) -> Iterator[Outcome]:
    work = [(seed, mutant) for seed in seeds]
    if jobs < 2 or len(work) < 2:
        yield from map(_one, work)
        return
    with get_context("fork").Pool(jobs) as pool:
        yield from pool.imap(_one, work, chunksize=4)


def _one(work: tuple[int, str]) -> Outcome:
    seed, mutant = work
    with planted(mutant):
        return simulate(seed, **_world(mutant))


def _world(mutant: str) -> dict[str, bool]:
    """In which worlds a mutant is looked for."""
    return {"gated": MUTANTS[mutant].gated, "promises": MUTANTS[mutant].promises} if mutant else {}


def _retell(seed: int, mutant: str, lines: int | None) -> None:
    with planted(mutant):
        outcome = simulate(seed, tracing=True, **_world(mutant))
    kept = outcome.trace if lines is None else outcome.trace[len(outcome.trace) - lines :] if lines else []
    _say(f"\nseed {seed}, time in ms, the last {len(kept)} of {len(outcome.trace)} lines:")
    for line in kept:
        _say(line)


def _report(totals: Counter[str], done: int, took: float) -> None:
    _say(f"\n{done} worlds in {took:.1f} s ({done / took:.1f}/s)")
    for what, count in sorted(totals.items(), key=lambda one: -one[1]):
        _say(f"{count:10}  {what}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
