"""Bytes to what a peer said, or the reason why it is not taken; what we say, to bytes. Pure; nothing raises.

Who speaks was proven by the connection; what it says of others, or of another incarnation than the one that greeted,
is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from haagent.api.peers.greeting import Greeting
from haagent.api.peers.reasons import Reason, Refused
from haagent.core.heartbeat import HeartbeatReceived, PromiseReceived, SendHeartbeat, SendPromise, Tenure
from haagent.core.units import MS, Duration, Instant, S
from haagent.v1 import peers_pb2, status_pb2

MESSAGE_MOST: Final = 128 * 1024
"""Bytes of a message: a node of a thousand groups with the longest names can still say that it owns them all."""
TENURES_MOST: Final = 1000
"""As many as there can be groups in a configuration."""
NAME_MOST: Final = 253
TTL_LEAST: Final[Duration] = 1 * MS
TTL_MOST: Final[Duration] = 3600 * S
_NUMBER_MOST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """A ping: to be answered at once."""

    number: int
    sent_at: Instant


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a ping of ours, which was sent at `sent_at` by our clock; it was `at` by the peer's."""

    number: int
    sent_at: Instant
    at: Instant


@dataclass(frozen=True, slots=True)
class Reported:
    """How the peer says that it is."""

    status: status_pb2.NodeStatus


Heard = HeartbeatReceived | PromiseReceived | Asked | Answered | Reported


def read_greeting(data: bytes) -> Greeting | Refused:
    """The first message of a stream."""
    body = _parsed(data)
    if isinstance(body, Refused):
        return body
    if not isinstance(body, peers_pb2.Hello):
        return Refused(Reason.NO_HELLO, f"it began with {_kind(body)}")
    for text in (body.cluster, body.node, body.incarnation):
        if not _name(text):
            return Refused(Reason.TEXT, f"hello: names must be 1 to {NAME_MOST} printable characters")
    if len(body.release) > NAME_MOST or not body.release.isprintable():
        return Refused(Reason.TEXT, "hello: its release is no printable text")
    if not 1 <= body.oldest_version <= body.newest_version:
        return Refused(Reason.NUMBER, f"hello: versions {body.oldest_version} to {body.newest_version}")
    return Greeting(body.cluster, body.node, body.incarnation, body.release, body.oldest_version, body.newest_version)


def read(data: bytes, peer: Greeting) -> Heard | Refused:
    """Any message after the first, from who greeted so."""
    match _parsed(data):
        case Refused() as refused:
            return refused
        case peers_pb2.Heartbeat() as body:
            return _heartbeat(body, peer)
        case peers_pb2.Promise() as body:
            return _promise(body, peer)
        case peers_pb2.Ping() as body:
            return Asked(body.number, body.sent_at_ns)
        case peers_pb2.Pong() as body:
            return Answered(body.number, body.sent_at_ns, body.at_ns)
        case status_pb2.NodeStatus() as body:
            return _status(body, peer)
        case body:
            return Refused(Reason.UNEXPECTED, f"{_kind(body)} in the middle of a stream")


def greeting(ours: Greeting) -> bytes:
    """Hello."""
    hello = peers_pb2.Hello(
        oldest_version=ours.oldest,
        newest_version=ours.newest,
        cluster=ours.cluster,
        node=ours.node,
        incarnation=ours.incarnation,
        release=ours.release,
    )
    return peers_pb2.PeerMessage(hello=hello).SerializeToString()


def heartbeat(effect: SendHeartbeat) -> bytes:
    """Heartbeat."""
    body = peers_pb2.Heartbeat(
        incarnation=effect.incarnation, round=effect.round, ttl_ns=effect.ttl, tenures=_said(effect.tenures)
    )
    return peers_pb2.PeerMessage(heartbeat=body).SerializeToString()


def promise(effect: SendPromise) -> bytes:
    """Promise."""
    body = peers_pb2.Promise(
        incarnation=effect.incarnation, round=effect.round, tenures=_said(effect.tenures), machine=effect.machine
    )
    return peers_pb2.PeerMessage(promise=body).SerializeToString()


def ping(asked: Asked) -> bytes:
    """Ping."""
    return peers_pb2.PeerMessage(ping=peers_pb2.Ping(number=asked.number, sent_at_ns=asked.sent_at)).SerializeToString()


def pong(asked: Asked, now: Instant) -> bytes:
    """The answer to a ping."""
    body = peers_pb2.Pong(number=asked.number, sent_at_ns=asked.sent_at, at_ns=now)
    return peers_pb2.PeerMessage(pong=body).SerializeToString()


