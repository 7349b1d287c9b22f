"""The nftables gate's tables in the kernel: taken over or made, compared with what shall be guarded, and watched."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from typing import Final

from haagent.adapters.gate import layout, shape
from haagent.adapters.gate import nfnetlink as nf
from haagent.adapters.gate.layout import COMMENT, TABLE, TABLES, Spot
from haagent.adapters.gate.netlink import NETLINK_NETFILTER, Message, NetlinkError, News, OverrunError
from haagent.adapters.gate.nfnetlink import Change, Generation
from haagent.adapters.gate.operations import TableFlags
from haagent.adapters.gate.shape import Guarded, Shape

OWNED: Final = TableFlags.OWNER | TableFlags.PERSIST


class Table:
    """The tables `haagent`, changed as one. All raise NetlinkError.

    `guarded`: what they guard; `running`: what was open when they were taken over, with its session and how many
    milliseconds it had.
    """

    def __init__(self, owned: bool | None, opened: socket.socket | None = None) -> None:
        """Take over what an earlier incarnation left, if it is whole; else make it, with nothing in it.

        `owned`: whether to own it; None: if the kernel can. `opened`: the netlink socket that may own it already.
        """
        self.guarded = Guarded()
        self.running: dict[Spot, tuple[str, int]] = {}
        self._asked = Guarded()
        with contextlib.ExitStack() as undo:
            self.news = News(NETLINK_NETFILTER, (nf.NFNLGRP_NFTABLES,))
            undo.callback(self.news.close)
            self.kernel = nf.Nftables(opened)
            undo.callback(self.kernel.close)
            self._take(owned)
            undo.pop_all()

    @property
    def owned(self) -> bool:
        """Whether nobody else can change it."""
        return self._flags == OWNED

    def hold(self, wanted: Guarded, session: str | None) -> bool:
        """Guard just this; what stays keeps its state. False: it had to be made anew, and all is closed.

        `session`: the chain that stays even if no address jumps to it.
        """
        if wanted == self._asked and self._hooked():
            return True
        there = shape.read(self.kernel)
        if there is None:
            self.build(wanted)
            return False
        self._commit(wanted, there, session, [])
        return True

    def build(self, wanted: Guarded) -> None:
        """Make it anew in one batch, all closed."""
        start = [*self._delete(), *(table.add_table(self._flags, COMMENT) for table in TABLES), *layout.frame()]
        self._commit(wanted, Shape(), None, start)
        self.running = {}

    def remove(self) -> None:
        """Delete what is there of it."""
        if operations := self._delete():
            self.kernel.commit(operations)

    def close(self) -> None:
        """Let go of it: it stays, and nobody owns it."""
        self.kernel.close()
        self.news.close()

    def disturbance(self, session: str | None) -> str | None:
        """Who changed our tables since we last looked, if it was not us and not the kernel by itself."""
        strangers: set[int] = set()
        names: dict[int, str] = {}
        overrun = False
        while True:
            try:
                for message in self.news.read():
                    match nf.change(message):
                        case Change(family=family, table=name, portid=portid):
                            if (family, name) in TABLES and portid not in (0, self.kernel.portid):
                                strangers.add(portid)
                        case Generation(pid, process, portid):
                            names[portid] = f"{process} (pid {pid})"
                        case _:
                            pass
            except OverrunError:
                overrun = True
            else:
                break
        if strangers:
            return f"the tables {TABLE} were changed by {names.get(min(strangers), 'somebody')}"
        return f"the tables {TABLE} were changed, unseen" if overrun and not self._whole(session) else None

    def _take(self, owned: bool | None) -> None:
        """Own what is there, if it is ours and whole; else make it."""
        self._flags = OWNED if owned is None or owned else TableFlags.NONE
        there = {(each.family, each.name): each.comment for each in self.kernel.tables()}
        if all(there.get(table) == COMMENT for table in TABLES) and self._adopt():
            return
        try:
            self.build(Guarded())
        except NetlinkError as error:
            if owned is not None or error.number not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            self._flags = TableFlags.NONE
            self.build(Guarded())

    def _adopt(self) -> bool:
        """Whether the tables are ours from now on. One that nobody owned can not become owned (EOPNOTSUPP)."""
        give_up = time.monotonic() + _TAKE_PATIENCE
        while True:
            try:
                self.kernel.commit([table.add_table(self._flags, COMMENT) for table in TABLES])
            except NetlinkError as error:
                if error.number in (errno.EINVAL, errno.EOPNOTSUPP):
                    return False
                # The kernel may still be busy to end the incarnation before.
                if error.number != errno.EPERM or time.monotonic() > give_up:
                    raise
                time.sleep(0.005)
            else:
                break
        there = shape.read(self.kernel)
        if there is None:
            return False
        self.running = there.running()
        return True

    def _delete(self) -> list[Message]:
        there = {(each.family, each.name) for each in self.kernel.tables()}
        return [table.delete_table() for table in TABLES if table in there]

    def _commit(self, wanted: Guarded, there: Shape, session: str | None, start: list[Message]) -> None:
        """Commit the changes; where the kernel refuses chains of interfaces that do not exist, without those."""
        self._asked, those = Guarded(), wanted
        while True:
            try:
                operations = [*start, *shape.changes(there, those, session)]
                if operations:
                    self.kernel.commit(operations)
            except NetlinkError as error:
                missing = those.interfaces() - _interfaces()
                if error.number != errno.ENOENT or not missing:
                    raise
                those = those.on(those.interfaces() - missing)
            else:
                self._asked, self.guarded = wanted, those
                return

    def _hooked(self) -> bool:
        """Whether all is there that was asked for, and its chains: those of an interface may have gone with it."""
        if self.guarded != self._asked:
            return False
        try:
            chains = self.kernel.chains(layout.NETDEV)
        except NetlinkError:
            return False
        return all(
            chain.name in chains for each in self.guarded.interfaces() for chain in layout.interface_chains(each)
        )

    def _whole(self, session: str | None) -> bool:
        there = shape.read(self.kernel)
        return there is not None and not shape.changes(there, self.guarded, session)


def _interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


_TAKE_PATIENCE: Final = 0.5
"""Seconds that the kernel gets to end the socket of an incarnation that has just died."""
