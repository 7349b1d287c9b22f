"""A trial as an SVG: well-formed, alone, for light and dark, and with what matters in it."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from haagent.core.units import MS, S
from haagent.lab.chaos.deeds import Deed
from haagent.lab.chaos.journal import Claim, Tenure
from haagent.lab.chaos.picture import WIDTH, picture
from haagent.lab.chaos.plan import Action, Kind, Role
from haagent.lab.chaos.trial import Trial
from haagent.lab.chaos.verdict import judge
from haagent.lab.timeline import Timeline
from tests.unit.lab.test_chaos_verdict import VIPS, answers, recovered

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*, until: int, stranger: str = "n2", title: str = "Chaos") -> ET.Element:
    """n1 is stopped, and answers until then; another does from 2000 ms on."""
    those = [*answers("n1", 0, until), *answers(stranger, 2000, 3000)]
    timeline = Timeline(those, watched=(0, 3 * S))
    tenures = (Tenure("n1", 1, 0, None), Tenure("n2", 2, 2 * S, None))
    trial = Trial(
        began=100 * MS,
        deeds=(
            Deed(Action(Kind.STOP, Role.OWNER, 900 * MS, 1 * S), "n1", 1 * S, 2 * S),
            Deed(Action(Kind.ETCD_COMPACT, Role.OWNER, 2800 * MS, 0), "", 2900 * MS, 2900 * MS),
        ),
        timeline=timeline,
        lines=(),
        claims=(Claim("n1", 1, -5 * S), Claim("n2", 2, 2 * S)),
        verdict=judge(timeline, VIPS, recovered(2600), (), tenures),
    )
    text = picture(trial, title=title, subtitle="what came of it", vips=VIPS, nodes=("n1", "n2", "n3"))
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"href|src=|@import|url\((?!#)", text), "nothing from outside"
    return ET.fromstring(text)


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_a_trial_that_passed_has_no_red() -> None:
    root = drawn(until=1500)
    assert not [element for element in root.iter() if element.get("class") in {"bad", "overlap", "title bad"}]
    assert {"SIGSTOP, for 1000 ms", "etcd compacted", "n1 epoch 1", "502 ms", "all undone"} <= set(texts(root))


def test_two_that_answer_are_red_where_they_did() -> None:
    root = drawn(until=2500)
    bands = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "overlap"]
    assert len(bands) == len(VIPS)
    assert "n1 and n2 at once for 498.0 ms" in texts(root)
    assert "2 nodes answered at once, for 498 ms (n1 by wire UDP; n2 by wire UDP)" in texts(root)


def test_everything_is_within_the_picture() -> None:
    for rect in drawn(until=2500).iter(f"{SVG}rect"):
        if rect.get("class") != "paper":
            assert 0 <= float(rect.get("x", "")) <= WIDTH
            assert float(rect.get("x", "")) + float(rect.get("width", "")) <= WIDTH


def test_strangers_have_a_lane_and_names_are_escaped() -> None:
    root = drawn(until=1500, stranger="02:00:<&>", title="<b>")
    assert {"02:00:<&>", "<b>"} <= set(texts(root))
