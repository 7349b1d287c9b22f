"""Conversations about planned work: schedules, drains, pauses and failback windows, and what they do not hold up.

Instants are milliseconds; the wall clock, where there is one, shows noon (`NOON`) when the node's clock shows nothing.
"""

from __future__ import annotations

from dataclasses import replace

from haagent.core.model import GroupRules, Role, StopRequested, WallClockRead, WindowChanged
from haagent.core.records import ORDERS, Intent, Key, Kind, Orders, Value
from haagent.core.units import MS, S
from tests.scripts.talk import ROUTINE, Talk, backup, master, member_address
from tests.unit.core.values import group, member, owner, rules

NOON = 1_800_000_000 * S
HOUR = 3600 * S


def writes(talk: Talk, at: float, kind: Kind, name: str, value: Value) -> list[str]:
    """Somebody writes, after a quiet time; what that is followed by, but for what is routine."""
    if at > talk.now / MS:
        talk.quiet(at)
    return [line for line in talk.other_writes(at, (kind, name, value)) if not line.startswith(ROUTINE)]


def order(talk: Talk, at: float, paused: str = "", drained: tuple[str, ...] = ()) -> list[str]:
    return writes(talk, at, Kind.ORDERS, "cluster", Orders(paused, drained))


def wish(
    talk: Talk, at: float, to: str, *, epoch: int = 1, by: str = "anna", since: int = 0, until: int = 0
) -> list[str]:
    """`since` and `until` in milliseconds after noon."""
    start, end = (NOON + one * MS if one else 0 for one in (since, until))
    return writes(talk, at, Kind.INTENTS, "web", Intent(to, epoch, by, start, end))


def stands(talk: Talk, at: float, node: str = "b", priority: int = 90) -> list[str]:
    """The member key of a node says that."""
    return writes(talk, at, Kind.MEMBERS, node, member(node, priority=priority, address=member_address(node)))


def closed(talk: Talk, at: float) -> list[str]:
    """The kernel confirms whatever removal it was asked for, until it is asked for none."""
    lines: list[str] = []
    while talk.removals:
        lines += talk.kernel_removed(at)
    return lines


def without_time(lines: list[str]) -> list[str]:
    return [line.partition(": ")[2] for line in lines]


def scheduled(since: int, until: int = 0) -> Talk:
    """`a` is MASTER and knows the time; b shall have the group at `since`."""
    talk = master(rules())
    assert talk.feed(1100, WallClockRead(NOON)) == []
    assert wish(talk, 1100, "b", since=since, until=until) == []
    return talk


# --- a scheduled switchover


def test_a_scheduled_switchover_comes_at_its_time():
    """At noon and five seconds b shall have it: not an instant earlier, and without being told again."""
    talk = scheduled(since=5000)
    assert talk.live(5100) == ["5000: remove web #4", "5000: web: MASTER -> BACKUP, epoch 1 (handover to b (anna))"]
    assert talk.kernel_removed(5105)[1].startswith("web: hand over to b by epoch 2")


def test_without_a_wall_clock_nothing_is_due():
    """The clock is read only at 3 s: what was due at 2 s comes then."""
    talk = master(rules())
    assert wish(talk, 1100, "b", since=2000) == []
    talk.quiet(3000)
    assert talk.feed(3000, WallClockRead(NOON))[:2] == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (handover to b (anna))",
    ]


def test_a_clock_that_is_set_moves_the_schedule():
    """Set back by an hour the switchover is an hour away; set right again it is overdue, and comes at once."""
    talk = scheduled(since=5000)
    talk.quiet(2000)
    talk.feed(2000, WallClockRead(NOON - HOUR))
    talk.quiet(8000)
    assert talk.feed(8000, WallClockRead(NOON))[0] == "remove web #4"


def test_a_switchover_that_can_not_be_granted_waits_and_says_why():
    """b is not fit when the time comes. It is granted when b is."""
    talk = scheduled(since=5000)
    stands(talk, 2000, priority=0)
    assert talk.live(8000) == ["5000: ALARM switchover-waits web: to b: b can not own it"]
    assert stands(talk, 8000, priority=90) == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (handover to b (anna))",
        "calm switchover-waits web: to b: b can not own it",
    ]


