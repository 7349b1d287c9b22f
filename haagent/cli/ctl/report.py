"""What `status` shows: nodes with their leases, groups, alarms and the last changes."""

from __future__ import annotations

from typing import Final

from haagent.cli.ctl.facts import ROLES, Facts, facts, heard
from haagent.cli.ctl.options import Options
from haagent.cli.ctl.overview import heading, marks
from haagent.cli.ctl.show import Note, Table, data, listed, notes, plain, table, tsv
from haagent.cli.ctl.times import short, stamp
from haagent.v1 import status_pb2 as pb

_LAST: Final = 10
MIB: Final = 1 << 20


def show_status(status: pb.Status, options: Options, group: str | None = None) -> None:
    """In the format that was asked for; JSON and YAML have every field of the message, for one group or all."""
    found = facts(status, group)
    if options.format == "pretty":
        _tables(status, found, group)
    elif options.format == "tsv":
        tsv(_NODE_COLUMNS, [_node(member, heard(status)) for member in status.members])
        notes(marks(found), err=True)
    else:
        whole = plain(status)
        if group is not None:
            whole["groups"] = [each for each in whole["groups"] if each["name"] == group]
        data(whole, options.format)


_NODE_COLUMNS: Final = ("Node", "Alive", "Release", "Lease", "Renewal", "Gate", "Etcd", "Peer")


def _tables(status: pb.Status, found: Facts, group: str | None) -> None:
    said = heard(status)
    nodes = [_node(member, said) for member in status.members]
    table(Table(heading(found), _NODE_COLUMNS, nodes, frozenset({"Lease", "Renewal"})))
    groups = [each for each in status.groups if group in (None, each.name)]
    rows = [
        [
            each.name,
            each.owner or "NO OWNER",
            str(each.epoch),
            stamp(each.since_wall_ns),
            each.reason,
            listed(each.candidates),
        ]
        for each in groups
    ]
    table(Table("Groups", ("Group", "Owner", "Epoch", "Since", "Reason", "Candidates"), rows, frozenset({"Epoch"})))
    alarms = [
        [node, alarm.kind, alarm.subject, alarm.detail, stamp(alarm.since_wall_ns)]
        for node, own in said.items()
        for alarm in own.alarms
    ]
    if alarms:
        table(Table("Alarms", ("Node", "Alarm", "Of", "What", "Since"), alarms))
    changes = [change for change in status.changes if group in (None, change.group)][-_LAST:]
    if changes:
        table(
            Table(
                f"Last changes on {status.self.node}",
                ("When", "Group", "Change", "Epoch", "Why", "Gap"),
                [_change(change) for change in changes],
                frozenset({"Epoch", "Gap"}),
            )
        )
    notes([*marks(found), *_etcd(status.self.etcd)])


def _etcd(etcd: pb.EtcdStatus) -> list[Note]:
    """How large it is, how fast it grows, and who keeps it short."""
    if not etcd.members:
        return []
    largest = max(etcd.members, key=lambda member: member.size)
    quota = f" of {largest.quota // MIB}" if largest.quota else ""
    size = f"{largest.size / MIB:.1f}{quota} MiB, {largest.used / MIB:.1f} MiB in use"
    versions = ", ".join(sorted({member.version for member in etcd.members}))
    alarms = sorted({alarm for member in etcd.members for alarm in member.alarms})
    growth = f"{etcd.revisions_a_day:,} revisions a day" if etcd.revisions_a_day else ""
    parts = [f"etcd {versions}", size, growth, etcd.compaction, *alarms]
    return [Note("; ".join(part for part in parts if part), bool(alarms or etcd.uncompacted))]


def _node(member: pb.Member, said: dict[str, pb.NodeStatus]) -> list[str]:
    own = said.get(member.node)
    alive = "yes" if member.alive else "no"
    if own is None:
        why = member.peer.error or ("not connected" if member.HasField("peer") else "")
        return [member.node, alive, member.release, "", "", "", "", why]
    lease = f"{short(max(own.lease.left_ns, 0))} of {short(own.lease.ttl_ns)}" if own.lease.held else "not held"
    peer = short(member.peer.round_trip_ns) if member.HasField("peer") else "itself"
    gate = own.gate.kind + (", owned" if own.gate.owned else "")
    etcd = "answers" if own.etcd.reachable else "AWAY"
    return [member.node, alive, own.release, lease, short(own.lease.renewal_ns), gate, etcd, peer]


def _change(change: pb.Change) -> list[str]:
    roles = f"{ROLES.get(change.before, '?')} -> {ROLES.get(change.after, '?')}"
    gap = short(change.gap_ns) if change.gap_ns else ""
    return [stamp(change.at_wall_ns), change.group, roles, str(change.epoch), change.why, gap]
