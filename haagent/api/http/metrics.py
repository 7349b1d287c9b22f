"""What Prometheus reads: the status, the node's meters and the adapters' counters, as metric families.

docs/METRICS.md lists them all. Names end in the unit (`_seconds`) or, of what only grows, in `_total`. Labels take the
names of the configuration (group, router), of the cluster's members, or one of a few words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from haagent.core.model import Role
from haagent.core.units import Instant, S
from haagent.runtime.meters import Histogram, Meters
from haagent.runtime.ports import GateKind
from haagent.v1.status_pb2 import NO, EtcdMember, Member, NodeStatus, Status
from haagent.v1.status_pb2 import Role as RoleName
from haagent.wire.rejection import Reason

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MEMBERS_MOST: Final = 64
"""Members that have series of their own: etcd may hold any number of keys, a cluster has not that many nodes."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers come from beside the status.

    `rejected`: VRRP packets that were refused, by router (or interface) and reason.
    """

    meters: Meters
    clock: Callable[[], Instant]
    rejected: Mapping[tuple[str, Reason], int]


class Metrics(Collector):
    """`render` is what `/metrics` answers."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._status = Status()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, status: Status) -> bytes:
        """The text format, version 0.0.4."""
        self._status = status
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """All families, in the order of docs/METRICS.md."""
        sources, status = self._sources, self._status
        yield from _agent(status, sources.meters)
        yield from _groups(status, sources.meters, sources.clock())
        yield from _lease(status.self, sources.meters)
        yield from _gate(status.self, sources.meters)
        yield from _failsafe(status.self)
        yield from _members(status, sources.meters)
        yield from _etcd(status.self, sources.meters)
        yield from _vrrp(sources)
        yield from _trouble(status, sources.meters)


# --- families, by what they are about


def _agent(status: Status, meters: Meters) -> Iterator[Metric]:
    me = status.self
    about = {"version": me.release, "node": me.node, "cluster": status.cluster}
    info = InfoMetricFamily("haagent", "The agent: its version, its node's name, its cluster.")
    info.add_metric([], about)
    yield info
    yield _gauge("haagent_paused", "1 while the cluster is paused: ownership is frozen.", bool(status.paused_by))
    drained = any(member.drained for member in status.members if member.node == me.node)
    yield _gauge("haagent_drained", "1 while this node is drained: it is to own nothing.", drained)
    yield _gauge("haagent_stopping", "1 while the agent gives up everything, to end.", me.stopping)
    help_text = "How long turns of the event loop took: meanwhile nothing is renewed."
    yield _histograms("haagent_loop_turn_seconds", help_text, "", {"": meters.turns})
    help_text = "The longest turn of the event loop since the start; it should stay below a tenth of the ttl."
    yield _gauge("haagent_loop_longest_turn_seconds", help_text, meters.turns.longest / S)


def _groups(status: Status, meters: Meters, now: Instant) -> Iterator[Metric]:
    roles = {each.group: each for each in status.self.groups}
    states = ((name, role, RoleName.Name(each.role) == role) for name, each in roles.items() for role in Role)
    yield _gauges("haagent_group_state", "1 for the role that this node has in the group.", ("group", "state"), states)
    epochs = ((group.name, group.epoch) for group in status.groups if group.name in roles)  # etcd may have others
    yield _gauges("haagent_group_epoch", "The epoch of the group's ownership record.", ("group",), epochs)
    priorities = ((name, each.priority) for name, each in roles.items())
    help_text = "This node's effective priority; 0: it can not own the group."
    yield _gauges("haagent_group_priority", help_text, ("group",), priorities)
    faults = ((name, len(each.faults)) for name, each in roles.items())
    yield _gauges("haagent_group_faults", "Why this node can not own the group, counted.", ("group",), faults)
    held = ((name, each.addresses_held) for name, each in roles.items())
    yield _gauges("haagent_group_addresses", "Addresses of the group that this node's kernel has.", ("group",), held)
    missing = ((name, each.addresses_missing) for name, each in roles.items())
    help_text = "Addresses of the group that this node's kernel has not; all of them where it does not own."
    yield _gauges("haagent_group_addresses_missing", help_text, ("group",), missing)
    help_text = "1: no other node gets an answer from the addresses of the group's owner."
    silent = ((each.name, each.answers == NO) for each in status.groups if each.name in roles)
    yield _gauges("haagent_group_unreachable", help_text, ("group",), silent)
    help_text = "Nodes that say that they are MASTER, of those that this one hears; more than 1: two owners."
    masters = _masters(status)
    yield _gauges("haagent_group_masters", help_text, ("group",), ((name, masters[name]) for name in roles))
    help_text = "Changes of this node's role, by the role it then had and the class of the reason."
    yield _counters("haagent_group_transitions", help_text, ("group", "state", "cause"), meters.transitions.items())
    help_text = "For how long the group has had no owner, as far as this node sees; 0 while it has one."
    vacant = ((name, span / S) for name, span in meters.vacancies.now(now).items())
    yield _gauges("haagent_group_without_owner_seconds", help_text, ("group",), vacant)
    help_text = "Past times without an owner, from a release or the end of a lease to the next owner's record."
    yield _histograms("haagent_group_vacancy_seconds", help_text, "group", meters.vacant)


