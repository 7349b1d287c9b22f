"""What a status shows to be wrong, or about to be, in plain sentences with what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from haagent.api.etcd_findings import etcd_findings
from haagent.core.units import MS, Duration, S
from haagent.v1.control_pb2 import Finding
from haagent.v1.status_pb2 import FAULT, MASTER, NO, Member, Status

CLOCKS: Final = 2 * S
"""Wall clocks further apart than that make records, and scheduled switchovers, hard to understand."""


SOON: Final = 14 * 24 * 3600
"""Seconds before its end in which a certificate is worth a word."""

_RESTORE: Final = "bring etcd back; until then restart no agent: what it promised would be forgotten"
# Why etcd does not answer this node, as the alarm `etcd-silent` says it, and what cures that. No cure needs a restart.
_CURES: Final = {
    "our own certificate expired": "put a new certificate at etcd.cert and etcd.key: the next connection shows it",
    "TLS: ": "see to etcd.ca, etcd.cert and etcd.key: new files are used at the next connection",
    "not authenticated": "correct etcd.password_file, which counts at once, or etcd.password, and reload",
    "etcd is full": "make room: the commands are with what is said of etcd, and in ETCD.md",
    "permission denied": "let etcd's user read and write /haagent/<cluster>/: etcdctl role grant-permission",
}
# What OPERATING says in more words.
_ADVICE: Final = {
    "etcd-silent": "see to etcd: without failsafe the owner lets go at the end of its ttl",
    "etcd-rewound": "nothing: who owned claims anew after a ttl, others may have to wait for failsafe.max",
    "name-in-use": "give one of the two hosts another node name",
    "adverts-lost": "look at the network between the nodes: multicast, firewall (protocol 112)",
    "stranger": "find it by its address; see MIGRATING if it is keepalived",
    "address-foreign": "take it out of this host's configuration: haagent removes only what it put there itself",
    "address-elsewhere": "find it by its MAC address: another node whose groups are named otherwise, a host, a forger",
    "addresses-differ": "reload the node whose file is behind",
    "drain-waits": "make another node fit, or leave it there",
    "switchover-waits": "see to the target; the move is made as soon as it can be",
    "damped": "look for what makes it flap",
    "fencing": "see to that node by hand: what it held has no owner until that is confirmed",
    "waits-for-promises": "wait; if that owner is certainly off: haagentctl failover GROUP --i-know-it-is-dead",
    "unreadable": "somebody else writes there; delete the key that is named",
}
_SAID: Final = frozenset({"paused", "failsafe", "failsafe-missing", "unreachable"})
"""Alarms that say what the status says as well."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a status has not. `sysctls`: `net.ipv4.conf`, by interface; the larger of the interface's and `all`.

    `renewals`: how long the last ones took. `expires`: when this node's certificates end, in seconds since 1970, by the
    section of the file that names them.
    """

    sysctls: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    renewals: Sequence[Duration] = ()
    expires: Mapping[str, float] = field(default_factory=dict[str, float])


def findings(status: Status, host: Host) -> list[Finding]:
    """All that is to be said, what is wrong first; where all is well, that."""
    found = [*_etcd(status, host), *_gate(status), *_failsafe(status), *_groups(status), *_peers(status)]
    found += [*_alarms(status), *_differences(status), *_sysctls(status, host), *_certificates(status, host)]
    if not any(one.level > Finding.OK for one in found):
        found.insert(0, Finding(level=Finding.OK, subject="all", text="nothing is wrong that this node could see"))
    return sorted(found, key=lambda one: -one.level)


def _wrong(subject: str, text: str, advice: str) -> Finding:
    return Finding(level=Finding.WRONG, subject=subject, text=text, advice=advice)


def _warning(subject: str, text: str, advice: str) -> Finding:
    return Finding(level=Finding.WARNING, subject=subject, text=text, advice=advice)


def _etcd(status: Status, host: Host) -> Iterator[Finding]:
    lease = status.self.lease
    if not status.self.etcd.reachable:
        yield _wrong("etcd", "etcd does not answer", "see to etcd; the log says which endpoints fail, and why")
    yield from etcd_findings(status.self.etcd)
    if not lease.held:
        yield _wrong("lease", "this node holds no lease, so it can own nothing", "the log says why it was lost")
    slow, ttl = max(host.renewals, default=0), lease.ttl_ns
    if slow > ttl // 4:
        text = f"of the last {len(host.renewals)} renewals one took {slow // MS} ms, and the lease lasts {ttl // MS} ms"
        advice = "a longer lease.ttl, or a faster etcd (its disks): a few slow answers in a row end the lease"
        yield _warning("etcd", text, advice)


def _gate(status: Status) -> Iterator[Finding]:
    gate = status.self.gate
    if gate.kind == "none":
        text = "without a gate, an agent that hangs or dies answers on until its addresses' lifetimes end"
        yield _wrong("gate", text, "fence.gate: auto")
        return
    if not gate.owned and "nft" in gate.kind:
        text = "this kernel (before 6.9) lets others flush the gate's tables"
        yield _warning("gate", text, "keep `nft flush ruleset` off this host, or use a newer kernel")
    if gate.owned and not gate.kept_by:
        text = "nobody keeps the gate's tables owned when this agent dies: whoever flushes nftables then opens them"
        yield _warning("gate", text, "the log says why the keeper does not run")
    if gate.uncovered:
        names = ", ".join(gate.uncovered[:10])
        text = f"the eBPF gate is not on {names}: an agent that hangs or dies answers there until the lifetimes end"
        yield _warning("gate", text, "fence.gate: auto: the nftables gate holds on every interface")
    for kind, why in sorted(gate.failed.items()):
        text = f"the {kind} gate does not hold ({why}): {gate.kind.replace('+', ' and ')} holds alone"
        yield _warning("gate", text, "give the agent what it needs for it, or name one kind in fence.gate")
    for kind, count in sorted(gate.rebuilt.items()):
        text = f"somebody took the {kind} gate away, {count} times since the start"
        advice = "find what removes it (`nft flush ruleset`, `tc qdisc del ... clsact`): when the agent is dead, only"
        yield _warning("gate", text, f"{advice} the other gate holds")


def _failsafe(status: Status) -> Iterator[Finding]:
    failsafe = status.self.failsafe
    if failsafe.active:
        left = failsafe.left_ns // S
        advice = f"{cure}; restart no agent" if (cure := _cure(status)) else _RESTORE
        yield _wrong("failsafe", f"the peers' promises carry the lease, for {left} s more", advice)
    for member in status.members:
        if member.status.failsafe.active:
            left = member.status.failsafe.left_ns // S
            yield _wrong("failsafe", f"promises carry what {member.node} owns, for {left} s more", _RESTORE)
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
        if group.owner and group.answers == NO:
            text = f"{group.owner} owns it, but {group.silence} (asked by {', '.join(group.unanswered)})"
            yield _wrong(group.name, text, f"look at {group.owner}: its firewall, its gate, its cable")
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
        if not member.alive and status.self.etcd.reachable and not member.status.failsafe.active:
            yield _warning(member.node, "does not renew its lease", "see to that node")
        elif status.self.failsafe.off_because == "" and not member.peer.connected:
            why = f": {member.peer.error}" if member.peer.error else ""
            yield _warning(
                member.node, f"there is no stream to it{why}", "look at the network, and at both certificates"
            )


def _alarms(status: Status) -> Iterator[Finding]:
    for alarm in status.self.alarms:
        if alarm.kind in _SAID:
            continue
        say = _wrong if alarm.kind in ("address-elsewhere", "address-foreign") else _warning
        advice = _ADVICE.get(alarm.kind, "the log tells when it began")
        if alarm.kind == "etcd-silent":
            advice = _cure(status) or advice
        yield say(alarm.subject or alarm.kind, f"{alarm.kind}: {alarm.detail}", advice)


def _cure(status: Status) -> str | None:
    """What to do about etcd's silence, where its reason says that; the cure needs no restart."""
    details = [alarm.detail for alarm in status.self.alarms if alarm.kind == "etcd-silent"]
    return next((cure for why, cure in _CURES.items() if any(why in detail for detail in details)), None)


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


