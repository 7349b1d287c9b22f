"""What `doctor` finds: each thing that can be wrong is named, with advice; where all is well, that is said."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from haagent.api.doctor import _ADVICE, _SAID, Host, findings
from haagent.core.units import MS, S
from haagent.v1 import status_pb2 as pb
from haagent.v1.control_pb2 import Finding
from tests.unit.api.values import status

OPERATING = (Path(__file__).parents[3] / "docs/OPERATING.md").read_text()
STEADY = Host(sysctls={"eth0": {"arp_ignore": 1, "rp_filter": 1}}, renewals=(3 * MS, 5 * MS))
LEVELS = {Finding.OK: "ok", Finding.WARNING: "warning", Finding.WRONG: "wrong"}

Change = Callable[[pb.Status], object]


def told(shown: pb.Status, host: Host = STEADY) -> list[str]:
    """Each finding in a line; none is without advice."""
    found = findings(shown, host)
    assert all(one.advice for one in found if one.level != Finding.OK)
    return [f"{LEVELS[one.level]} {one.subject}: {one.text}" for one in found]


def well() -> pb.Status:
    shown = status()
    for group in shown.groups:
        group.routers.append(pb.Router(name=group.name, interface="eth0", addresses=["10.0.0.100/32"]))
    return shown


def test_all_is_well():
    assert told(well()) == ["ok all: nothing is wrong that this node could see"]


def n2(shown: pb.Status) -> pb.Member:
    return shown.members[1]


def cut(shown: pb.Status) -> None:
    n2(shown).peer.connected = False
    n2(shown).peer.error = "wrong-ca: its certificate is not signed by our ca"


def masters(shown: pb.Status) -> None:
    for role in n2(shown).status.groups:
        role.role = pb.MASTER


def alarm(kind: str, detail: str) -> Change:
    return lambda shown: shown.self.alarms.append(pb.Alarm(kind=kind, subject="web", detail=detail))


def behind(shown: pb.Status) -> None:
    shown.at_boot_ns, n2(shown).status.at_boot_ns = 10 * S, 10 * S
    n2(shown).status.at_wall_ns = shown.at_wall_ns - 5 * S


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda at: setattr(at.self.etcd, "reachable", False), "wrong etcd: etcd does not answer"),
        (
            lambda at: setattr(at.self.lease, "held", False),
            "wrong lease: this node holds no lease, so it can own nothing",
        ),
        (lambda at: setattr(at.self.gate, "kind", "none"), "wrong gate: without a gate, an agent that hangs or dies"),
        (lambda at: setattr(at.self.gate, "owned", False), "warning gate: this kernel (before 6.9) lets others flush"),
        (lambda at: setattr(at.self.gate, "kept_by", ""), "warning gate: nobody keeps the gate's tables owned when"),
        (lambda at: at.self.gate.uncovered.append("eth1"), "warning gate: the eBPF gate is not on eth1: an agent that"),
        (
            lambda at: setattr(at.groups[0], "answers", pb.NO),
            "wrong web: n1 owns it, but",
        ),
        (lambda at: at.self.gate.failed.update(bpf="EPERM"), "warning gate: the bpf gate does not hold (EPERM)"),
        (lambda at: at.self.gate.rebuilt.update(bpf=2), "warning gate: somebody took the bpf gate away, 2 times"),
        (
            lambda at: at.self.failsafe.MergeFrom(pb.FailsafeStatus(active=True, left_ns=60 * S)),
            "wrong failsafe: the peers' promises carry the lease, for 60 s more",
        ),
        (
            lambda at: setattr(at.self.failsafe, "off_because", "no peers"),
            "warning failsafe: failsafe is off (no peers)",
        ),
        (
            lambda at: at.self.failsafe.missing.append("n3"),
            "warning failsafe: failsafe would fail now: no promise came",
        ),
        (masters, "wrong web: n1 and n2 both say that they are MASTER"),
        (lambda at: setattr(at.groups[0], "owner", ""), "wrong web: has no owner"),
        (lambda at: setattr(at.self.groups[0], "addresses_missing", 1), "wrong web: 1 of its addresses are missing"),
        (lambda at: setattr(at, "paused_by", "anna"), "warning pause: the cluster is paused by anna"),
        (lambda at: setattr(n2(at), "drained", True), "warning n2: is drained"),
        (lambda at: setattr(n2(at), "alive", False), "warning n2: does not renew its lease"),
        (cut, "warning n2: there is no stream to it: wrong-ca: its certificate is not signed by our ca"),
        (lambda at: setattr(n2(at).status, "release", "0.2.0"), "warning n2: runs haagent 0.2.0, this node 0.1.0"),
        (lambda at: setattr(n2(at).status.lease, "ttl_ns", 2 * S), "warning n2: its lease.ttl is 2000 ms, this node's"),
        (lambda at: setattr(n2(at).status.groups[0], "group", "www"), "warning n2: has the group www, which this node"),
        (
            lambda at: setattr(n2(at).status.groups[1], "addresses_held", 9),
            "warning n2: has 9 addresses in db, this node",
        ),
        (behind, "warning n2: its wall clock is 5.0 s behind this node's"),
        (alarm("stranger", "10.0.0.9"), "warning web: stranger: 10.0.0.9"),
        (alarm("address-elsewhere", "aa:bb says so"), "wrong web: address-elsewhere: aa:bb says so"),
    ],
)
def test_what_a_status_shows(change: Change, said: str):
    shown = well()
    for role in shown.self.groups:
        role.addresses_held = 2
    change(shown)
    assert [line for line in told(shown) if line.startswith(said)], told(shown)


def carried(shown: pb.Status) -> None:
    """etcd is away for all, and this node looks at an owner that lives on promises."""
    shown.self.etcd.reachable = False
    n2(shown).alive = False
    n2(shown).status.failsafe.MergeFrom(pb.FailsafeStatus(active=True, left_ns=60 * S))
    shown.self.alarms.append(pb.Alarm(kind="failsafe", subject="etcd", detail="said better than by its alarm"))


def test_in_an_outage_the_nodes_are_not_blamed_for_it():
    shown = well()
    carried(shown)
    assert told(shown) == [
        "wrong etcd: etcd does not answer",
        "wrong failsafe: promises carry what n2 owns, for 60 s more",
    ]
    cut(shown)
    assert told(shown)[-1].startswith("warning n2: there is no stream to it")


def test_each_alarm_has_its_advice_and_is_said_once():
    listed = OPERATING.partition("| alarm |")[2].partition("\n\n")[0]
    documented = re.findall(r"^\| `([a-z-]+)` \|", listed, re.MULTILINE)
    assert set(documented) == _ADVICE.keys() | _SAID
    shown = well()
    shown.paused_by = "anna"
    alarm("paused", "by anna")(shown)
    assert len(told(shown)) == 1


def settings(interface: str = "eth0", **values: int) -> dict[str, dict[str, int]]:
    return {interface: {"arp_ignore": 0, "rp_filter": 0, **values}}


DAY = 86_400


@pytest.mark.parametrize(
    "host, said",
    [
        (
            Host(renewals=(3 * MS, 400 * MS, 5 * MS)),
            "warning etcd: of the last 3 renewals one took 400 ms, and the lease",
        ),
        (
            Host(sysctls=settings(arp_ignore=8)),
            "wrong eth0: arp_ignore is 8: this kernel answers nobody's ARP requests",
        ),
        (
            Host(sysctls=settings(rp_filter=1) | settings("eth1")),
            "warning eth0: rp_filter is 1: what comes from clients",
        ),
        (Host(expires={"peers": time.time() + 3 * DAY}), "warning peers: this node's certificate expires in 3.0 days"),
        (Host(expires={"control": time.time() - DAY}), "wrong control: this node's certificate has expired"),
    ],
)
def test_what_a_host_shows(host: Host, said: str):
    assert [line for line in told(well(), host) if line.startswith(said)], told(well(), host)


@pytest.mark.parametrize("sysctls", [settings(arp_ignore=2), settings("eth1", arp_ignore=8), settings(rp_filter=1)])
def test_what_is_harmless_is_not_said(sysctls: dict[str, dict[str, int]]):
    assert told(well(), Host(sysctls=sysctls))[0].startswith("ok ")
