"""The etcd adapter and one healthy etcd: guards, answers, lists, the watch's order, sessions, limits."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Generator

import grpc.aio
import pytest
from aetcd import rpc

from haagent.adapters.etcd.pages import Lister
from haagent.adapters.etcd.store import AT_ONCE, WAITING_MOST
from haagent.core.model import Ask, Asking, Committed, Event, Listed, Look, Refused, Unanswered, Watched
from haagent.core.records import (
    Garbage,
    Guard,
    HistoryEntry,
    Key,
    Kind,
    MemberValue,
    Put,
    Seen,
    Standing,
)
from haagent.core.units import MS, S
from haagent.lab.etcd import Etcd, loopback_etcd
from tests.integration.etcd_client import (
    CLUSTER,
    WEB,
    A,
    B,
    Client,
    assert_in_order,
    client,
    lease,
    owner,
    settings,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared() -> Generator[Etcd]:
    with loopback_etcd() as etcd:
        yield etcd


@pytest.fixture
def etcd(shared: Etcd) -> Etcd:
    """A healthy etcd with nothing of ours in it."""
    shared.ctl("del", "--prefix", "/haagent/")
    return shared


def test_a_list_comes_first_and_then_every_change_in_order(etcd: Etcd):
    etcd.ctl("put", f"/haagent/{CLUSTER}/leases/early", "{}")

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            first = c.events[0]
            assert isinstance(first, Listed)
            assert [one.key for one in first.seen] == [Key(Kind.LEASES, "early")]
            revisions = [await c.committed(Put(A, lease(number))) for number in range(50)]
            gone = await c.committed(deletes=(A,))
            assert await c.seen(A, gone) == Seen(A, 0, gone, None)
            shown = [one for event in c.all(Watched) for one in event.seen]
            assert [one.revision for one in shown] == [*revisions, gone]
            assert [one.value for one in shown[:-1]] == [lease(number) for number in range(50)]
            assert {one.created for one in shown[:-1]} == {revisions[0]}
            assert_in_order(c.events)

    asyncio.run(scenario())


def test_a_list_is_told_once_its_watch_stands():
    """What is written in answer to it is then shown at once; a watch that begins later is served each 100 ms only."""

    async def scenario(etcd: Etcd) -> None:
        async with client(settings(etcd.endpoints), listed=False) as c:
            watches: list[int] = []

            def count(event: Event) -> None:
                if isinstance(event, Listed):  # asked on the event loop: what is not there is not made meanwhile
                    with urllib.request.urlopen(f"{etcd.endpoints[0]}/metrics", timeout=5) as told:
                        found = re.search(rb"^etcd_debugging_mvcc_watcher_total (\d+)", told.read(), re.M)
                    assert found is not None
                    watches.append(int(found[1]))

            c.hook = count
            await c.until(lambda: watches)
            assert watches == [1]

    with loopback_etcd() as fresh:
        asyncio.run(scenario(fresh))


def test_the_changes_of_one_transaction_come_together(etcd: Etcd):
    keys = [Key(Kind.OWNERS, f"g{number}") for number in range(100)]

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            revision = await c.committed(*(Put(key, owner(1)) for key in keys))
            await c.seen(keys[0], revision)
            together = [event for event in c.all(Watched) if event.revision == revision]
            assert [[one.key for one in event.seen] for event in together] == [keys]

    asyncio.run(scenario())


def test_a_guard_that_holds_lets_the_transaction_through(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            created = await c.committed(Put(A, lease(1)), guards=[Guard(A, 0)])
            changed = await c.committed(Put(A, lease(2)), guards=[Guard(A, created)])
            await c.committed(Put(A, lease(3)), guards=[Guard(A, created, created=True)])
            await c.committed(Put(B, lease(1)), guards=[Guard(B, 0, created=True), Guard(WEB, 0)])
            assert changed > created

    asyncio.run(scenario())


def test_a_guard_that_fails_shows_what_is_there(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            created = await c.committed(Put(A, lease(1)))
            changed = await c.committed(Put(A, lease(2)))
            there = Seen(A, created, changed, lease(2))
            for guard in (
                Guard(A, 0),
                Guard(A, created),
                Guard(A, changed, created=True),
                Guard(A, changed + 1),
            ):
                answer = await c.commit(Put(B, lease(9)), guards=[guard, Guard(B, 0)])
                assert isinstance(answer, Refused)
                assert answer.revision == changed
                assert answer.seen == (there, Seen(B, 0, changed, None))

    asyncio.run(scenario())


def test_a_key_guarded_twice_is_shown_once(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            answer = await c.commit(Put(A, lease(1)), guards=[Guard(A, 5), Guard(A, 5, created=True)])
            assert isinstance(answer, Refused)
            assert [one.key for one in answer.seen] == [A]

    asyncio.run(scenario())


def test_what_is_asked_at_once_is_done_at_once_and_each_by_itself(etcd: Etcd):
    """One call for twenty handovers: one revision, and a guard that fails is that one's alone."""
    keys = [Key(Kind.OWNERS, f"g{number}") for number in range(20)]

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            there = await c.committed(Put(keys[7], owner(1)))
            asked = [c.commit(Put(key, owner(2)), guards=[Guard(key, 0)]) for key in keys]
            answers = [await one for one in asked]
            refused = answers.pop(7)
            assert isinstance(refused, Refused)
            assert refused.seen == (Seen(keys[7], there, there, owner(1)),)
            assert {type(answer) for answer in answers} == {Committed}
            assert len({answer.revision for answer in answers if isinstance(answer, Committed)}) == 1
            together = await c.seen(keys[0], there + 1)
            assert together.value == owner(2)
            shown = [event for event in c.all(Watched) if event.revision == there + 1]
            assert [len(event.seen) for event in shown] == [19]
            looked = [await one for one in [c.look(key) for key in keys]]
            assert [one.seen[0].revision for one in looked if isinstance(one, Refused)] == [
                there if key == keys[7] else there + 1 for key in keys
            ]

    asyncio.run(scenario())


