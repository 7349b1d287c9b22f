"""`on_release: reset_connections`: what is established on an address that left is reset, and nothing else is.

A server on this host, clients in another namespace; the kernel's own answer is what is looked at.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import pytest

from haagent.adapters.netlink.sockets import can_reset, reset
from haagent.lab.cluster import Cluster, web_router
from haagent.lab.commands import now
from haagent.lab.scenarios import Rehearsal
from haagent.lab.topology import vip4
from tests.integration.clusters import Story, answering, one_owner, others, silence
from tests.integration.conftest import MakeLab
from tests.integration.kernel import bench, vip
from tests.integration.namespace import Neighbour, in_namespace, sh

pytestmark = pytest.mark.integration

OWN, FOUR, OTHER, SIX = "10.9.0.1", "10.9.0.100", "10.9.0.101", "2001:db8::100"
PORT = 8080


def serve(address: str, family: socket.AddressFamily) -> socket.socket:
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, PORT))
    listening.listen(200)
    return listening


def connected(cable: Neighbour, listening: socket.socket, address: str, count: int) -> list[tuple[socket.socket, ...]]:
    """Connections: our end, and the client's."""

    def connect() -> socket.socket:
        return socket.create_connection((address, PORT), timeout=5)

    clients = [cable.run(connect) for _ in range(count)]
    return [(listening.accept()[0], client) for client in clients]


def broken(connections: Iterable[tuple[socket.socket, ...]]) -> list[bool]:
    """Which of our ends say that their connection was aborted."""
    found: list[bool] = []
    for ours, _ in connections:
        ours.setblocking(False)
        try:
            found.append(ours.recv(1) == b"")
        except BlockingIOError:
            found.append(False)
        except ConnectionAbortedError:
            found.append(True)
    return found


@in_namespace
def test_connections_on_an_address_that_left_are_reset_and_no_others():
    assert can_reset(), "CONFIG_INET_DIAG_DESTROY"
    cable = Neighbour("eth0", "peer")
    sh(f"ip address add {OWN}/24 dev eth0")
    for line in ("ip address add 10.9.0.2/24 dev peer", "ip address add 2001:db8::2/64 dev peer nodad"):
        cable.run(lambda line=line: sh(line))
    group = vip(FOUR), vip(f"{SIX}/64")

    async def main() -> None:
        async with bench(addresses={"g": group, "h": (vip(OTHER),)}) as b:
            await b.installed("g", *group)
            await b.installed("h", vip(OTHER))
            # An IPv4 service; one of both families, whose IPv4 connections are an IPv6 socket's.
            four = serve("0.0.0.0", socket.AF_INET)
            left = connected(cable, four, FOUR, 100)
            stays = connected(cable, four, OWN, 3) + connected(cable, four, OTHER, 3)
            four.close()
            both = serve("::", socket.AF_INET6)
            left += connected(cable, both, FOUR, 3) + connected(cable, both, SIX, 3)
            stays += connected(cable, both, OWN, 3)
            addresses = [each.address for each in group]
            assert reset(addresses) == 0, "they are here"
            await b.removed("g")
            assert not any(broken(left)), "they neither live nor die"
            assert reset([*addresses, vip(OTHER).address]) == len(left)
            assert all(broken(left))
            assert not any(broken(stays))
            assert reset(addresses) == 0
            # Who listens goes on listening.
            await b.installed("g", *group)
            assert not any(broken(connected(cable, both, FOUR, 1)))
            both.close()

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("on_release", ["reset_connections", "nothing"])
def test_a_server_learns_at_a_switchover_that_its_connections_are_dead(make_lab: MakeLab, on_release: str):
    lab = make_lab(hosts=2)
    cluster = Cluster(lab, routers=[web_router(on_release=on_release)], peers=True)
    prober = lab.probe([vip4()])
    story = Story(cluster)
    Rehearsal(cluster, prober, vip4()).cold_start()
    cluster.wait(cluster.carried, "the nodes hear each other")
    owner = lab.host(answering(prober, vip4()))
    (other,) = others(cluster, owner.name)
    with owner.inside():
        listening = serve("0.0.0.0", socket.AF_INET)
    with lab.client.inside():
        clients = [socket.create_connection((vip4(), PORT), timeout=5) for _ in range(20)]
    connections = [(listening.accept()[0], client) for client in clients]
    since = now()
    moved = cluster.ctl(owner, "switchover", "web", "--to", other.name, "--force")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert answering(prober, vip4()) == other.name
    assert silence(prober, vip4(), since) < 400
    if on_release == "nothing":
        assert not any(broken(connections))
    else:
        story.wait("^reset 20 connections on addresses that left", owner.name)
        assert all(broken(connections))
    for one in (listening, *(end for both in connections for end in both)):
        one.close()
    one_owner(story, prober, since)