def status(report: status_pb2.NodeStatus) -> bytes:
    """NodeStatus. What does not fit a message is left out: alarms first, then groups from the end."""
    message = peers_pb2.PeerMessage(status=report)
    if message.ByteSize() > MESSAGE_MOST:
        del message.status.alarms[:]
        while message.ByteSize() > MESSAGE_MOST and message.status.groups:
            del message.status.groups[len(message.status.groups) // 2 :]
    return message.SerializeToString()


# --- helpers


def _parsed(data: bytes) -> Message | Refused:
    """What is in the message."""
    if len(data) > MESSAGE_MOST:
        return Refused(Reason.OVERSIZED, f"{len(data)} bytes, must be at most {MESSAGE_MOST}")
    try:
        message = peers_pb2.PeerMessage.FromString(data)
        kind = message.WhichOneof("body")
    except (DecodeError, UnicodeDecodeError):
        return Refused(Reason.GARBAGE, f"{len(data)} bytes that are no message")
    if kind is None:
        # From a later version, or nothing at all.
        return Refused(Reason.UNEXPECTED, f"{len(data)} bytes that say nothing we know")
    body: Message = getattr(message, kind)
    return body


def _heartbeat(body: peers_pb2.Heartbeat, peer: Greeting) -> HeartbeatReceived | Refused:
    if body.incarnation != peer.incarnation:
        return Refused(Reason.INCARNATION, "a heartbeat of another incarnation than the one that greeted")
    if not TTL_LEAST <= body.ttl_ns <= TTL_MOST:
        return Refused(Reason.NUMBER, f"a heartbeat with a ttl of {body.ttl_ns} ns")
    tenures = _tenures(body.tenures, body.round)
    if isinstance(tenures, Refused):
        return tenures
    return HeartbeatReceived(peer.node, body.incarnation, body.round, body.ttl_ns, tenures)


def _promise(body: peers_pb2.Promise, peer: Greeting) -> PromiseReceived | Refused:
    if not _name(body.incarnation):
        return Refused(Reason.TEXT, "a promise to no incarnation")
    if body.machine and not _name(body.machine):
        return Refused(Reason.TEXT, "a promise of a machine without a printable name")
    tenures = _tenures(body.tenures, body.round)
    if isinstance(tenures, Refused):
        return tenures
    return PromiseReceived(peer.node, body.machine, body.incarnation, body.round, tenures)


def _tenures(tenures: Iterable[peers_pb2.Tenure], number: int) -> tuple[Tenure, ...] | Refused:
    taken = tuple(Tenure(each.group, each.epoch) for each in tenures)
    if len(taken) > TENURES_MOST:
        return Refused(Reason.TENURES, f"{len(taken)} groups, must be at most {TENURES_MOST}")
    if not all(_name(tenure.group) for tenure in taken):
        return Refused(Reason.TEXT, f"the name of a group must be 1 to {NAME_MOST} printable characters")
    if number > _NUMBER_MOST or any(tenure.epoch > _NUMBER_MOST for tenure in taken):
        return Refused(Reason.NUMBER, f"rounds and epochs must be at most {_NUMBER_MOST}")
    if len({tenure.group for tenure in taken}) < len(taken):
        return Refused(Reason.TENURES, "a group is named twice")
    return taken


def _status(body: status_pb2.NodeStatus, peer: Greeting) -> Reported | Refused:
    if (body.node, body.incarnation) != (peer.node, peer.incarnation):
        return Refused(Reason.INCARNATION, "a status of somebody else than who greeted")
    if not _printable(body):
        return Refused(Reason.TEXT, "a status with characters that are not printable")
    return Reported(body)


def _printable(message: Message) -> bool:
    """Whether all texts in it, however deep, are: people will look at them on terminals."""
    for _, value in message.ListFields():
        for each in _each(value):
            if isinstance(each, str) and not each.isprintable():
                return False
            if isinstance(each, Message) and not _printable(each):
                return False
    return True


def _each(value: Any) -> Iterable[object]:
    """The values of a field: one, those of a repeated field, or the keys of a map."""
    return (value,) if isinstance(value, str | bytes | int | float | Message) else value


def _name(text: str) -> bool:
    return 1 <= len(text) <= NAME_MOST and text.isprintable()


def _kind(body: Message) -> str:
    return type(body).__name__.lower()


def _said(tenures: Iterable[Tenure]) -> list[peers_pb2.Tenure]:
    return [peers_pb2.Tenure(group=tenure.group, epoch=tenure.epoch) for tenure in tenures]
