"""Events and effects in few words, for the trace of a world that went wrong."""

from __future__ import annotations

from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    AdvertReceived,
    Alarm,
    Commit,
    Committed,
    ExtendAddresses,
    InstallAddresses,
    InterfaceChanged,
    KernelFailed,
    LeaseChanged,
    Listed,
    Look,
    Refused,
    RemoveAddresses,
    RoleChanged,
    RulesChanged,
    SendAdvert,
    Unanswered,
    WallClockRead,
    Watched,
    WindowChanged,
)
from haagent.core.records import Garbage, Intent, Key, Kind, LeaseValue, MemberValue, Orders, OwnerRecord, Seen
from haagent.core.units import MS


def condensed(what: object) -> str:  # noqa: C901, PLR0912 - one case a kind of thing
    """One event or effect, short."""
    match what:
        case Watched(revision, seen):
            return f"Watched {revision} {_news(seen)}"
        case Listed(cluster, revision, seen):
            return f"Listed {cluster} {revision} {_news(seen)}"
        case Committed(ask, revision):
            return f"Committed {ask.kind} {ask.name} #{ask.number} at {revision}"
        case Refused(ask, revision, seen):
            return f"Refused {ask.kind} {ask.name} #{ask.number} at {revision} {_news(seen)}"
        case Unanswered(ask, why):
            return f"Unanswered {ask.kind} {ask.name} #{ask.number} ({why})"
        case Commit(ask, guards, puts):
            asked = " ".join(
                f"{_key(key)}={'c' * created}{'>=' * least}{revision}" for key, revision, created, least in guards
            )
            puts = " ".join(f"{_key(key)}:{_value(value)}" for key, value, _ in puts if key.kind is not Kind.HISTORY)
            return f"Commit {ask.kind} {ask.name} #{ask.number} if {asked} put {puts}"
        case Look(ask, keys):
            return f"Look #{ask.number} {' '.join(map(_key, keys))}"
        case AddressesInstalled(group, serial) | AddressesRemoved(group, serial) | KernelFailed(group, serial):
            return f"{type(what).__name__} {group} #{serial}"
        case InstallAddresses(group, serial, _, until):
            return f"Install {group} #{serial} until {until}"
        case RemoveAddresses(group, serial):
            return f"Remove {group} #{serial}"
        case ExtendAddresses(until):
            return f"Extend to {until}"
        case AdvertReceived(router, source, priority):
            return f"AdvertReceived {router} {priority} from {'.'.join(map(str, source))}"
        case SendAdvert(router, priority):
            return f"Advert {router} {priority}"
        case RoleChanged(group, before, after, why, epoch):
            return f"ROLE {group} {before} -> {after} ({why}; epoch {epoch})"
        case InterfaceChanged(name, up):
            return f"InterfaceChanged {name} {'up' if up else 'down'}"
        case LeaseChanged(held, why):
            return f"LEASE {'held' if held else 'over'} ({why})"
        case Alarm(kind, subject, detail, raised):
            return f"{'alarm' if raised else 'calm'} {kind} {subject} ({detail})"
        case RulesChanged(rules):
            return f"RulesChanged ttl {rules.ttl // 1_000_000} ms, groups {' '.join(rules.groups)}"
        case WallClockRead(offset):
            return f"WallClockRead {offset / MS:.3f} ms ahead"
        case WindowChanged(group, opened):
            return f"Window {group} {'open' if opened else 'closed'}"
        case str():
            return what
        case _:
            return type(what).__name__


def _news(seen: tuple[Seen, ...]) -> str:
    shown = [one for one in seen if one.key.kind is not Kind.HISTORY]
    return "[" + ", ".join(f"{_key(one.key)}@{one.revision}={_value(one.value)}" for one in shown) + "]"


def _key(key: Key) -> str:
    return f"{key.kind.value[0]}/{key.name}"


def _value(value: object) -> str:
    match value:
        case None:
            return "gone"
        case LeaseValue(incarnation, _, ttl, number):
            return f"{incarnation} {ttl // 1_000_000}ms round {number}"
        case OwnerRecord(_, incarnation, _, ttl, epoch, clean):
            return f"{incarnation} epoch {epoch} {ttl // 1_000_000}ms{' clean' * clean}"
        case MemberValue(incarnation, _, _, standings):
            return f"{incarnation} " + ",".join(f"{name}:{one.priority}" for name, one in standings.items())
        case Intent(to, epoch, by, since, until):
            return f"to {to} from epoch {epoch} by {by} {since}-{until}"
        case Orders(paused, drained):
            return f"paused {paused or 'no'} drained {','.join(drained) or 'none'}"
        case Garbage():
            return "garbage"
        case _:
            return type(value).__name__
