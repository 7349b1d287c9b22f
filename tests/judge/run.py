"""The second judge over the simulator: many worlds, in which nothing may be wrong, and the table of the mutants.

tests/judge/run.py --seeds 1000             so many worlds
tests/judge/run.py --mutants                which mutant is found by which guarantee, and which is not and why
tests/judge/run.py --write FILE --seed 7    one world's history, for `python -m tests.judge FILE`
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.judge.guarantees import judged
from tests.judge.history import Line, of
from tests.judge.mutants import UNSEEN, Judged, hunted
from tests.judge.simulator import written
from tests.sim.mutants import MUTANTS
from tests.sim.simulate import LASTS, _live


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: nothing is wrong; of the mutants: all are found that must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--mutants", action="store_true", help="the table of the mutants")
    parser.add_argument("--within", type=float, default=300.0, help="seconds for each mutant")
    parser.add_argument("--write", default="", help="write the history of a seed to this file")
    parser.add_argument("--seed", type=int, default=1, help="of which seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    if options.write:
        Path(options.write).write_text("\n".join(json.dumps(line) for line in of_seed(options.seed)))
        return 0
    if options.mutants:
        return _mutants(options.within, options.jobs)
    wrong = done = 0
    with get_context("fork").Pool(options.jobs) as pool:
        for seed, found in pool.imap(_judged, range(1, options.seeds + 1), chunksize=4):
            done += 1
            if found:
                wrong += 1
                _say(f"seed {seed}: " + "; ".join(f"{name}: {those[0]}" for name, those in found.items()))
            if done % 100 == 0:
                _say(f"{done} of {options.seeds} seeds, something is wrong in {wrong}")
    _say(f"{done} worlds judged, something is wrong in {wrong}")
    return int(bool(wrong))


def of_seed(seed: int) -> list[Line]:
    """The history of a world drawn from the seed."""
    return written(lambda world: _live(world, LASTS, None, None), seed)


def _judged(seed: int) -> tuple[int, dict[str, list[str]]]:
    return seed, judged(of(of_seed(seed)))


def _mutants(within: float, jobs: int) -> int:
    missed = 0
    with get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for one in pool.imap(partial(hunted, within=within), MUTANTS, chunksize=1):
            missed += not one.found and one.name not in UNSEEN and not MUTANTS[one.name].redundant
            _say(_line(one))
    _say(f"\n{missed} missed that must be found")
    return int(bool(missed))


def _line(one: Judged) -> str:
    said = ", ".join(one.found)
    if not said:
        said = MUTANTS[one.name].redundant or UNSEEN.get(one.name, "MISSED")
        said = f"not found: {said}"
    return f"{one.name:26} {one.where:30} {one.worlds:4} worlds {one.seconds:6.1f} s  {said}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
