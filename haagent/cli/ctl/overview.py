"""The table of `list`, which `switchover` shows before and after: a row for each group and node, and marks below."""

from __future__ import annotations

from typing import Any, Final

from haagent.cli.ctl.facts import Facts, Row, Scheduled, facts
from haagent.cli.ctl.options import Options
from haagent.cli.ctl.show import Note, Table, data, notes, table, tsv
from haagent.cli.ctl.times import exact, moment, recently, short
from haagent.core.units import MS, Wall
from haagent.v1 import status_pb2 as pb

_COLUMNS: Final = ("Group", "Node", "Role", "Epoch", "Since", "Lease", "Prio", "State")
_NAMES: Final = ("group", "node", "role", "epoch", "since", "lease_left_ms", "priority", "state")


def show_overview(status: pb.Status, options: Options, group: str | None = None) -> None:
    """In the format that was asked for."""
    found = facts(status, group)
    now = status.at_wall_ns
    match options.format:
        case "pretty":
            rows = [_pretty(row, now) for row in found.rows]
            table(Table(heading(found), _COLUMNS, rows, frozenset({"Epoch", "Lease", "Prio"}), parted=True))
            notes(marks(found))
        case "tsv":
            tsv(_NAMES, [["" if cell is None else str(cell) for cell in _values(row)] for row in found.rows])
            notes(marks(found), err=True)
        case how:
            data(as_data(found, now), how)


def heading(found: Facts) -> str:
    """Which cluster, and who says so."""
    return f"Cluster: {found.cluster} (as {found.answered or 'etcd'} has it)"


def marks(found: Facts) -> list[Note]:
    """What holds for the cluster, the worst first."""
    lines = [
        Note(f"TWO OWNERS of {group}: {' and '.join(nodes)} both say MASTER", loud=True)
        for group, nodes in found.two_owners.items()
    ]
    lines += [Note(f"ADDRESS ELSEWHERE, as {node} hears: {what}", loud=True) for node, what in found.elsewhere]
    lines += [Note(f"NO OWNER of {group}: {why}", loud=True) for group, why in found.without_owner.items()]
    lines += [Note(f"UNREACHABLE {group}: {how}", loud=True) for group, how in found.unreachable.items()]
    lines += [
        Note(
            f"FAILSAFE on {node}: etcd is away, all candidates promise to wait; at most {short(left)} more", True, node
        )
        for node, left in found.failsafe.items()
    ]
    if found.etcd_away:
        lines.append(Note(f"etcd does not answer: {', '.join(found.etcd_away)}", loud=True))
    if found.paused_by:
        lines.append(Note(f"Maintenance mode: on (by {found.paused_by})", loud=True))
    lines += [Note(f"Drained: {node}") for node in found.drained]
    lines += [Note(_planned(each)) for each in found.scheduled]
    if found.alarms:
        lines.append(Note(f"Alarms: {found.alarms} (see haagentctl status)"))
    return lines


def as_data(found: Facts, now: Wall) -> dict[str, Any]:
    """All of it, for JSON and YAML. Durations in milliseconds, instants in ISO 8601."""
    return {
        "cluster": found.cluster,
        "answered": found.answered or "etcd",
        "at": exact(now),
        "paused_by": found.paused_by or None,
        "two_owners": {group: list(nodes) for group, nodes in found.two_owners.items()},
        "without_owner": dict(found.without_owner),
        "unreachable": dict(found.unreachable),
        "failsafe": {node: {"left_ms": left // MS} for node, left in found.failsafe.items()},
        "etcd_away": list(found.etcd_away),
        "drained": list(found.drained),
        "scheduled": [
            {"group": each.group, "from": each.owner, "to": each.to, "by": each.by, "at": exact(each.at or now)}
            for each in found.scheduled
        ],
        "elsewhere": [{"node": node, "what": what} for node, what in found.elsewhere],
        "alarms": found.alarms,
        "rows": [dict(zip(_NAMES, _values(row), strict=True)) for row in found.rows],
    }


def _planned(each: Scheduled) -> str:
    what = f"from {each.owner} to {each.to} (by {each.by or '?'})"
    if not each.at:
        return f"Switchover of {each.group} asked for: {what}"
    return f"Switchover of {each.group} scheduled at: {moment(each.at)}, {what}"


def _values(row: Row) -> list[Any]:
    left = None if row.lease_left is None else row.lease_left // MS
    since = exact(row.since) if row.since else None
    return [row.group, row.node, row.role, row.epoch or None, since, left, row.priority, row.state]


def _pretty(row: Row, now: Wall) -> list[str]:
    left = "" if row.lease_left is None else "over" if row.lease_left <= 0 else short(row.lease_left)
    epoch = str(row.epoch or "")
    return [row.group, row.node, row.role, epoch, recently(row.since, now), left, str(row.priority), row.state]
