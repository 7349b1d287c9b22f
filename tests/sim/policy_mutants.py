"""What goes wrong when an order is forgotten, a time misread, or a policy leaves a group to nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from haagent.core import claims, policy
from haagent.core.claims import Situation
from haagent.core.groups import Groups
from haagent.core.records import Kind, Orders, Seen
from haagent.core.units import NEVER, Duration, Instant
from haagent.core.view import View
from tests.sim.planting import mutant

_barred, _owner, _able, _take = policy.barred, policy.owner, claims.able, View._take


def _with_orders(at: Situation, change: Callable[[Orders], Orders], call: Callable[..., Any], *arguments: Any) -> Any:
    """Call as if the orders were others."""
    kept = at.view.orders
    at.view.orders = change(kept)
    try:
        return call(at, *arguments)
    finally:
        at.view.orders = kept


def _unpaused(orders: Orders) -> Orders:
    return replace(orders, paused="")


def _undrained(orders: Orders) -> Orders:
    return replace(orders, drained=())


def _owner_unpaused(at: Situation, epoch: int, since: Instant) -> policy.Move | policy.Stay:
    return _with_orders(at, _unpaused, _owner, epoch, since)


def _able_unless_drained(at: Situation, node: str) -> str | None:
    return _with_orders(at, _undrained, _able, node)


mutant(
    "paused-claims",
    "a pause keeps nobody from claiming",
    (policy, "barred", lambda at: _with_orders(at, _unpaused, _barred)),
)
mutant(
    "paused-hands-over",
    "an owner hands over in a pause",
    (policy, "owner", _owner_unpaused),
    (policy, "still_wanted", lambda at, to: to),
)
mutant(
    "drained-claims",
    "a drained node claims like any other",
    (policy, "barred", lambda at: _with_orders(at, _undrained, _barred)),
)
mutant(
    "drained-target",
    "a group is handed over to a node that is drained",
    (claims, "able", _able_unless_drained),
    (policy, "able", _able_unless_drained),
    seeds=120,
)


def _take_but_orders(known: View, seen: Seen, *more: Any, **named: Any) -> None:
    if seen.key.kind is not Kind.ORDERS or known.orders == Orders():
        _take(known, seen, *more, **named)


mutant("orders-kept", "the first orders are believed for ever", (View, "_take", _take_but_orders))
mutant(
    "resumed-unheard",
    "nobody decides anew when the orders change",
    (Groups, "ordered", lambda groups: None),
    story="paused_owner_dies",
)
mutant("expired-granted", "an intent is granted after its time", (policy, "_expired", lambda intent, at: False))
mutant("granted-early", "an intent is granted before its time", (policy, "_due", lambda intent, at: True))


def _never_while_damped(at: Situation) -> Duration:
    return NEVER // 2 if at.plans.damped_until else 0


mutant("damped-never", "a damped node does not claim at all", (policy, "deference", _never_while_damped))
