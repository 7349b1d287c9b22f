"""The simulator finds every mistake that is planted in the rules, within the seeds (or by the story) that it names."""

from __future__ import annotations

from multiprocessing import get_context

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.planting import found

pytestmark = [pytest.mark.sim, pytest.mark.slow]


WANTED = [name for name, mutant in MUTANTS.items() if not mutant.redundant]


@pytest.fixture(scope="module")
def violations() -> dict[str, str]:
    """By mutant: what was found, and where; empty if nothing was."""
    with get_context("fork").Pool(2) as pool:
        return dict(zip(WANTED, pool.map(found, WANTED, chunksize=1), strict=True))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", WANTED)
def test_found(name: str, violations: dict[str, str]):
    mutant = MUTANTS[name]
    assert violations[name], f"{mutant.mistake}: not found in {mutant.seeds} seeds"


def test_planting_leaves_nothing_behind():
    patched = [(owner, attribute) for mutant in MUTANTS.values() for owner, attribute, _ in mutant.patches]
    before = [owner.__dict__[attribute] for owner, attribute in patched]
    found("speaks-on")
    assert [owner.__dict__[attribute] for owner, attribute in patched] == before