def _lease(me: NodeStatus, meters: Meters) -> Iterator[Metric]:
    lease = me.lease
    yield _gauge("haagent_lease_held", "1 while this node's lease runs.", lease.held)
    yield _gauge("haagent_lease_ttl_seconds", "How long a renewal lets this node hold.", lease.ttl_ns / S)
    left = max(0, lease.left_ns) if lease.held else 0
    yield _gauge("haagent_lease_remaining_seconds", "How long the lease still runs without another renewal.", left / S)
    help_text = "How old the lease had become when a renewal made it younger, or when it lapsed."
    yield _histograms("haagent_lease_age_seconds", help_text, "", {"": meters.ages})
    help_text = "From asking for a renewal until etcd's watch showed it."
    yield _histograms("haagent_lease_renewal_seconds", help_text, "", {"": meters.renewals})
    yield _counters("haagent_lease_lapses", "How often the lease lapsed or was given up.", (), [((), meters.lapses)])
    help_text = "How long after its end a lapse was noticed."
    yield _histograms("haagent_lease_lateness_seconds", help_text, "", {"": meters.lateness})


def _gate(me: NodeStatus, meters: Meters) -> Iterator[Metric]:
    kinds = ((kind, kind in me.gate.kind.split("+")) for kind in GateKind if kind is not GateKind.AUTO)
    yield _gauges("haagent_gate_kind", "1 for what ends answers at the lease's end; none: nothing.", ("kind",), kinds)
    yield _gauge("haagent_gate_owned", "1 if nobody else can change the gate.", me.gate.owned)
    help_text = "1 if the gate stays owned when this agent dies."
    yield _gauge("haagent_gate_kept", help_text, bool(me.gate.kept_by))
    help_text = "1 for each kind of gate that should hold and does not."
    yield _gauges("haagent_gate_failed", help_text, ("kind",), ((kind, True) for kind in sorted(me.gate.failed)))
    help_text = "How often somebody took one kind of gate away, while another one held."
    rebuilt = (((kind,), count) for kind, count in sorted(me.gate.rebuilt.items()))
    yield _counters("haagent_gate_rebuilt", help_text, ("kind",), rebuilt)
    help_text = "How often the kernel had closed the gate, or refused to renew it, while the lease was thought to run."
    yield _counters("haagent_gate_closures", help_text, (), [((), meters.gate_closed)])
    help_text = "Packets that the gate did not let through."
    yield _counters("haagent_gate_dropped_packets", help_text, ("protocol",), sorted(me.gate.dropped.items()))


def _failsafe(me: NodeStatus) -> Iterator[Metric]:
    failsafe = me.failsafe
    help_text = "1 if promises could carry what is owned while etcd is away."
    yield _gauge("haagent_failsafe_available", help_text, not failsafe.off_because)
    yield _gauge("haagent_failsafe_active", "1 while promises, not etcd, carry the lease.", failsafe.active)
    left = failsafe.left_ns / S
    yield _gauge("haagent_failsafe_remaining_seconds", "How long failsafe may still last, while it is active.", left)
    help_text = "Candidates of groups owned here that did not promise in the last round."
    yield _gauge("haagent_failsafe_missing_candidates", help_text, len(failsafe.missing))


def _members(status: Status, meters: Meters) -> Iterator[Metric]:
    members = list(islice(status.members, MEMBERS_MOST))
    peers = [member for member in members if member.HasField("peer") and member.endpoint]
    alive = ((member.node, member.alive) for member in members)
    yield _gauges("haagent_member_alive", "1 while the node's lease runs, for all that is known.", ("node",), alive)
    connected = ((peer.node, peer.peer.connected) for peer in peers)
    yield _gauges("haagent_peer_connected", "1 while there is a connection with the peer.", ("peer",), connected)
    trips = ((peer.node, peer.peer.round_trip_ns / S) for peer in peers if peer.peer.connected)
    yield _gauges("haagent_peer_round_trip_seconds", "The last round trip to the peer.", ("peer",), trips)
    help_text = "Heartbeats and promises of failsafe, by direction."
    yield _counters("haagent_peer_messages", help_text, ("message", "direction"), meters.peers.items())


