"""The small worlds that are explored: how many nodes, what clocks, by which rules, and what operators may do there.

Each begins after n1 has owned `g0` for a while (but for `cold`, in which nobody has begun), and is looked at for some
ttls from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from haagent.core.model import (
    GroupRules,
    InterfaceChanged,
    RouterRules,
    Rules,
    RulesChanged,
    StopRequested,
    VirtualAddress,
)
from haagent.core.records import Intent, Key, Kind, OwnerRecord
from haagent.core.units import MS, Duration, Instant, S
from tests.explore.moves import INTERFACE, Menu, apply, next_instant, start, thing
from tests.explore.state import GROUP, State

SLOW, FAST = -4_950, 4_950
"""Any two clocks differ by less than 1 %."""
EVERY = frozenset(("stall", "lose", "relist", "refuse", "pause", "halfway", "crash"))
LATE = frozenset(("stall",))
OWNERS = Key(Kind.OWNERS, GROUP)


@dataclass(frozen=True, slots=True)
class Small:
    """A world. `skews`: of the clocks, in millionths, one a node. `apart`: how much later each node starts than the one
    before. `menu`: what may happen once each. `lasts`: how many ttls are looked at.
    """

    name: str
    skews: tuple[int, ...]
    ttl: Duration = 1 * S
    failsafe: Duration = 0
    apart: Duration = 0
    menu: tuple[str, ...] = ()
    lasts: float = 2.5
    cold: bool = False
    outside: int = 0
    kinds: frozenset[str] = EVERY
    at: tuple[int, ...] = ()

    def rules(self, node: str, incarnation: str) -> Rules:
        """What a node's configuration says."""
        number = int(node[1:])
        address = VirtualAddress(bytes([10, 9, 0, 1]), 24, INTERFACE)
        # One advert an hour: adverts are hints, and decide nothing here.
        router = RouterRules("g0r0", 1, 3, 4, INTERFACE, 200 - number, 3_600 * S, (address,))
        return Rules(
            *(node, incarnation, f"host-{node}", "1", {GROUP: GroupRules(GROUP, (router,))}),
            ttl=self.ttl,
            failsafe=self.failsafe,
            endpoint=f"{node}:8501" if self.failsafe else "",
            machine=f"host-{node}",
        )

    def begin(self) -> tuple[State, Menu, Instant, Instant]:
        """The world at its beginning, what may happen in it, when the first deviation is due at the latest, and when
        it ends.

        A world that nothing disturbs repeats itself at every renewal: what a first deviation may bring about is all
        seen if it happens within one.
        """
        menu = Menu(self.rules, {name: ENTRIES[name] for name in self.menu}, self.kinds, self.at)
        state = State(self.skews)
        state.spare = {"small": self}
        if self.cold:
            for index in range(len(self.skews)):
                start(state, menu, index)
        else:
            _settle(state, menu, self)
        state.path, state.steps = None, 0
        state.spare = {"small": self, "backup": state.store.keys}
        ends = state.now + int(self.lasts * self.ttl)
        return state, menu, ends if self.cold else state.now + self.ttl // 4, ends


def _settle(state: State, menu: Menu, small: Small) -> None:
    """n1 starts and owns, then the others, one after the other, but for those that are `outside` yet."""
    for index in range(len(state.hosts) - small.outside):
        start(state, menu, index)
        quiet(state, menu, state.now + small.apart + (0 if index else 2 * small.ttl))
    quiet(state, menu, state.now + 2 * small.ttl)
    assert [host.name for host in state.hosts if host.answering(state.now)] == ["n1"]


def quiet(state: State, menu: Menu, until: Instant) -> None:
    """Let everything happen in its order until then."""
    while True:
        if thing(state) is not None:
            apply(state, ("go",), menu)
        elif next_instant(state) <= until:
            apply(state, ("advance",), menu)
        else:
            state.now = max(state.now, until)
            return


# --- what operators may do, and etcd may suffer


def _reload(ttl: Callable[[Duration], Duration]) -> Callable[..., None]:
    def reload(state: State, menu: Menu) -> None:
        for index, host in enumerate(state.hosts):
            if host.runs() and host.node is not None:
                rules = host.node.rules
                state.feed(index, RulesChanged(replace(rules, ttl=ttl(rules.ttl))))

    return reload


def _switch(state: State, menu: Menu) -> None:
    record = state.store.keys.get(OWNERS)
    if record is not None and isinstance(record.value, OwnerRecord):
        state.etcd().scribble(Key(Kind.INTENTS, GROUP), Intent("n2", record.value.epoch, "operator"))


def _delete(state: State, menu: Menu) -> None:
    state.etcd().write((), (OWNERS,))


def _stop(state: State, menu: Menu) -> None:
    if state.hosts[0].runs() and state.hosts[0].node is not None and not state.hosts[0].node.stopping:
        state.feed(0, StopRequested())


def _link(state: State, menu: Menu) -> None:
    """The owner's interface is down."""
    if state.hosts[0].runs():
        state.feed(0, InterfaceChanged(INTERFACE, False, None, None))


def _restore(state: State, menu: Menu) -> None:
    _rewind(state, state.spare["backup"])


def _wipe(state: State, menu: Menu) -> None:
    _rewind(state, {})


def _rewind(state: State, keys: dict[Key, Any]) -> None:
    state.etcd().restore(state.store.revision + 1_000_000, keys)
    for index, host in enumerate(state.hosts):
        if host.node is not None:
            state.host(index).shown = None


ENTRIES: dict[str, Callable[..., None]] = {
    "shorter ttl": _reload(lambda ttl: ttl // 2),
    "longer ttl": _reload(lambda ttl: ttl * 2),
    "switchover": _switch,
    "record deleted": _delete,
    "session of n1 ends": lambda state, menu: state.revoke(0),
    "stop": _stop,
    "link down": _link,
    "etcd restored": _restore,
    "etcd wiped": _wipe,
}

WORLDS: dict[str, Small] = {
    small.name: small
    for small in (
        # Every kind of deviation, at every node.
        Small("two", (SLOW, FAST)),
        Small("even", (0, 0), apart=125 * MS),
        Small("cold", (0, 0), cold=True, lasts=2.0),
        Small("three", (SLOW, FAST, FAST)),
        Small("promises", (SLOW, FAST, FAST), failsafe=4 * S, lasts=3.0),
        # Some kinds, so that more of them can be on one way.
        Small("late", (0, 0), kinds=LATE, at=(0,), lasts=2.2),
        Small("behind", (0, 0), kinds=LATE, at=(1,), apart=125 * MS, lasts=2.2),
        Small("slow", (0, 0), kinds=frozenset(("pause", "halfway", "stall")), at=(0,), lasts=2.2),
        Small("long", (SLOW, FAST), ttl=12 * S, kinds=frozenset(("stall", "crash")), at=(0,)),
        Small("lost", (0, 0), kinds=frozenset(("lose", "crash", "refuse")), lasts=2.2),
        Small("planned", (0, 0), kinds=LATE, menu=("switchover", "stop", "link down"), lasts=1.6),
        Small("keys", (0, 0), kinds=LATE, menu=("record deleted", "session of n1 ends"), lasts=2.2),
        Small("reloads", (0, 0), kinds=LATE, at=(0,), menu=("shorter ttl", "longer ttl", "session of n1 ends")),
        Small("memory", (0, 0), kinds=frozenset(("stall", "crash")), menu=("etcd restored", "etcd wiped"), lasts=2.2),
        Small(
            "outsider", (SLOW, FAST, FAST), failsafe=3 * S, lasts=5.0, outside=1, menu=("record deleted",), kinds=LATE
        ),
    )
}
