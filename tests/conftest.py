"""What all tests share: how hypothesis searches, and who runs beside whom.

`make test` runs several tests at a time, each in a process of its own. So a test shares nothing of the machine with
others: no namespace, port, path or name that is not its own, no look at what else runs; and it asserts on order, counts
and states, or on times with room for a core that is busy elsewhere. One that can not, for it measures to the
millisecond, loads all cores itself, or looks at the whole machine, is marked `alone`: those run at the end, one after
the other. Plain `pytest` runs all tests one after the other.

No deadline per example: on a busy machine it would measure the neighbours. pytest's timeout bounds the whole
test.
"""

from __future__ import annotations

from itertools import pairwise
from types import TracebackType

import pytest
from hypothesis import settings

settings.register_profile("haagent", deadline=None, print_blob=True)
settings.load_profile("haagent")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """Show a failure from the test on, without the frames of pytest before it.

    And without frames that have no line number, as Python 3.11 makes them: pytest fails over those, and that ends the
    run of all tests.
    """
    error = None if call.excinfo is None else call.excinfo.value
    while error is not None:
        error.__traceback__ = _shown(error.__traceback__)
        if call.excinfo is not None and error is call.excinfo.value:
            call.excinfo = pytest.ExceptionInfo.from_exception(error)
        error = error.__cause__ or error.__context__


def _shown(trace: TracebackType | None) -> TracebackType | None:
    found: list[TracebackType] = []
    start = trace
    while start is not None and start.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _RUNNERS:
        start = start.tb_next
    trace = start or trace
    while trace is not None:
        if getattr(trace, "tb_lineno", None) is not None:
            found.append(trace)
        trace = trace.tb_next
    for before, after in pairwise([*found, None]):
        if before is not None:
            before.tb_next = after
    return found[0] if found else None


_RUNNERS = {"_pytest", "pluggy", "pytest_timeout", "xdist"}
