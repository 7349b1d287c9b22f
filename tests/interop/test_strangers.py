"""`strangers: yield` and `strangers: alarm` towards a real keepalived: how a migration goes, either way.

With `yield` the rules are VRRP's: the higher priority, then the higher address, and a moment in which both answer,
which is measured and told, not forbidden. With `alarm` nobody outside the cluster moves its owner. Either way never
two haagents answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from haagent.core.units import MS, Instant, S
from haagent.lab.cluster import Cluster
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.topology import Network, vip4
from tests.interop.agent import SLACK, Agent, agents, one_agent
from tests.interop.capture import Ear
from tests.interop.conftest import MakeLab
from tests.interop.dialect import V3, Dialect
from tests.interop.keepalived import Keepalived

pytestmark = pytest.mark.interop

LOWER, OURS, HIGHER = 50, 100, 200
SEVERAL = 5


def ours(lab: Lab, hosts: Sequence[Host], **keys: Any) -> tuple[Cluster, Sequence[Agent]]:
    """A cluster of these hosts, of priority 100."""
    router = V3.router(hosts[0], hosts[0], priority=OURS, **keys)
    return agents(lab, {host.name: router for host in hosts})


def probe(lab: Lab) -> Prober:
    return lab.probe([vip4()], step=4 * MS)


def one_haagent(prober: Prober, outsider: Host, told: pytest.FixtureRequest) -> None:
    """Never two of ours answered. How long one of ours and keepalived did is VRRP's affair, and kept in the report."""
    overlaps = prober.timeline().overlaps(vip4())
    assert [overlap for overlap in overlaps if outsider.name not in overlap.nodes] == []
    lengths = [round(overlap.length / MS, 1) for overlap in overlaps]
    told.node.user_properties.append(("overlaps_with_keepalived_ms", lengths))


def answers(prober: Prober, host: Host, since: Instant) -> None:
    prober.wait_for_answer(vip4(), after=since, node=host.name, timeout=15.0)


# --- yield: keepalived goes first


def test_the_owner_yields_to_a_higher_priority_and_takes_over_again(make_lab: MakeLab, request: pytest.FixtureRequest):
    """Two of ours, and keepalived of a higher priority joins: the owner releases, and neither claims while it speaks.

    When it stops, one of ours owns again, by the next epoch.
    """
    lab = make_lab(3)
    first, second, outsider = lab.hosts
    prober = probe(lab)
    with Ear(lab.client) as ear:
        cluster, both = ours(lab, [first, second], strangers="yield")
        cluster.wait(lambda: cluster.record() is not None, "one owns")
        owner = next(agent for agent in both if agent.host.name == cluster.owner())
        ear.wait(owner.host.ip)
        keepalived = Keepalived(lab, outsider, owner.host, V3, HIGHER)
        owner.wait("MASTER -> BACKUP .a stranger is master of web")
        cluster.wait(lambda: (cluster.record() or {})["clean"], "the owner released")
        ear.wait(outsider.ip, since=now(), count=SEVERAL)
        answers(prober, outsider, now())
        assert [agent.roles.count("MASTER") for agent in both] == [int(agent is owner) for agent in both]
        assert keepalived.states == ["BACKUP", "MASTER"]
        assert all(agent.lines("alarm: stranger web: ") for agent in both)

        keepalived.stop()
        cluster.wait(lambda: cluster.epoch() == 2, "one of ours claimed")
        answers(prober, lab.host(cluster.owner()), now())
        assert all("lower priority" in line for line in keepalived.complaints)
        one_haagent(prober, outsider, request)


def test_the_deposed_owner_says_no_farewell(make_lab: MakeLab):
    """RFC 9568 6.4.3: only a master that shuts down sends priority 0; who was deposed says nothing more.

    Otherwise the other backups would hurry to elect, although there is a master.
    """
    lab = make_lab(3)
    here, waiting, outsider = lab.hosts
    with Ear(lab.client) as ear:
        _, agent = one_agent(lab, here, V3.router(here, waiting, priority=OURS, strangers="yield"))
        ear.wait(here.ip)
        bystander = Keepalived(lab, waiting, here, V3, LOWER)
        bystander.wait("Entering BACKUP STATE")
        Keepalived(lab, outsider, here, V3, HIGHER)
        agent.wait("MASTER -> BACKUP")
        ear.wait(outsider.ip, since=now(), count=SEVERAL)
        assert [heard.at for heard in ear.hear(here.ip) if heard.priority == 0] == []
        assert bystander.states == ["BACKUP"]


