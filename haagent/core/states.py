"""What a group can be, seen from one node: the states that `haagent.core.ownership` leads from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from haagent.core.model import Ask, Effect
from haagent.core.offering import NO_OFFER, Offer
from haagent.core.records import OwnerRecord, Revision
from haagent.core.units import MS, NEVER, Duration, Instant

RETRY: Duration = 100 * MS
"""Between attempts at what failed: a removal that the kernel refused, a write without an answer."""
KERNEL_PATIENCE: Duration = 2_000 * MS
"""A kernel operation that says nothing for that long is asked for again."""


@dataclass(frozen=True, slots=True)
class Adopting:
    """Just started, and the kernel still lets the group's addresses pass, by the lease of an earlier incarnation.

    Until `sweep_at`, when the gate closes, nobody else has a right to the group: if the record still names that
    incarnation, it is claimed with the addresses as they are, and nothing is lost in between. If not, or if etcd has
    shown nothing by then, they are removed like anything else that is found at start.
    """

    serial: int
    sweep_at: Instant


class Wished(NamedTuple):
    """By which record of the owner a wish to preempt was asked for."""

    epoch: int = 0
    revision: Revision = 0


NO_WISH: Final = Wished()


@dataclass(frozen=True, slots=True)
class Following:
    """Not the owner. May claim at `claim_at`, not before `not_before`; wishes to take over at `preempt_at`.

    `wished`: what it asked for last.
    """

    serial: int
    not_before: Instant = 0
    claim_at: Instant = NEVER
    preempt_at: Instant = NEVER
    wished: Wished = NO_WISH


@dataclass(frozen=True, slots=True)
class Fencing:
    """Would claim now, but first the node that held the group must be fenced (`haagent.core.fencing` sees to it)."""

    serial: int
    node: str


@dataclass(frozen=True, slots=True)
class Claiming:
    """A claim is under way; with `adopting` the kernel may still have what the dead incarnation left."""

    serial: int
    ask: Ask
    record: OwnerRecord
    give_up_at: Instant
    adopting: bool = False


@dataclass(frozen=True, slots=True)
class Owning:
    """The owner, by `epoch` and `since` then. `ready` once the kernel confirmed the addresses.

    `look_at`: when policies may want something without an event. `tidied`: of the intent that was asked to be deleted.
    `offer`: of its candidates.
    """

    serial: int
    epoch: int
    ready: bool
    since: Instant = 0
    look_at: Instant = NEVER
    tidied: Revision = 0
    offer: Offer = NO_OFFER


@dataclass(frozen=True, slots=True)
class Leaving:
    """Giving up: first the kernel must confirm that nothing answers any more (`removed`), only then the record changes.

    `release`: the record is owed a release, or with `to` a handover to that node, even if we could own again.
    `asked`: one was asked for. Until the record has changed it may still be done, answered or not: so it is owed.
    """

    serial: int
    epoch: int
    why: str
    retry_at: Instant
    to: str | None = None
    release: bool = False
    removed: bool = False
    asked: bool = False
    ask: Ask | None = None
    record: OwnerRecord | None = None


GroupState = Adopting | Following | Fencing | Claiming | Owning | Leaving

Decision = tuple[GroupState, tuple[Effect, ...]]


def due(state: GroupState) -> Instant:
    """When the group wants to decide again although nothing happened."""
    match state:
        case Adopting():
            return state.sweep_at
        case Following():
            return min(state.claim_at, state.preempt_at)
        case Claiming():
            return state.give_up_at
        case Owning():
            return min(state.look_at, state.offer.again_at)
        case Fencing():
            return NEVER
        case Leaving():
            return state.retry_at
