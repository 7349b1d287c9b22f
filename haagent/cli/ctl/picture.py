"""The tree of `topology`: cluster, groups, routers with their addresses, nodes with the owner first."""

from __future__ import annotations

from typing import Any

from haagent.cli.ctl.facts import Facts, Row, facts
from haagent.cli.ctl.options import Options
from haagent.cli.ctl.overview import heading, marks
from haagent.cli.ctl.show import clean, data, listed, notes, render, tsv
from haagent.v1 import status_pb2 as pb


def show_topology(status: pb.Status, options: Options, group: str | None = None) -> None:
    """In the format that was asked for."""
    found = facts(status, group)
    groups = [each for each in status.groups if group in (None, each.name)]
    match options.format:
        case "pretty":
            _draw(groups, found, _addresses(status))
            notes(marks(found))
        case "tsv":
            tsv(
                ("group", "node", "role", "node_addresses", "group_addresses"),
                [
                    [
                        each.name,
                        row.node,
                        row.role,
                        ",".join(_addresses(status).get(row.node, ())),
                        ",".join(each.addresses),
                    ]
                    for each in groups
                    for row in _owner_first(each, found)
                ],
            )
            notes(marks(found), err=True)
        case how:
            data(_as_data(groups, found, _addresses(status)), how)


def _draw(groups: list[pb.Group], found: Facts, addresses: dict[str, list[str]]) -> None:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(clean(heading(found)), style="bold"))
    for group in groups:
        epoch = f", epoch {group.epoch}" if group.epoch else ""
        branch = tree.add(Text(clean(f"{group.name}: {group.owner or 'NO OWNER'}{epoch}"), style="bold"))
        for router in group.routers:
            where = f"{router.name}: VRRPv{router.version}, VRID {router.vrid} on {router.interface}"
            branch.add(Text(clean(f"{where}: {listed(router.addresses)}")))
        for row in _owner_first(group, found):
            styles = {"MASTER": "green", "FAULT": "red"}
            told = f"{row.node} {row.role}, priority {row.priority}, {row.state}: {listed(addresses.get(row.node, []))}"
            branch.add(Text(clean(told), style=styles.get(row.role, "")))
    render(tree)


def _as_data(groups: list[pb.Group], found: Facts, addresses: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "cluster": found.cluster,
        "groups": [
            {
                "name": group.name,
                "owner": group.owner or None,
                "epoch": group.epoch,
                "addresses": list(group.addresses),
                "routers": [
                    {
                        "name": router.name,
                        "vrid": router.vrid,
                        "version": router.version,
                        "interface": router.interface,
                        "addresses": list(router.addresses),
                    }
                    for router in group.routers
                ],
                "nodes": [
                    {
                        "node": row.node,
                        "role": row.role,
                        "priority": row.priority,
                        "state": row.state,
                        "addresses": addresses.get(row.node, []),
                    }
                    for row in _owner_first(group, found)
                ],
            }
            for group in groups
        ],
    }


def _owner_first(group: pb.Group, found: Facts) -> list[Row]:
    rows = [row for row in found.rows if row.group == group.name]
    return sorted(rows, key=lambda row: (row.role != "MASTER", -row.priority, row.node))


def _addresses(status: pb.Status) -> dict[str, list[str]]:
    return {member.node: list(member.addresses) for member in status.members}
