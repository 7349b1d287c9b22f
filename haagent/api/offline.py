"""The status of a cluster when no agent answers: what its keys in etcd show. Nothing is known of any kernel."""

from __future__ import annotations

from haagent.api.planning import Scene
from haagent.api.status import intent_message, member_message
from haagent.core.records import Kind, Seen
from haagent.v1 import status_pb2


def status(cluster: str, at: Scene, seen: tuple[Seen, ...]) -> status_pb2.Status:
    """As far as the keys tell. `self` says nothing; an owner is one that renews its lease."""
    since = {one.key.name: one.since for one in seen if one.key.kind is Kind.OWNERS}
    return status_pb2.Status(
        cluster=cluster,
        at_wall_ns=at.wall,
        groups=[_group(name, at, since.get(name, 0)) for name in at.groups],
        members=[_member(node, at) for node in sorted(at.nodes)],
        paused_by=at.orders.paused,
    )


def _group(name: str, at: Scene, since: int) -> status_pb2.Group:
    message = status_pb2.Group(name=name, since_wall_ns=since)
    record = at.owners.get(name)
    if record is not None:
        message.owner = at.owner(name) if record.incarnation in at.pulses else ""
        message.last_owner = record.node
        message.epoch = record.epoch
        message.reason = record.reason
        message.candidates.extend(record.candidates)
    if (intent := at.intents.get(name)) is not None:
        message.intent.CopyFrom(intent_message(intent))
    return message


def _member(node: str, at: Scene) -> status_pb2.Member:
    member = at.members.get(node)
    alive = member is not None and member.incarnation in at.pulses
    return member_message(node, member, alive=alive, drained=node in at.orders.drained)
