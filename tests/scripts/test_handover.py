"""Conversations about planned moves: a handover from both sides, and preemption, which is a handover on request."""

from __future__ import annotations

from haagent.core.model import Role, Unanswered
from haagent.core.records import Intent, Kind
from haagent.core.units import S
from tests.scripts.talk import backup, master
from tests.unit.core.values import B, group, member, owner, rules


def test_the_source_of_a_handover():
    """An operator wishes that a hands the group to b. a closes first, then names b by the next epoch, and follows."""
    talk = master(rules())
    talk.quiet(1200)
    assert talk.other_writes(1200, (Kind.INTENTS, "web", Intent("b", 1, "operator"))) == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (handover to b (operator))",
    ]
    assert talk.kernel_removed(1205) == ["advert vr 0", "web: hand over to b by epoch 2 if owners/web @14"]
    assert talk.etcd_does(1210, "release") == []
    assert talk.etcd.keys.keys() >= {("owners", "web")}
    assert ("intents", "web") not in talk.etcd.keys, "the wish is granted and gone"
    talk.quiet(9000)
    assert talk.node.roles["web"] is Role.BACKUP


def test_the_target_of_a_handover():
    """b hands the group to a: a acts when its watch shows the record. There is no claim, and so no wait."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.quiet(1200)
    handed = owner("a", epoch=5, reason="handover from b")
    assert talk.other_writes(1200, (Kind.OWNERS, "web", handed)) == ["install web #2: 10.0.0.100 until 1970"]
    assert talk.kernel_installed(1203) == [
        "web: BACKUP -> MASTER, epoch 5 (handover from b)",
        "advert vr 100",
        "announce vr",
    ]


def test_the_target_is_not_able_any_more():
    """b hands the group to a, whose interface has just gone down. a never owns; it releases at once."""
    talk = backup(rules(), record=owner(epoch=4))
    talk.quiet(1200)
    talk.hears_link(1200, up=False)
    assert talk.other_writes(1201, (Kind.OWNERS, "web", owner("a", epoch=5))) == ["remove web #3"]
    assert talk.kernel_removed(1202)[-1].startswith("web: release epoch 5 (interface eth0 is down or absent)")
    talk.etcd_does(1203, "release")
    talk.quiet(5000)


def test_the_target_died_while_the_source_closed():
    """b is named in the wish, but by the time a's kernel has let go, b's lease has run out.

    a releases, and takes it back.

    Nobody else is there, so the released group is claimed again at once.
    """
    talk = master(rules())
    talk.live(1900, peers="")
    talk.other_writes(1900, (Kind.INTENTS, "web", Intent("b", 1, "operator")))
    talk.quiet(2200, peers="")
    assert talk.kernel_removed(2200) == [
        "advert vr 0",
        "web: release epoch 1 (handover to b (operator)) if owners/web @14",
    ]
    assert talk.etcd_does(2210, "release") == [
        "web: claim epoch 2 (claimed again) if owners/web @20, leases/a made @4"
    ]  # fmt: skip


def test_a_handover_whose_answer_is_lost():
    """The handover is done, but neither answer nor stream tells a. It asks again; etcd refuses: b has it."""
    talk = master(rules())
    talk.quiet(1200)
    talk.other_writes(1200, (Kind.INTENTS, "web", Intent("b", 1, "operator")))
    talk.kernel_removed(1205)
    ask = talk.asked["release"].ask
    talk.silently("release")
    assert talk.feed(1240, Unanswered(ask, "connection reset")) == []
    assert talk.node.due() <= 1340_000_000
    talk.live(1341, etcd=False, peers="")
    assert "release" in talk.asked, "written again: it may not have been done"
    assert talk.etcd_does(1345, "release") == []
    talk.quiet(2200)
    assert talk.node.roles["web"] is Role.BACKUP


def test_a_wish_for_an_old_epoch_is_void():
    """The wish was meant for another owner."""
    talk = master(rules())
    talk.quiet(1200)
    assert talk.other_writes(1200, (Kind.INTENTS, "web", Intent("b", 0, "operator"))) == []
    assert talk.other_writes(1201, (Kind.INTENTS, "web", Intent("z", 1, "operator"))) == [
        "ALARM switchover-waits web: to z: z is no member"
    ]


def test_preemption_is_a_wish_after_the_delay():
    """a has priority 100 and `preempt_delay: 3s`; b owns with 50. a waits three seconds, then asks; b does not answer.

    It asks again later, but never takes: two speakers there are not.
    """
    preempting = rules(group(preempt=True, preempt_delay=3 * S))
    talk = backup(preempting, record=owner(epoch=4), priority=50)
    assert talk.live(3100) == [
        "3000: web: wish to take over from epoch 4 (preempt) if owners/web @4, no intents/web",
    ]
    assert talk.etcd_does(3100, "intent") == []
    assert talk.live(10_900) == [
        "7000: web: wish to take over from epoch 4 (preempt) if owners/web @4, intents/web @31"
    ]
    handed = owner("a", epoch=5, reason="handover from b")
    assert talk.other_writes(10_900, (Kind.OWNERS, "web", handed))[0].startswith("install web")


def test_preemption_is_off_when_the_owner_gets_better():
    """Two seconds into the delay, b's priority becomes ours. Later it is lower again: the delay begins anew."""
    preempting = rules(group(preempt=True, preempt_delay=3 * S))
    talk = backup(preempting, record=owner(epoch=4), priority=50)
    talk.quiet(2000)
    talk.other_writes(2000, (Kind.MEMBERS, "b", member(priority=100, address=B)))
    talk.quiet(5000)
    talk.other_writes(5000, (Kind.MEMBERS, "b", member(priority=99, address=B)))
    talk.quiet(8000)
    assert [line.partition(":")[0] for line in talk.live(8001)] == ["8000"]


def test_without_preempt_a_better_node_waits():
    """The default: whoever owns goes on, whatever the others' priorities."""
    talk = backup(rules(), record=owner(epoch=4), priority=1)
    talk.quiet(20_000)


def test_the_owner_hands_over_to_who_preempts():
    """b comes back with priority 200 and wishes. The wish is the same kind of key as the operator's."""
    talk = master(rules())
    talk.quiet(1200)
    talk.other_writes(1200, (Kind.MEMBERS, "b", member(priority=200, address=B)))
    assert talk.other_writes(1201, (Kind.INTENTS, "web", Intent("b", 1, "preempt"))) == [
        "remove web #4",
        "web: MASTER -> BACKUP, epoch 1 (handover to b (preempt))",
    ]