def test_a_target_whose_lease_comes_back_is_found_without_an_event():
    """b was dead when the time came. That its lease runs again is noticed within a ttl."""
    talk = scheduled(since=5000)
    assert talk.live(8000, peers="") == ["5000: ALARM switchover-waits web: to b: the lease of b does not run"]
    assert "8000" < talk.live(9100)[0].partition(":")[0] <= "9000"


def test_a_switchover_that_expired_is_not_granted_and_goes_away():
    """b is not fit from 5 s to 7 s. When it is fit again the time is over; the owner deletes the intent."""
    talk = scheduled(since=5000, until=7000)
    stands(talk, 2000, priority=0)
    assert without_time(talk.live(7100)) == [
        "ALARM switchover-waits web: to b: b can not own it",
        "web: forget the intent if intents/web @15",
        "calm switchover-waits web: to b: b can not own it",
    ]
    stands(talk, 7100, priority=90)
    assert [line.partition(":")[0] for line in talk.live(8200) if "forget" in line] == ["8100"], "again, unanswered"
    talk.etcd_does(8200, "intent")
    assert ("intents", "web") not in talk.etcd.keys
    talk.quiet(15_000)


def test_an_agent_that_starts_finds_what_is_scheduled():
    """The intent stands in etcd. a begins to own when it is due already, and hands over as soon as it may."""
    talk = backup(rules(), priority=90)
    talk.feed(1001, WallClockRead(NOON))
    wish(talk, 1001, "b", since=500)
    talk.live(1031)
    talk.etcd_does(1040, "claim")  # the intent was for no epoch that ever was
    assert talk.kernel_installed(1050)[0].startswith("web: BACKUP -> MASTER")
    talk.quiet(3000)


def test_a_schedule_is_void_for_another_owner():
    """Before its time the group went to c and back: the epoch is another one."""
    talk = scheduled(since=5000)
    talk.feed(2000, StopRequested())
    talk.kernel_removed(2001)
    talk.etcd_does(2002, "release")
    other = master(rules())
    other.feed(1100, WallClockRead(NOON))
    wish(other, 1100, "b", epoch=0, since=2000)
    other.quiet(9000)


# --- drain


def test_a_drained_owner_hands_over_to_the_best():
    """b and c can own; c is better. There is no fault, and the member key says that a can not own."""
    talk = master(rules(), peers="bc")
    stands(talk, 1150, "c", 95)
    talk.quiet(1200)
    lines = talk.other_writes(1200, (Kind.ORDERS, "cluster", Orders(drained=("a",))))
    assert lines[:2] == ["remove web #4", "web: MASTER -> BACKUP, epoch 1 (drained: handed over to c)"]
    assert any(line.startswith("member web=0") for line in lines)
    assert talk.kernel_removed(1205)[1].startswith("web: hand over to c by epoch 2")
    talk.etcd_does(1210, "release")
    talk.quiet(9000)
    assert talk.node.roles["web"] is Role.BACKUP
    assert talk.node.faults["web"] == ()
    assert talk.node.barred == {"web": "drained"}


def test_a_drained_node_claims_nothing_even_if_the_owner_dies():
    """b owned, released or lapsed: a is drained, and waits for c or for the end of the drain."""
    talk = backup(rules(), record=owner(epoch=4))
    order(talk, 1200, drained=("a",))
    talk.quiet(8000, peers="")
    assert order(talk, 8000)[0].startswith("web: claim epoch 5 (the lease of b lapsed)")


def test_nobody_else_is_able_to_take_what_is_drained():
    """a keeps the group and says so. When b is fit, it goes there."""
    talk = master(rules())
    stands(talk, 1150, priority=0)
    assert order(talk, 1200, drained=("a",))[0] == "ALARM drain-waits web: nobody else is able"
    talk.quiet(4000)
    assert talk.node.roles["web"] is Role.MASTER
    assert stands(talk, 4000, priority=90) == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (drained: handed over to b)",
        "calm drain-waits web: nobody else is able",
    ]


