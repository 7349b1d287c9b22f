"""Judge histories: `python -m tests.judge FILE...`. Exit code 0: nothing is wrong in any of them.

tests/judge/run.py does the same, and has the simulator's mutants judged.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.judge.guarantees import judged
from tests.judge.history import read


def main(paths: list[str]) -> int:
    """One line for each history, and below it what is wrong in it."""
    wrong = 0
    for path in paths:
        with Path(path).open() as lines:
            found = judged(read(lines))
        wrong += bool(found)
        sys.stdout.write(f"{path}: {'; '.join(found) or 'nothing is wrong'}\n")
        for guarantee, those in found.items():
            for one in those[:20]:
                sys.stdout.write(f"  {guarantee}: {one}\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
