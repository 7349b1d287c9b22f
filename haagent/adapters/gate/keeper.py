"""Who holds the socket that owns the gate's tables when this process is dead, and how the next one takes it back.

An nftables table is owned by a netlink socket, not by a process: as long as any process has the socket open, nobody
else can change the table. So somebody who outlives the agent gets a copy, and from the death until the next start
nobody can flush or delete what closes at the lease's end. Either holder will do:

- The service manager's descriptor store (systemd: FileDescriptorStoreMax=). It does not answer, but it closes what it
  refuses. So a witness is stored behind the socket, one end of a pair, and the other end tells if it was closed.
- Else a process of our own, `keeper_process`, which ends PATIENCE after the last agent left it.

The next agent goes on with the same socket: the tables are its own at once. All of it belongs to one network
namespace: the socket, and the keeper's name, which is that of an abstract unix socket. Only root is given the
socket, and it is accepted from root only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Final, Protocol

from haagent.adapters.gate import keeper_process
from haagent.adapters.gate.netlink import NETLINK_NETFILTER

_LOG: Final = logging.getLogger("haagent.gate")

PATIENCE: Final = 300
"""Seconds that a keeper waits for the next agent: more than the longest lease and its addresses' lifetime take."""


class DescriptorStore(Protocol):
    """The service manager's."""

    def inherited(self, name: str) -> list[int]:
        """The descriptors of that name which it has in store and gave to this process; the caller closes them."""
        ...

    def store(self, name: str, descriptor: int, *, polled: bool) -> bool:
        """Ask it to store a copy; `polled`: until the other end hangs up. False: it surely does not."""
        ...

    def forget(self, name: str) -> None:
        """Ask it to close what it has in store by that name."""
        ...