def _sysctls(status: Status, host: Host) -> Iterator[Finding]:
    """What of the kernel's settings keeps an owner from being reached.

    `arp_announce` does not, nor does `arp_ignore` up to 7, as the interface has an address of its own.
    """
    routers = [router for group in status.groups for router in group.routers]
    four = {router.interface for router in routers if not all(":" in address for address in router.addresses)}
    for interface, own in host.sysctls.items():
        if own.get("arp_ignore") == 8 and interface in four:
            advice = f"net.ipv4.conf.{{all,{interface}}}.arp_ignore: less than that"
            yield _wrong(interface, "arp_ignore is 8: this kernel answers nobody's ARP requests", advice)
        if own.get("rp_filter") == 1 and len(host.sysctls) > 1:
            text = "rp_filter is 1: what comes from clients whose way back is another interface is dropped"
            advice = f"net.ipv4.conf.{{all,{interface}}}.rp_filter: 2, if there are such clients"
            yield _warning(interface, text, advice)


def _certificates(status: Status, host: Host) -> Iterator[Finding]:
    for section, expires in host.expires.items():
        renew = f"put a new one at {section}.cert" + ("" if section == "etcd" else ", and reload")
        left = expires - status.at_wall_ns / S
        if left <= 0:
            yield _wrong(section, "this node's certificate has expired", renew)
        elif left < SOON:
            text = f"this node's certificate expires in {left / 86400:.1f} days"
            yield _warning(section, text, renew)


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
