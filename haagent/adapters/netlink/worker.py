"""The thread that talks to the kernel: commands in, events out, and between them what the ledger finds to do.

A thread, and not the event loop, because a request waits in the kernel for its one lock of all links and
addresses, and asyncio can not help: sending is what blocks. One address takes 0.05 ms, but took 20 ms while somebody
else on the host removed 300 interfaces. The loop that renews the lease may not wait for that. What the
thread does in Python holds up the loop all the same, and so is cut into pieces of about a millisecond.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from haagent.adapters.netlink.ledger import Ledger
from haagent.adapters.netlink.limiter import Limiter
from haagent.adapters.netlink.plan import LEFT, Drop, Place, Put, Why, place_of
from haagent.adapters.netlink.promote import promote_secondaries
from haagent.adapters.netlink.rtnl import Events, OverrunError, Refusal, Requests, delete_address, set_address
from haagent.core.model import (
    AddressesInstalled,
    AddressesRemoved,
    AddressesRepaired,
    Event,
    ExtendAddresses,
    HostAddresses,
    InstallAddresses,
    InterfaceChanged,
    KernelFailed,
    RemoveAddresses,
    VirtualAddress,
)
from haagent.core.units import MS, NEVER, Instant, S
from haagent.runtime.clock import boottime

log = logging.getLogger("haagent.kernel")


@dataclass(frozen=True, slots=True)
class Configure:
    """Report these interfaces from now on; `addresses` are those that each group may come to hold.

    `sources`: those that the file has adverts come from.
    """

    interfaces: frozenset[str]
    addresses: Mapping[str, tuple[VirtualAddress, ...]]
    sources: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave; what the kernel holds stays as it is."""


Question = InstallAddresses | RemoveAddresses
Command = InstallAddresses | RemoveAddresses | ExtendAddresses | Configure | Stop
Post = Callable[[Sequence[Event]], None]


