"""Who may own a group besides its owner, and so is named by its record: the nodes whose member keys list it."""

from __future__ import annotations

from haagent.core.model import Rules
from haagent.core.records import Candidate
from haagent.core.view import View


def candidates(view: View, group: str, rules: Rules) -> tuple[Candidate, ...]:
    """These nodes and ourselves, without the drained ones, and the machines that go by their names."""
    others = {node for node, member in view.members.items() if group in member.standings}
    nodes = sorted((others | {rules.node}).difference(view.orders.drained))
    # Of ourselves we know; of others their member keys tell.
    return tuple(Candidate(one, rules.machine if one == rules.node else view.members[one].machine) for one in nodes)


def names(view: View, group: str, node: str) -> bool:
    """Whether the group's record names the node as a candidate."""
    record = view.record(group)
    return record is not None and node in record.candidates
