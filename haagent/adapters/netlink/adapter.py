"""The event loop's side of the `Kernel` port: hands effects to the thread, delivers its answers, bounds the wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from haagent.adapters.netlink.rtnl import knows_tags
from haagent.adapters.netlink.worker import Command, Configure, Stop, Worker
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    Event,
    ExtendAddresses,
    InstallAddresses,
    KernelFailed,
    RemoveAddresses,
    VirtualAddress,
)
from haagent.core.units import Duration, S
from haagent.runtime.ports import Deliver

log = logging.getLogger("haagent.kernel")

PATIENCE: Final[Duration] = 2 * S
"""An effect that the kernel has not answered by then has failed; an answer that comes later is not delivered."""


class NetlinkKernel:
    """The `Kernel` port. Belongs to the event loop that `start` runs in, and to the network namespace of its thread.

    `ended` is set when the thread has; if nobody closed it, the agent has lost hold of its addresses and must end.
    `counters`, by name: installed, renewed, repaired, taken_back, deleted, refused, swept, lapsed, overrun, unanswered.
    """

    def __init__(self, deliver: Deliver, *, patience: Duration = PATIENCE, tags: bool | None = None) -> None:
        """`tags`: whether the kernel stores IFA_PROTO; by default, whether its release is 5.18 or later."""
        self.ended = asyncio.Event()
        self.counters: Counter[str] = Counter()
        self._deliver = deliver
        self._patience = patience
        self._tags = knows_tags(os.uname().release) if tags is None else tags
        self._asked: dict[tuple[str, int], asyncio.TimerHandle] = {}
        self._worker: Worker | None = None
        self._began = False

    async def start(
        self,
        interfaces: Iterable[str],
        addresses: Mapping[str, tuple[VirtualAddress, ...]],
        sources: Iterable[bytes] = (),
        *,
        adopt: bool = False,
    ) -> None:
        """Sweep what an earlier incarnation left, then report each interface once; see `configure`.

        With `adopt` what it left of `addresses` stays, until its group is installed or removed.
        Returns when the sweep is confirmed. OSError if netlink, or the removal of an address, is not permitted.
        """
        assert not self._began, "started twice"
        self._began = True
        self._loop = asyncio.get_running_loop()
        started: asyncio.Future[Worker] = self._loop.create_future()
        threading.Thread(
            target=self._run,
            args=(Configure(frozenset(interfaces), dict(addresses), frozenset(sources)), adopt, started),
            name="haagent-netlink",
            daemon=True,
        ).start()
        self._worker = await started

    def configure(
        self,
        interfaces: Iterable[str],
        addresses: Mapping[str, tuple[VirtualAddress, ...]],
        sources: Iterable[bytes] = (),
    ) -> None:
        """Report just these interfaces from now on, the new ones at once.

        `addresses` are those that each group may come to hold: they are no interface's primary address, what `remove`
        deletes for a group that was never installed, and what `HostAddresses` is about, as it is about `sources`.
        """
        self._tell(Configure(frozenset(interfaces), dict(addresses), frozenset(sources)))

    def install(self, effect: InstallAddresses) -> None:
        """Make the kernel hold just these addresses for the group."""
        self._ask(effect)

    def remove(self, effect: RemoveAddresses) -> None:
        """Make the kernel hold none of the group's addresses."""
        self._ask(effect)

    def extend(self, effect: ExtendAddresses) -> None:
        """Let the addresses' lifetimes follow the lease."""
        self._tell(effect)

    def flush(self, *, opening: bool = True) -> bool:  # noqa: ARG002 - nothing is gathered here
        """All that was asked for is under way."""
        return False

    async def close(self) -> None:
        """End the thread. What the kernel holds stays, and ends with its lifetimes."""
        if not self._began:
            return
        self._tell(Stop())
        with contextlib.suppress(TimeoutError):  # a thread that hangs in the kernel ends with the process
            async with asyncio.timeout(self._patience / S):
                await self.ended.wait()

    def _ask(self, effect: InstallAddresses | RemoveAddresses) -> None:
        question = effect.group, effect.serial
        self._asked[question] = self._loop.call_later(self._patience / S, self._unanswered, *question)
        self._tell(effect)

    def _tell(self, command: Command) -> None:
        if self._worker is not None:
            self._worker.tell(command)
        elif isinstance(command, InstallAddresses | RemoveAddresses):
            self._loop.call_soon(self._take, [KernelFailed(command.group, command.serial, _ENDED)])

    def _unanswered(self, group: str, serial: int) -> None:
        self.counters["unanswered"] += 1
        self._take([KernelFailed(group, serial, f"no answer from the kernel within {self._patience / S} s")])

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, AddressesInstalled | AddressesRemoved | KernelFailed):
                timer = self._asked.pop((event.group, event.serial), None)
                if timer is None:
                    continue
                timer.cancel()
            self._deliver(event)

    def _post(self, events: Sequence[Event]) -> None:
        """Called on the thread."""
        self._loop.call_soon_threadsafe(self._take, events)

    def _run(self, configure: Configure, adopt: bool, started: asyncio.Future[Worker]) -> None:
        """The thread."""
        worker = None
        try:
            try:
                worker = Worker(self._post, self.counters, tags=self._tags)
                worker.begin(configure, adopt=adopt)
            except OSError as error:
                self._loop.call_soon_threadsafe(_set_exception, started, error)
            else:
                self._loop.call_soon_threadsafe(_set_result, started, worker)
                worker.run()
        except OSError:
            log.exception("netlink: the thread has ended; addresses end with their lifetimes")
        finally:
            self._loop.call_soon_threadsafe(self._leave, worker, started)

    def _leave(self, worker: Worker | None, started: asyncio.Future[Worker]) -> None:
        if worker is not None:
            worker.close()
        self._worker = None
        _set_exception(started, RuntimeError(_ENDED))
        self._take([KernelFailed(group, serial, _ENDED) for group, serial in self._asked])
        self.ended.set()


def _set_result(future: asyncio.Future[Worker], worker: Worker) -> None:
    if not future.done():
        future.set_result(worker)


def _set_exception(future: asyncio.Future[Worker], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


_ENDED = "the netlink thread has ended"
