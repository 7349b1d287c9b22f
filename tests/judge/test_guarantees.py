"""The judge, by histories written by hand: what is right is not blamed, and each guarantee finds what breaks it.

And it stands alone: neither the product nor its simulator is imported by what decides.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.judge import __main__ as judge
from tests.judge.guarantees import GUARANTEES, judged
from tests.judge.history import MS, HistoryError, Line, of, read

HERE = Path(__file__).parent
DECIDE = ("__main__.py", "guarantees.py", "history.py", "records.py")
TTL = 1_000


def ms(at: float) -> int:
    return int(at * MS)


class Told:
    """A history that is told line by line, in milliseconds: h1 runs n1.1, h2 runs n2.1, h3 runs n3.1."""

    def __init__(self, **header: Any) -> None:
        self.lines: list[Line] = [{"line": "history", "version": 1, "gated": True, "guard_ms": 20, **header}]
        self.revision = 1
        for number in (1, 2, 3):
            self.boot(0, f"h{number}", f"n{number}", f"n{number}.1")

    def add(self, line: str, **fields: Any) -> Told:
        self.lines.append({"line": line, **fields})
        return self

    def boot(self, at: float, host: str, node: str, incarnation: str) -> Told:
        return self.add("boot", at=ms(at), host=host, node=node, incarnation=incarnation)

    def answers(self, host: str, since: float, until: float, **more: Any) -> Told:
        return self.add("answers", host=host, group="g", **{"from": ms(since), "to": ms(until)}, **more)

    def write(self, at: float, puts: Line, deletes: tuple[str, ...] = (), by: str = "") -> Told:
        self.revision += 1
        return self.add("write", at=ms(at), history=1, revision=self.revision, puts=puts, deletes=list(deletes), by=by)

    def renews(self, at: float, who: str, ttl: int = TTL) -> Told:
        return self.write(at, {f"leases/{who[:2]}": {"incarnation": who, "ttl_ms": ttl, "host": "", "round": 1}})

    def owns(self, at: float, who: str, epoch: int, by: str | None = None, **more: Any) -> Told:
        record = {
            "node": who[:2],
            "incarnation": who,
            "host": "",
            "ttl_ms": TTL,
            "epoch": epoch,
            "clean": False,
            "candidates": ["n1", "n2"],
            "machines": ["h1", "h2"],
            "failsafe_ms": 0,
            "reason": "",
            **more,
        }
        history = {"node": who[:2], "epoch": epoch}
        return self.write(at, {"owners/g": record, f"history/g/{epoch}": history}, by=who if by is None else by)

    def asks(self, at: float, who: str, kind: str, epoch: int, to: str = "", seen: int | None = None) -> Told:
        host, node = f"h{who[1]}", who[:2]
        return self.add(
            "ask",
            at=ms(at),
            host=host,
            node=node,
            incarnation=who,
            kind=kind,
            group="g",
            epoch=epoch,
            to=to or node,
            seen=self.revision if seen is None else seen,
            history=1,
        )

    def promises(self, at: float, who: str, to: str, epoch: int, number: int = 1) -> Told:
        return self.add(
            "promise",
            at=ms(at),
            host=f"h{who[1]}",
            node=who,
            machine=f"h{who[1]}",
            to=to,
            group="g",
            epoch=epoch,
            ttl_ms=TTL,
            round=number,
        )

    def fault(self, kind: str, host: str, since: float, until: float) -> Told:
        return self.add("fault", kind=kind, host=host, **{"from": ms(since), "to": ms(until)})

    def found(self) -> set[str]:
        return set(judged(of(self.lines)))


def failover(claimed: float = 4_060, silent: float = 3_970, orders: Any = None, shown: int = 0, **header: Any) -> Told:
    """n1 owns from 2 s on and renews until 3 s; n2 claims, and answers 10 ms later.

    There may be `orders`, of which n2 has been shown what is but `shown` revisions old.
    """
    told = Told(**header).renews(1_900, "n1.1").owns(2_000, "n1.1", 1)
    for at in (2_000, 2_250, 2_500, 2_750, 3_000):
        told.renews(at, "n1.1").renews(at, "n2.1")
    told.renews(3_900, "n2.1").renews(4_900, "n2.1")
    if orders:
        told.write(3_950, {"orders/cluster": orders})
    told.asks(claimed - 1, "n2.1", "claim", 2, seen=told.revision - shown)
    told.owns(claimed, "n2.1", 2)
    return told.answers("h1", 2_010, silent).answers("h2", claimed + 10, 5_500)


def handover(silent: float = 2_500, written: float = 2_505, begins: float = 2_510) -> Told:
    """n1 owns, is silent, and then names n2, which renews as well and answers."""
    told = Told().renews(1_900, "n1.1").owns(2_000, "n1.1", 1).renews(2_400, "n1.1").renews(2_400, "n2.1")
    told.owns(written, "n2.1", 2, by="n1.1", reason="handover from n1")
    return told.answers("h1", 2_010, silent).answers("h2", begins, 3_300)


def carried(**record: Any) -> Told:
    """etcd shows nothing of n1 after 3 s; n2 promises, four times a ttl, until 4.5 s; n3 is no candidate."""
    told = Told().renews(1_900, "n1.1").owns(2_000, "n1.1", 1, failsafe_ms=10_000, **record).renews(3_000, "n1.1")
    for number, at in enumerate((3_000, 3_250, 3_500, 3_750, 4_000, 4_250, 4_500)):
        told.promises(at, "n2", "n1.1", 1, number)
    return told.answers("h1", 2_010, 5_470)


GOOD: dict[str, Callable[[], Told]] = {
    "a failover": failover,
    "a handover": handover,
    "carried by promises": carried,
    "a release, and a claim at once": lambda: (
        Told()
        .renews(1_900, "n1.1")
        .owns(2_000, "n1.1", 1)
        .answers("h1", 2_010, 2_500)
        .owns(2_505, "n1.1", 1, clean=True)
        .renews(2_400, "n2.1")
        .owns(2_510, "n2.1", 2)
        .answers("h2", 2_520, 3_300)
    ),
    "restarted, and claimed at once where it was": lambda: (
        failover(claimed=4_060).boot(4_500, "h2", "n2", "n2.2").renews(4_550, "n2.2").owns(4_600, "n2.2", 3)
    ),
    "a clock that is one per mill too slow": lambda: failover(silent=3_975),
    "a promise is over by a release": lambda: (
        carried().owns(5_480, "n1.1", 1, clean=True, failsafe_ms=10_000).renews(5_400, "n2.1").owns(5_490, "n2.1", 2)
    ),
    "unsure times": lambda: failover(silent=4_080, within=ms(150)),
    "a pause excuses, where there is no gate": lambda: failover(silent=4_500, gated=False).fault(
        "pause", "h1", 3_900, 4_600
    ),
    "a crash, and an owner in time": lambda: failover(fair_from=0, until=ms(6_000), silent=3_900).fault(
        "crash", "h1", 3_900, 3_900
    ),
    "fenced before": lambda: failover(fencing=True).add("fenced", at=ms(4_050), host="h2", incarnation="n1.1"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_not_blamed(name: str):
    assert judged(of(GOOD[name]().lines)) == {}


BAD: dict[str, tuple[str, Callable[[], Told]]] = {
    "both answer": ("one_owner_on_the_wire", lambda: failover(silent=4_100)),
    "both answer in a handover": ("one_owner_on_the_wire", lambda: handover(silent=2_520)),
    "a third answers": ("only_the_named_begins_to_answer", lambda: failover().answers("h3", 5_600, 5_700)),
    "nobody is named": ("only_the_named_begins_to_answer", lambda: handover(written=2_530, begins=2_510)),
    "claimed while the old owner answers": ("silent_when_another_is_named", lambda: failover(silent=4_065)),
    "handed over while answering": ("silent_when_another_is_named", lambda: handover(silent=2_507)),
    "released while answering": (
        "silent_when_another_is_named",
        lambda: (
            Told()
            .renews(1_900, "n1.1")
            .owns(2_000, "n1.1", 1)
            .answers("h1", 2_010, 2_500)
            .owns(2_490, "n1.1", 1, clean=True)
        ),
    ),
    "a gate that stays open": ("answers_only_by_right", lambda: failover(silent=4_050)),
    "a ttl that got shorter": (
        "answers_only_by_right",
        lambda: (
            Told()
            .renews(1_900, "n1.1", 3_000)
            .owns(2_000, "n1.1", 1)
            .renews(2_100, "n1.1", 300)
            .answers("h1", 2_010, 2_900)
        ),
    ),
    "a promise is missing": (
        "answers_only_by_right",
        lambda: carried(candidates=["n1", "n2", "n3"], machines=["h1", "h2", "h3"]),
    ),
    "another machine of that name promised": (
        "answers_only_by_right",
        lambda: carried(machines=["h1", "another"]),
    ),
    "promises carry for too long": ("answers_only_by_right", lambda: carried().answers("h1", 2_010, 5_600)),
    "an epoch is used twice": ("epochs_grow", lambda: failover().owns(5_450, "n3.1", 2, by="n2.1", reason="handover")),
    "an epoch that fell": ("epochs_grow", lambda: failover().owns(5_450, "n2.1", 1)),
    "claimed too early": ("claims_wait_for_the_patience", lambda: failover(claimed=4_020)),
    "no record, and claimed at once": (
        "claims_wait_for_the_patience",
        lambda: Told().renews(100, "n1.1").owns(200, "n1.1", 1),
    ),
    "deleted, and claimed at once": (
        "claims_wait_for_the_patience",
        lambda: (
            Told()
            .renews(1_900, "n1.1")
            .owns(2_000, "n1.1", 1)
            .write(2_500, {}, deletes=("owners/g",))
            .owns(2_600, "n2.1", 2)
        ),
    ),
    "restored, and believed": (
        "claims_wait_for_the_patience",
        lambda: (
            Told()
            .renews(1_900, "n1.1")
            .owns(2_000, "n1.1", 1)
            .add("begins", at=ms(2_500), history=2, keys={})
            .boot(2_600, "h2", "n2", "n2.2")
            .owns(2_700, "n2.2", 2)
        ),
    ),
    "who is no candidate waits no longer": (
        "claims_wait_for_the_patience",
        lambda: carried().renews(5_900, "n3.1").owns(6_000, "n3.1", 2),
    ),
    "a promise is broken": (
        "promises_are_kept",
        lambda: carried().renews(5_400, "n2.1").asks(5_480, "n2.1", "claim", 2).owns(5_481, "n2.1", 2),
    ),
    "advertised by another": (
        "adverts_only_from_the_named",
        lambda: failover().add("advert", at=ms(5_400), host="h1", group="g"),
    ),
    "not fenced": ("claims_wait_for_the_fencing", lambda: failover(fencing=True)),
    "fenced to another": (
        "claims_wait_for_the_fencing",
        lambda: failover(fencing=True).add("fenced", at=ms(4_050), host="h3", incarnation="n1.1"),
    ),
    "claimed in a pause": (
        "orders_are_obeyed",
        lambda: failover(orders={"paused": "anna", "drained": []}),
    ),
    "claimed while drained": (
        "orders_are_obeyed",
        lambda: failover(orders={"paused": "", "drained": ["n2"]}),
    ),
    "handed over to who is drained": (
        "orders_are_obeyed",
        lambda: (
            handover()
            .write(2_450, {"orders/cluster": {"paused": "", "drained": ["n2"]}})
            .asks(2_504, "n1.1", "release", 2, to="n2")
        ),
    ),
    "nobody follows a crash": (
        "an_owner_after_a_crash",
        lambda: failover(claimed=5_250, fair_from=0, until=ms(7_000), silent=3_900).fault("crash", "h1", 3_900, 3_900),
    ),
    "nobody owns in the end": (
        "an_owner_when_all_is_well",
        lambda: failover(recovers_ms=2_000, fair_from=0, until=ms(9_000), wanted=["g"]),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_found(name: str):
    guarantee, told = BAD[name]
    assert guarantee in told().found()


def test_each_guarantee_has_a_history_that_breaks_it():
    assert {guarantee for guarantee, _ in BAD.values()} == set(GUARANTEES)


def test_an_order_that_was_not_shown_yet_binds_nobody():
    assert failover(orders={"paused": "anna", "drained": []}, shown=1).found() == set()


def test_other_faults_at_the_time_of_a_crash_leave_it_undecided():
    told = failover(claimed=5_250, fair_from=0, until=ms(7_000), silent=3_900).fault("crash", "h1", 3_900, 3_900)
    assert told.fault("cut", "h2", 4_000, 5_000).found() == set()


@pytest.mark.parametrize("name", DECIDE)
def test_what_decides_imports_nothing_of_what_it_judges(name: str):
    roots: set[str] = set()
    for node in ast.walk(ast.parse((HERE / name).read_text())):
        if isinstance(node, ast.ImportFrom):
            roots.add(node.module or "")
        elif isinstance(node, ast.Import):
            roots |= {alias.name for alias in node.names}
    own = {f"tests.judge.{one.removesuffix('.py')}" for one in DECIDE}
    assert all(root in own or root.partition(".")[0] in sys.stdlib_module_names for root in roots), roots


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "line 1: no JSON"),
        ('{"line": "story"}', "`line` must be one of history, boot"),
        ('{"line": "answers", "host": "h1"}', "line 1: answers needs group, from, to"),
        ('{"line": "boot", "at": 0, "host": "h", "node": "n", "incarnation": "i"}', "there are 0"),
    ],
)
def test_what_is_no_history_is_refused(text: str, says: str):
    with pytest.raises(HistoryError, match=says.replace("{", r"\{").replace("`", "`")):
        read([text])


def test_files_are_judged_and_what_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("\n".join(json.dumps(line) for line in failover().lines))
    bad.write_text("\n".join(json.dumps(line) for line in failover(silent=4_100).lines))
    assert judge.main([str(good)]) == 0
    assert judge.main([str(good), str(bad)]) == 1
    assert "h1 and h2 answer at 4070.000 ms, for 30.000 ms" in capsys.readouterr().out