def test_a_drained_owner_that_lapsed_takes_back_what_nobody_else_can():
    """etcd is away for two seconds. b is not fit: drained or not, a is better than nobody, for what was its own."""
    talk = master(rules())
    stands(talk, 1150, priority=0)
    order(talk, 1200, drained=("a",))
    lines = talk.live(3500, etcd=False, peers="")
    assert any("the lease lapsed" in line for line in lines)
    talk.kernel_removed(3500)
    assert "claim epoch 2 (claimed again)" in "\n".join(talk.live(5000))


def test_a_drained_owner_that_lapsed_releases_what_others_can_have():
    """The same, but b is fit: a is no owner in name only, and lets go of the record at once."""
    talk = master(rules())
    talk.live(3500, etcd=False)
    order(talk, 3500, drained=("a",))
    assert "web: release epoch 1 (drained)" in "\n".join(closed(talk, 3500))


def test_a_drained_target_gets_nothing():
    """anna wants b to have it; b is drained. That waits, and is granted after the drain."""
    talk = master(rules())
    order(talk, 1200, drained=("b",))
    assert wish(talk, 1300, "b") == ["ALARM switchover-waits web: to b: b is drained"]
    assert order(talk, 1400)[0] == "remove web #4"


# --- pause


def test_a_paused_cluster_does_not_fail_over():
    """b owns and dies. Nobody claims until anna resumes, then at once."""
    talk = backup(rules(), record=owner(epoch=4))
    assert order(talk, 1200, paused="anna") == ["ALARM paused cluster: by anna"]
    talk.quiet(8000, peers="")
    assert talk.node.barred == {"web": "paused by anna"}
    lines = order(talk, 8000)
    assert lines[0] == "calm paused cluster: by anna"
    assert lines[1].startswith("web: claim epoch 5 (the lease of b lapsed)")


def test_what_was_released_stays_so_while_paused():
    talk = backup(rules(), record=owner(epoch=4))
    order(talk, 1200, paused="anna")
    assert writes(talk, 1300, Kind.OWNERS, "web", owner(epoch=4, clean=True)) == []
    talk.quiet(4000)


def test_the_last_owner_may_take_it_again_while_paused():
    """a lapses in a pause: fencing is not frozen, and neither is its own return."""
    talk = master(rules())
    order(talk, 1200, paused="anna")
    assert any("the lease lapsed" in line for line in talk.live(3500, etcd=False, peers=""))
    talk.kernel_removed(3500)
    assert "claim epoch 2 (claimed again)" in "\n".join(talk.live(5000))


def test_a_restarted_agent_takes_its_own_again_while_paused():
    """An upgrade of the owner's agent: the new incarnation finds its predecessor's record, and the pause."""
    talk = Talk(rules())
    talk.etcd.write((Key(Kind.OWNERS, "web"), owner("a", turn=0, epoch=4)), (ORDERS, Orders("anna")))
    talk.start(open_until=800)
    talk.hears_link(0)
    assert talk.lists(0)[0] == "ALARM paused cluster: by anna"
    assert "0: web: claim epoch 5 (claimed again) if owners/web @2, leases/a made @3" in talk.live(1)


def test_a_paused_owner_that_is_unfit_releases():
    talk = master(rules())
    order(talk, 1200, paused="anna")
    assert talk.hears_link(1300, up=False)[0] == "remove web #4"
    assert "web: release epoch 1 (interface eth0 is down or absent)" in talk.kernel_removed(1310)[-1]
    talk.etcd_does(1320, "release")
    talk.quiet(3000)
    talk.hears_link(3000)
    assert "web: claim epoch 2 (claimed again)" in "\n".join(talk.live(5000)) or "claim" in talk.asked


def test_nothing_moves_while_paused():
    """A switchover and a drain wait for the end of the pause; the switchover was first."""
    talk = master(rules())
    order(talk, 1200, paused="anna")
    assert wish(talk, 1300, "b", by="bert") == ["ALARM switchover-waits web: to b: paused by anna"]
    assert "ALARM drain-waits web: paused by anna" in order(talk, 1400, paused="anna", drained=("a",))
    talk.quiet(4000)
    assert "web: MASTER -> BACKUP, epoch 1 (handover to b (bert))" in order(talk, 4000)


