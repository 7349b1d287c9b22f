"""The verdict on a trial: what counts, what is only told; and what is read from the agents' logs for it."""

from __future__ import annotations

from haagent.core.units import MS, Instant, S
from haagent.lab.chaos import journal
from haagent.lab.chaos.journal import Tenure
from haagent.lab.chaos.verdict import Recovery, Verdict, answering_since, judge
from haagent.lab.probes import Kind
from haagent.lab.timeline import Answer, Timeline

VIPS = ("10.77.0.101", "fd77::101")
BOUND = 7 * S


def answers(node: str, since: int, until: int, vip: str = "") -> list[Answer]:
    """From `node`, every 2 ms, for one address or for both; in ms."""
    return [Answer(at * MS, each, node, Kind.UDP) for at in range(since, until, 2) for each in VIPS if vip in each]


def verdict(*those: list[Answer], recovery: Recovery | None = None, tenures: tuple[Tenure, ...] = ()) -> Verdict:
    timeline = Timeline([answer for each in those for answer in each], watched=(0, 3 * S))
    return judge(timeline, VIPS, recovery or recovered(2500), (), tenures)


def recovered(answering: int) -> Recovery:
    return Recovery(2500 * MS, BOUND, answering * MS, "n2", 2)


def test_one_after_the_other_passes_whatever_the_gap() -> None:
    found = verdict(answers("n1", 0, 1000), answers("n2", 2400, 3000))
    assert (found.failures, found.most, found.overlap) == ((), 1, 0)
    assert found.gap == 1402 * MS
    assert found.recovery.took == 0
    assert found.document()["passed"]


def test_one_answer_too_many_fails() -> None:
    """For one address only, by one millisecond."""
    found = verdict(answers("n1", 0, 1004), answers("n2", 1001, 3000, VIPS[1]), answers("n2", 1100, 3000, VIPS[0]))
    assert found.most == 2
    assert [overlap.vip for overlap in found.overlaps] == [VIPS[1]]
    assert found.failures == ("2 nodes answered at once, for 1 ms (n1 by wire UDP; n2 by wire UDP)",)
    assert not found.document()["passed"]


def test_an_old_owner_that_comes_back_beside_the_new_one_fails() -> None:
    found = verdict(answers("n1", 0, 1000), answers("n2", 1100, 3000), answers("n1", 2500, 2502))
    assert found.most == 2


def test_no_owner_in_time_fails() -> None:
    calm = answers("n2", 0, 3000)
    assert verdict(calm, recovery=Recovery(2500 * MS, BOUND, trouble="nobody owns\nmore")).failures == (
        "not recovered in time: nobody owns",
    )
    late = Recovery(0, BOUND, BOUND + MS, "n2", 2)
    assert verdict(calm, recovery=late).failures == ("not recovered in time: 7001 ms, bound 7000 ms",)


def test_two_masters_by_one_epoch_fail_even_if_nobody_saw_them_answer() -> None:
    shared = (Tenure("n1", 5, 0, None), Tenure("n2", 5, 10 * MS, None), Tenure("n2", 6, 20 * MS, None))
    assert verdict(answers("n2", 0, 3000), tenures=shared).failures == ("two nodes were MASTER by epoch 5",)


def test_answering_begins_with_the_last_address_and_after_the_last_silence() -> None:
    those = [
        *answers("n2", 0, 1000),
        *answers("n1", 1100, 1500),
        *answers("n2", 1600, 3000, VIPS[0]),
        *answers("n2", 1700, 2000, VIPS[1]),
        *answers("n2", 2040, 3000, VIPS[1]),
    ]
    timeline = Timeline(those, watched=(0, 3 * S))
    assert answering_since(timeline, VIPS, "n2", 1 * S) == 1700 * MS
    assert answering_since(timeline, VIPS, "n2", 2 * S) == 2 * S
    assert answering_since(timeline, VIPS, "n1", 1 * S) is None


NOON = 1_772_366_400 * S  # 2026-03-01T12:00:00Z
LOGS = {
    "n1": (
        "2026-03-01T12:00:01.500Z warning  lease lapsed: etcd does not answer late_ms=70\n"
        "2026-03-01T12:00:01.501Z info     web: MASTER -> BACKUP (the lease lapsed) group=web epoch=4\n"
        "2026-03-01T12:00:01.600Z warning  lease lapsed: etcd does not answer late_ms=3\n"
    ),
    "n2": (
        "2026-03-01T19:00:01.700Z info     web: BACKUP -> MASTER (the lease of n1 lapsed) group=web epoch=5\n"
        "2026-03-01T12:00:02.000Z info     db: BACKUP -> MASTER (for (web) and others) group=db epoch=9\n"
        "Traceback (most recent call last):\n"
        "2026-03-01T12:00:02.500Z info     haagent starts: 2 virtual routers\n"
        "2026-03-01T07:00:02.600Z critical the store ended\n"
    ),
}


def lines(near: Instant = 5 * S) -> tuple[journal.Line, ...]:
    return journal.read(LOGS, wall_less_boot=NOON - 4 * S, near=near)


def test_logs_by_clocks_that_were_stepped_are_in_order() -> None:
    assert [(line.node, line.at // MS, line.level) for line in lines()] == [
        ("n1", 5500, "warning"),
        ("n1", 5501, "info"),
        ("n1", 5600, "warning"),
        ("n2", 5700, "info"),
        ("n2", 6000, "info"),
        ("n2", 6000, "raw"),
        ("n2", 6500, "info"),
        ("n2", 6600, "critical"),
    ]


def test_who_was_master_and_who_could_not_say_its_end() -> None:
    first = Tenure("n1", 4, 4900 * MS, None)
    assert journal.tenures(lines(), "web", first) == (
        Tenure("n1", 4, 4900 * MS, 5501 * MS),
        Tenure("n2", 5, 5700 * MS, None),
    )


def test_what_etcd_remembers_of_the_trial() -> None:
    history = [
        {"node": "n1", "epoch": 1, "reason": "", "since": "2026-03-01T11:00:00.000+00:00"},
        {"node": "n3", "epoch": 2, "reason": "", "since": "2026-03-01T12:00:00.000+00:00"},
        {"node": "n2", "epoch": 3, "reason": "", "since": "2026-03-01T12:00:02.250+00:00"},
    ]
    found = journal.claims(history, wall_less_boot=NOON - 4 * S, since=5 * S)
    assert found == (journal.Claim("n3", 2, 4 * S), journal.Claim("n2", 3, 6250 * MS))


def test_stalls_and_what_no_agent_should_say() -> None:
    assert journal.stalls(lines()) == ("n1 70 ms",)
    assert [text.partition(":")[2].strip()[:9] for text in journal.sick(lines())] == ["Traceback", "the store"]