def _etcd(me: NodeStatus, meters: Meters) -> Iterator[Metric]:
    yield _gauge("haagent_etcd_reachable", "1 while etcd answers and its watch runs.", me.etcd.reachable)
    sizes = [((one.endpoint, what), size) for one in me.etcd.members for what, size in _sizes(one)]
    help_text = "The database of each etcd member: its size, what of that is in use, and its quota, where it says that."
    yield _gauges("haagent_etcd_database_bytes", help_text, ("endpoint", "what"), sizes)
    help_text = "Revisions a day, of all who write to etcd, as seen since the agent's start; 0 until that is known."
    yield _gauge("haagent_etcd_revisions_a_day", help_text, me.etcd.revisions_a_day)
    help_text = "1 if nobody compacts etcd's history: it grows until etcd is full."
    yield _gauge("haagent_etcd_uncompacted", help_text, me.etcd.uncompacted)
    help_text = "Questions to etcd by what they are about: asked, and how they were answered."
    yield _counters("haagent_etcd_requests", help_text, ("kind", "outcome"), meters.requests.items())
    help_text = "From a question to etcd until its answer; unanswered ones do not count."
    yield _histograms("haagent_etcd_request_seconds", help_text, "kind", meters.answers)


def _sizes(member: EtcdMember) -> Iterator[tuple[str, int]]:
    yield "size", member.size
    yield "used", member.used
    if member.quota:
        yield "quota", member.quota


def _vrrp(sources: Sources) -> Iterator[Metric]:
    help_text = "Adverts sent, and valid ones of others received, by virtual router."
    yield _counters("haagent_vrrp_adverts", help_text, ("router", "direction"), sources.meters.adverts.items())
    help_text = (
        "VRRP packets that were refused, by virtual router (or interface, where no router was meant) and reason."
    )
    yield _counters("haagent_vrrp_rejected_packets", help_text, ("subject", "reason"), sources.rejected.items())


def _trouble(status: Status, meters: Meters) -> Iterator[Metric]:
    yield _gauges("haagent_alarms", "Alarms that are raised now, by kind.", ("kind",), meters.alarms.items())
    yield _counters("haagent_alarms_raised", "Alarms that were raised, by kind.", ("kind",), meters.raised.items())
    help_text = "Addresses that somebody removed, and that were put back."
    yield _counters("haagent_address_repairs", help_text, ("group",), meters.repairs.items())
    help_text = "Messages of other hosts that claim an address of the group."
    yield _counters("haagent_address_disputes", help_text, ("group",), meters.disputes.items())
    help_text = "Installs and removals of addresses that the kernel refused or did not confirm."
    yield _counters("haagent_kernel_failures", help_text, ("group",), meters.kernel_failures.items())
    yield _counters(
        "haagent_fencing",
        "Fencing of nodes that lapsed: asked, and what came of it.",
        ("outcome",),
        meters.fences.items(),
    )
    # The status has them by names that begin with the adapter's: `etcd_failed_over`.
    counted = ((tuple(name.split("_", 1)), count) for name, count in sorted(status.counters.items()) if "_" in name)
    help_text = "What else the adapters to the outside count, by name."
    yield _counters("haagent_adapter_events", help_text, ("adapter", "event"), counted)


def _masters(status: Status) -> Counter[str]:
    """By group. Only who is heard counts: what a node said before its connection broke is no news."""
    heard = [status.self, *(member.status for member in status.members if _is_heard(member))]
    return Counter(each.group for node in heard for each in node.groups if each.role == RoleName.MASTER)


def _is_heard(member: Member) -> bool:
    return member.HasField("status") and member.HasField("peer") and member.peer.connected


# --- families, by type


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=float(value))


def _gauges(name: str, about: str, labels: tuple[str, ...], samples: Iterable[tuple[object, ...]]) -> Metric:
    """Each sample: the labels' values, then its own."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for *values, value in samples:
        family.add_metric([str(one) for one in values], float(str(value)) if not isinstance(value, bool) else value)
    return family


def _counters(
    name: str, about: str, labels: tuple[str, ...], counts: Iterable[tuple[str | tuple[str, ...], int]]
) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for key, count in counts:
        family.add_metric([key] if isinstance(key, str) else list(key), count)
    return family


def _histograms(name: str, about: str, label: str, each: Mapping[str, Histogram]) -> Metric:
    """By one label, or (no name) without any."""
    family = HistogramMetricFamily(name, about, labels=[label] if label else [])
    for value, histogram in each.items():
        bounds = [*(str(bound / S) for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric([value] if label else [], buckets, sum_value=histogram.sum / S)
    return family
