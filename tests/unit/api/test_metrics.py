"""What Prometheus reads: the values behind each family, that outside names multiply no series, and the reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from haagent.api.http.metrics import MEMBERS_MOST, Metrics
from haagent.core.model import Ask, Asking, Commit, GateClosed, LeaseChanged, Role, RoleChanged, Watched
from haagent.core.records import Key, Kind, LeaseValue, Seen
from haagent.core.units import MS, S
from haagent.runtime.causes import Cause
from haagent.v1 import status_pb2 as pb
from tests.unit.api.values import Agent

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "METRICS.md"


def scraped(agent: Agent) -> dict[str, float]:
    """Every sample by its name and labels, as a scraper reads them."""
    text = Metrics(agent.sources).render(agent.status).decode()
    return {
        sample.name + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def own(agent: Agent) -> pb.NodeStatus:
    return getattr(agent.status, "self")  # noqa: B009 - to the type checker it is no name for a field


def test_how_groups_stand():
    agent = Agent()
    got = scraped(agent)
    assert got["haagent_group_state group=web state=MASTER"] == 1
    assert got["haagent_group_state group=web state=BACKUP"] == 0
    assert got["haagent_group_state group=db state=BACKUP"] == 1
    assert got["haagent_group_epoch group=web"] == 42
    assert got["haagent_group_addresses group=web"] == 2
    assert got["haagent_group_masters group=web"] == 1
    assert got["haagent_info cluster=prod node=n1 version=0.1.0"] == 1


def test_two_owners_are_seen_only_of_those_who_are_heard():
    agent = Agent()
    agent.status.members[1].status.groups[0].role = pb.MASTER
    assert scraped(agent)["haagent_group_masters group=web"] == 2
    agent.status.members[1].peer.connected = False
    assert scraped(agent)["haagent_group_masters group=web"] == 1


def test_the_lease():
    agent = Agent()
    got = scraped(agent)
    assert (got["haagent_lease_held"], got["haagent_lease_ttl_seconds"]) == (1, 1)
    assert got["haagent_lease_remaining_seconds"] == pytest.approx(0.8)
    own(agent).lease.held = False
    assert scraped(agent)["haagent_lease_remaining_seconds"] == 0


def test_what_was_timed_comes_in_seconds():
    agent = Agent()
    ask = Ask(Asking.RENEW, "n1", 1)
    agent.meters.done(Commit(ask, (), (), (), patience=S), 0)
    renewed = Seen(Key(Kind.LEASES, "n1"), 1, 2, LeaseValue("a1", "h", S, 1))
    agent.meters.heard(Watched(2, (renewed,)), 3 * MS)
    got = scraped(agent)
    assert got["haagent_lease_renewal_seconds_sum"] == pytest.approx(0.003)
    assert got["haagent_lease_renewal_seconds_count"] == 1
    assert got["haagent_lease_renewal_seconds_bucket le=0.002"] == 0
    assert got["haagent_lease_renewal_seconds_bucket le=0.005"] == 1
    assert got["haagent_lease_renewal_seconds_bucket le=+Inf"] == 1


def test_what_was_counted():
    agent = Agent()
    agent.meters.done(RoleChanged("web", Role.BACKUP, Role.MASTER, "the lease of n2 lapsed", 42), 0)
    agent.meters.done(LeaseChanged(False, "it ran out", 2 * MS), 0)
    agent.meters.heard(GateClosed("too late"), 0)
    got = scraped(agent)
    assert got["haagent_group_transitions_total cause=lease_lapsed group=web state=MASTER"] == 1
    assert got["haagent_lease_lapses_total"] == 1
    assert got["haagent_gate_closures_total"] == 1


def test_a_gate_that_is_none_can_be_seen():
    agent = Agent()
    own(agent).gate.kind = "none"
    got = scraped(agent)
    assert (got["haagent_gate_kind kind=none"], got["haagent_gate_kind kind=nft"]) == (1, 0)


def test_what_adapters_counted():
    agent = Agent()
    agent.status.counters["etcd_failed_over"] = 2
    got = scraped(agent)
    assert got["haagent_adapter_events_total adapter=etcd event=failed_over"] == 2
    assert got["haagent_vrrp_rejected_packets_total reason=bad_ttl subject=web"] == 3
    assert got["haagent_gate_dropped_packets_total protocol=arp"] == 3


def test_failsafe_pause_and_drain():
    agent = Agent()
    failsafe = own(agent).failsafe
    failsafe.active, failsafe.left_ns = True, 280 * S
    failsafe.missing.append("n3")
    agent.status.paused_by = "anna"
    agent.status.members[0].drained = True
    got = scraped(agent)
    assert (got["haagent_failsafe_active"], got["haagent_failsafe_remaining_seconds"]) == (1, 280)
    assert got["haagent_failsafe_missing_candidates"] == 1
    assert (got["haagent_paused"], got["haagent_drained"]) == (1, 1)


def test_names_from_etcd_do_not_multiply_series():
    agent = Agent()
    before = len(scraped(agent))
    agent.status.groups.extend(pb.Group(name=f'theirs"{n}\n') for n in range(1000))
    agent.status.members.extend(pb.Member(node=f"x{n}", peer=pb.Peer(), endpoint="x") for n in range(1000))
    assert len(scraped(agent)) <= before + 3 * MEMBERS_MOST


def test_a_cluster_without_peers_has_none_that_are_not_connected():
    agent = Agent()
    for member in agent.status.members:
        member.endpoint, member.peer.connected = "", False
    assert not any(name.startswith("haagent_peer_connected") for name in scraped(agent))


def test_alerts_ask_for_metrics_that_exist():
    known = set(re.findall(r"^\| `(haagent_\w+)`", REFERENCE.read_text(), re.MULTILINE))
    asked = set(re.findall(r"\bhaagent_\w+", (REFERENCE.parent / "OPERATING.md").read_text()))
    assert {name.removesuffix("_bucket") for name in asked} <= known
    assert len(asked) > 5


def test_the_reference_lists_just_the_metrics_that_exist():
    rows = re.findall(r"^\| `(haagent_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", REFERENCE.read_text(), re.MULTILINE)
    listed = {name: (kind, re.findall(r"`(\w+)`", labels), about) for name, kind, labels, about in rows}
    suffix = {"counter": "_total", "info": "_info"}
    exist = {
        family.name + suffix.get(family.type, ""): (
            "gauge" if family.type == "info" else family.type,
            list(getattr(family, "_labelnames", ()))
            or (["version", "node", "cluster"] if family.type == "info" else []),
            family.documentation,
        )
        for family in Metrics(Agent().sources).collect()
    }
    assert listed == exist
    assert all(f"`{cause}`" in REFERENCE.read_text() for cause in Cause)
