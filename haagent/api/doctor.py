"""What a status shows to be wrong, or about to be, in plain sentences with what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from haagent.core.units import MS, S
from haagent.v1.control_pb2 import Finding
from haagent.v1.status_pb2 import FAULT, MASTER, Member, Status

CLOCKS: Final = 2 * S
"""Wall clocks further apart than that make records, and scheduled switchovers, hard to understand."""


def findings(status: Status) -> list[Finding]:
    """All that is to be said, what is wrong first; where all is well, that."""
    found = [*_etcd(status), *_gate(status), *_failsafe(status), *_groups(status), *_peers(status), *_alarms(status)]
    found += _differences(status)
    if not found:
        found.append(Finding(level=Finding.OK, subject="all", text="nothing is wrong that this node could see"))
    return sorted(found, key=lambda one: -one.level)


def _wrong(subject: str, text: str, advice: str) -> Finding:
    return Finding(level=Finding.WRONG, subject=subject, text=text, advice=advice)


def _warning(subject: str, text: str, advice: str) -> Finding:
    return Finding(level=Finding.WARNING, subject=subject, text=text, advice=advice)


def _etcd(status: Status) -> Iterator[Finding]:
    lease = status.self.lease
    if not status.self.etcd.reachable:
        yield _wrong("etcd", "etcd does not answer", "see to etcd; the log says which endpoints fail, and why")
    if not lease.held:
        yield _wrong("lease", "this node holds no lease, so it can own nothing", "the log says why it was lost")
    if lease.renewal_ns > lease.ttl_ns // 4:
        took, ttl = lease.renewal_ns // MS, lease.ttl_ns // MS
        advice = "a longer lease.ttl, or a faster etcd (its disks): a few slow answers in a row end the lease"
        yield _warning("etcd", f"the last renewal took {took} ms, and the lease lasts {ttl} ms", advice)


def _gate(status: Status) -> Iterator[Finding]:
    gate = status.self.gate
    if gate.kind == "none":
        text = "without a gate, an agent that hangs or dies answers on until its addresses' lifetimes end"
        yield _wrong("gate", text, "fence.gate: nft, or bpf where the kernel has no nftables")
    elif not gate.owned and gate.kind == "nft":
        text = "this kernel (before 6.9) lets others flush the gate's table"
        yield _warning("gate", text, "keep `nft flush ruleset` off this host, or use a newer kernel")


def _failsafe(status: Status) -> Iterator[Finding]:
    failsafe = status.self.failsafe
    if failsafe.active:
        left = failsafe.left_ns // S
        yield _wrong("failsafe", f"the peers' promises carry the lease, for {left} s more", "bring etcd back")
    if failsafe.off_because:
        text = f"failsafe is off ({failsafe.off_because}): while etcd is away nothing is owned"
        yield _warning("failsafe", text, "configure peers, and failsafe.max above 0")
    if failsafe.missing:
        names = ", ".join(failsafe.missing[:10])
        text = f"failsafe would fail now: no promise came from {names}"
        yield _warning("failsafe", text, "see to those nodes, or stop their agents cleanly: then nobody waits for them")


def _groups(status: Status) -> Iterator[Finding]:
    for group in status.groups:
        masters = [
            said.node
            for said in (status.self, *(member.status for member in status.members if member.HasField("status")))
            if any(role.group == group.name and role.role == MASTER for role in said.groups)
        ]
        if len(set(masters)) > 1:
            text = f"{' and '.join(sorted(set(masters)))} both say that they are MASTER"
            yield _wrong(group.name, text, "if it lasts longer than a change of owner, look at both kernels at once")
        if not group.owner:
            yield _wrong(group.name, "has no owner", "look at the faults of its candidates, and at etcd")
    for role in status.self.groups:
        if role.role == FAULT:
            yield _warning(role.group, f"this node can not own it: {'; '.join(role.faults)}", "mend what is named")
        if role.role == MASTER and role.addresses_missing:
            text = f"{role.addresses_missing} of its addresses are missing in the kernel"
            yield _wrong(role.group, text, "who removes them? they are put back within milliseconds")
    if status.paused_by:
        yield _warning("pause", f"the cluster is paused by {status.paused_by}", "haagentctl resume, when it is time")


def _peers(status: Status) -> Iterator[Finding]:
    for member in status.members:
        if member.drained:
            yield _warning(member.node, "is drained", f"haagentctl undrain {member.node}, when it may own again")
        if not member.HasField("peer"):
            continue
        if not member.alive:
            yield _warning(member.node, "does not renew its lease", "see to that node")
        elif status.self.failsafe.off_because == "" and not member.peer.connected:
            why = f": {member.peer.error}" if member.peer.error else ""
            yield _warning(
                member.node, f"there is no stream to it{why}", "look at the network, and at both certificates"
            )


def _alarms(status: Status) -> Iterator[Finding]:
    for alarm in status.self.alarms:
        yield _warning(alarm.subject or alarm.kind, f"{alarm.kind}: {alarm.detail}", "the log tells when it began")


def _differences(status: Status) -> Iterator[Finding]:
    """Where this node and another one do not agree: what is configured, and how they count time."""
    own = {role.group: role.addresses_held + role.addresses_missing for role in status.self.groups}
    for member in status.members:
        if not member.HasField("status"):
            continue
        said = member.status
        if said.release and said.release != status.self.release:
            text = f"runs haagent {said.release}, this node {status.self.release}"
            yield _warning(member.node, text, "fine while an upgrade is under way")
        if said.lease.ttl_ns and said.lease.ttl_ns != status.self.lease.ttl_ns:
            ours, theirs = status.self.lease.ttl_ns // MS, said.lease.ttl_ns // MS
            yield _warning(member.node, f"its lease.ttl is {theirs} ms, this node's {ours} ms", "configure one for all")
        apart = _apart(status, member)
        if abs(apart) > CLOCKS:
            text = f"its wall clock is {abs(apart) / S:.1f} s {'ahead of' if apart > 0 else 'behind'} this node's"
            yield _warning(
                member.node, text, "no lease depends on it, but scheduled switchovers do: run chrony or ntpd"
            )
        yield from _other_addresses(member, own)


def _apart(status: Status, member: Member) -> int:
    """The node's wall clock less ours; 0 while the other clocks have not been compared."""
    if not member.peer.round_trip_ns or not member.status.at_wall_ns:
        return 0
    theirs = member.status.at_wall_ns - (member.status.at_boot_ns - member.peer.clock_ahead_ns)
    return theirs - (status.at_wall_ns - status.at_boot_ns)


def _other_addresses(member: Member, own: dict[str, int]) -> Iterator[Finding]:
    for role in member.status.groups:
        there, here = role.addresses_held + role.addresses_missing, own.get(role.group)
        if here is None:
            text = f"has the group {role.group}, which this node has not"
            yield _warning(member.node, text, "configure the same groups on all nodes")
        elif there and here and there != here:
            text = f"has {there} addresses in {role.group}, this node {here}"
            yield _warning(member.node, text, "configure the same addresses on all nodes")
