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

from hypothesis import settings

settings.register_profile("haagent", deadline=None, print_blob=True)
settings.load_profile("haagent")