class Keeper:
    """Has somebody hold the socket. `holder` says who, for people; it is empty while nobody does.

    When `fileno` is readable, call `hear`. `tend` tries again what failed; now and then is enough.
    """

    def __init__(self, store: DescriptorStore, *, patience: int = PATIENCE) -> None:
        self.holder = ""
        self._store = store
        self._patience = patience
        self._poll = select.epoll()
        self._link: socket.socket | None = None
        self._owner: socket.socket | None = None
        self._children: set[int] = set()

    def take(self) -> socket.socket | None:
        """The socket that an earlier agent of this network namespace left with a holder; None: there is none."""
        found = [socket.socket(fileno=each) for each in self._store.inherited(_STORED)]
        for each in self._store.inherited(_WITNESS):
            os.close(each)
        if not any(map(_is_ours, found)):
            found += self._ask()
        taken = next(filter(_is_ours, found), None)
        for each in found:
            if each is not taken:
                each.close()
        return taken

    def keep(self, owner: socket.socket) -> None:
        """Have this socket held, from now on until `release`. Whoever holds another one lets go of it."""
        self._owner = owner
        if not self.holder and not self._hand_to_manager(owner):
            self.tend()

    def fileno(self) -> int:
        """Readable when the holder has ended, or refused."""
        return self._poll.fileno()

    def hear(self) -> None:
        """Learn whether the holder has ended, or refused; if so, have another one."""
        if self._link is None or not self._poll.poll(0):
            return
        said, self.holder = self.holder, ""
        self._unlink()
        if said == _MANAGER:
            _LOG.warning("the service manager does not store the gate's socket: a process keeps it (see OPERATING)")
        else:
            _LOG.error("%s has ended: until another one runs, whoever flushes nftables opens a dead agent's gate", said)
        self.tend()

    def tend(self) -> None:
        """Have a keeper, if nobody holds the socket."""
        for child in list(self._children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    continue
            self._children.discard(child)
        if self._owner is None or self.holder:
            return
        for held in self._ask():
            if held.getsockname() != self._owner.getsockname():
                self._end_keeper()
            held.close()
        if not self.holder:
            try:
                self._start(self._owner)
            except (OSError, NotImplementedError) as error:
                _LOG.error("cannot start a keeper of the gate's socket: %s", error)

    def release(self) -> None:
        """The tables are gone: nobody need hold the socket any more. Then `leave`."""
        self._end_keeper()
        for name in (_STORED, _WITNESS):
            self._store.forget(name)

    def leave(self) -> None:
        """This process ends: whoever holds the socket goes on."""
        self._owner = None
        self._unlink()
        self._poll.close()

    # The service manager.

    def _hand_to_manager(self, owner: socket.socket) -> bool:
        ours, theirs = socket.socketpair()
        with theirs:
            # In this order: where there is no room for the witness, there may have been none for the socket.
            handed = self._store.store(_STORED, owner.fileno(), polled=False) and self._store.store(
                _WITNESS, theirs.fileno(), polled=True
            )
        if handed:
            self._follow(ours, _MANAGER)
        else:
            ours.close()
        return handed

    # The process.

    def _start(self, owner: socket.socket) -> None:
        """Start a keeper. OSError."""
        with contextlib.ExitStack() as opened:
            listening = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listening.bind(_NAME)
            listening.listen(8)  # from now on, so that an agent that starts at once need only wait
            ours, theirs = socket.socketpair()
            opened.enter_context(theirs)
            undo = opened.enter_context(contextlib.ExitStack())
            undo.callback(ours.close)
            words = [sys.executable, "-I", "-S", keeper_process.__file__]
            for each in (owner, listening, theirs):
                each.set_inheritable(True)
                undo.callback(each.set_inheritable, False)
                words.append(str(each.fileno()))
            null = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in range(3)]
            # A session of its own, so that no signal for the agent's group reaches it.
            child = os.posix_spawn(words[0], [*words, str(self._patience)], {}, file_actions=null, setsid=True)
            undo.pop_all()
            owner.set_inheritable(False)
        self._children.add(child)
        self._follow(ours, f"keeper process {child}")

    def _ask(self) -> list[socket.socket]:
        """Connect with the keeper that there is, and have it send what it holds."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(_ANSWER)
        pid = 0
        try:
            link.connect(_NAME)
            pid, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != 0:
                _LOG.error("pid %d of uid %d has taken the keeper's name, and is not believed", pid, uid)
                link.close()
                return []
            _, descriptors, _, _ = socket.recv_fds(link, 64, 4)
        except ConnectionRefusedError:
            link.close()
            return []
        except OSError as error:
            _LOG.error("keeper process %d does not answer (%s), and is ended", pid, error)
            _end(pid, link)
            link.close()
            return []
        self._follow(link, f"keeper process {pid}")
        return [socket.socket(fileno=each) for each in descriptors]

    def _end_keeper(self) -> None:
        """Have the keeper that we are connected with end, if there is one, and wait until its name is free."""
        link = self._link
        if link is not None and self.holder != _MANAGER:
            with contextlib.suppress(OSError):
                link.send(keeper_process.END)
                link.settimeout(_ANSWER)
                while link.recv(64):
                    pass
        self.holder = ""
        self._unlink()

    def _follow(self, link: socket.socket, holder: str) -> None:
        self._unlink()
        self._link, self.holder = link, holder
        self._poll.register(link, select.EPOLLIN)

    def _unlink(self) -> None:
        if self._link is not None:
            self._poll.unregister(self._link)
            self._link.close()
            self._link = None


def _is_ours(held: socket.socket) -> bool:
    """Whether it is a socket for nftables, of this network namespace."""
    if held.family != socket.AF_NETLINK or held.proto != NETLINK_NETFILTER:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
        return _namespace(held) == _namespace(here)


def _namespace(any_socket: socket.socket) -> bytes:
    return any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)


def _end(pid: int, link: socket.socket) -> None:
    """End a keeper that does not answer, if it is one, and wait until it is gone."""
    with contextlib.suppress(OSError):
        if pid and Path(f"/proc/{pid}/comm").read_text().strip() == keeper_process.NAME:
            os.kill(pid, signal.SIGKILL)
            link.settimeout(_ANSWER)
            link.recv(64)


_NAME: Final = f"\0{keeper_process.NAME}"
_STORED, _WITNESS = "haagent-gate", "haagent-gate-witness"
_MANAGER: Final = "the service manager"
_ANSWER: Final = 0.5
_SO_NETNS_COOKIE: Final = 71  # asm-generic/socket.h, from Linux 5.14
