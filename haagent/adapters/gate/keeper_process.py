"""The keeper: a process that holds the socket which owns the gate's tables, so that it outlives the agent.

Run by its path with `python -I -S`, so it imports little and nothing of ours: `keeper_process.py HELD LISTENING AGENT
PATIENCE`, three descriptors and seconds. It never uses HELD, it only has it. Root that connects to LISTENING is sent
it and is an agent from then on, as who started it is through AGENT. It ends when an agent says so, and when there has
been no agent for PATIENCE.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import sys
import time

NAME = "haagent-keeper"
END = b"end"


def main() -> None:
    """Hold it until nobody needs it any more."""
    held, listening, agent, patience = (int(word) for word in sys.argv[1:])
    _prepare({held, listening, agent})
    Keeper(held, socket.socket(fileno=listening), socket.socket(fileno=agent), patience).run()


class Keeper:
    """The descriptor, who listens for a new agent, and the agents that there are."""

    def __init__(self, held: int, listening: socket.socket, agent: socket.socket, patience: float) -> None:
        self._held = held
        self._listening = listening
        self._agents = {agent.fileno(): agent}
        self._patience = patience
        self._alone_since = 0.0
        self._poll = select.poll()
        self._poll.register(listening, select.POLLIN)
        self._poll.register(agent, select.POLLIN)
        listening.listen(8)  # again: SO_PEERCRED names who listened last

    def run(self) -> None:
        """Until an agent says that this is the end, or there has been none for long."""
        while True:
            left = self._alone_since + self._patience - time.monotonic()
            if not self._agents and left <= 0:
                return
            for descriptor, _ in self._poll.poll(None if self._agents else left * 1000):
                if descriptor == self._listening.fileno():
                    self._accept()
                elif self._said(descriptor) == END:
                    return

    def _accept(self) -> None:
        try:
            agent, _ = self._listening.accept()
            _, uid, _ = struct.unpack("3i", agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != 0:
                agent.close()
                return
            held = socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", self._held)
            agent.sendmsg([NAME.encode()], [held], socket.MSG_DONTWAIT)
        except OSError:  # it has gone already
            return
        self._agents[agent.fileno()] = agent
        self._poll.register(agent, select.POLLIN)

    def _said(self, descriptor: int) -> bytes:
        try:
            said = self._agents[descriptor].recv(16)
        except OSError:
            said = b""
        if not said:
            self._poll.unregister(descriptor)
            self._agents.pop(descriptor).close()
            self._alone_since = time.monotonic()
        return said


def _prepare(kept: set[int]) -> None:
    """Have nothing of the agent's but these descriptors and the standard ones, and a name that `ps` and `top` show."""
    edges = [2, *sorted(kept), os.sysconf("SC_OPEN_MAX")]
    for before, after in itertools.pairwise(edges):
        os.closerange(before + 1, after)
    os.chdir("/")
    with open("/proc/self/comm", "w") as comm:  # noqa: PTH123 - pathlib would be most of this process's memory
        comm.write(NAME)


if __name__ == "__main__":
    main()
