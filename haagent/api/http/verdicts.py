"""Yes or no, judged at the request: does this node own the group, is it ready, is it well? And if not, why not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from haagent.core.model import Role
from haagent.core.node import Node
from haagent.core.states import Owning
from haagent.core.units import Instant
from haagent.runtime.pump import Pump

REASONS_MOST = 20
"""Groups that a refusal names."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whether this node owns the group now (`here`); by which epoch, and who does for all it knows ("": nobody)."""

    here: bool
    owner: str
    epoch: int


def ownership(node: Node, group: str, now: Instant) -> Ownership | None:
    """None: there is no such group.

    By the lease as it runs at `now`, not by the role that was told last: a process that slept wakes up with old roles.
    """
    state = node.groups.get(group)
    if state is None:
        return None
    if isinstance(state, Owning) and state.ready and now < node.right(group):
        return Ownership(True, node.rules.node, state.epoch)
    record = node.view.record(group)
    owned = record is not None and not record.clean and node.view.alive(record.incarnation, now)
    other = record.node if record is not None and owned and record.node != node.rules.node else ""
    return Ownership(False, other, node.view.epochs.get(group, 0))


def unready(node: Node, lapsed_at: Instant | None, now: Instant) -> tuple[str, ...]:
    """Why this node takes no part yet; empty once its lease runs (or did in the last ttl) and no group is in INIT.

    `lapsed_at`: when the lease last lapsed, None if it never did.
    """
    just_lost = lapsed_at is not None and now - lapsed_at < node.rules.ttl
    reasons = [] if _holds(node, now) or just_lost else ["the lease does not run"]
    begun = (f"{name} is in INIT" for name, role in node.roles.items() if role is Role.INIT)
    return (*reasons, *islice(begun, REASONS_MOST))


def unwell(pump: Pump) -> tuple[str, ...]:
    """Why the agent must not be relied on; empty while the node takes in an event and its invariants hold after it."""
    pump.tick()
    if pump.failed.done():
        return ("the node must not go on: the log says why",)
    return ()


def _holds(node: Node, now: Instant) -> bool:
    return now < node.held_until
