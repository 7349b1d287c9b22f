"""What the chronicle knows after a story: since when the kernel answers, who did before, and which alarms stand."""

from __future__ import annotations

from haagent.core.model import (
    AddressesInstalled,
    Alarm,
    GateClosed,
    InstallAddresses,
    LeaseChanged,
    RemoveAddresses,
    Role,
    RoleChanged,
    RulesChanged,
)
from haagent.core.units import MS, NEVER, S
from haagent.runtime.chronicle import KEPT, Chronicle, Moment, Voice
from tests.unit.core.values import group, owner, owners, rules, watched

AHEAD = 1_000_000 * S
"""The wall clock less the other one."""


class Story:
    """A chronicle of node `a`, and the time."""

    def __init__(self) -> None:
        self.at = 0
        self.book = Chronicle("a", lambda: self.at + AHEAD)

    def answers(self, at: int, epoch: int = 1, serial: int = 1, name: str = "web") -> None:
        self.at = at
        self.book.done(InstallAddresses(name, serial, (), NEVER), at)
        self.book.heard(AddressesInstalled(name, serial), at)
        self.book.done(RoleChanged(name, Role.BACKUP, Role.MASTER, "why", epoch), at)

    def leaves(self, at: int, name: str = "web") -> None:
        self.at = at
        self.book.done(RemoveAddresses(name, 9), at)

    def recorded(self, at: int, node: str, epoch: int) -> None:
        self.at = at
        self.book.heard(watched(owners(at, owner(node, epoch=epoch))), at)


def moment(at: int) -> Moment:
    return Moment(at, at + AHEAD)


def test_it_answers_once_the_kernel_confirmed_the_newest_install():
    story = Story()
    book = story.book
    book.done(InstallAddresses("web", 1, (), NEVER), 10)
    book.done(InstallAddresses("web", 2, (), NEVER), 20)
    book.heard(AddressesInstalled("web", 1), 30)
    assert book.voice("web") == Voice()
    story.at = 40
    book.heard(AddressesInstalled("web", 2), 40)
    assert book.voice("web") == Voice(True, moment(40))
    story.at = 50
    book.heard(AddressesInstalled("web", 2), 50)  # other addresses since a reload: it never ceased
    assert book.voice("web").answers_since == moment(40)


def test_it_ceases_when_the_removal_begins():
    story = Story()
    story.answers(10)
    story.leaves(50)
    assert story.book.voice("web") == Voice(False, moment(10), moment(50))
    story.leaves(90)
    assert story.book.voice("web").silent_since == moment(50)


def test_a_lapse_that_was_noticed_late_counts_from_the_lapse():
    story = Story()
    story.answers(10 * MS)
    story.at = 80 * MS
    story.book.done(LeaseChanged(False, "no answer", late=30 * MS), 80 * MS)
    story.leaves(80 * MS)
    assert story.book.voice("web").silent_since == moment(50 * MS)
    assert [(turn.at, turn.held) for turn in story.book.leases] == [(moment(80 * MS), False)]


def test_a_gate_that_closed_ends_all_answers():
    story = Story()
    story.answers(10)
    story.answers(10, name="db")
    story.at = 20
    story.book.heard(GateClosed("stall"), 20)
    assert [voice.answering for voice in story.book.voices.values()] == [False, False]


def test_what_was_swept_at_the_start_never_answered():
    story = Story()
    story.leaves(5)
    assert story.book.voice("web") == Voice()


def test_the_gap_after_another_owner_is_known_once_its_silence_is():
    story = Story()
    story.recorded(10, "b", 4)
    story.recorded(100 * MS, "a", 5)
    story.answers(110 * MS, epoch=5)
    assert story.book.changes[-1].gap is None
    assert story.book.predecessor("web") == "b"
    story.book.learn_silence("web", "c", 90 * MS)
    assert story.book.changes[-1].gap is None
    story.book.learn_silence("web", "b", 97 * MS)
    assert story.book.changes[-1].gap == 13 * MS


def test_a_silence_of_an_earlier_time_is_no_gap():
    """`b` was killed while it owned: what it said of itself last is when it ceased to answer before that."""
    story = Story()
    story.recorded(10, "b", 4)
    story.answers(110 * S, epoch=5)
    story.book.learn_silence("web", "b", 20 * S, answered=50 * S)
    assert story.book.changes[-1].gap is None


def test_an_owner_of_whom_an_epoch_was_missed_is_not_taken_for_the_one_before():
    story = Story()
    story.recorded(10, "b", 4)
    story.answers(110 * MS, epoch=6)
    assert story.book.predecessor("web") == ""


def test_the_gap_after_ourselves_is_known_at_once():
    story = Story()
    story.answers(10 * MS, epoch=1)
    story.leaves(20 * MS)
    story.answers(45 * MS, epoch=2, serial=3)
    assert story.book.changes[-1].gap == 25 * MS


def test_alarms_stand_until_they_are_over():
    story = Story()
    story.at = 5
    story.book.done(Alarm("stranger", "web", "10.0.0.9", True), 5)
    assert [(one.kind, one.since) for one in story.book.alarms] == [("stranger", moment(5))]
    story.book.done(Alarm("stranger", "web", "10.0.0.9", False), 6)
    assert story.book.alarms == ()


def test_memory_has_an_end():
    story = Story()
    for number in range(3 * KEPT):
        story.book.done(RoleChanged("web", Role.BACKUP, Role.FAULT, str(number), 0), number)
    assert len(story.book.changes) == KEPT
    assert story.book.changes[-1].why == str(3 * KEPT - 1)
    story.answers(10, name="gone")
    story.leaves(20, name="gone")
    story.book.heard(RulesChanged(rules(group("web"))), 30)
    assert "gone" not in story.book.voices
