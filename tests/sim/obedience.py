"""Operators' orders in a simulated world: what a node knows of them, it must obey.

An order is known to a node whose stream has shown the revision that it stands at; what the node makes of it does not
count. A cluster that is paused, or wholly drained, may stay without an owner: that is no violation while it lasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from haagent.core.model import Asking, Commit
from haagent.core.records import ORDERS, Orders, OwnerRecord
from haagent.core.states import GroupState, Leaving

if TYPE_CHECKING:
    from tests.sim.host import Agent
    from tests.sim.world import World


class Obedience:
    """What of planned work must never happen; each method says what is wrong, or nothing."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._granted: set[tuple[str, str, int]] = set()

    def asked(self, agent: Agent, effect: Commit) -> str:
        """A transaction leaves the host: a claim, a release or a handover."""
        orders, me, group = self._known(agent), agent.name, effect.ask.name
        if effect.ask.kind is Asking.CLAIM:
            record = agent.node.view.record(group)
            if record is None or record.node != me:
                if me in orders.drained:
                    return f"{agent!r} claims {group}, and is drained"
                if record is not None and orders.paused:
                    return f"{agent!r} claims {group} of {record.node}, in a pause"
        elif effect.ask.kind is Asking.RELEASE:
            to = next((put.value.node for put in effect.puts if isinstance(put.value, OwnerRecord)), me)
            if to != me and orders.paused:
                return f"{agent!r} hands {group} over to {to}, in a pause"
            if to != me and to in orders.drained:
                return f"{agent!r} hands {group} over to {to}, which is drained"
        return ""

    def _known(self, agent: Agent) -> Orders:
        etcd = self._world.etcd
        seen = etcd.keys.get(ORDERS)
        view = agent.node.view
        if seen is None or view.cluster != etcd.cluster or view.revision < seen.revision:
            return Orders()
        if seen.revision <= etcd.began and agent.listed_in != etcd.history:
            return Orders()  # of a history that was restored under the same cluster id, and that it has not listed yet
        return seen.value if isinstance(seen.value, Orders) else Orders()

    def stepped(self, agent: Agent, group: str, state: GroupState) -> str:
        """A group is as it is after a step: a handover that begins must be one whose time has come, and not passed."""
        if not isinstance(state, Leaving) or state.to is None:
            return ""
        node = agent.node
        handover = (node.rules.incarnation, group, state.epoch)
        if handover in self._granted:
            return ""
        self._granted.add(handover)
        intent = node.view.intents.get(group)
        if agent.name in node.view.orders.drained or intent is None:
            return ""
        ahead = node._context.wall_ahead
        wall = None if ahead is None else node._context.now + ahead
        if intent.not_before and (wall is None or wall < intent.not_before):
            return f"{agent!r} hands {group} over too early: {intent}, at {wall}"
        if intent.expires and (wall is None or wall >= intent.expires):
            return f"{agent!r} hands {group} over too late: {intent}, at {wall}"
        return ""
