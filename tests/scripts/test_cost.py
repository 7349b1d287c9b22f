"""What an event costs does not grow with the number of groups: many virtual routers, one heap, no scans.

Measured twice. Calls of Python functions are counted: exact, the same on every machine. And time, generously, because
counting calls does not see a scan inside one call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter

import pytest

from haagent.core.heartbeat import HeartbeatReceived, Tenure
from haagent.core.model import AdvertReceived, TimePassed, Watched
from haagent.core.records import Key, Kind
from haagent.core.units import MS, S
from tests.scripts.talk import Talk, backup
from tests.unit.core.values import VIP, B, group, lease, owner, router, rules

MANY = 500


def followers(count: int) -> Talk:
    """`a` follows in `count` groups that b owns, and hears b's adverts."""
    groups = [group(f"g{number}", router(f"vr{number}", vrid=1 + number % 255)) for number in range(count)]
    talk = backup(rules(*groups), record=owner(epoch=4, ttl=60 * S))
    for number in range(count):
        talk.feed(1010, advert(number))
    return talk


def advert(number: int) -> AdvertReceived:
    return AdvertReceived(f"vr{number}", B, 100, 1 * S, (VIP,))


def peer_renewal(talk: Talk, turn: int) -> None:
    (news,) = talk.etcd.write((Key(Kind.LEASES, "b"), lease(round=turn)))
    talk.node.feed(Watched(talk.etcd.revision, (news,)), 1020 * MS + turn)


def owners_advert(talk: Talk, turn: int) -> None:
    talk.node.feed(advert(0), 1020 * MS + turn)


def nothing_due(talk: Talk, turn: int) -> None:
    talk.node.feed(TimePassed(), 1020 * MS + turn)


def check(talk: Talk, turn: int) -> None:
    talk.node.feed(advert(0), 1020 * MS + turn)
    talk.node.check()


def owners_heartbeat(talk: Talk, turn: int) -> None:
    """A peer that asks again and again, of everything else than what it owns: looked up, not searched for."""
    tenures = tuple(Tenure(name, 5) for name in ("g0", "nothing", "ours"))
    talk.node.feed(HeartbeatReceived("b", "b1", turn, 1 * S, (*tenures, Tenure("g0", 4))), 1020 * MS + turn)


EVENTS = [owners_heartbeat, peer_renewal, owners_advert, nothing_due, check]


def calls(act: Callable[[], None]) -> int:
    """How many Python functions and builtins are called."""
    count = 0

    def profiler(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profiler)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_makes_as_many_calls_with_many_groups_as_with_one(event: Callable[[Talk, int], None]):
    one, many = followers(1), followers(MANY)
    for talk in (one, many):
        event(talk, 0)  # the first may move timers about that were armed long before
    assert calls(lambda: event(many, 1)) <= calls(lambda: event(one, 1)) + 10


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_takes_about_as_long_with_many_groups_as_with_one(event: Callable[[Talk, int], None]):
    def best(talk: Talk) -> float:
        """The best of many batches: what disturbs a batch is not ours."""
        times: list[float] = []
        for batch in range(20):
            begun = perf_counter()
            for turn in range(50):
                event(talk, 50 * batch + turn)
            times.append(perf_counter() - begun)
        return min(times)

    assert best(followers(MANY)) < 3 * best(followers(1))


def test_silence_of_all_is_noticed_one_timer_at_a_time():
    """b's adverts stop for all 500 groups. Each timer fires once, and the heap holds no more than it must."""
    talk = followers(MANY)
    said: list[str] = []
    for at in range(1250, 6000, 250):
        said += talk.peer_renews(at, "b")
        said += talk.feed(at, TimePassed())
        if "renew" in talk.asked:
            said += talk.etcd_does(at, "renew")
    assert sum(line.startswith("ALARM adverts-lost") for line in said) == MANY
    assert sum(line.startswith("look") for line in said) == MANY
    assert len(talk.node._context.timers._heap) <= 2 * MANY + 2
