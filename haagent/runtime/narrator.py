"""What of a node's events and effects a person wants to read, as log entries: changes, never packets or renewals."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from haagent.core.model import (
    AddressesRepaired,
    Alarm,
    Effect,
    Event,
    Fence,
    FenceConfirmed,
    FenceRefused,
    FenceTimedOut,
    InterfaceChanged,
    KernelFailed,
    LeaseChanged,
    Resign,
    Role,
    RoleChanged,
    StopRequested,
)
from haagent.core.units import MS, Duration, Instant, S
from haagent.runtime.log import fields

_LOG: Final = logging.getLogger("haagent")

QUIET: Final[Duration] = 1 * S
"""Between two lines about repairs of one group: whoever removes an address may do so in a loop."""


class Narrator:
    """Writes the log of one node. Remembers what it said of each interface, so as to say only changes."""

    def __init__(self) -> None:
        self._interfaces: dict[str, str] = {}
        self._repairs: dict[str, _Repairs] = {}
        self._stopping = False

    def heard(self, event: Event, now: Instant) -> None:
        """An event is about to be fed."""
        match event:
            case AddressesRepaired():
                self._repair(event, now)
            case InterfaceChanged():
                self._interface(event)
            case KernelFailed(group=group, why=why):
                _LOG.error("%s: the kernel did not do as told: %s", group, why, extra=fields(group=group))
            case FenceConfirmed(ask):
                _LOG.info("fencing confirmed", extra=fields(incarnation=ask.name))
            case FenceRefused(ask, why):
                _LOG.warning("fencing refused: %s", why, extra=fields(incarnation=ask.name))
            case FenceTimedOut(ask):
                _LOG.warning("fencing timed out", extra=fields(incarnation=ask.name))
            case StopRequested():
                self._stopping = True
                _LOG.info("stopping: giving up what is owned")
            case _:
                pass

    def done(self, effect: Effect, now: Instant) -> None:  # noqa: ARG002 - the log has times of its own
        """An effect is about to be performed."""
        match effect:
            case RoleChanged():
                self._role(effect)
            case Alarm(kind=kind, subject=subject, detail=detail, raised=raised):
                what = f"{kind} {subject}".rstrip()
                if raised:
                    _LOG.warning("alarm: %s: %s", what, detail, extra=fields(alarm=kind, subject=subject))
                else:
                    _LOG.info("alarm over: %s", what, extra=fields(alarm=kind, subject=subject))
            case LeaseChanged(held=True, why=why):
                _LOG.info("lease held: %s", why)
            case LeaseChanged(held=False, why=why, late=late):
                _LOG.warning("lease lapsed: %s", why, extra=fields(late_ms=late // MS))
            case Fence(group=group, node=node, incarnation=incarnation, epoch=epoch):
                about = fields(group=group, incarnation=incarnation, epoch=epoch)
                _LOG.warning("%s: fencing %s, which held it, before it is claimed", group, node, extra=about)
            case Resign():
                _LOG.info("everything is given up")
            case _:
                pass

    def _interface(self, event: InterfaceChanged) -> None:
        if event.up:
            sources = [str(ip_address(packed)) for packed in (event.v4, event.v6) if packed is not None]
            state = f"up, {', '.join(sources) or 'without an address'}"
        else:
            state = "down or absent"
        if self._interfaces.get(event.name) != state:
            self._interfaces[event.name] = state
            level = logging.INFO if event.up else logging.WARNING
            _LOG.log(level, "interface %s: %s", event.name, state, extra=fields(interface=event.name))

    def _repair(self, event: AddressesRepaired, now: Instant) -> None:
        told = self._repairs.setdefault(event.group, _Repairs())
        if now < told.quiet_until:
            told.untold += len(event.addresses)
            return
        several = [f"{ip_address(each.address)} on {each.interface}" for each in event.addresses[:3]]
        if more := len(event.addresses) - len(several):
            several.append(f"{more} more")
        before = f" ({told.untold} more since the last such line)" if told.untold else ""
        words = "%s: put back %s: somebody removed it%s"
        _LOG.warning(words, event.group, ", ".join(several), before, extra=fields(group=event.group))
        self._repairs[event.group] = _Repairs(now + QUIET)

    def _role(self, change: RoleChanged) -> None:
        fault = change.after is Role.FAULT and not self._stopping
        level = logging.WARNING if fault else logging.INFO
        words = "%s: %s -> %s (%s)"
        about = fields(group=change.group, epoch=change.epoch)
        _LOG.log(level, words, change.group, change.before, change.after, change.why, extra=about)


@dataclass(slots=True)
class _Repairs:
    """Until when nothing is said of a group's repairs, and how many addresses were put back meanwhile."""

    quiet_until: Instant = 0
    untold: int = 0