def test_what_one_writes_and_another_looks_at_is_asked_apart(etcd: Etcd):
    """Of two claims of one group one is refused, and shown the other: not the state before both."""

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            asked = [
                c.commit(Put(WEB, owner(1)), guards=[Guard(WEB, 0)]),
                c.commit(Put(WEB, owner(2)), guards=[Guard(WEB, 0)]),
                c.commit(Put(A, lease(1)), guards=[Guard(WEB, 0)]),
                c.commit(Put(B, lease(1)), guards=[Guard(A, 0)]),
            ]
            answers = [await one for one in asked]
            done = {type(answer) for answer in answers[:2]}
            assert done == {Committed, Refused}
            shown = await c.look(WEB, A, B)
            assert isinstance(shown, Refused)
            for answer in answers:
                if isinstance(answer, Refused):
                    assert answer.seen[0].revision == shown.seen[0 if answer.seen[0].key == WEB else 1].revision

    asyncio.run(scenario())


def test_one_that_can_not_be_done_spoils_no_other(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            asked = [
                c.commit(Put(B, lease(1))),
                c.commit(Put(A, lease(1)), Put(A, lease(2))),
                c.commit(Put(WEB, owner(1))),
            ]
            good, bad, other = [await one for one in asked]
            assert isinstance(good, Committed)
            assert isinstance(other, Committed)
            assert isinstance(bad, Unanswered)
            assert "duplicate key" in bad.why

    asyncio.run(scenario())


def test_a_look_shows_keys_as_they_are(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            at = await c.committed(Put(A, lease(1)), Put(WEB, owner(1)))
            answer = await c.look(WEB, B, A)
            assert isinstance(answer, Refused)
            assert answer.seen == (
                Seen(WEB, at, at, owner(1)),
                Seen(B, 0, at, None),
                Seen(A, at, at, lease(1)),
            )

    asyncio.run(scenario())


def test_history_is_written_but_not_listed_nor_watched(etcd: Etcd):
    entry = Key(Kind.HISTORY, "web/1")

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            at = await c.committed(Put(entry, HistoryEntry("a", 1, "test")), Put(WEB, owner(1)))
            await c.seen(WEB, at)
            before = len(c.events)
            c.store.resync()
            listed = await c.next(Listed, before)
            assert [one.key for one in listed.seen] == [WEB]
            assert entry not in [one.key for event in c.all(Watched) for one in event.seen]

    asyncio.run(scenario())
    for key in ("owners/web", "history/web/1"):
        assert '"since":"20' in etcd.ctl("get", f"/haagent/{CLUSTER}/{key}")


def test_what_is_none_of_ours_is_garbage_or_ignored(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            prefix = f"/haagent/{CLUSTER}"
            etcd.ctl("put", f"{prefix}/mischief/x", "1")
            etcd.ctl("put", f"{prefix}/leases/a/b", "1")
            etcd.ctl("put", f"{prefix}/owners/web", "[" * 50_000)
            etcd.ctl("put", f"{prefix}/members/a", '{"v":2}')
            etcd.ctl("put", "/haagent/other/leases/a", "{}")
            at = await c.committed(Put(A, lease(1)))
            await c.seen(A, at)
            shown = {one.key: one.value for event in c.all(Watched) for one in event.seen}
            assert shown == {
                WEB: Garbage("no JSON: RecursionError"),
                Key(Kind.MEMBERS, "a"): Garbage("v: must be 1"),
                A: lease(1),
            }
            c.store.resync()
            listed = await c.next(Listed, len(c.events))
            assert {one.key: one.value for one in listed.seen} == shown

    asyncio.run(scenario())


def test_five_thousand_keys_are_listed_at_one_revision(etcd: Etcd):
    keys = [Key(Kind.OWNERS, f"g{number:04}") for number in range(5000)]

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            answers = [
                c.commit(*(Put(key, owner(1)) for key in keys[start : start + 100]))
                for start in range(0, len(keys), 100)
            ]
            for answer in answers:
                assert isinstance(await answer, Committed)
            before = len(c.events)
            c.store.resync()
            # Written between the pages: the list must not show it, the watch must.
            late = await c.committed(Put(keys[-1], owner(2)))
            listed = await c.next(Listed, before)
            assert [one.key for one in listed.seen] == keys
            assert all(one.revision <= listed.revision for one in listed.seen)
            assert (await c.seen(keys[-1], late)).value == owner(2)
            assert_in_order(c.events)

    asyncio.run(scenario())


def test_resync_lists_again(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            for _ in range(3):
                await c.seen(A, await c.committed(Put(A, lease(1))))
                before = len(c.events)
                c.store.resync()
                c.store.resync()
                await c.next(Listed, before)
            assert len(c.all(Listed)) == 4
            assert_in_order(c.events)

    asyncio.run(scenario())


def test_a_deletion_compacted_away_before_the_watch_is_not_lost(etcd: Etcd, monkeypatch: pytest.MonkeyPatch):
    """Between the list and its watch a key is deleted, and history compacted at just that revision.

    etcd itself says nothing of the deletion then (3.4.23); the store lists again.
    """
    lists: list[int] = []
    read = Lister.read

    async def read_and_lose(self: Lister, first: bytes, end: bytes, patience: float):
        header, seen = await read(self, first, end, patience)
        lists.append(header.revision)
        if len(lists) == 2:
            deleted = etcd.ctl("del", f"/haagent/{CLUSTER}/owners/web", "--write-out=fields")
            revision = re.search(r'"Revision" : (\d+)', deleted)
            assert revision is not None
            etcd.ctl("compact", revision[1])
        return header, seen

    monkeypatch.setattr(Lister, "read", read_and_lose)

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            at = await c.committed(Put(WEB, owner(1)))
            await c.seen(WEB, at)
            before = len(c.events)
            c.store.resync()
            await c.until(lambda: len(lists) >= 2)
            # What is written later is shown: by then the deletion must have been, too.
            later = await c.committed(Put(B, lease(1)))
            await c.seen(B, later)
            told = [event for event in c.events[before:] if isinstance(event, Listed | Watched)]
            after = [event for event in told if event.revision > at]
            assert after, "only the list of before"
            gone = isinstance(after[0], Watched) and any(one.key == WEB and one.value is None for one in after[0].seen)
            assert gone or isinstance(after[0], Listed), after
            if isinstance(after[0], Listed):
                assert WEB not in [one.key for one in after[0].seen]

    asyncio.run(scenario())


def test_session_keys_vanish_when_the_node_resigns(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            at = await c.committed(Put(A, lease(1), session=True), Put(WEB, owner(1)))
            await c.store.resign()
            answer = await c.look(A, WEB)
            assert isinstance(answer, Refused)
            assert answer.seen == (Seen(A, 0, at + 1, None), Seen(WEB, at, at, owner(1)))
            refused = await c.commit(Put(A, lease(2), session=True), patience=50 * MS)
            assert isinstance(refused, Unanswered)
            assert "resigned" in refused.why

    asyncio.run(scenario())


def test_a_session_that_was_lost_is_replaced_within_the_commit(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            await c.committed(Put(A, lease(1), session=True))
            ours = etcd.ctl("get", f"/haagent/{CLUSTER}/leases/a", "--write-out=fields")
            number = int(next(line for line in ours.splitlines() if "Lease" in line).split(":")[1])
            etcd.ctl("lease", "revoke", f"{number:x}")
            await c.until(lambda: any(one.value is None for event in c.all(Watched) for one in event.seen))
            await c.committed(Put(A, lease(2), session=True))
            assert c.store.counters["session_granted"] == 2

    asyncio.run(scenario())


def test_a_session_is_kept_alive(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints, session_ttl=2)) as c:
            await c.committed(Put(A, lease(1), session=True))
            # Renewals of another key, for as long as the lease would have lived twice over.
            end = asyncio.get_running_loop().time() + 5
            while asyncio.get_running_loop().time() < end:
                await c.committed(Put(B, lease(1)))
                await asyncio.sleep(0.1)
            answer = await c.look(A)
            assert isinstance(answer, Refused)
            assert answer.seen[0].value == lease(1)
            assert c.store.counters["session_granted"] == 1

    asyncio.run(scenario())


def test_what_etcd_will_not_do_is_answered_with_its_reason(etcd: Etcd):
    many = [Put(Key(Kind.OWNERS, f"g{number}"), owner(1)) for number in range(129)]
    large = MemberValue("i", "1", (), {f"g-{n:0100}": Standing(1, b"") for n in range(1000)})

    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            for puts, why in (
                (many, "too many operations"),
                ([Put(A, lease(1)), Put(A, lease(2))], "duplicate key"),
                ([Put(Key(Kind.MEMBERS, "a"), large)], "at most 65536 can be written"),
            ):
                answer = await c.commit(*puts)
                assert isinstance(answer, Unanswered)
                assert why in answer.why
            await c.committed(Put(A, lease(1)))

    asyncio.run(scenario())


def test_many_questions_take_turns_and_a_renewal_does_not_wait_for_them(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            keys = [Key(Kind.OWNERS, f"g{number}") for number in range(10 * AT_ONCE)]
            crowd = [c.commit(Put(key, owner(1)), kind=Asking.CLAIM) for key in keys]
            await c.committed(Put(A, lease(1)))
            assert len(c.all(Committed)) <= 1 + 2 * AT_ONCE
            assert {type(await one) for one in crowd} == {Committed}

    asyncio.run(scenario())


def test_questions_that_wait_are_bounded(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            for number in range(AT_ONCE + WAITING_MOST + 1):
                c.store.look(Look(Ask(Asking.LOOK, "g", number), (A,), 50 * MS))
            await c.until(lambda: len(c.all(Refused)) + len(c.all(Unanswered)) == AT_ONCE + WAITING_MOST + 1)
            why = [one.why for one in c.all(Unanswered)]
            assert why[0] == "too many questions wait"
            assert "not sent: too many questions were before it" in why

    asyncio.run(scenario())

    asyncio.run(scenario())


def test_every_question_is_answered_when_the_store_is_closed(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            asked = [c.commit(Put(A, lease(number))) for number in range(20)]
        asked.append(c.commit(Put(A, lease(99))))
        answers = [await one for one in asked]
        assert answers[-1] == Unanswered(answers[-1].ask, "not running")
        assert not {type(answer) for answer in answers} - {Committed, Unanswered}

    asyncio.run(scenario())


def test_an_exception_of_the_receiver_ends_the_run(etcd: Etcd):
    """A broken invariant of the core must not be lost in a task that nobody waits for."""

    class BrokenError(Exception):
        pass

    def broken(event: Event) -> None:
        if isinstance(event, Watched):
            raise BrokenError

    async def scenario() -> None:
        c = Client(settings(etcd.endpoints))
        c.hook = broken
        running = asyncio.create_task(c.store.run())
        await c.until(lambda: c.all(Listed))
        await c.commit(Put(A, lease(1)))
        await c.until(running.done)
        error = running.exception()
        assert isinstance(error, ExceptionGroup)
        assert error.subgroup(BrokenError)

    asyncio.run(scenario())


def test_values_too_large_for_one_answer_shrink_the_pages(etcd: Etcd):
    """A stranger's 20 MiB under our prefix: more than one answer may have, so fewer keys a page."""

    async def scenario() -> None:
        async with grpc.aio.insecure_channel(etcd.endpoints[0].removeprefix("http://")) as channel:
            kv = rpc.KVStub(channel)
            for number in range(20):
                await kv.Txn(
                    rpc.TxnRequest(
                        success=[
                            rpc.RequestOp(
                                request_put=rpc.PutRequest(
                                    key=f"/haagent/{CLUSTER}/owners/{number}".encode(),
                                    value=b"x" * (1 << 20),
                                )
                            )
                        ]
                    )
                )
        async with client(settings(etcd.endpoints)) as c:
            listed = c.all(Listed)[0]
            assert len(listed.seen) == 20
            assert all(isinstance(one.value, Garbage) for one in listed.seen)

    asyncio.run(scenario())


def test_a_patience_that_is_over_is_an_answer(etcd: Etcd):
    async def scenario() -> None:
        async with client(settings(etcd.endpoints)) as c:
            etcd.pause()
            try:
                began = asyncio.get_running_loop().time()
                answer = await c.commit(Put(A, lease(1)), patience=300 * MS)
                assert isinstance(answer, Unanswered)
                assert asyncio.get_running_loop().time() - began < 3
            finally:
                etcd.resume()
            await c.committed_at_last(Put(A, lease(2)), patience=1 * S)

    asyncio.run(scenario())