def test_a_pause_that_comes_while_the_kernel_closes():
    """a is about to hand over when anna pauses. It releases instead, and claims again: nothing has moved."""
    talk = master(rules())
    wish(talk, 1200, "b")
    order(talk, 1201, paused="anna")
    assert "release epoch 1" in talk.kernel_removed(1205)[1]
    assert "web: claim epoch 2 (claimed again)" in talk.etcd_does(1210, "release")[0]


def test_a_group_that_nobody_ever_had_is_claimed_although_paused():
    talk = backup(rules(), priority=90)
    order(talk, 1010, paused="anna")
    assert "claim epoch 1 (there was no owner)" in "\n".join(talk.live(1031))


def test_a_pause_that_comes_while_a_drained_owner_closes():
    """It is drained, and about to hand over. In the pause nobody else may have the group, so it goes on itself."""
    talk = master(rules())
    order(talk, 1200, drained=("a",))
    order(talk, 1201, paused="anna", drained=("a",))
    assert "release epoch 1" in talk.kernel_removed(1205)[1]
    assert "web: claim epoch 2 (claimed again)" in talk.etcd_does(1210, "release")[0]


# --- failback and minimum hold


def failing_back(**changes: object) -> GroupRules:
    return replace(group(preempt=True), **changes)


def test_failback_waits_for_its_window():
    """b owns with 50, a has 100. The window opens at 4 s; the wish goes out then, and none after it has closed."""
    talk = backup(rules(failing_back(windowed=True)), record=owner(epoch=4), priority=50)
    talk.quiet(4000)
    assert talk.feed(4000, WindowChanged("web", True))[0].startswith("web: wish to take over from epoch 4 (preempt)")
    assert talk.feed(4001, WindowChanged("nobody's", True)) == []
    talk.feed(4100, WindowChanged("web", False))
    talk.quiet(20_000)


def test_a_wish_is_not_granted_once_the_window_has_closed():
    talk = master(rules(failing_back(windowed=True)))
    stands(talk, 1200, priority=200)
    assert wish(talk, 1201, "b", by="preempt") == []
    talk.quiet(3000)
    assert talk.feed(3000, WindowChanged("web", True))[0] == "remove web #4"


def test_a_wish_of_who_is_no_longer_better_is_not_granted():
    talk = master(rules(failing_back()))
    assert wish(talk, 1201, "b", by="preempt") == []
    talk.quiet(3000)


def test_an_owner_holds_for_a_minimum():
    """a owns since 1.04 s and holds for three seconds at the least, whoever is better."""
    talk = master(rules(failing_back(min_hold=3 * S)))
    stands(talk, 1200, priority=200)
    assert wish(talk, 1201, "b", by="preempt") == []
    assert talk.live(4100) == ["4040: remove web #4", "4040: web: MASTER -> BACKUP, epoch 1 (handover to b (preempt))"]


def test_an_operator_overrides_the_minimum():
    talk = master(rules(failing_back(min_hold=3 * S)))
    assert wish(talk, 1201, "b")[0] == "remove web #4"


def test_an_operators_plan_is_not_written_over():
    """a is better and preempts, but anna has plans for this epoch: a does not wish until they have expired."""
    talk = backup(rules(failing_back()), record=owner(epoch=4), priority=50)
    talk.asked.pop("intent", None)
    talk.feed(1100, WallClockRead(NOON))
    wish(talk, 1100, "c", epoch=4, since=60_000, until=90_000)
    assert talk.live(8000) == []


# --- who claims first


def test_who_an_operator_wants_claims_first():
    """b dies while anna wants a to have it. c is better, but a claims at once; without the intent it waits for c."""
    for wanted, at in ((True, 2030), (False, 2050)):
        talk = backup(rules(), peers="bc", record=owner(epoch=4), priority=200)
        if wanted:
            wish(talk, 1200, "a", epoch=4)
        lines = talk.live(2400, peers="c")
        assert [line.partition(": ")[0] for line in lines if "claim" in line] == [str(at)]
