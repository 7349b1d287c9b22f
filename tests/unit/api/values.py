"""What the tests of the HTTP server are made of: a cluster of three as `n1` sees it, and a server of it on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from haagent.api.http.feed import Feed
from haagent.api.http.metrics import Metrics, Sources
from haagent.api.http.server import Answers, HttpServer
from haagent.api.http.verdicts import Ownership
from haagent.core.units import MS, S
from haagent.runtime.meters import Meters
from haagent.v1 import status_pb2 as pb
from haagent.wire.rejection import Reason
from tests.unit.core.values import group, rules

NODES = ("n1", "n2", "n3")


def node_status(node: str, owns: tuple[str, ...] = (), groups: tuple[str, ...] = ("web", "db")) -> pb.NodeStatus:
    roles = [
        pb.GroupRole(
            group=name,
            role=pb.MASTER if name in owns else pb.BACKUP,
            state="owning" if name in owns else "following",
            epoch=42,
            priority=100,
            addresses_held=2 if name in owns else 0,
        )
        for name in groups
    ]
    return pb.NodeStatus(
        node=node,
        incarnation=f"{node}-1",
        release="0.1.0",
        groups=roles,
        lease=pb.LeaseStatus(held=True, ttl_ns=1 * S, left_ns=800 * MS, age_ns=170 * MS, renewal_ns=3 * MS),
        failsafe=pb.FailsafeStatus(),
        gate=pb.GateStatus(kind="nft+bpf", owned=True, dropped={"arp": 3}, kept_by="keeper process 7"),
        etcd=pb.EtcdStatus(reachable=True, revision=7),
        started_wall_ns=time.time_ns() - 3600 * S,
    )


def status(groups: tuple[str, ...] = ("web", "db"), owners: tuple[str, ...] = ("n1", "n2")) -> pb.Status:
    """The groups, each with its owner; all is well."""
    now = time.time_ns()
    owned = dict(zip(groups, owners, strict=True))
    said = {node: node_status(node, tuple(g for g in groups if owned[g] == node), groups) for node in NODES}
    peer = pb.Peer(connected=True, round_trip_ns=400_000, since_wall_ns=now - 60 * S)
    members = [pb.Member(node="n1", alive=True, release="0.1.0", priorities=dict.fromkeys(groups, 100))]
    members += [
        pb.Member(
            node=node,
            alive=True,
            release="0.1.0",
            priorities=dict.fromkeys(groups, 100),
            endpoint=f"{node}:8501",
            peer=peer,
            status=said[node],
        )
        for node in NODES[1:]
    ]
    shown = [
        pb.Group(
            name=name,
            owner=owned[name],
            last_owner=owned[name],
            epoch=42,
            reason="there was no owner",
            since_wall_ns=now - 3723 * S,
            candidates=NODES,
            addresses=["10.0.0.100/24", "10.0.0.101/24"],
        )
        for name in groups
    ]
    changes = [
        pb.Change(
            at_wall_ns=now - 3723 * S,
            group=groups[0],
            before=pb.BACKUP,
            after=pb.MASTER,
            why="the lease of n2 lapsed",
            epoch=42,
            gap_ns=78 * MS,
        )
    ]
    return pb.Status(
        cluster="prod", at_wall_ns=now, at_boot_ns=1, self=said["n1"], groups=shown, members=members, changes=changes
    )


class Agent:
    """What a server is told. Set `status`, `owners` and the reasons, call `feed.changed()`."""

    def __init__(self, shown: pb.Status | None = None) -> None:
        self.status = shown or status()
        self.owners = {"web": Ownership(True, "n1", 42), "db": Ownership(False, "n2", 7)}
        self.unready: tuple[str, ...] = ()
        self.unwell: tuple[str, ...] = ()
        self.meters = Meters(rules(group("web"), group("db"), node="n1"))
        self.sources = Sources(self.meters, clock=lambda: 0, rejected={("web", Reason.BAD_TTL): 3})
        self.feed = Feed(self._status, lambda: (800.0, 1000.0))
        answers = Answers(
            owner=self.owners.get,
            unready=lambda: self.unready,
            unwell=lambda: self.unwell,
            status=self._status,
            metrics=Metrics(self.sources).render,
        )
        self.server = HttpServer(answers, self.feed)

    async def _status(self) -> pb.Status:
        self.status.at_wall_ns = time.time_ns()
        return self.status

    @contextlib.asynccontextmanager
    async def serving(self, listen: str = "127.0.0.1:0") -> AsyncGenerator[int]:
        """Serves on a port of its own, which it gives."""
        task = asyncio.create_task(self.server.serve(listen))
        try:
            async with asyncio.timeout(10):
                while not self.server.port:  # noqa: ASYNC110 - only tests want to know
                    await asyncio.sleep(0.001)
            yield self.server.port
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), "the server ended by itself"