class Worker:
    """Made on any thread; `tell` and `close` may be called from any, all else belongs to the thread that runs `run`."""

    def __init__(self, post: Post, counters: Counter[str], *, tags: bool) -> None:
        self._post = post
        self._counters = counters
        self._ledger = Ledger(tags=tags)
        self._limiter = Limiter()
        self._inbox: deque[Command] = deque()
        self._backlog: list[Command] = []
        self._installs: dict[str, _Install] = {}
        self._repaired: set[Place] = set()
        self._watched: frozenset[str] = frozenset()
        self._reported: dict[str, InterfaceChanged] = {}
        self._host = HostAddresses((), frozenset())
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events = Events()
        self._requests = Requests()

    def tell(self, command: Command) -> None:
        self._inbox.append(command)
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close what was opened. Only when `run` has ended or never began."""
        self._events.close()
        self._requests.close()
        os.close(self._wake)

    def begin(self, configure: Configure, *, adopt: bool) -> None:
        """Learn what there is, and remove what a dead incarnation left. OSError if the kernel does not let us.

        With `adopt` what is configured stays, until its group is installed or removed.
        """
        self._configure(configure)
        if adopt:
            self._ledger.spare()
        self._relearn()
        left = self._ledger.strays()
        for drop, refusal in zip(left, self._drop(left), strict=True):
            if refusal is not None:
                raise OSError(refusal.number, f"cannot remove {_text(drop.place)}, left by an earlier run: {refusal}")
        self._counters["swept"] += len(left)
        self._learn()
        self._report(self._watched)

    def run(self) -> None:
        """Work until told to stop."""
        while self._turn():
            pass

    # One turn.

    def _turn(self) -> bool:
        self._wait()
        self._learn()
        now = boottime()
        go_on = True
        drops: list[Drop] = []
        removals: list[RemoveAddresses] = []
        for command in self._take():
            match command:
                case InstallAddresses():
                    drops += self._install(command, now)
                case RemoveAddresses():
                    self._supersede(command.group)
                    removals.append(command)
                case ExtendAddresses(until):
                    self._ledger.extend(until)
                case Configure():
                    self._configure(command)
                    self._report(self._watched)
                case Stop():
                    go_on = False
        self._end_lease(now)
        self._remove(removals, drops + self._ledger.strays())
        self._put_missing()
        self._settle()
        if self._repaired:
            self._tell_repairs()
        return go_on

    def _wait(self) -> None:
        if self._backlog:
            return
        due = min(self._ledger.until, self._limiter.due)
        now = boottime()
        if self._ledger.unsettled:
            due = min(due, now + 20 * MS)
        timeout = None if due >= NEVER else max(0, due - now) / S
        ready, _, _ = select.select([self._wake, self._events], [], [], timeout)
        if self._wake in ready:
            os.eventfd_read(self._wake)

    def _take(self) -> list[Command]:
        """The next commands, in order, no two about the same group; an install that is overtaken is answered here."""
        while self._inbox:
            self._backlog.append(self._inbox.popleft())
        last = {each.group: at for at, each in enumerate(self._backlog) if isinstance(each, Question)}
        taken: list[Command] = []
        groups: set[str] = set()
        for at, command in enumerate(self._backlog):
            if isinstance(command, Question):
                if isinstance(command, InstallAddresses) and last[command.group] > at:
                    self._fail(command, "superseded")
                    continue
                if command.group in groups:
                    del self._backlog[:at]
                    return taken
                groups.add(command.group)
            taken.append(command)
        self._backlog.clear()
        return taken

    # Commands.

    def _configure(self, command: Configure) -> None:
        self._watched = command.interfaces
        self._reported = {name: told for name, told in self._reported.items() if name in self._watched}
        self._ledger.configure(command.addresses, command.sources)

    def _install(self, command: InstallAddresses, now: Instant) -> list[Drop]:
        self._supersede(command.group)
        if command.until <= now:
            self._fail(command, "lease over")
            return []
        self._installs[command.group] = _Install(command, {place_of(each) for each in command.addresses})
        gone = self._ledger.want(command.group, command.addresses, command.until)
        return self._ledger.drops(gone, f"no address of {command.group} any more")

    def _supersede(self, group: str) -> None:
        install = self._installs.pop(group, None)
        if install is not None:
            self._fail(install.command, "superseded")

    def _end_lease(self, now: Instant) -> None:
        """The core removes what it must when its lease ends; this is for a core that hangs."""
        if now < self._ledger.until:
            return
        for group in list(self._installs):
            self._fail(self._installs.pop(group).command, "lease over")
        gone = self._ledger.lapse()
        refused = [
            refusal for refusal in self._drop(self._ledger.drops(gone, "the lease is over")) if refusal is not None
        ]
        log.warning("lease over: took %d addresses away%s", len(gone), f", refused: {refused[0]}" if refused else "")
        self._counters["lapsed"] += len(gone)

    def _remove(self, removals: Iterable[RemoveAddresses], also: Sequence[Drop]) -> None:
        """Delete, and answer what the kernel confirmed: by its acknowledgement, and by what it then tells."""
        gone = {command: self._ledger.forget(command.group) for command in removals}
        drops = [*also, *(drop for command, those in gone.items() for drop in self._given_up(command.group, those))]
        refused: dict[Place, Refusal] = {}
        for _ in range(_REMOVE_TRIES):
            refused = {
                drop.place: refusal
                for drop, refusal in zip(drops, self._drop(drops), strict=True)
                if refusal is not None
            }
            self._learn()
            drops = [
                drop
                for command, those in gone.items()
                for drop in self._given_up(command.group, those)
                if self._may_be(drop.place, refused)
            ]
            if not drops:
                break
        answers: list[Event] = []
        for command, addresses in gone.items():
            places = [place_of(each) for each in addresses]
            self._limiter.forget(places)
            there = [place for place in places if self._may_be(place, refused)]
            if there:
                why = refused.get(there[0], "is put back by somebody else")
                answers.append(KernelFailed(command.group, command.serial, f"{_text(there[0])}: {why}"))
            else:
                answers.append(AddressesRemoved(command.group, command.serial))
        if answers:
            self._post(answers)

    def _given_up(self, group: str, addresses: Iterable[VirtualAddress]) -> list[Drop]:
        return self._ledger.drops(addresses, f"{group} is not held here")

    def _may_be(self, place: Place, refused: Mapping[Place, Refusal]) -> bool:
        # What the kernel did not acknowledge may be one that it has, and has not shown yet.
        return place in refused or not self._ledger.absent(place)

    # The difference.

    def _drop(self, drops: Sequence[Drop]) -> list[Refusal | None]:
        answers = self._requests.apply([delete_address(d.index, d.place.address, d.prefix) for d in drops])
        self._counters["deleted"] += answers.count(None)
        done: dict[str, list[Place]] = {}
        for drop, answer in zip(drops, answers, strict=True):
            if answer is None:
                done.setdefault(drop.why, []).append(drop.place)
        for why, places in done.items():
            log.log(logging.WARNING if why == LEFT else logging.INFO, "removed %s: %s", _several(places), why)
        return [None if answer is None or answer.number in _NOT_THERE else answer for answer in answers]

    def _put_missing(self) -> None:
        now = boottime()
        for place in self._limiter.take_due(now):
            self._ledger.check_again(place)
        puts = [put for put in self._ledger.changes(now) if self._may(put, now)]
        if not puts:
            return
        answers = self._requests.apply([set_address(put.index, put.wanted, put.lifetime) for put in puts])
        done: dict[Why, list[Place]] = {}
        refused: dict[Place, Refusal] = {}
        for put, refusal in zip(puts, answers, strict=True):
            place = place_of(put.wanted)
            if refusal is None:
                done.setdefault(put.why, []).append(place)
                self._ledger.put(put, now)
            else:
                refused[place] = refusal
        self._note(done)
        self._refuse(refused, now)
        self._learn()

    def _may(self, put: Put, now: Instant) -> bool:
        if put.why in (Why.INSTALL, Why.RENEW):
            return True
        return self._limiter.may(place_of(put.wanted), now)

    def _note(self, done: Mapping[Why, Sequence[Place]]) -> None:
        for why, places in done.items():
            self._counters[why] += len(places)
        if Why.TAKE_BACK in done:
            log.warning("took back %s: somebody changed it", _several(done[Why.TAKE_BACK]))
        if Why.REPAIR in done:
            self._repaired.update(done[Why.REPAIR])

    def _refuse(self, refused: Mapping[Place, Refusal], now: Instant) -> None:
        self._counters["refused"] += len(refused)
        for place, refusal in refused.items():
            self._limiter.delay(place, now)
            self._fail_installs(place, f"{_text(place)}: {refusal}")
        if refused:
            log.warning("cannot put %s: %s", _several(list(refused)), next(iter(refused.values())))

    def _settle(self) -> None:
        """Answer the installs whose addresses the kernel has shown, or whose interface does not exist."""
        if boottime() >= self._ledger.until:  # it took too long; the next turn takes them away
            return
        done: list[Event] = []
        for group, install in list(self._installs.items()):
            install.waiting = {place for place in install.waiting if not self._ledger.is_put(place)}
            if not install.waiting:
                del self._installs[group]
                done.append(AddressesInstalled(group, install.command.serial))
        if done:
            self._post(done)
        for place in {place for install in self._installs.values() for place in install.waiting}:
            if not self._ledger.exists(place.interface):
                self._fail_installs(place, f"{_text(place)}: {Refusal(errno.ENODEV)}")

    def _fail_installs(self, place: Place, why: str) -> None:
        for group, install in list(self._installs.items()):
            if place in install.waiting:
                self._fail(self._installs.pop(group).command, why)

    def _fail(self, command: InstallAddresses, why: str) -> None:
        self._post([KernelFailed(command.group, command.serial, why)])

    def _tell_repairs(self) -> None:
        """Tell whose addresses were put back, once the kernel shows them (or they are gone again)."""
        shown = {place for place in self._repaired if self._ledger.is_put(place)}
        self._repaired = {place for place in self._repaired - shown if self._ledger.is_wanted(place)}
        told = [AddressesRepaired(group, those) for group, those in self._ledger.by_group(shown).items()]
        if told:
            self._post(told)

    # What the kernel says.

    def _learn(self) -> None:
        try:
            touched = self._ledger.learn(self._events.read())
        except OverrunError:
            self._counters["overrun"] += 1
            log.warning("netlink: too many changes at once, reading everything anew")
            touched = self._relearn()
        for name in self._ledger.leading():
            promote_secondaries(name)
        if touched:
            self._report(touched & self._watched)

    def _relearn(self) -> set[str]:
        return self._ledger.relearn(self._requests.dump())

    def _report(self, names: Iterable[str]) -> None:
        changed: list[Event] = []
        if (host := self._ledger.host()) != self._host:
            self._host = host
            changed.append(host)
        for name in sorted(names):
            now = self._ledger.interface(name)
            if self._reported.get(name) != now:
                self._reported[name] = now
                changed.append(now)
        if changed:
            self._post(changed)


@dataclass(slots=True)
class _Install:
    """An install that the kernel has not confirmed, and what it still has to show."""

    command: InstallAddresses
    waiting: set[Place]


def _text(place: Place) -> str:
    family = socket.AF_INET if len(place.address) == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, place.address)} on {place.interface}"


def _several(places: Sequence[Place]) -> str:
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(_text(place) for place in places[:3]) + more


_REMOVE_TRIES: Final = 4
_NOT_THERE: Final = (errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)
"""How the kernel says that an address to delete, its interface, or that interface's IPv6 does not exist."""
