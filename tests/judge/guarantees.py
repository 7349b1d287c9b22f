"""What must be so in every history: one function a guarantee, each returns what it finds wrong, in words.

*One owner*: on the wire; by record (who answers is named, and silent when that ends); by right (nobody answers for
longer than etcd or promises let him); epochs; a release after the fact; a claim after the patience, and the promises;
adverts; fencing; operators' orders. *An owner*: soon after a crash, and whenever nothing has happened for a while.

Everything is judged by what etcd showed and by real time, never by what an agent believes. Where a time is unsure, or
something is not in the history, nothing is found.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

from tests.judge.history import MS, Answers, History, Line
from tests.judge.records import FASTEST, Change, Life, changes, longest_ttl, may_hold, patience, renewals

SLACK = 60 * MS
"""Without a gate: how long after its right a kernel may go on answering, until addresses are removed."""
NEVER = 1 << 62
AFTERMATH = 3_000 * MS
"""Without a gate: how long what went wrong in an agent or a kernel may have consequences, until lifetimes end."""
AFTER_A_CRASH = 300 * MS
"""How much longer than a ttl it may take until there is an owner again."""
EXCUSING = ("crash", "pause", "kernel")

Guarantee = Callable[[History], list[str]]


# --- one owner, on the wire


def one_owner_on_the_wire(history: History) -> list[str]:
    """No two hosts answer for a group at one moment."""
    found: list[str] = []
    for group in history.groups:
        open_ones: list[Answers] = []
        for one in _excused(history, group):
            open_ones = [other for other in open_ones if other.end - other.within > one.begin + one.within]
            found += [
                f"{group}: {other.host} and {one.host} answer at {one.begin / MS:.3f} ms, "
                f"for {(min(one.end, other.end) - one.begin) / MS:.3f} ms"
                for other in open_ones
                if other.host != one.host
            ]
            open_ones.append(one)
    return found


def _excused(history: History, group: str) -> Iterator[Answers]:
    """The answers for a group; without a gate, only until something happened to the agent that must end them."""
    for one in history.answers:
        if one.group != group:
            continue
        end = one.end
        if not history.gated:
            for fault in history.faults:
                if fault.host != one.host or fault.kind not in EXCUSING:
                    continue
                if fault.begin <= end and fault.end + AFTERMATH >= one.begin:
                    end = max(one.begin, min(end, fault.begin))
        if end > one.begin or history.gated:
            yield Answers(one.host, group, one.begin, end, one.within)


# --- one owner, by record


def only_the_named_begins_to_answer(history: History) -> list[str]:
    """Who begins to answer is named by the record, by that of just then or an earlier one that was his own."""
    found: list[str] = []
    for group, known in _by_group(history).items():
        times = [one.at for one in known]
        for one in _excused(history, group):
            here = bisect_right(times, one.begin + one.within + history.within)
            earlier = bisect_right(times, one.begin - one.within - history.within)
            candidates = known[max(0, earlier - 1) : here]
            named = [change.record for change in candidates] + [change.before for change in candidates if change.begins]
            if candidates and not any(_names(history, record, one.host) for record in named):
                last = candidates[-1].record
                who = "nobody" if last is None else f"{last['incarnation']}{', released' if last['clean'] else ''}"
                found.append(f"{group}: {one.host} begins to answer at {one.begin / MS:.3f} ms, the record names {who}")
    return found


def silent_when_another_is_named(history: History) -> list[str]:
    """At the moment at which etcd names another owner, or a release is written, the one before answers no more."""
    found: list[str] = []
    for change in changes(history):
        before, record = change.before, change.record
        if before is None or record is None or change.begins or before.get("clean"):
            continue
        host = history.host_of(before["incarnation"], before["node"])
        ends = record["clean"] or record["incarnation"] != before["incarnation"]
        if ends and (record["clean"] or not _same_kernel(history, before, record)):
            found += [
                f"{change.group}: {host} answers until {one.end / MS:.3f} ms, "
                f"{'its release' if record['clean'] else record['incarnation']} is written at {change.at / MS:.3f} ms"
                for one in _excused(history, change.group)
                if one.host == host and _within(one, change.at, history.within)
            ]
    return found


def answers_only_by_right(history: History) -> list[str]:
    """Nobody answers for longer than a renewal that etcd showed, or the promises of all candidates, let him.

    By real time, counted from when it stood in etcd (or was promised): never too early, as it was asked for before.
    """
    known, slack = _by_group(history), 0 if history.gated else SLACK
    found: list[str] = []
    for group in history.groups:
        for one in _excused(history, group):
            who = {
                change.record["incarnation"]
                for change in known.get(group, [])
                if change.record is not None and _names(history, change.record, one.host)
            }
            ends = max((_ends(history, group, name, one.end + history.within) for name in who), default=None)
            if ends is not None and one.end - one.within - history.within > ends + slack:
                found.append(
                    f"{group}: {one.host} answers until {one.end / MS:.3f} ms, and may until {ends / MS:.3f} ms at most"
                )
    return found


def _ends(history: History, group: str, incarnation: str, at: int) -> int:
    """Until when an incarnation may answer at the most, by all that was so at a moment.

    The newest renewal counts, also if it is for less than the one before; beside it the newest round of promises, of
    all whom the record names as candidates. If it names nobody else, nobody has to promise.
    """
    lives = renewals(history).get(incarnation, [])
    here = bisect_right([life.at for life in lives], at)
    found = [may_hold(lives[here - 1])] if here else [0]
    record = next(
        (
            change.record
            for change in reversed(changes(history))
            if change.group == group and change.at <= at and _is_of(change.record, incarnation)
        ),
        None,
    )
    if record is None or not record.get("failsafe_ms"):
        return max(found)
    named = set(zip(record["candidates"], record["machines"], strict=False))
    others = {one for one in named if one[0] != record["node"]}
    if not others and here:
        found.append(may_hold(Life(lives[here - 1].at, record["failsafe_ms"] * MS)))
    return max([*found, *(may_hold(life) for life in _rounds(history, group, incarnation, others, at))])


def _rounds(history: History, group: str, incarnation: str, others: set[tuple[str, str]], at: int) -> list[Life]:
    """The rounds in which all of these have promised by then; each counts from the first promise at the latest."""
    rounds: dict[int, list[Line]] = {}
    for one in history.promises:
        if one["to"] == incarnation and one["group"] == group and one["at"] <= at:
            rounds.setdefault(one["round"], []).append(one)
    return [
        Life(min(one["at"] for one in those), those[0]["ttl_ms"] * MS)
        for those in rounds.values()
        if others <= {(one["node"], one["machine"]) for one in those}
    ]


def _is_of(record: Line | None, incarnation: str) -> bool:
    return record is not None and record["incarnation"] == incarnation


# --- what is written


def epochs_grow(history: History) -> list[str]:
    """Within one history of etcd epochs only grow, and none is given to two."""
    found: list[str] = []
    for change in changes(history):
        before, record = change.before or change.last, change.record
        if record is None or change.begins or not change.history or (before is None and not change.taken):
            continue
        if change.history > 1 and change.before is None:
            continue  # of a restored etcd, whose record was destroyed, nobody may know any more
        changed = before is None or record["incarnation"] != before["incarnation"]
        least = max(change.taken, default=0)
        if change.before is not None:
            least = max(least, change.before["epoch"])
        if record["epoch"] < least or (changed and record["epoch"] <= least):
            found.append(
                f"{change.group}: {record['incarnation']} has epoch {record['epoch']} at {change.at / MS:.3f} ms, "
                f"after epoch {least}"
            )
    return found


def claims_wait_for_the_patience(history: History) -> list[str]:
    """A claim is asked no sooner than a holder can have lost his right, counted from his last sign in etcd."""
    found: list[str] = []
    for change in changes(history):
        record = change.record
        if record is None or change.begins or record["clean"] or not _is_claim(change):
            continue
        asked = _asked(history, change)
        since, wait, why = _wait(history, change)
        if asked + history.within < since + wait:
            found.append(
                f"{change.group}: {record['incarnation']} claims at {asked / MS:.3f} ms, "
                f"{(since + wait - asked) / MS:.3f} ms too early: {why} at {since / MS:.3f} ms"
            )
    return found


def _is_claim(change: Change) -> bool:
    """Whether the one who is named by this record wrote it himself, and was not named before."""
    record, before = change.record, change.before
    assert record is not None
    if change.by and change.by != record["incarnation"]:
        return False
    if not change.by and str(record.get("reason", "")).startswith("handover"):
        return False
    return before is None or before["incarnation"] != record["incarnation"]


def _asked(history: History, change: Change) -> int:
    """When a claim was asked; NEVER if its asker did not know of this history of etcd yet: he cannot act on it.

    Without a line that says so, when it was done.
    """
    record = change.record
    assert record is not None
    mine = (record["incarnation"], change.group, record["epoch"])
    asked = [
        one
        for one in history.asks
        if one["kind"] == "claim"
        and (one["incarnation"], one["group"], one["epoch"]) == mine
        and one["at"] <= change.at
    ]
    if not asked:
        return change.at
    return asked[-1]["at"] if asked[-1]["history"] == change.history else NEVER


def _wait(history: History, change: Change) -> tuple[int, int, str]:
    """From when on, for how long and why this claim must have waited. Nothing is waited for after a release."""
    record, before = change.record, change.before
    assert record is not None
    guard, ttl = history.guard, record["ttl_ms"] * MS
    host = history.host_of(record["incarnation"], record["node"])
    waits: list[tuple[int, int, str]] = [(0, 0, "")]
    owned = _owned_at(history, change, change.since) if change.history > 1 else ""
    if change.history > 1 and owned != host:
        waits.append((change.since, patience(ttl, guard), "etcd began another history"))
    if before is None:
        since = max(change.absent_since, change.since, history.booted(record["incarnation"]) or 0)
        if owned != host:
            last = change.last["ttl_ms"] * MS if change.last is not None and change.absent_since else ttl
            waits.append((since, patience(min(last, ttl), guard), "there was no record"))
    elif not before["clean"] and not _same_kernel(history, before, record):
        for sign in (change.lease, change.named):
            if sign is not None:
                waits.append((sign.at, patience(sign.ttl, guard), f"the last sign of {before['incarnation']}"))
                if not _promises(record, before):
                    long = int(before["failsafe_ms"] * MS / FASTEST)
                    waits.append((sign.at, long, f"{record['node']} is no candidate of {before['incarnation']}"))
    return max(waits, key=lambda one: one[0] + one[1])


def _owned_at(history: History, change: Change, at: int) -> str:
    """On which host the last owner by another history was when this one began."""
    named = [
        one.record
        for one in changes(history)
        if one.group == change.group and one.at <= at and not one.begins and one.history < change.history
    ]
    last = named[-1] if named else None
    return "" if last is None or last["clean"] else history.host_of(last["incarnation"], last["node"])


def _promises(record: Line, before: Line) -> bool:
    """Whether the claimant is one on whose promise the one before could count."""
    if not before.get("failsafe_ms"):
        return True
    mine = dict(zip(record["candidates"], record.get("machines", []), strict=False)).get(record["node"])
    return (record["node"], mine) in zip(before["candidates"], before.get("machines", []), strict=False)


def promises_are_kept(history: History) -> list[str]:
    """Who promised does not claim from that owner before his promise is over, but for a release or a later epoch."""
    found: list[str] = []
    for change in changes(history):
        record, before = change.record, change.before
        if record is None or change.begins or record["clean"] or not _is_claim(change):
            continue
        asked, host = _asked(history, change), history.host_of(record["incarnation"], record["node"])
        for one in history.promises:
            lives = one["host"] == host and one["at"] >= (history.booted(record["incarnation"]) or 0)
            if not lives or one["group"] != change.group or one["at"] > asked:
                continue
            over = before is not None and (
                before["epoch"] > one["epoch"] or (before["clean"] and before["epoch"] == one["epoch"])
            )
            ends = one["at"] + patience(one["ttl_ms"] * MS, history.guard)
            if not over and asked < ends:
                found.append(
                    f"{change.group}: {record['incarnation']} claims at {asked / MS:.3f} ms, and promised {one['to']} "
                    f"at {one['at'] / MS:.3f} ms to wait until {ends / MS:.3f} ms"
                )
    return found


# --- what is said, made sure of, ordered


def adverts_only_from_the_named(history: History) -> list[str]:
    """Who advertises a group is named by its record, or was so within a moment."""
    found: list[str] = []
    known = _by_group(history)
    for one in history.adverts:
        if _faulty(history, one["host"], one["at"]):
            continue
        past = [change for change in known.get(one["group"], []) if change.at <= one["at"]]
        named = [past[-1].record] if past else []
        named += [change.before for change in past if change.at >= one["at"] - _unknown_for(history, change)]
        if not any(_names(history, record, one["host"]) for record in named):
            found.append(f"{one['group']}: {one['host']} advertises at {one['at'] / MS:.3f} ms, and is not named")
    return found


def _unknown_for(history: History, change: Change) -> int:
    """How long an owner may not know that his record is gone: his whole lease, or as long as promises carry him."""
    carried = (change.before or {}).get("failsafe_ms", 0) * MS if change.record is None else 0
    return int(max(longest_ttl(history), carried) * FASTEST)


def claims_wait_for_the_fencing(history: History) -> list[str]:
    """Where there is a program that fences, nothing is claimed from who lapsed before it has confirmed to that host."""
    if not history.header.get("fencing"):
        return []
    found: list[str] = []
    for change in changes(history):
        record, before = change.record, change.before
        if record is None or before is None or change.begins or record["clean"] or not _is_claim(change):
            continue
        if before["clean"] or before["node"] == record["node"]:
            continue
        host, asked = history.host_of(record["incarnation"], record["node"]), _asked(history, change)
        sure = any(
            (one["host"], one["incarnation"]) == (host, before["incarnation"]) and one["at"] <= asked
            for one in history.fenced
        )
        if not sure:
            found.append(f"{change.group}: {record['incarnation']} claims from {before['incarnation']}, never fenced")
    return found


def orders_are_obeyed(history: History) -> list[str]:
    """Who has been shown that all is paused, or a node drained, claims and hands over only what it may."""
    found: list[str] = []
    orders = [
        (one["history"], one["revision"], one["at"], (one.get("puts") or {}).get("orders/cluster"))
        for one in history.writes
        if one["line"] == "write" and ("orders/cluster" in one["puts"] or "orders/cluster" in one["deletes"])
    ]
    known = _by_group(history)
    for ask in history.asks:
        newest = [one for one in orders if one[0] == ask["history"] and one[2] <= ask["at"]][-1:]
        if not newest or newest[0][1] > ask["seen"] or not isinstance(newest[0][3], dict):
            continue
        paused, drained = newest[0][3].get("paused"), newest[0][3].get("drained", ())
        shown = [one for one in known.get(ask["group"], []) if one.history == ask["history"]]
        past = [change for change in shown if change.revision <= ask["seen"]]
        named = (past[-1].record or {}).get("node") if past else None
        node = ask.get("node", "")
        if ask["kind"] == "claim" and named not in (None, node):
            if node in drained:
                found.append(f"{ask['group']}: {node} claims at {ask['at'] / MS:.3f} ms, and is drained")
            elif paused:
                found.append(f"{ask['group']}: {node} claims at {ask['at'] / MS:.3f} ms from {named}, in a pause")
        elif ask["kind"] == "release" and ask["to"] != node and (paused or ask["to"] in drained):
            why = "in a pause" if paused else "which is drained"
            found.append(f"{ask['group']}: {node} hands over to {ask['to']} at {ask['at'] / MS:.3f} ms, {why}")
    return found


# --- an owner


def an_owner_after_a_crash(history: History) -> list[str]:
    """An owner that crashes while all else is well has a successor within a ttl and 300 ms."""
    found: list[str] = []
    fair, until = history.header.get("fair_from"), history.header.get("until", 0)
    for fault in history.faults:
        if fault.kind != "crash" or fair is None:
            continue
        held = [one for one in history.answers if one.host == fault.host and one.begin <= fault.begin <= one.end + 1]
        for one in held:
            ttl = longest_ttl(history)
            ends = fault.begin + ttl + AFTER_A_CRASH
            others = [other for other in history.faults if other is not fault and other.end > fault.begin - 2 * ttl]
            disturbed = any(other.begin < ends for other in others) or fault.begin - 2 * ttl < fair or ends > until
            answered = any(
                other.group == one.group and other.host != one.host and fault.begin < other.begin <= ends
                for other in history.answers
            )
            if not disturbed and not answered:
                found.append(
                    f"{one.group}: {fault.host} crashed at {fault.begin / MS:.3f} ms, nobody answers for it by "
                    f"{ends / MS:.3f} ms"
                )
    return found


def an_owner_when_all_is_well(history: History) -> list[str]:
    """So long after the last fault each group that must have an owner is answered for until the end."""
    header = history.header
    if "recovers_ms" not in header or "until" not in header:
        return []
    last = max((fault.end for fault in history.faults), default=0)
    calm, until = max(last, header.get("fair_from", 0)) + header["recovers_ms"] * MS, header["until"]
    if calm >= until:
        return []
    return [
        f"{group}: nobody answers from {begin / MS:.3f} to {end / MS:.3f} ms, long after the last fault"
        for group in header.get("wanted", [])
        for begin, end in _silences(history, group, calm, until)
        if end - begin > AFTER_A_CRASH
    ]


def _silences(history: History, group: str, since: int, until: int) -> Iterator[tuple[int, int]]:
    at = since
    for one in history.answers:
        if one.group == group and one.end > since:
            if one.begin > at:
                yield at, min(one.begin, until)
            at = max(at, one.end)
    if at < until:
        yield at, until


# --- helpers


def _by_group(history: History) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in changes(history):
        found.setdefault(change.group, []).append(change)
    return found


def _names(history: History, record: Line | None, host: str) -> bool:
    return (
        record is not None
        and not record.get("clean")
        and history.host_of(record["incarnation"], record["node"]) == host
    )


def _same_kernel(history: History, before: Line, record: Line) -> bool:
    """Whether the new owner runs where the old one did: it swept what that one left, or goes on with it."""
    return history.host_of(before["incarnation"], before["node"]) == history.host_of(
        record["incarnation"], record["node"]
    )


def _within(one: Answers, at: int, within: int) -> bool:
    return one.begin + one.within + within < at < one.end - one.within - within


def _faulty(history: History, host: str, at: int) -> bool:
    return any(one.host in (host, "") and one.begin <= at <= one.end for one in history.faults if one.kind in EXCUSING)


GUARANTEES: dict[str, Guarantee] = {
    one.__name__: one
    for one in (
        one_owner_on_the_wire,
        only_the_named_begins_to_answer,
        silent_when_another_is_named,
        answers_only_by_right,
        epochs_grow,
        claims_wait_for_the_patience,
        promises_are_kept,
        adverts_only_from_the_named,
        claims_wait_for_the_fencing,
        orders_are_obeyed,
        an_owner_after_a_crash,
        an_owner_when_all_is_well,
    )
}


def judged(history: History) -> dict[str, list[str]]:
    """What is wrong, by guarantee; empty if nothing is."""
    found = {name: guarantee(history) for name, guarantee in GUARANTEES.items()}
    return {name: wrong for name, wrong in found.items() if wrong}