def test_a_node_listens_before_it_claims(make_lab: MakeLab):
    """RFC 9568 6.4.1: who starts waits for three intervals and its skew, and thus hears the master that there is.

    keepalived speaks every second, three times as seldom as our lease runs out.
    """
    seldom = Dialect("", interval=1 * S)
    lab = make_lab(2)
    here, outsider = lab.hosts
    with Ear(lab.client) as ear:
        Keepalived(lab, outsider, here, seldom, HIGHER)
        ear.wait(outsider.ip)
        _, agent = one_agent(lab, here, seldom.router(here, outsider, priority=OURS, strangers="yield"), ttl="300ms")
        agent.wait("lease held")
        ear.wait(outsider.ip, since=now(), count=2)
        assert agent.roles == ["BACKUP"]
        assert ear.hear(here.ip) == []


def test_a_node_that_hears_nobody_claims_after_it_has_listened(make_lab: MakeLab, request: pytest.FixtureRequest):
    lab = make_lab(1)
    here = lab.hosts[0]
    with Ear(lab.client) as ear:
        _, agent = one_agent(lab, here, V3.router(here, here, priority=OURS, strangers="yield"))
        agent.wait("interface eth0: up")
        up = now()
        waited = ear.wait(here.ip).at - up
        request.node.user_properties.append(("waited_ms", round(waited / MS, 1)))
        assert V3.down_interval(OURS) - 100 * MS < waited < V3.down_interval(OURS) + SLACK


# --- yield: haagent goes first


def test_a_higher_priority_that_preempts_deposes_keepalived(make_lab: MakeLab, request: pytest.FixtureRequest):
    """keepalived is master; we start with a higher priority, and it goes back to BACKUP by our adverts."""
    lab = make_lab(3)
    first, second, outsider = lab.hosts
    prober = probe(lab)
    with Ear(lab.client) as ear:
        keepalived = Keepalived(lab, outsider, first, V3, LOWER)
        ear.wait(outsider.ip)
        cluster, both = ours(lab, [first, second], strangers="yield", preempt=True)
        keepalived.wait(rf"Master received advert from [\d.]+ with higher priority {OURS}, ours {LOWER}")
        cluster.wait(lambda: cluster.record() is not None, "one owns")
        ear.wait(lab.host(cluster.owner()).ip, since=now(), count=SEVERAL)
        answers(prober, lab.host(cluster.owner()), now())
        assert keepalived.states == ["BACKUP", "MASTER", "BACKUP"]
        assert sum(agent.roles.count("MASTER") for agent in both) == 1
        assert cluster.epoch() == 1
        one_haagent(prober, outsider, request)


@pytest.mark.parametrize("preempt, priority", [(False, LOWER), (True, OURS)], ids=["no preempt", "equal priority"])
def test_keepalived_stays_master(preempt: bool, priority: int, make_lab: MakeLab):
    """Without `preempt` a lower master is left alone; with it an equal one is, whatever the addresses (6.4.2)."""
    lab = make_lab(3)
    outsider, _, here = lab.hosts  # ours is the higher address
    with Ear(lab.client) as ear:
        keepalived = Keepalived(lab, outsider, here, V3, priority)
        ear.wait(outsider.ip)
        keys = {"strangers": "yield", "preempt": preempt}
        _, agent = one_agent(lab, here, V3.router(here, outsider, priority=OURS, **keys))
        agent.wait("lease held")
        ear.wait(outsider.ip, since=now() + V3.down_interval(OURS), count=SEVERAL)
        assert agent.roles == ["BACKUP"]
        assert keepalived.states == ["BACKUP", "MASTER"]


@pytest.mark.parametrize("wins", ["keepalived", "haagent"])
def test_a_tie_of_two_masters_goes_to_the_higher_address(wins: str, make_lab: MakeLab, request: pytest.FixtureRequest):
    """Neither hears the other, and both own. When they do again, one yields: RFC 9568 6.4.3."""
    lab = make_lab(3)
    low, outsider, high = lab.hosts
    here = low if wins == "keepalived" else high
    prober = probe(lab)
    with Ear(lab.client) as ear:
        cluster, agent = one_agent(lab, here, V3.router(here, outsider, priority=OURS, strangers="yield"))
        agent.wait("-> MASTER")
        cut = lab.cut_vrrp(outsider)
        keepalived = Keepalived(lab, outsider, here, V3, OURS)
        keepalived.wait("Entering MASTER STATE")
        cut.undo()
        if wins == "keepalived":
            agent.wait("MASTER -> BACKUP .a stranger is master of web")
            cluster.wait(lambda: (cluster.record() or {})["clean"], "the owner released")
        else:
            keepalived.wait("with same priority 100 but higher IP address than ours")
        winner = outsider if wins == "keepalived" else here
        ear.wait(winner.ip, since=now(), count=SEVERAL)
        answers(prober, winner, now())
        keeps = wins == "haagent"
        assert agent.roles == ["BACKUP", "MASTER"] + ["BACKUP"] * (not keeps)
        assert keepalived.states == ["BACKUP", "MASTER"] + ["BACKUP"] * keeps
        one_haagent(prober, outsider, request)


