"""The log of the etcd adapter: one line when something changes, none per attempt."""

from __future__ import annotations

import logging
from typing import Final

_LOG: Final = logging.getLogger("haagent.etcd")


class Announcer:
    """Says a topic's state when it differs from what was said of it last."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def good(self, topic: str, state: str) -> None:
        """The topic is as it should be (INFO)."""
        self._say(logging.INFO, topic, state)

    def bad(self, topic: str, state: str) -> None:
        """The topic is not as it should be (WARNING)."""
        self._say(logging.WARNING, topic, state)

    def over(self, topic: str, state: str) -> None:
        """As `good`, but no line unless something was said of the topic before."""
        if topic in self._said:
            self._say(logging.INFO, topic, state)

    def _say(self, level: int, topic: str, state: str) -> None:
        if self._said.get(topic) != state:
            self._said[topic] = state
            _LOG.log(level, "etcd: %s: %s", topic, state)
