"""The core's words as etcd's messages, and etcd's keys as the core's values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from aetcd import rpc

from haagent.core.model import Commit
from haagent.core.records import Guard, HistoryEntry, Key, Kind, OwnerRecord, Put, Seen
from haagent.wire import records

_DATED: Final = (OwnerRecord, HistoryEntry)
_SHOWN_DATED: Final = (Kind.OWNERS, Kind.HISTORY)

# History is for people and grows; no decision needs it. The four other kinds are neighbours in the order of keys, with
# nothing of ours between them: one range has them all, so that one list is one instant and one watch one order.
_WATCHED: Final = sorted(kind for kind in Kind if kind is not Kind.HISTORY)
assert not _WATCHED[0] < Kind.HISTORY < _WATCHED[-1]


def watched_range(cluster: str) -> tuple[bytes, bytes]:
    """First key, and the key behind the last, of all that the core must know."""
    first = records.path(cluster, Key(_WATCHED[0], ""))
    last = records.path(cluster, Key(_WATCHED[-1], ""))
    return first.encode(), last.encode()[:-1] + b"0"  # "0" is what follows "/"


def history_range(cluster: str) -> tuple[bytes, bytes]:
    """First key, and the key behind the last, of the history of every group."""
    first = records.path(cluster, Key(Kind.HISTORY, "")).encode()
    return first, first[:-1] + b"0"


def transaction(cluster: str, effect: Commit, session: int) -> rpc.TxnRequest:
    """The transaction; refused, it reads what its guards are about. ValueError if a value cannot be written.

    All that it writes has one date.
    """
    since = datetime.now(UTC).isoformat(timespec="milliseconds")
    return rpc.TxnRequest(
        compare=[_compare(cluster, guard) for guard in effect.guards],
        success=[_put(cluster, put, session, since) for put in effect.puts]
        + [_delete(cluster, key) for key in effect.deletes],
        failure=_reads(cluster, guarded(effect)),
    )


def guarded(effect: Commit) -> tuple[Key, ...]:
    """The keys that a refusal shows, in their order."""
    return tuple(dict.fromkeys(guard.key for guard in effect.guards))


def looking(cluster: str, keys: Iterable[Key]) -> rpc.TxnRequest:
    """One linearizable read of all the keys, at one revision."""
    return rpc.TxnRequest(success=_reads(cluster, keys))


def shown(keys: Iterable[Key], response: rpc.TxnResponse) -> tuple[Seen, ...]:
    """The keys, as the reads of a transaction found them."""
    revision = response.header.revision
    found: list[Seen] = []
    for key, answer in zip(keys, response.responses, strict=True):
        kvs = answer.response_range.kvs
        found.append(_seen(key, kvs[0]) if kvs else Seen(key, 0, revision, None))
    return tuple(found)


def listed(kvs: Iterable[rpc.KeyValue]) -> list[Seen]:
    """The keys that are ours, as a list shows them."""
    return [_seen(key, kv) for kv in kvs if (key := _key(kv.key)) is not None]


def changed(events: Iterable[rpc.Event], after: int) -> tuple[Seen, ...]:
    """The keys that are ours, as a watch shows them, if they changed after that revision."""
    found: list[Seen] = []
    for event in events:
        kv = event.kv
        key = _key(kv.key)
        if key is None or kv.mod_revision <= after:
            continue
        gone = event.type == rpc.Event.DELETE
        found.append(Seen(key, 0, kv.mod_revision, None) if gone else _seen(key, kv))
    return tuple(found)


def _seen(key: Key, kv: rpc.KeyValue) -> Seen:
    since = records.since(kv.value) if key.kind in _SHOWN_DATED else 0
    return Seen(key, kv.create_revision, kv.mod_revision, records.decode(key.kind, kv.value), since)


def _key(path: bytes) -> Key | None:
    # What is not UTF-8 becomes unprintable, which no name of ours is.
    return records.key_of(path.decode(errors="surrogateescape"))


def _compare(cluster: str, guard: Guard) -> rpc.Compare:
    # A key that does not exist has the revision 0 in both respects.
    key = records.path(cluster, guard.key).encode()
    if guard.created:
        return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=key, create_revision=guard.revision)
    if guard.least:
        before = guard.revision - 1
        return rpc.Compare(result=rpc.Compare.GREATER, target=rpc.Compare.MOD, key=key, mod_revision=before)
    return rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=key, mod_revision=guard.revision)


def _put(cluster: str, put: Put, session: int, since: str) -> rpc.RequestOp:
    return rpc.RequestOp(
        request_put=rpc.PutRequest(
            key=records.path(cluster, put.key).encode(),
            value=records.encode(put.value, since if isinstance(put.value, _DATED) else None),
            lease=session if put.session else 0,
        )
    )


def _delete(cluster: str, key: Key) -> rpc.RequestOp:
    path = records.path(cluster, key).encode()
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=path))


def _reads(cluster: str, keys: Iterable[Key]) -> list[rpc.RequestOp]:
    return [rpc.RequestOp(request_range=rpc.RangeRequest(key=records.path(cluster, key).encode())) for key in keys]
