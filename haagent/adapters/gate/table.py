"""The nftables gate's table in the kernel: taken over or made, compared with what shall be guarded, and watched."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from haagent.adapters.gate import layout
from haagent.adapters.gate import nfnetlink as nf
from haagent.adapters.gate.layout import COMMENT, TABLE, Shape
from haagent.adapters.gate.netlink import NETLINK_NETFILTER, Message, NetlinkError, News, OverrunError
from haagent.adapters.gate.nfnetlink import Change, Generation, TableFlags

OWNED: Final = TableFlags.OWNER | TableFlags.PERSIST

Guarded = Mapping[str, frozenset[bytes]]
"""Packed addresses, by interface."""


class Table:
    """The table `haagent`. `guarded`: what it guards. All raise NetlinkError."""

    def __init__(self, owned: bool | None, opened: socket.socket | None = None) -> None:
        """Take over what an earlier incarnation left, if it is whole; else make it, with nothing in it.

        `owned`: whether to own it; None: if the kernel can. `opened`: the socket that may own it already.
        """
        self.guarded: Guarded = {}
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
        shape = self._read()
        if shape is None:
            self.build(wanted)
            return False
        self._commit(wanted, lambda those: _changes(shape, those, session))
        return True

    def build(self, wanted: Guarded) -> None:
        """Make it anew in one batch, all closed."""
        old = [nf.delete_table(TABLE)] if TABLE in self.kernel.tables() else []
        start = [*old, nf.add_table(TABLE, self._flags, COMMENT), *layout.frame()]
        nothing = Shape({}, frozenset(), {})
        self._commit(wanted, lambda those: [*start, *_changes(nothing, those, None)])

    def remove(self) -> None:
        """Delete it, if it is there."""
        if TABLE in self.kernel.tables():
            self.kernel.commit([nf.delete_table(TABLE)])

    def close(self) -> None:
        """Let go of it: it stays, and nobody owns it."""
        self.kernel.close()
        self.news.close()

    def disturbance(self, session: str | None) -> str | None:
        """Who changed our table since we last looked, if it was not us and not the kernel by itself."""
        strangers: set[int] = set()
        names: dict[int, str] = {}
        overrun = False
        while True:
            try:
                for message in self.news.read():
                    match nf.change(message):
                        case Change(table=layout.TABLE, portid=portid) if portid not in (0, self.kernel.portid):
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
            return f"the table {TABLE} was changed by {names.get(min(strangers), 'somebody')}"
        return f"the table {TABLE} was changed, unseen" if overrun and not self._whole(session) else None

    def _take(self, owned: bool | None) -> None:
        """Own what is there, if it is ours and whole; else make it."""
        self._flags = OWNED if owned is None or owned else TableFlags.NONE
        there = self.kernel.tables().get(TABLE)
        if there is not None and there.comment == COMMENT and self._adopt():
            return
        try:
            self.build({})
        except NetlinkError as error:
            if owned is not None or error.number not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            self._flags = TableFlags.NONE
            self.build({})

    def _adopt(self) -> bool:
        """Whether the table is ours from now on. One that nobody owned can not become owned (EOPNOTSUPP)."""
        give_up = time.monotonic() + _TAKE_PATIENCE
        while True:
            try:
                self.kernel.commit([nf.add_table(TABLE, self._flags, COMMENT)])
            except NetlinkError as error:
                if error.number in (errno.EINVAL, errno.EOPNOTSUPP):
                    return False
                # The kernel may still be busy to end the incarnation before.
                if error.number != errno.EPERM or time.monotonic() > give_up:
                    raise
                time.sleep(0.005)
            else:
                return layout.read(self.kernel) is not None

    def _read(self) -> Shape | None:
        return layout.read(self.kernel) if TABLE in self.kernel.tables() else None

    def _commit(self, wanted: Guarded, changes: Callable[[Guarded], list[Message]]) -> None:
        """Commit the changes; where the kernel refuses chains of interfaces that do not exist, without those."""
        those = dict(wanted)
        while True:
            try:
                operations = changes(those)
                if operations:
                    self.kernel.commit(operations)
            except NetlinkError as error:
                missing = those.keys() - _interfaces()
                if error.number != errno.ENOENT or not missing:
                    raise
                those = {name: mine for name, mine in those.items() if name not in missing}
            else:
                self.guarded = those
                return

    def _whole(self, session: str | None) -> bool:
        shape = self._read()
        return shape is not None and not _changes(shape, self.guarded, session)


def _changes(shape: Shape, wanted: Guarded, session: str | None) -> list[Message]:
    """What makes the table hold just this."""
    operations: list[Message] = []
    for interface in sorted(shape.interfaces() - wanted.keys()):
        operations += layout.delete_hooks(interface, shape) + layout.delete_maps(interface, shape)
    for interface, addresses in sorted(wanted.items()):
        mapped = shape.mapped(interface)
        hooked = mapped and shape.hooked(interface)
        if not hooked:
            operations += layout.delete_hooks(interface, shape)
        if not mapped:
            operations += layout.delete_maps(interface, shape) + layout.maps(interface)
        there = set(shape.guarded(interface)) if mapped else set[bytes]()
        operations += layout.delete(interface, there - addresses) + layout.add(interface, addresses - there)
        if not hooked:
            operations += layout.hooks(interface)
    return operations + _abandoned(shape, wanted, session)


def _abandoned(shape: Shape, wanted: Guarded, session: str | None) -> list[Message]:
    """Delete the sessions that no address points to any more."""
    used = {
        jump
        for interface, addresses in wanted.items()
        for address, jump in shape.guarded(interface).items()
        if address in addresses
    }
    return [nf.delete_chain(TABLE, name) for name in sorted(shape.sessions() - used - {session})]


def _interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


_TAKE_PATIENCE: Final = 0.5
"""Seconds that the kernel gets to end the socket of an incarnation that has just died."""
