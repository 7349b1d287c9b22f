"""The status that a node gives: of itself, of the groups as etcd has them, of the others as it sees them; quickly."""

from __future__ import annotations

import time

from haagent.api.status import Around, Counted, GateState, NoPeerTable, status
from haagent.core.records import Intent, Kind, Orders
from haagent.core.units import MS, S
from haagent.runtime.chronicle import Chronicle
from haagent.v1 import status_pb2
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import ADDRESS, group, owner, router, rules

WALL = 1_700_000_000 * S


class Peers(NoPeerTable):
    """One peer, `b`."""

    def __init__(self, **said: object) -> None:
        self.said = status_pb2.NodeStatus(node="b")
        if said:
            self.said.groups.append(status_pb2.GroupRole(group="web", **said))  # pyright: ignore[reportArgumentType]

    def table(self) -> dict[str, status_pb2.Peer]:
        return {"b": status_pb2.Peer(connected=True, round_trip_ns=5)}

    def statuses(self) -> dict[str, status_pb2.NodeStatus]:
        return {"b": self.said}


def around(talk: Talk, **more: object) -> Around:
    return Around(
        cluster="prod",
        boot=talk.now,
        wall=WALL,
        chronicle=Chronicle("a", lambda: WALL),
        gate=GateState("nft", owned=True, dropped={"arp": 3}),
        etcd=True,
        renewal=4 * MS,
        counted={"web": Counted(held=(ADDRESS,))},
        **more,  # pyright: ignore[reportArgumentType]
    )


def test_an_owner_says_that_it_owns():
    talk = master(rules())
    told = status(talk.node, around(talk), NoPeerTable())
    assert told.cluster == "prod"
    role = told.self.groups[0]
    assert (role.group, role.role, role.state, role.epoch) == ("web", status_pb2.MASTER, "owning", 1)
    assert (role.addresses_held, role.addresses_missing) == (1, 0)
    assert told.self.lease.held
    assert 0 < told.self.lease.left_ns <= 970 * MS
    assert told.self.lease.left_ns + told.self.lease.age_ns == 970 * MS
    assert told.self.gate.owned
    web = told.groups[0]
    assert (web.name, web.owner, web.epoch) == ("web", "a", 1)
    assert list(web.addresses) == ["10.0.0.100/24"]
    assert [member.node for member in told.members] == ["a", "b"]
    assert all(member.alive for member in told.members)


def test_an_owner_whose_lease_is_over_is_the_last_owner_only():
    talk = backup(rules(), record=owner("b"))
    assert status(talk.node, around(talk), NoPeerTable()).groups[0].owner == "b"
    talk.live(1001 + 1029, peers="")
    talk.now += 100 * MS
    told = status(talk.node, around(talk), NoPeerTable()).groups[0]
    assert (told.owner, told.last_owner) == ("", "b")


def test_while_etcd_is_away_an_owner_that_says_so_is_believed():
    talk = backup(rules(), record=owner("b"))
    talk.now += 10 * S
    claims = Peers(role=status_pb2.MASTER, epoch=1)
    assert status(talk.node, around(talk), claims).groups[0].owner == "b"
    assert status(talk.node, around(talk), Peers(role=status_pb2.MASTER, epoch=2)).groups[0].owner == ""
    assert status(talk.node, around(talk), Peers(role=status_pb2.BACKUP, epoch=1)).groups[0].owner == ""


def test_orders_wishes_and_connections_are_shown():
    talk = backup(rules(), record=owner("b"))
    wish = Intent("a", 1, "me", 5 * MS, 7 * MS)
    talk.other_writes(1010, (Kind.INTENTS, "web", wish), (Kind.ORDERS, "cluster", Orders("me", ("b",))))
    told = status(talk.node, around(talk), Peers())
    assert told.paused_by == "me"
    assert told.groups[0].intent.to == "a"
    assert told.groups[0].intent.expires_wall_ns == 7 * MS
    b = told.members[1]
    assert (b.drained, b.peer.connected, b.status.node) == (True, True, "b")
    assert not told.members[0].HasField("peer")


def test_two_hundred_groups_are_told_in_milliseconds():
    groups = [group(f"g{number}", router(f"r{number}", vrid=1 + number % 255)) for number in range(200)]
    talk = backup(rules(*groups), record=owner("b"))
    known = around(talk)
    took: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        assert len(status(talk.node, known, NoPeerTable()).groups) == 200
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05, took  # some 5 ms on an idle machine
