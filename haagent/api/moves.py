"""What became of a group that was to move: waited for in etcd, verified by what both nodes' kernels hold, measured.

The gap is from when the old owner's kernel ceased to answer until the new one's answered, as each node noted by its own
CLOCK_BOOTTIME; the peers' streams know how far apart those clocks are. Without that it is taken by wall clocks, and its
error is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from haagent.api.reach import Reach
from haagent.api.witness import Said, Witness
from haagent.core.claims import handed_by
from haagent.core.records import Key, Kind, OwnerRecord
from haagent.core.units import MS, Duration, Instant, S
from haagent.runtime.ports import Records, UnreadableError
from haagent.v1 import control_pb2, status_pb2

STEP: Final = 0.01
"""Seconds between two looks."""
VERIFYING: Final[Duration] = 2 * S
"""What the nodes get to say how they are, once the record has changed."""
REACHING: Final[Duration] = 4 * S
"""What the other nodes get to say whether the new owner's addresses answer them."""
UNASKED: Final[Duration] = 500 * MS
"""After that long none of them asks."""


@dataclass(frozen=True, slots=True)
class Before:
    """How it was when the move was asked for, at `at`. `owner`: empty when there was none."""

    group: str
    owner: str
    epoch: int
    at: Instant


class Follower:
    """Follows moves. `clock`: CLOCK_BOOTTIME."""

    def __init__(self, records: Records, witness: Witness, clock: Callable[[], Instant]) -> None:
        self._records = records
        self._witness = witness
        self._clock = clock

    async def owner_after(self, before: Before, until: Instant) -> OwnerRecord | None:
        """The record of the next owner; None if there is none by then. etcd may be away for a while meanwhile."""
        while True:
            record = await self.record(before.group)
            if record is not None and moved(record, before):
                return record
            if self._clock() >= until:
                return None
            # Who waits for longer than a move takes waits for something else.
            await asyncio.sleep(STEP if self._clock() - before.at < VERIFYING else 5 * STEP)

    async def record(self, group: str) -> OwnerRecord | None:
        """The group's record now; None if there is none, or etcd does not say."""
        try:
            listing = await self._records.look((Key(Kind.OWNERS, group),))
        except UnreadableError:
            return None
        value = listing.seen[0].value
        return value if isinstance(value, OwnerRecord) else None

    async def verify(self, before: Before, after: OwnerRecord, *, lives: bool = True) -> control_pb2.Move:
        """What both kernels hold, and whether the new owner's addresses answer the other nodes on the wire.

        Where no other node asks (no peers, no address to ask from), the kernels' word is all there is.
        """
        move = await self._kernels(before, after, lives)
        if move.verified or move.known:
            found = await self._reach(move)
            if found.answers == status_pb2.NO:
                move.verified, move.known, move.unreachable = False, "", found.detail
        return move

    async def _reach(self, move: control_pb2.Move) -> Reach:
        began = self._clock()
        while True:
            found = await self._witness.reach(move.group, move.to_epoch)
            unasked = found.answers == status_pb2.ANSWERS_UNSPECIFIED
            over = self._clock() >= began + (UNASKED if unasked else REACHING)
            if over or found.answers in (status_pb2.YES, status_pb2.NO):
                return found
            await asyncio.sleep(STEP)

    async def _kernels(self, before: Before, after: OwnerRecord, lives: bool) -> control_pb2.Move:
        """What the new owner and the old one say of their kernels, as soon as both say what was hoped for.

        An old one that can not be asked is not waited for if it is not thought to live, or has written the new record.
        """
        move = control_pb2.Move(
            group=before.group,
            from_node=before.owner,
            to_node=after.node,
            from_epoch=before.epoch,
            to_epoch=after.epoch,
        )
        until = self._clock() + VERIFYING
        while True:
            late = self._clock() >= until
            new = await self._witness.said(after.node)
            old = await self._witness.said(before.owner) if before.owner else None
            if new is not None and holds(new, before.group, after.epoch):
                move.verified = not before.owner or (old is not None and silent(old, before))
                if move.verified and old is not None:
                    _measure(move, old, new)
                mute = old is None or (late and not lives)
                if mute and not move.verified and (not lives or handed_by(after) == before.owner):
                    move.known = let_go(before.owner, after)
                    return move
            if move.verified or late or (new is None and old is None):
                return move
            record = await self.record(before.group)
            if record is not None and (record.epoch > after.epoch or record.clean):
                return move
            await asyncio.sleep(STEP)


def moved(record: OwnerRecord, before: Before) -> bool:
    """Whether somebody owns the group by a later epoch."""
    return record.epoch > before.epoch and not record.clean


def holds(said: Said, group: str, epoch: int) -> bool:
    """Whether a node says that it owns the group by that epoch, and that its kernel has all addresses."""
    role = said.role(group)
    if role is None or role.role != status_pb2.MASTER or role.epoch != epoch:
        return False
    return role.addresses_held > 0 and role.addresses_missing == 0


def silent(said: Said, before: Before) -> bool:
    """Whether the node that owned it says that its kernel has none of the addresses, since after it was asked to move.

    What it said before is no proof: so it must have ceased to answer since then.
    """
    role = said.role(before.group)
    if role is None or role.role == status_pb2.MASTER or role.addresses_held > 0:
        return False
    if role.silent_since_boot_ns < role.answers_since_boot_ns:
        return False
    if said.error is None:
        return role.silent_since_boot_ns > 0
    return role.silent_since_boot_ns - said.ahead + said.error >= before.at


def told(move: control_pb2.Move) -> str:
    """`web: n1 -> n2, epoch 41 -> 42, 14 ms without an owner`."""
    words = (
        f"{move.group}: {move.from_node or '-'} -> {move.to_node or '-'}, epoch {move.from_epoch} -> {move.to_epoch}"
    )
    if move.gap_ns:
        words += f", {_milliseconds(move.gap_ns)} without an owner"
        words += "" if move.gap_error_ns else " by the nodes' wall clocks"
    return f"{words}; {move.known}" if move.known else words


def let_go(owner: str, after: OwnerRecord) -> str:
    """What the next record tells of an old owner that does not say itself what its kernel has."""
    if handed_by(after) == owner:
        return f"{owner} could not be asked, it wrote the new record once its kernel had let go"
    return f"{owner} could not be asked, its lease is over"


def _milliseconds(span: Duration) -> str:
    return f"{span / MS:.0f} ms" if span >= 10 * MS else f"{span / MS:.1f} ms"


def _measure(move: control_pb2.Move, old: Said, new: Said) -> None:
    ceased, began = old.role(move.group), new.role(move.group)
    assert ceased is not None, "it said so"
    assert began is not None, "it said so"
    if old.error is None or new.error is None:
        gap, error = began.answers_since_wall_ns - ceased.silent_since_wall_ns, 0
    else:
        gap = (began.answers_since_boot_ns - new.ahead) - (ceased.silent_since_boot_ns - old.ahead)
        error = max(1, old.error + new.error)
    # Never two: what comes out as less than nothing is the error of the clocks.
    move.gap_ns = max(1, gap)
    move.gap_error_ns = error
