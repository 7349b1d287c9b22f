"""What nodes tell each other of the addresses that they own: the words of `haagent.core.reachability`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unreachable(StrEnum):
    """What an owner does whose peers get no answer from its addresses: raise an alarm, or also let another node own."""

    ALARM = "alarm"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class ReachReported:
    """What the peers get from the addresses that this node owns by `epoch`. `silent`: empty when they answer."""

    group: str
    epoch: int
    silent: str
