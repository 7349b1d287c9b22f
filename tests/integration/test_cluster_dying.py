"""Who has a part in a switchover dies in its middle: never two that answer, soon one that does, and no command lies.

The real haagentctl is asked; the agent that gives, the one that takes, or the command itself ends at three moments
after the wish was written. `make bench` has more moments, and says how long the gaps are.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from haagent.core.units import MS
from haagent.lab.commands import now
from tests.bench.dying import KILLED, Victim, die, wishes
from tests.bench.moving import bed
from tests.integration.clusters import Story, one_owner
from tests.integration.conftest import Measure

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(150),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

MOMENTS = (0, 8 * MS, 25 * MS)
GAP_MS = 2500
"""A lease and 300 ms on a machine that does nothing else; here others run beside it."""


@pytest.mark.parametrize("addresses", [1, 200])
@pytest.mark.parametrize("victim", Victim, ids=lambda victim: victim.value.replace(" ", "-"))
def test_what_dies_in_the_middle_of_a_switchover(tmp_path: Path, measure: Measure, victim: Victim, addresses: int):
    with bed(addresses, logs=tmp_path / "logs") as made, wishes(made) as seen:
        story, since = Story(made.cluster), now()
        for after in MOMENTS:
            # One that hangs keeps whoever asked it waiting for long.
            ended = die(made, seen, victim, after, ask_victim=after == MOMENTS[-1] and victim in KILLED)
            measure(f"after_{after // MS}_ms", f"gap {ended.gap:.0f} ms, code {ended.code}")
            assert not ended.lie, ended
            assert ended.gap < GAP_MS, ended
        one_owner(story, made.prober, since)
