"""Conversations without etcd: an owner that its candidates' promises carry, and a candidate that has promised."""

from __future__ import annotations

import re
from dataclasses import replace

from haagent.core.heartbeat import HeartbeatReceived, PromiseReceived, Tenure
from haagent.core.model import Role
from haagent.core.records import Key, Kind, OwnerRecord
from haagent.core.units import S
from tests.scripts.talk import Talk, backup, master
from tests.unit.core.values import lease, member, owner, rules

RULES = rules(failsafe=10 * S)
OURS = (Tenure("web", 1),)
OWNERS = Key(Kind.OWNERS, "web")


def without_etcd(talk: Talk, until: int, promised: bool = True) -> list[str]:
    """Time goes by without etcd; each heartbeat is answered by b, 3 ms later, if `promised`."""
    lines: list[str] = []
    while talk.now < (until - 250) * 1_000_000:
        lines += talk.live(talk.now // 250_000_000 * 250 + 251, etcd=False, peers="")
        asked = [int(found[1]) for line in lines if (found := re.search(r"heartbeat #(\d+) to b: web by 1", line))]
        if promised:
            lines += talk.feed(talk.now / 1_000_000 + 3, PromiseReceived("b", "", "a1", asked[-1], OURS))
    return [line for line in lines if "heartbeat" not in line and not line.startswith("extend")]


def test_the_owner_goes_on_by_promises_and_lets_go_when_one_is_missing():
    """Two renewals are not shown, and b promises: the owner stays, past the end of its lease. Then b is silent."""
    talk = master(RULES)
    assert without_etcd(talk, 5000) == [
        "1750: ALARM failsafe etcd: does not show our renewals: promises of the candidates carry what is owned"
    ]
    assert talk.node.roles["web"] is Role.MASTER
    assert talk.node.failsafe.since
    lines = without_etcd(talk, 6500, promised=False)
    ended = next(line for line in lines if "lease lost" in line)
    assert ended.endswith("lease lost (promises of the candidates carry it no longer)")
    assert any("remove web" in line for line in lines)
    assert talk.node.roles["web"] is Role.BACKUP


def test_etcd_is_back_and_the_record_is_written_with_the_renewal():
    """The lease had lapsed meanwhile. The first renewal that is shown has our record by its side, and owns it again."""
    talk = master(RULES)
    before = talk.etcd.keys[OWNERS].revision
    without_etcd(talk, 5000)
    lines = talk.etcd_does(talk.now / 1_000_000 + 1, "renew")
    assert any(line.startswith("calm failsafe etcd") for line in lines)
    assert not any("remove" in line or "lost" in line for line in lines)
    assert talk.etcd.keys[OWNERS].revision > before
    talk.live(8000)
    assert talk.node.roles["web"] is Role.MASTER
    assert not talk.node.failsafe.since


def test_etcd_did_the_renewal_in_time_and_shows_it_after_the_promises_ended():
    """The owner let go meanwhile. What is shown gives it a lease, and the record with it, so nobody else had a right:
    it owns by the same epoch again, and no longer than from when it asked."""
    talk = master(RULES)
    without_etcd(talk, 4000)
    without_etcd(talk, 4600, promised=False)
    show = talk.silently("renew")
    assert "4720: web: MASTER -> BACKUP, epoch 1 (the lease lapsed)" in without_etcd(talk, 5000, promised=False)
    talk.kernel_removed(4760)
    asked_at = 4500
    assert f"install web #5: 10.0.0.100 until {asked_at + 1000 - 30}" in show(4770)
    assert talk.kernel_installed(4780)[0] == "web: BACKUP -> MASTER, epoch 1 (there was no owner)"


def test_etcd_is_back_and_the_record_is_anothers():
    """Somebody wrote the record by hand: the renewal is refused, which is an answer, and the owner lets go at once."""
    talk = master(RULES)
    without_etcd(talk, 4000)
    talk.etcd.write((OWNERS, owner("b", epoch=2)))
    assert "remove web #4" in talk.etcd_does(talk.now / 1_000_000 + 1, "renew")


def test_promises_end_when_their_time_is_over():
    """Ten seconds after the last renewal that etcd showed, less 1 % for the clocks and the margin, whoever promises."""
    talk = master(RULES)
    lines = without_etcd(talk, 12_000)
    (ended,) = [int(line.partition(":")[0]) for line in lines if "lease lost" in line]
    asked_at = 1000
    assert ended == (asked_at * 1_000_000 + 10 * S * 100 // 101) // 1_000_000 - 30


def test_a_candidate_that_promised_waits_whatever_etcd_shows():
    """The owner's renewals end, its heartbeats go on: each is answered, and binds for a ttl, 1 %, and the guard."""
    record = replace(owner("b", 1), failsafe=10 * S, machines=("", ""))
    talk = backup(RULES, record=record)
    for at in range(1100, 4000, 250):
        said = talk.feed(at, HeartbeatReceived("b", "b1", at, 1 * S, OURS))
        assert f"promise b #{at}: web by 1" in said
        assert talk.live(at + 249, peers="") == []
    lines = talk.live(6000, peers="")
    assert next(line for line in lines if "claim epoch" in line).startswith("4880: web: claim epoch 2")


def test_a_promise_is_void_when_its_group_was_released():
    talk = backup(RULES, record=replace(owner("b", 1), failsafe=10 * S, machines=("", "")))
    talk.feed(1100, HeartbeatReceived("b", "b1", 1, 1 * S, OURS))
    released = replace(owner("b", 1, clean=True), failsafe=10 * S, machines=("", ""))
    assert any(
        "claim epoch 2 (released by b)" in line for line in talk.other_writes(1200, (Kind.OWNERS, "web", released))
    )


def test_nothing_is_promised_to_who_owns_nothing_by_what_etcd_shows():
    talk = backup(RULES, record=replace(owner("b", 1), failsafe=10 * S))
    for node, incarnation, epoch in (("c", "c1", 1), ("b", "b0", 1), ("b", "b1", 2)):
        assert talk.feed(1100, HeartbeatReceived(node, incarnation, 1, 1 * S, (Tenure("web", epoch),))) == []
    assert talk.feed(1100, HeartbeatReceived("b", "b1", 1, 1 * S, (Tenure("db", 1),))) == []


def test_old_promises_and_those_of_others_carry_nothing():
    """A peer says again what it promised to rounds before, and another one what only b can: as if nobody had spoken."""
    talk = master(RULES)
    without_etcd(talk, 3000)
    assert talk.node.failsafe.since
    ends = talk.node.failsafe.until
    while talk.node.roles["web"] is Role.MASTER:
        talk.live(talk.now // 1_000_000 + 50, etcd=False, peers="")
        for number in range(1, 40):
            talk.feed(talk.now / 1_000_000, PromiseReceived("c", "", "a1", number, OURS))
            talk.feed(talk.now / 1_000_000, PromiseReceived("b", "another", "a1", number, OURS))
            talk.feed(talk.now / 1_000_000, PromiseReceived("b", "", "a0", number, OURS))
        talk.feed(talk.now / 1_000_000, PromiseReceived("b", "", "a1", 1, OURS))
    assert talk.now <= ends + 51_000_000


def test_who_is_no_candidate_waits_until_promises_can_carry_no_longer():
    """The record names b alone: nobody asks us for a promise, so we wait ten seconds from the owner's last sign."""
    talk = backup(RULES, record=replace(owner("b", 1), candidates=("b",), machines=("",), failsafe=10 * S))
    last = talk.now
    lines = talk.live(12_500, peers="")
    claimed = next(int(line.partition(":")[0]) for line in lines if "claim epoch" in line)
    assert last // 1_000_000 - 251 + 10_000 <= claimed <= last // 1_000_000 + 10_000


def test_when_an_operator_declares_the_owner_dead_only_its_ttl_is_waited_for():
    """The record is written again without failsafe: that counts as a sign of the owner, and for no more than a ttl."""
    record = replace(owner("b", 1), candidates=("b",), machines=("",), failsafe=10 * S)
    talk = backup(RULES, record=record)
    assert not any("claim epoch" in line for line in talk.live(3000, peers=""))
    talk.other_writes(3000, (Kind.OWNERS, "web", replace(record, failsafe=0)))
    lines = talk.live(6000, peers="")
    claimed = next(int(line.partition(":")[0]) for line in lines if "claim epoch 2" in line)
    assert 3000 + 1030 <= claimed <= 3000 + 1100


def test_nothing_is_promised_about_a_record_without_failsafe():
    """Others do not wait for such a promise, so it must not carry the owner."""
    talk = backup(RULES, record=replace(owner("b", 1), failsafe=0, machines=("", "")))
    assert talk.feed(1100, HeartbeatReceived("b", "b1", 1, 1 * S, OURS)) == []


def test_who_waits_for_promises_says_so_and_for_how_long():
    """b is not seen any more. We are none of its candidates, so promises of others may carry it for ten seconds."""
    talk = backup(RULES, record=replace(owner("b", 1), candidates=("b",), machines=("",), failsafe=10 * S))
    lines = talk.live(12_500, peers="")
    told = [line for line in lines if "waits-for-promises" in line]
    assert [line.partition(": ")[2] for line in told] == [
        "ALARM waits-for-promises web: not claimed here for 9 s: promises may carry b",
        "calm waits-for-promises web: not claimed here for 9 s: promises may carry b",
    ]
    assert any("claim epoch 2" in line for line in lines)


def test_a_candidate_that_gave_the_group_up_by_a_reload_is_dropped_after_a_while():
    """Its member key stays, and lists the group no more."""
    talk = master(RULES)
    talk.other_writes(1200, (Kind.MEMBERS, "b", member("b", groups=("other",))))
    offers = [line for line in talk.live(5_400) if "offer" in line]
    assert len(offers) == 1
    assert offers[0].startswith("5200: web: offer a if")


def test_a_candidate_is_added_when_it_comes():
    talk = master(RULES)
    talk.live(2000)
    talk.etcd.write((Key(Kind.LEASES, "c"), lease("c")))
    said = talk.other_writes(2000, (Kind.MEMBERS, "c", member("c")))
    assert any("offer" in line for line in said), said
    talk.etcd_does(2002, "offer")
    record = talk.etcd.keys[OWNERS].value
    assert isinstance(record, OwnerRecord)
    assert record.candidates == ("a", "b", "c")
    asked = [line for line in talk.live(2500) if "heartbeat" in line]
    assert all("to b c: web by 1" in line for line in asked)
    assert asked
