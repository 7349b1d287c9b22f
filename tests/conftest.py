"""What all tests share: how hypothesis searches.

No deadline per example: on a busy machine it would measure the neighbours. pytest's timeout bounds the whole
test.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("haagent", deadline=None, print_blob=True)
settings.load_profile("haagent")
