"""Whether sending works: every failure counted by its errno, each change of state logged once."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from typing import Final

log = logging.getLogger("haagent.vrrp")


class Outcomes:
    """What became of the last attempt of each sender."""

    def __init__(self, counters: Counter[str], what: str) -> None:
        """Failures count as `<what>_<ERRNO>`."""
        self._counters = counters
        self._what = what
        self._failing: dict[str, int] = {}

    def worked(self, sender: str) -> None:
        """It was sent."""
        if self._failing and self._failing.pop(sender, None) is not None:
            log.warning("%s: can %s again", sender, self._what)

    def failed(self, sender: str, error: OSError) -> None:
        """It was not."""
        number = error.errno or errno.EIO
        self._counters[f"{self._what}_{errno.errorcode.get(number, number)}"] += 1
        if self._failing.get(sender) != number:
            self._failing[sender] = number
            log.warning("%s: cannot %s: %s", sender, self._what, WORDS.get(number) or os.strerror(number))


# What the kernel says for a source that is not of this host, depending on the route that it would take.
_NO_SOURCE: Final = "no route from there, or the source address is not of this host"
WORDS: Final = {errno.EINVAL: _NO_SOURCE, errno.ENETUNREACH: _NO_SOURCE}
