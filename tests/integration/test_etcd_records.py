"""What operators read and write in etcd beside the node: whole, guarded, and honest about what is not known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

import pytest

from haagent.adapters.etcd import open_records
from haagent.adapters.etcd.requests import watched_range
from haagent.core.records import Guard, HistoryEntry, Intent, Key, Kind, Orders, Put
from haagent.core.units import MS, S
from haagent.lab.etcd import Etcd, loopback_etcd
from haagent.runtime.ports import NotWritten, Unclear, UnreadableError, Written
from tests.integration.etcd_client import CLUSTER, WEB, client, owner, settings

pytestmark = pytest.mark.integration

WISH = Key(Kind.INTENTS, "web")
ORDERS = Key(Kind.ORDERS, "cluster")


@pytest.fixture(scope="module")
def etcd() -> Generator[Etcd]:
    with loopback_etcd() as made:
        yield made


def test_all_is_read_and_written_with_guards(etcd: Etcd):
    entry = Key(Kind.HISTORY, "web/1")

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as node, open_records(settings(etcd.endpoints)) as records:
            at = await node.committed(Put(WEB, owner(1)), Put(entry, HistoryEntry("a", 1, "test")))
            listing = await records.read()
            shown = {one.key: one for one in listing.seen}
            assert shown[WEB].value == owner(1)
            assert abs(shown[WEB].since - time.time_ns()) < 60 * S
            assert entry not in shown
            history = await records.history()
            assert [(one.key, one.since) for one in history.seen] == [(entry, shown[WEB].since)]
            guards = (Guard(WEB, at), Guard(WISH, 0))
            wish = Put(WISH, Intent("b", 1, "me", 5 * MS, 0))
            assert isinstance(await records.commit(guards, (wish,)), Written)
            assert await records.commit(guards, (wish,)) == NotWritten()
            there = (await records.look((WISH, ORDERS))).seen
            assert [one.value for one in there] == [wish.value, None]
            # Beside the node, on its connections.
            beside = node.store.records()
            assert isinstance(await beside.commit((Guard(ORDERS, 0),), (Put(ORDERS, Orders("me")),)), Written)
            assert node.store.reachable
            gone = await beside.commit((Guard(WISH, there[0].revision),), (), (WISH,))
            assert isinstance(gone, Written)
        with pytest.raises(UnreadableError, match="closed"):
            await beside.read()

    asyncio.run(scenario())


def test_an_etcd_that_says_nothing_leaves_it_unclear(etcd: Etcd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("haagent.adapters.etcd.operators.PATIENCE", 300 * MS)

    async def scenario() -> None:
        async with open_records(settings(etcd.endpoints)) as records:
            await records.read()
            etcd.pause()
            try:
                assert isinstance(await records.commit((), (Put(WISH, Intent("b", 1, "me")),)), Unclear)
                with pytest.raises(UnreadableError):
                    await records.look((WISH,))
            finally:
                etcd.resume()

    asyncio.run(scenario())


def test_where_nobody_is_nothing_was_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("haagent.adapters.etcd.operators.PATIENCE", 200 * MS)

    async def scenario() -> None:
        async with open_records(settings(["http://127.0.0.1:1"])) as records:
            with pytest.raises(UnreadableError, match="no endpoint is connected"):
                await records.read()
            assert isinstance(await records.commit((), (Put(WISH, Intent("b", 1, "me")),)), NotWritten)

    asyncio.run(scenario())


def test_orders_are_part_of_what_the_core_watches():
    first, end = watched_range(CLUSTER)
    assert first < f"/haagent/{CLUSTER}/orders/cluster".encode() < end
