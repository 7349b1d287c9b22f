"""Fencing, as effect and events: a holder that lapsed is made sure of by other means before it is claimed from."""

from __future__ import annotations

from dataclasses import dataclass

from haagent.core.asking import Ask
from haagent.core.units import Instant


@dataclass(frozen=True, slots=True)
class Fence:
    """Make sure that this incarnation of a node answers for nothing any more, before `until`.

    `group` and `epoch` are what is about to be claimed from it; there may be more that it held. Answered, in any case,
    by one of the three events below, and the first of them before the claim.
    """

    ask: Ask
    group: str
    node: str
    incarnation: str
    epoch: int
    until: Instant


@dataclass(frozen=True, slots=True)
class FenceConfirmed:
    """The incarnation that was asked about answers for nothing any more."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class FenceRefused:
    """It could not be made sure of, or must not be claimed from; `why` in the words of whoever was asked."""

    ask: Ask
    why: str


@dataclass(frozen=True, slots=True)
class FenceTimedOut:
    """Nobody can tell whether it was made sure of: there was no answer before the question's `until`."""

    ask: Ask
