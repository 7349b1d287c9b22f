"""How the rounds of questions become a verdict: what answers, what falls silent, what only drops ICMP."""

from __future__ import annotations

from ipaddress import ip_address

from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Instant, S
from haagent.runtime.reached import MISSES, OFTEN, PATIENCE, SOON, Answers, Reached, Target, Verdict

ADDRESS = VirtualAddress(ip_address("10.0.0.100").packed, 24, "eth0")
OTHER = VirtualAddress(ip_address("10.0.0.101").packed, 24, "eth0")
CONTROL = ip_address("10.0.0.1").packed
MAC = bytes.fromhex("020000000001")
ALL = 100


def target(address: VirtualAddress = ADDRESS, *, epoch: int = 7, group: str = "web") -> Target:
    return Target(group, epoch, address, CONTROL)


def following(*targets: Target) -> Reached:
    reached = Reached()
    reached.follow(targets or (target(),))
    return reached


def answer(
    reached: Reached, now: Instant, *, echo: bool = True, control: bool = True, address: VirtualAddress = ADDRESS
) -> None:
    """One round, answered."""
    reached.begin(now, ALL)
    for _, own, compared in reached.resolved(address.interface, address.address, MAC):
        if echo:
            reached.echoed(own)
        if control:
            reached.echoed(compared)


def rounds_without_echo(reached: Reached, since: Instant, *, control: bool | None = None) -> Instant:
    """Rounds until silence is believed; returns the time. `control`: the MAC address answers, and so does the owner."""
    now = since
    while now < since + PATIENCE + (MISSES + 1) * SOON:
        if control is None:
            reached.begin(now, ALL)
        else:
            answer(reached, now, echo=False, control=control)
        now += SOON
    return now


def test_nothing_is_known_before_the_first_answer():
    reached = following()
    assert reached.verdicts(0) == {"web": Verdict(7, Answers.PENDING)}
    reached.begin(0, ALL)
    assert reached.verdicts(0) == {"web": Verdict(7, Answers.PENDING)}


def test_an_echo_counts_at_once():
    reached = following()
    answer(reached, 5 * S)
    assert reached.verdicts(5 * S) == {"web": Verdict(7, Answers.YES)}


def test_what_answers_is_asked_rarely_what_is_unknown_soon():
    reached = following()
    assert reached.begin(0, ALL) == [target()]
    assert reached.begin(SOON - 1, ALL) == []
    answer(reached, SOON)
    reached.verdicts(SOON)
    assert reached.begin(2 * SOON, ALL) == [target()], "when that round began, nothing was known"
    for _, own, _ in reached.resolved("eth0", ADDRESS.address, MAC):
        reached.echoed(own)
    assert reached.begin(2 * SOON + OFTEN - 1, ALL) == []
    assert reached.begin(2 * SOON + OFTEN, ALL) == [target()]


def test_silence_is_believed_after_several_rounds_and_some_time():
    reached = following()
    answer(reached, 0)
    assert reached.verdicts(0)["web"].answers is Answers.YES
    reached.begin(S, ALL)
    for step in range(1, MISSES):
        reached.begin(S + step * SOON, ALL)
    assert reached.verdicts(S + MISSES * SOON)["web"].answers is Answers.YES, "a second of loss is no verdict"
    now = rounds_without_echo(reached, 2 * S)
    verdict = reached.verdicts(now)["web"]
    assert verdict == Verdict(7, Answers.NO, ("10.0.0.100 answers no ARP on eth0",))


def test_what_falls_silent_and_answers_again_is_reached_at_once():
    reached = following()
    now = rounds_without_echo(reached, 0)
    assert reached.verdicts(now)["web"].answers is Answers.NO
    answer(reached, now + OFTEN)
    assert reached.verdicts(now + OFTEN)["web"] == Verdict(7, Answers.YES)


def test_arp_alone_is_enough_where_the_owner_answers_no_echo_at_all():
    reached = following()
    now = rounds_without_echo(reached, 0, control=False)
    assert reached.verdicts(now)["web"].answers is Answers.YES


def test_arp_alone_is_not_enough_where_the_owner_answers_echoes_for_itself():
    reached = following()
    now = rounds_without_echo(reached, 0, control=True)
    silent = ("10.0.0.100 answers ARP, but no ICMP echo requests on eth0",)
    assert reached.verdicts(now)["web"] == Verdict(7, Answers.NO, silent)


def test_a_group_answers_only_with_all_of_its_addresses():
    reached = following(target(), target(OTHER))
    now = rounds_without_echo(reached, 0)
    answer(reached, now + OFTEN)
    now += OFTEN
    assert reached.verdicts(now)["web"] == Verdict(7, Answers.NO, ("10.0.0.101 answers no ARP on eth0",))


def test_another_epoch_begins_without_what_was_known():
    reached = following()
    answer(reached, 0)
    reached.verdicts(0)
    reached.follow([target(epoch=8)])
    assert reached.verdicts(0) == {"web": Verdict(8, Answers.PENDING)}


def test_the_same_epoch_keeps_what_was_known():
    reached = following()
    answer(reached, 0)
    reached.verdicts(0)
    reached.follow([target(), target(OTHER, group="db")])
    assert reached.verdicts(0)["web"] == Verdict(7, Answers.YES)


def test_what_is_followed_no_longer_has_no_verdict():
    reached = following()
    reached.follow([])
    assert reached.verdicts(0) == {}
    assert reached.begin(0, ALL) == []


def test_many_addresses_take_turns():
    addresses = [VirtualAddress(ip_address(f"10.0.1.{last}").packed, 24, "eth0") for last in range(50)]
    reached = following(*(target(each) for each in addresses))
    asked: list[Target] = []
    for step in range(5):
        now = step * MS
        some = reached.begin(now, 10)
        assert len(some) == 10
        asked += some
    assert {one.address for one in asked} == set(addresses)
    assert reached.begin(6 * MS, 10) == [], "each has had its turn"


def test_what_has_a_new_owner_goes_first():
    addresses = [VirtualAddress(ip_address(f"10.0.1.{last}").packed, 24, "eth0") for last in range(50)]
    reached = following(*(target(each) for each in addresses))
    reached.begin(0, 50)
    reached.follow([target(each, epoch=8 if each in addresses[40:] else 7) for each in addresses])
    asked = reached.begin(OFTEN, 2, new=10)
    assert {one.address for one in asked[:10]} == set(addresses[40:])
    assert len(asked) == 12


def test_a_late_echo_of_an_earlier_round_changes_nothing():
    reached = following()
    reached.begin(0, ALL)
    [(_, own, compared)] = reached.resolved("eth0", ADDRESS.address, MAC)
    reached.echoed(compared)
    now = rounds_without_echo(reached, SOON)
    assert reached.verdicts(now)["web"].answers is Answers.NO
    reached.echoed(own)
    assert reached.verdicts(now)["web"].answers is Answers.NO


def test_an_answer_that_nobody_asked_for_is_ignored():
    reached = following()
    assert reached.resolved("eth0", ADDRESS.address, MAC) == []
    assert reached.resolved("eth1", ADDRESS.address, MAC) == []
    reached.echoed(4711)
    assert reached.verdicts(0)["web"].answers is Answers.PENDING
