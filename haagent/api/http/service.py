"""The HTTP server of a running agent: what it answers from, put together. Imports aiohttp, which takes its time."""

from __future__ import annotations

from collections.abc import Mapping

from haagent.api.bulletin import Bulletin
from haagent.api.http import verdicts
from haagent.api.http.feed import Feed
from haagent.api.http.metrics import Metrics, Sources
from haagent.api.http.server import Answers, HttpServer
from haagent.core.lease import Held
from haagent.core.node import Node
from haagent.core.units import MS, Instant
from haagent.runtime.clock import boottime
from haagent.runtime.meters import Meters
from haagent.runtime.pump import Pump
from haagent.wire.rejection import Reason


class HttpService:
    """Made on the running event loop. `rejected`: VRRP packets that were refused, by router or interface and reason."""

    def __init__(
        self,
        node: Node,
        pump: Pump,
        meters: Meters,
        bulletin: Bulletin,
        rejected: Mapping[tuple[str, Reason], int],
    ) -> None:
        self._feed = Feed(bulletin.status, lambda: _lease(node, boottime()))
        bulletin.subscribe(self._feed.changed)
        answers = Answers(
            owner=lambda group: verdicts.ownership(node, group, boottime()),
            unready=lambda: verdicts.unready(node, meters.lapsed_at, boottime()),
            unwell=lambda: verdicts.unwell(pump),
            status=bulletin.status,
            metrics=Metrics(Sources(meters, boottime, rejected)).render,
        )
        self._server = HttpServer(answers, self._feed)

    def renewed(self) -> None:
        """The lease runs longer than before."""
        self._feed.renewed()

    async def serve(self, listen: str) -> None:
        """Serve on `address:port` until cancelled."""
        await self._server.serve(listen)


def _lease(node: Node, now: Instant) -> tuple[float, float]:
    """Milliseconds: left, and ttl."""
    lease = node.lease
    return ((lease.held_until - now) / MS, lease.ttl / MS) if isinstance(lease, Held) else (0.0, node.rules.ttl / MS)
