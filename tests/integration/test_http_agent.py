"""HTTP on real agents: load balancers find the owner, followers see it change, and nobody who connects disturbs it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Generator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from haagent.core.units import S
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.lab import Lab
from haagent.lab.topology import vip4
from tests.integration.clusters import Stage, answering, one_owner, others, silence
from tests.integration.conftest import Measure

pytestmark = [pytest.mark.integration, pytest.mark.slow]

VIP = vip4()
PORT = 8500


class Desk(Stage):
    """A cluster with an owner, and somebody on each host who asks its agent."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.begin()

    def begin(self) -> None:
        self.cluster.restore()
        self.owner = self.lab.host(answering(self.prober, VIP))
        self.backups = others(self.cluster, self.owner.name)
        self.since = now()
        self.story.forget()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Desk]:
    with Lab(3, 1, seed=1, logs=tmp_path_factory.mktemp("lab") / "logs") as lab:
        yield Desk(lab)


def connect(host: Host) -> socket.socket:
    """An agent that has just been started serves a little later."""
    end = time.monotonic() + 10
    while True:
        try:
            with host.inside():
                return socket.create_connection(("127.0.0.1", PORT), timeout=10)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def ask(host: Host, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.sock = connect(host)
    connection.request(method, path)
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


def metric(host: Host, name: str, **labels: str) -> float:
    text = ask(host, "/metrics")[1]
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise AssertionError(f"{host.name} has no {name} {labels}")


def owners(desk: Desk) -> dict[str, int]:
    return {host.name: ask(host, "/owner/web", "HEAD")[0] for host in desk.lab.hosts}


def test_just_the_owner_says_so(desk: Desk) -> None:
    desk.begin()
    assert owners(desk) == {host.name: 200 if host is desk.owner else 503 for host in desk.lab.hosts}
    epoch = desk.cluster.epoch()
    for host in desk.lab.hosts:
        said = json.loads(ask(host, "/owner/web")[1])
        assert (said["owner"], said["epoch"], said["here"]) == (desk.owner.name, epoch, host is desk.owner)
        assert ask(host, "/healthz")[0] == ask(host, "/readyz")[0] == 200
        assert ask(host, "/owner/theirs")[0] == 404


def test_metrics_say_what_the_node_does(desk: Desk) -> None:
    desk.begin()
    master, backup = desk.owner, desk.backups[0]
    assert metric(master, "haagent_group_state", group="web", state="MASTER") == 1
    assert metric(backup, "haagent_group_state", group="web", state="BACKUP") == 1
    assert metric(backup, "haagent_group_epoch", group="web") == desk.cluster.epoch()
    assert metric(master, "haagent_group_addresses", group="web") == 1
    assert metric(master, "haagent_gate_kind", kind="nft") == 1
    assert metric(master, "haagent_lease_held") == 1
    assert 0 < metric(master, "haagent_lease_remaining_seconds") < 1
    assert metric(master, "haagent_vrrp_adverts_total", router="web", direction="sent") > 0
    before = metric(master, "haagent_lease_renewal_seconds_count")
    time.sleep(1)
    assert metric(master, "haagent_lease_renewal_seconds_count") > before
    assert metric(master, "haagent_lease_age_seconds_bucket", le="1.0") > 0


def test_a_follower_sees_the_owner_change(desk: Desk, measure: Measure) -> None:
    desk.begin()
    watcher = desk.backups[0]
    sock = connect(watcher)
    sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    desk.cluster.agents[desk.owner.name].kill()
    owner = ""
    with sock.makefile("rb") as stream:
        while owner in ("", desk.owner.name):
            line = stream.readline()
            if line.startswith(b"data: {") and b'"groups"' in line:
                owner = json.loads(line.removeprefix(b"data: "))["groups"][0]["owner"]
        seen = now()
    sock.close()
    became = desk.story.wait("web: BACKUP -> MASTER")
    measure("seen_after_ms", round((seen - became.at) / 1e6))
    assert owner == became.node
    assert seen - became.at < 1 * S
    new, other = desk.lab.host(owner), next(host for host in desk.backups if host.name != owner)
    assert (ask(new, "/owner/web")[0], ask(other, "/owner/web")[0]) == (200, 503)
    for host in (new, other):
        assert metric(host, "haagent_group_vacancy_seconds_count", group="web") >= 1
        assert metric(host, "haagent_group_vacancy_seconds_sum", group="web") < 5
    assert metric(new, "haagent_group_transitions_total", state="MASTER", cause="lease_lapsed") == 1
    one_owner(desk.story, desk.prober, desk.since)


def test_garbage_and_floods_cost_no_lease(desk: Desk, measure: Measure) -> None:
    """Megabytes of nothing, hundreds of connections that say nothing, and scrapes as fast as they are answered."""
    desk.begin()
    epoch = desk.cluster.epoch()
    end = time.monotonic() + 3
    answered: list[int] = []

    def garbage() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError), connect(desk.owner) as sock:
                sock.sendall(b"\x00\xffGET" * 200_000)

    def hold() -> None:
        held: list[socket.socket] = []
        while time.monotonic() < end and len(held) < 200:
            with contextlib.suppress(OSError):
                held.append(connect(desk.owner))
        time.sleep(max(0.0, end - time.monotonic()))
        for sock in held:
            sock.close()

    def scrape() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered.append(ask(desk.owner, "/metrics")[0])

    crowd = [threading.Thread(target=act) for act in (garbage, scrape, hold)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    measure("answered", len(answered))
    assert answering(desk.prober, VIP) == desk.owner.name
    measure("silence_ms", silence(desk.prober, VIP, desk.since))
    one_owner(desk.story, desk.prober, desk.since)
    assert desk.cluster.epoch() == epoch
    assert desk.story.lines(desk.owner.name, "lapsed") == []
    assert len(desk.story.lines(desk.owner.name)) < 5, "garbage is no news"
    assert ask(desk.owner, "/owner/web")[0] == 200


def test_a_port_that_is_taken_keeps_nobody_from_owning(desk: Desk) -> None:
    desk.begin()
    host = desk.backups[0]
    desk.cluster.agents[host.name].kill()
    desk.cluster.agents[host.name].wait()
    with host.inside():
        taken = socket.create_server(("127.0.0.1", PORT))
    try:
        desk.cluster.start([host])
        desk.story.wait("cannot listen on 127.0.0.1 port 8500", host.name)
        desk.cluster.restore()  # it is a candidate again
    finally:
        taken.close()
