"""What operators can have done: each request is planned, written as one transaction, waited for, and verified.

Used by the agent's Control server, with the agent's own eyes (`AgentWitness`), and by whoever has etcd but no agent
(`EtcdWitness`). A request is answered by an `Outcome` that says what is known, and no more: a transaction without an
answer is looked for, and if it can not be found out, the outcome is UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from haagent.api import moves, planning
from haagent.api.moves import Before, Follower
from haagent.api.planning import Order, Refusal, Scene, Transfer, Wish
from haagent.api.witness import Witness
from haagent.core.records import HistoryEntry, Intent, OwnerRecord, Revision
from haagent.core.units import MS, Instant, S, Wall
from haagent.runtime.ports import Records, Unclear, UnreadableError, Written
from haagent.v1 import control_pb2
from haagent.v1.control_pb2 import DONE, FAILED, REFUSED, SCHEDULED, UNKNOWN, Outcome

ATTEMPTS: Final = 3
"""How often a request is planned anew, because something changed while it was written."""
LONGEST_WAIT: Final[Instant] = 300 * S
AFTERMATH: Final[Instant] = 500 * MS
"""After a wish was withdrawn: an owner that had begun to grant it is about done by then."""
POLL: Final = 0.05
"""Seconds between two lists of all records, while a node is drained."""
VERIFIED_AT_ONCE: Final = 100
"""Groups of a drained node: each may take the other nodes seconds to ask for its addresses."""

P = TypeVar("P", Transfer, Order)


class Operator:
    """Does what operators ask for. `wall` and `clock`: the wall clock and CLOCK_BOOTTIME now."""

    def __init__(
        self, records: Records, witness: Witness, *, wall: Callable[[], Wall], clock: Callable[[], Instant]
    ) -> None:
        self._records = records
        self._witness = witness
        self._wall = wall
        self._clock = clock
        self._follower = Follower(records, witness, clock)

    async def scene(self) -> Scene:
        """The cluster as its keys show it now, with who renews. UnreadableError."""
        found = planning.scene((await self._records.read()).seen, self._wall())
        return replace(found, pulses=await self._witness.pulses(found), cut_off=self._witness.cut_off())

    async def history(self, request: control_pb2.HistoryRequest) -> control_pb2.HistoryReply:
        """Who owned what when, by group, oldest first. UnreadableError."""
        found: dict[str, list[control_pb2.HistoryEntry]] = {}
        for one in (await self._records.history()).seen:
            group, _, epoch = one.key.name.rpartition("/")
            if isinstance(one.value, HistoryEntry) and request.group in ("", group):
                entry = control_pb2.HistoryEntry(
                    group=group, epoch=int(epoch), node=one.value.node, reason=one.value.reason, at_wall_ns=one.since
                )
                found.setdefault(group, []).append(entry)
        reply = control_pb2.HistoryReply()
        for group in sorted(found):
            entries = sorted(found[group], key=lambda entry: entry.epoch)
            reply.entries.extend(entries[-request.newest :] if request.newest else entries)
        return reply

    # --- changes of owner

    async def switchover(self, request: control_pb2.SwitchoverRequest) -> Outcome:
        """The owner hands a group over, now or at its time."""
        wish = Wish(
            group=request.group,
            to=request.to,
            by=request.by,
            not_before=request.not_before_wall_ns,
            expires=request.expires_wall_ns,
            from_epoch=request.from_epoch,
            force=request.force,
        )
        return await self._transfer(planning.switchover, wish, request.wait_ms, owner_lives=True)

    async def failover(self, request: control_pb2.FailoverRequest) -> Outcome:
        """A group goes to a node although its owner can not be asked."""
        wish = Wish(group=request.group, to=request.to, by=request.by, dead=request.dead)
        return await self._transfer(planning.failover, wish, request.wait_ms, owner_lives=False)

    async def _transfer(
        self, plan: Callable[[Scene, Wish], Transfer | Refusal], wish: Wish, wait_ms: int, *, owner_lives: bool
    ) -> Outcome:
        began = self._clock()

        def planned(at: Scene) -> Transfer | Refusal:
            nonlocal wish
            transfer = plan(at, wish)
            if isinstance(transfer, Transfer):
                # Whoever asked meant the owner of now: not the next one, should that change while we try again.
                if wish.from_epoch not in (0, transfer.intent.from_epoch):
                    return Refusal("epoch-changed", f"{transfer.group} has another owner by now")
                wish = replace(wish, group=transfer.group, from_epoch=transfer.intent.from_epoch)
            return transfer

        done = await self._write(planned)
        if isinstance(done, Outcome):
            return done
        transfer, revision = done
        if transfer.later:
            return Outcome(result=SCHEDULED, text=f"{transfer.group} goes to {transfer.intent.to} at its time")
        if not wait_ms:
            return Outcome(result=SCHEDULED, text=f"{transfer.group} is to go to {transfer.intent.to}")
        before = Before(transfer.group, transfer.owner, transfer.intent.from_epoch, began)
        return await self._follow(before, transfer, revision, wait_ms, owner_lives=owner_lives)

    async def _follow(
        self, before: Before, transfer: Transfer, revision: Revision, wait_ms: int, *, owner_lives: bool
    ) -> Outcome:
        """What came of a wish that was written at this revision."""
        until = before.at + min(wait_ms * MS, LONGEST_WAIT)
        record = await self._follower.owner_after(before, until)
        if record is None:
            if (refused := await self._withdraw(transfer, revision)) is not None:
                return refused
            record = await self._follower.owner_after(before, self._clock() + AFTERMATH)
        if record is None:
            return await self._not_done(before, wait_ms)
        if record.node != transfer.intent.to:
            text = f"{before.group} went to {record.node} by epoch {record.epoch}, not to {transfer.intent.to}"
            return Outcome(result=FAILED, reason="moved-elsewhere", text=text)
        return await self._verified(await self._follower.verify(before, record, lives=owner_lives))

    async def _verified(self, move: control_pb2.Move) -> Outcome:
        text = moves.told(move)
        if move.verified or move.known:
            return Outcome(result=DONE, text=text, moves=[move])
        if move.unreachable:
            text += f"; {move.to_node} owns it, but {move.unreachable}"
            return Outcome(result=FAILED, reason="unreachable", text=text, moves=[move])
        record = await self._follower.record(move.group)
        if record is not None and (record.epoch > move.to_epoch or record.clean):
            now = "was released again" if record.clean else f"went on to {record.node} by epoch {record.epoch}"
            return Outcome(result=FAILED, reason="moved-elsewhere", text=f"{text}; then it {now}", moves=[move])
        new = await self._witness.said(move.to_node)
        if new is not None and moves.holds(new, move.group, move.to_epoch):
            mute = await self._witness.said(move.from_node) is None
            text += f"; {move.from_node} {'can not be asked whether' if mute else 'did not say that'} its kernel"
            text += " holds none of the addresses" + (": see what became of it" if mute else "")
        else:
            text += f"; {move.to_node} did not say that its kernel holds the addresses"
            text += "" if new is not None else " (no stream to it: ask there)"
        return Outcome(result=UNKNOWN, reason="not-verified", text=text, moves=[move])

    async def _withdraw(self, transfer: Transfer, revision: Revision) -> Outcome | None:
        """Take the wish back: it must not come true when nobody expects it any more. None: it is gone."""
        done = await self._records.commit((planning.Guard(transfer.key, revision),), (), (transfer.key,))
        if not isinstance(done, Unclear):
            return None
        text = f"{transfer.group} did not move in time, and etcd does not say whether the wish is withdrawn: {done.why}"
        return Outcome(result=UNKNOWN, reason="unanswered", text=text)

    async def _not_done(self, before: Before, wait_ms: int) -> Outcome:
        record = await self._follower.record(before.group)
        if record is None and before.owner:
            text = f"{before.group}: etcd does not say what became of it; the wish is withdrawn"
            return Outcome(result=UNKNOWN, reason="unanswered", text=text)
        owner = f"{record.node} is still recorded by epoch {record.epoch}" if record is not None else "nobody owns it"
        text = f"{before.group} did not move within {wait_ms} ms, and the wish is withdrawn: {owner}"
        return Outcome(result=FAILED, reason="not-done", text=text)

    # --- orders to all

    async def pause(self, request: control_pb2.PauseRequest) -> Outcome:
        """Freeze ownership."""
        return await self._order(lambda at: planning.pause(at, request.by), "the cluster is paused")

    async def resume(self, _request: control_pb2.ResumeRequest) -> Outcome:
        """Let ownership change again."""
        return await self._order(planning.resume, "the cluster is no longer paused")

    async def undrain(self, request: control_pb2.UndrainRequest) -> Outcome:
        """Let a node own again."""
        return await self._order(lambda at: planning.undrain(at, request.node), f"{request.node} may own again")

    async def drain(self, request: control_pb2.DrainRequest) -> Outcome:
        """Move everything off a node, and keep it off; but for what nobody else can own, if that is insisted on."""
        began, node = self._clock(), request.node
        left: list[Before] = []
        kept: list[str] = []

        def planned(at: Scene) -> Order | Refusal:
            kept[:] = planning.only_owner_of(at, node)
            moving = [group for group in at.owned_by(node) if group not in kept]
            left[:] = [Before(group, node, at.owners[group].epoch, began) for group in moving]
            return planning.drain(at, node, force=request.force)

        done = await self._write(planned)
        if isinstance(done, Outcome):
            return done
        if not left:
            text = _keeps(kept) if kept else "; it owned nothing"
            return Outcome(result=DONE, text=f"{node} is drained{text}")
        if not request.wait_ms:
            return Outcome(result=SCHEDULED, text=f"{node} is drained, and is to give up {len(left)} groups")
        found = await self._emptied(left, began + min(request.wait_ms * MS, LONGEST_WAIT))
        turns = asyncio.Semaphore(VERIFIED_AT_ONCE)
        those = [before for before in left if before.group in found]
        done = await asyncio.gather(*(self._left(before, found[before.group], turns) for before in those))
        outcome = _drained(node, [before.group for before in left if before.group not in found], done)
        outcome.text += _keeps(kept)
        return outcome

    async def _emptied(self, left: list[Before], until: Instant) -> dict[str, OwnerRecord]:
        """The records of those groups that have left their node, once all have, or by then."""
        found: dict[str, OwnerRecord] = {}
        while len(found) < len(left) and self._clock() < until:
            await asyncio.sleep(POLL)
            try:
                owners = planning.scene((await self._records.read()).seen, self._wall()).owners
            except UnreadableError:
                continue
            for before in left:
                record = owners.get(before.group)
                if record is not None and (moves.moved(record, before) or record.clean):
                    found[before.group] = record
        return found

    async def _left(self, before: Before, after: OwnerRecord, turns: asyncio.Semaphore) -> control_pb2.Move:
        if not after.clean:
            async with turns:
                return await self._follower.verify(before, after)
        # Released, and nobody has claimed it yet: perhaps nobody can.
        return control_pb2.Move(group=before.group, from_node=before.owner, from_epoch=before.epoch)

    async def _order(self, plan: Callable[[Scene], Order | Refusal], text: str) -> Outcome:
        done = await self._write(plan)
        return done if isinstance(done, Outcome) else Outcome(result=DONE, text=text)

    # --- one transaction

    async def _write(self, plan: Callable[[Scene], P | Refusal]) -> tuple[P, Revision] | Outcome:
        """Plan and write, again if something changed in between. What is written, and at which revision."""
        for _ in range(ATTEMPTS):
            try:
                planned = plan(await self.scene())
            except UnreadableError as error:
                return Outcome(result=REFUSED, reason="etcd-unreachable", text=f"etcd: {error}")
            if isinstance(planned, Refusal):
                return Outcome(result=REFUSED, reason=planned.reason, text=planned.text)
            done = await self._records.commit(planned.guards, planned.puts)
            if isinstance(done, Written):
                return planned, done.revision
            if isinstance(done, Unclear):
                return await self._find_out(planned, done.why)
            if done.why:
                return Outcome(result=REFUSED, reason="etcd-unreachable", text=f"etcd: {done.why}")
        return Outcome(result=REFUSED, reason="conflict", text="it changed again and again while this was written")

    async def _find_out(self, planned: P, why: str) -> tuple[P, Revision] | Outcome:
        """Whether a transaction without an answer was done."""
        put = planned.puts[0]
        try:
            there = (await self._records.look((put.key,))).seen[0]
        except UnreadableError:
            there = None
        if there is not None and there.value == _as_written(put.value):
            return planned, there.revision
        return Outcome(result=UNKNOWN, reason="unanswered", text=f"etcd did not say whether it was done: {why}")


def _as_written(value: object) -> object:
    """What is read of a value that was written: its times are whole milliseconds there."""
    if isinstance(value, Intent):
        return replace(value, not_before=value.not_before // MS * MS, expires=value.expires // MS * MS)
    return value


def _keeps(kept: list[str]) -> str:
    return f"; it keeps {', '.join(kept)} until somebody else can own that" if kept else ""


def _drained(node: str, stuck: list[str], done: list[control_pb2.Move]) -> Outcome:
    if stuck:
        text = f"{node} is drained, but has not given up {', '.join(stuck)} in time"
        return Outcome(result=FAILED, reason="not-done", text=text, moves=done)
    text = f"{node} is drained: " + "; ".join(moves.told(move) for move in done)
    if all(move.verified or move.known or not move.to_node for move in done):
        return Outcome(result=DONE, text=text, moves=done)
    return Outcome(result=UNKNOWN, reason="not-verified", text=text, moves=done)
