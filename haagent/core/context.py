"""What the parts of a node share: its rules, its view of etcd, its timers, and the list of what is to be done."""

from __future__ import annotations

from typing import NamedTuple

from haagent.core.model import Alarm, Effect, Rules
from haagent.core.records import Garbage, Seen
from haagent.core.timers import Timers
from haagent.core.units import Duration, Instant
from haagent.core.view import View


class Timer(NamedTuple):
    """What a timer is for: "renew", "watch" and "lapse" of the lease, "failsafe"; "group", "damping" (of a group),
    "reach" (of a group), "router" and "fence" (an incarnation) by name.
    """

    what: str
    name: str = ""


RENEW, WATCH, LAPSE, FAILSAFE = Timer("renew"), Timer("watch"), Timer("lapse"), Timer("failsafe")


class Context:
    """One node's common ground during a step. `out` is what the step asks for, in order."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.view = View(rules.node)
        self.timers: Timers[Timer] = Timers()
        self.now: Instant = 0
        self.wall_ahead: Duration | None = None
        self.out: list[Effect] = []
        self.alarms: dict[tuple[str, str], str] = {}

    def alarm(self, kind: str, subject: str, detail: str) -> None:
        """Raise an alarm, unless it is raised already."""
        if (kind, subject) not in self.alarms:
            self.alarms[kind, subject] = detail
            self.out.append(Alarm(kind, subject, detail, raised=True))

    def tell_readable(self, seen: Seen) -> None:
        """An alarm about a value that is none of ours, until another one is seen."""
        if isinstance(seen.value, Garbage):
            self.alarm("unreadable", "/".join(seen.key), seen.value.reason)
        elif self.alarms:
            self.calm("unreadable", "/".join(seen.key))

    def calm_all(self, kind: str) -> None:
        """All alarms of that kind are over."""
        for subject in [name for one, name in self.alarms if one == kind]:
            self.calm(kind, subject)

    def calm(self, kind: str, subject: str) -> None:
        """What the alarm was about is over, if it was raised."""
        detail = self.alarms.pop((kind, subject), None)
        if detail is not None:
            self.out.append(Alarm(kind, subject, detail, raised=False))
