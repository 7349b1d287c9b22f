"""What operators order of a running cluster, as it stands in etcd: drain, pause, scheduled switchover, failback.

The client's prober sees the address all the time. What a pause, a drain or a schedule means in every case is shown by
the conversations with a node; here real agents read real clocks, and a real etcd keeps the orders.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from haagent.core.units import MS, S, Wall
from haagent.lab.cluster import web_router
from haagent.lab.commands import now
from haagent.lab.lab import Lab
from haagent.lab.topology import vip4
from tests.integration.clusters import Stage, answering, key, one_owner, others, silence
from tests.integration.conftest import Measure

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VIP = vip4(1)
GAP_MS = 250
"""A planned move takes some milliseconds; this machine may have other work."""


class Desk(Stage):
    """A cluster with an owner, and an operator who writes into etcd."""

    def begin(self) -> None:
        """No orders, all nodes there, and one owns."""
        self.order()
        self.cluster.restore()
        self.owner = answering(self.prober, VIP)
        self.since = now()
        self.story.forget()

    def order(self, paused: str = "", drained: Sequence[str] = ()) -> None:
        """These orders, and no others."""
        self._put("orders", "cluster", paused=paused, drained=list(drained))

    def wish(self, to: str, not_before: Wall = 0, expires: Wall = 0) -> None:
        """Another owner, for the present epoch."""
        when = {"not_before_ms": not_before // MS, "expires_ms": expires // MS}
        self._put("intents", "web", to=to, from_epoch=self.cluster.epoch(), by="anna", **when)

    def is_back_drained(self, node: str) -> bool:
        """Whether the node's agent runs, and can not own."""
        text = self.lab.etcd.ctl("get", "--print-value-only", key("members", node))
        return bool(text.strip()) and json.loads(text)["standings"]["web"]["priority"] == 0

    def intent_stands(self) -> bool:
        """Whether there is an intent in etcd."""
        return bool(self.lab.etcd.ctl("get", "--keys-only", key("intents", "web")).strip())

    def _put(self, kind: str, name: str, **fields: Any) -> None:
        self.lab.etcd.ctl("put", key(kind, name), json.dumps({"v": 1, **fields}))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Desk]:
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Desk(lab)


def test_a_node_is_drained_restarted_and_undrained(desk: Desk, measure: Measure) -> None:
    desk.begin()
    drained = desk.owner
    desk.order(drained=[drained])
    desk.story.wait(r"^web: MASTER -> BACKUP \(drained: handed over to ", drained)
    owner = answering(desk.prober, VIP)
    assert owner != drained
    gap = silence(desk.prober, VIP, desk.since)
    measure("drain_gap_ms", gap)
    assert gap < GAP_MS
    agent = desk.cluster.agents[drained]
    agent.stop()
    desk.cluster.start(desk.cluster.missing())
    desk.cluster.wait(lambda: desk.is_back_drained(drained), "the new agent is drained")
    desk.cluster.agents[owner].stop()
    last = answering(desk.prober, VIP)
    assert last not in (drained, owner)
    desk.order()
    desk.cluster.wait(lambda: drained in desk.cluster.candidates(), "undrained")
    one_owner(desk.story, desk.prober, desk.since)


def test_a_paused_cluster_stays_as_it_is(desk: Desk) -> None:
    """The owner's agent is killed, and its host stays away: nobody has the address until the pause is over."""
    desk.begin()
    desk.order(paused="anna")
    for host in desk.lab.hosts:
        desk.story.wait("alarm: paused cluster: by anna", host.name)
    epoch = desk.cluster.epoch()
    desk.cluster.agents[desk.owner].kill()
    time.sleep(3)
    assert desk.cluster.epoch() == epoch
    resumed = now()
    desk.order()
    heir = answering(desk.prober, VIP)
    first = desk.prober.timeline(resumed).first_answer_after(VIP, resumed, heir)
    assert heir != desk.owner
    assert first is not None
    assert first.at - resumed < 1 * S
    one_owner(desk.story, desk.prober, desk.since)


def test_an_owner_is_upgraded_in_a_pause(desk: Desk) -> None:
    """Killed and started anew, it goes on: the others leave the group alone, however long it takes."""
    desk.begin()
    desk.order(paused="anna")
    for host in desk.lab.hosts:
        desk.story.wait("alarm: paused cluster: by anna", host.name)
    desk.cluster.agents[desk.owner].kill()
    time.sleep(2)
    desk.cluster.start(desk.cluster.missing())
    assert answering(desk.prober, VIP) == desk.owner
    one_owner(desk.story, desk.prober, desk.since)


def test_a_switchover_comes_at_its_time(desk: Desk) -> None:
    """In two seconds of the wall clock: not before, and soon after."""
    desk.begin()
    target = others(desk.cluster, desk.owner)[0].name
    due = time.time_ns() + 2 * S
    desk.wish(target, not_before=due)
    desk.story.wait(rf"^web: BACKUP -> MASTER \(handover from {desk.owner}\)", target)
    assert due <= time.time_ns() < due + 2 * S
    assert answering(desk.prober, VIP) == target
    assert silence(desk.prober, VIP, desk.since) < GAP_MS
    one_owner(desk.story, desk.prober, desk.since)


def test_a_switchover_that_can_not_be_granted_expires(desk: Desk) -> None:
    desk.begin()
    desk.wish("nobody", expires=time.time_ns() + 2 * S)
    desk.story.wait("alarm: switchover-waits web: to nobody: nobody is no member", desk.owner)
    desk.story.wait("alarm over: switchover-waits web", desk.owner)
    desk.cluster.wait(lambda: not desk.intent_stands(), "what expired is deleted")
    assert desk.cluster.owner() == desk.owner


def test_failback_within_a_window(desk: Desk) -> None:
    """A reload opens the window of a better node: it asks, and the owner, whose window is open too, hands over."""
    desk.begin()
    heir = others(desk.cluster, desk.owner)[0].name
    router = web_router(failback="window", failback_window=["daily 00:00-24:00"])
    for host in desk.lab.hosts:
        better = {"priority": 200} if host.name == heir else {}
        desk.story.forget()
        desk.cluster.reload(host, virtual_routers=[{**router, **better}])
        desk.story.wait("^reload: ", host.name)
    assert answering(desk.prober, VIP, heir) == heir
    one_owner(desk.story, desk.prober, desk.since)