def test_keepalived_does_not_move_when_one_of_ours_succeeds_another(make_lab: MakeLab, request: pytest.FixtureRequest):
    """Our owner stops; the next of ours claims well within keepalived's skew, and keepalived stays BACKUP."""
    lab = make_lab(3)
    first, second, outsider = lab.hosts
    prober = probe(lab)
    slow = Dialect("", interval=500 * MS)
    with Ear(lab.client) as ear:
        router = slow.router(first, second, priority=OURS, strangers="yield")
        cluster, both = agents(lab, {first.name: router, second.name: router})
        cluster.wait(lambda: cluster.record() is not None and len(cluster.candidates()) == 2, "one owns, two may")
        owner, other = sorted(both, key=lambda agent: agent.host.name != cluster.owner())
        ear.wait(owner.host.ip)
        keepalived = Keepalived(lab, outsider, first, slow, LOWER)
        keepalived.wait("Entering BACKUP STATE")
        ear.wait(owner.host.ip, since=now())
        owner.process.stop()
        farewell = ear.farewell(owner.host.ip)
        first_word = ear.wait(other.host.ip)
        request.node.user_properties.append(("succession_ms", round((first_word.at - farewell.at) / MS, 1)))
        ear.wait(other.host.ip, since=farewell.at, count=3)
        keepalived.wait("Backup received priority 0 advertisement")
        assert keepalived.states == ["BACKUP"]
        assert keepalived.complaints == []
        assert prober.timeline().overlaps(vip4()) == ()


# --- alarm


def test_alarm_nobody_outside_deposes_the_owner(make_lab: MakeLab, request: pytest.FixtureRequest):
    """keepalived of a higher priority calls itself master. The owner stays, says so once, and says when it is over."""
    lab = make_lab(3)
    first, second, outsider = lab.hosts
    prober = probe(lab)
    with Ear(lab.client) as ear:
        cluster, both = ours(lab, [first, second], strangers="alarm")
        cluster.wait(lambda: cluster.record() is not None, "one owns")
        owner = next(agent for agent in both if agent.host.name == cluster.owner())
        ear.wait(owner.host.ip)
        keepalived = Keepalived(lab, outsider, owner.host, V3, HIGHER)
        keepalived.wait("Entering MASTER STATE")
        since = now()
        ear.wait(outsider.ip, since=since, count=SEVERAL)
        ear.wait(owner.host.ip, since=since, count=SEVERAL)
        keepalived.stop()
        for agent in both:
            agent.wait("alarm over: stranger web")
            assert len(agent.lines("alarm: stranger web")) == 1
            assert agent.roles == ["BACKUP"] + ["MASTER"] * (agent is owner)
        assert cluster.epoch() == 1
        answers(prober, owner.host, now())
        one_haagent(prober, outsider, request)


def test_who_comes_back_deposes_nobody_whom_it_cannot_hear_yet(make_lab: MakeLab, request: pytest.FixtureRequest):
    """A cable is pulled and plugged in again, and keepalived's ARP for us is lost while it was out.

    keepalived's kernel asks again after a second, longer than three of our intervals. It is the better one, and speaks
    all the time; each time we listen until we hear it.
    """
    quick = Dialect("", interval=100 * MS, unicast=True)
    lab = make_lab(2)
    outsider, here = lab.hosts
    prober = probe(lab)
    Keepalived(lab, outsider, here, quick, HIGHER)
    _, agent = one_agent(lab, here, quick.router(here, outsider, priority=OURS, strangers="yield"), ttl="1s")
    agent.wait("alarm: stranger web")
    answers(prober, outsider, now())
    for turn in range(1, 4):
        cable = lab.link_down(here, Network.SERVICE)
        agent.wait("BACKUP -> FAULT", count=turn)
        time.sleep(1.5)
        outsider.run(["ip", "neigh", "flush", "all"])
        time.sleep(0.3)  # it asks for us now, and nobody hears it
        cable.undo()
        agent.wait("FAULT -> BACKUP", count=turn)
        time.sleep(2.5)
        assert agent.roles.count("MASTER") == 0, agent.process.output()
    one_haagent(prober, outsider, request)
    assert not prober.timeline().overlaps(vip4())
