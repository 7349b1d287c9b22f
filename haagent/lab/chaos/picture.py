"""A trial as a picture: one SVG that needs nothing from outside, light or dark as its reader likes. Pure.

From top to bottom: what was done and when; who was MASTER, by which epoch; for each address, which node answered.
What must not be (two that answer at once) is red, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from haagent.core.units import MS, Duration, Instant, S
from haagent.lab.chaos.deeds import Deed
from haagent.lab.chaos.trial import Trial
from haagent.lab.timeline import Gap, Overlap, Run

WIDTH: Final = 1240
LEFT: Final = 132
RIGHT: Final = 28
ROW: Final = 22
BAR: Final = 14
LETTER: Final = 7
SHOWN_GAP: Final[Duration] = 40 * MS
"""A shorter silence is drawn, but not measured."""


def picture(trial: Trial, *, title: str, subtitle: str, vips: Sequence[str], nodes: Sequence[str]) -> str:
    """The SVG's text. `nodes` are the hosts; at most four have colours of their own."""
    return _Picture(trial, nodes).drawn(title, subtitle, vips)


class _Picture:
    def __init__(self, trial: Trial, nodes: Sequence[str]) -> None:
        self._trial = trial
        self._nodes = tuple(nodes)
        self._colours = {node: f"n{index % 4}" for index, node in enumerate(nodes)}
        self._start, self._end = trial.timeline.watched
        self._parts: list[str] = []
        self._y = 0

    def drawn(self, title: str, subtitle: str, vips: Sequence[str]) -> str:
        verdict = self._trial.verdict
        self._text(LEFT, 34, title, "title bad" if verdict.failures else "title")
        self._text(LEFT, 56, subtitle, "small")
        if verdict.failures:
            self._text(LEFT, 76, "; ".join(verdict.failures), "bad")
        self._y = top = 104
        axis = len(self._parts)
        self._faults()
        self._masters()
        for vip in vips:
            self._address(vip)
        bottom = self._y + 4
        self._parts[axis:axis] = self._axis(top, bottom)
        self._moments(top, bottom)
        self._legend(bottom + 30)
        return _svg("\n".join(self._parts), bottom + 50, f"{title}. {subtitle}")

    def _x(self, at: Instant) -> float:
        share = (min(max(at, self._start), self._end) - self._start) / max(self._end - self._start, 1)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    def _since(self, at: Instant) -> str:
        return f"{(at - self._trial.began) / S:.3f} s"

    # --- the parts

    def _axis(self, top: int, bottom: int) -> list[str]:
        began, lines = self._trial.began, list[str]()
        step = S if self._end - began < 20 * S else 5 * S
        for at in range(began, self._end, step):
            x = self._x(at)
            lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top - 6}" y2="{bottom}"/>')
            lines.append(f'<text class="tick" x="{x}" y="{top - 11}">{(at - began) // S} s</text>')
        return lines

    def _heading(self, text: str) -> None:
        self._y += 14
        self._parts.append(f'<line class="rule" x1="16" x2="{WIDTH - RIGHT}" y1="{self._y - 3}" y2="{self._y - 3}"/>')
        self._y += 12
        self._text(16, self._y, text, "head")
        self._y += 8

    def _faults(self) -> None:
        self._y -= 14
        self._heading("faults")
        if not self._trial.deeds:
            self._text(LEFT, self._y + BAR - 3, "none", "small")
            self._y += ROW
        for deed in self._trial.deeds:
            self._fault(deed)

    def _fault(self, deed: Deed) -> None:
        end = deed.ended if deed.ended is not None else self._end
        label = f"{deed.target} {deed.action}".strip()
        lasted = f", for {(end - deed.began) / MS:.0f} ms" if deed.action.lasts else ""
        told = f"{label} at {self._since(deed.began)}{lasted}"
        x, width = self._x(deed.began), max(self._x(end) - self._x(deed.began), 3)
        self._bar("fault", x, width, told)
        self._text(16, self._y + BAR - 3, deed.target or ("machine" if "etcd" not in label else "etcd"), "name")
        text = f"{deed.action}{lasted}"
        room = LETTER * len(text)
        if x + width + room < WIDTH - RIGHT:
            self._text(x + width + 6, self._y + BAR - 3, text, "label")
        elif width > room:
            self._text(x + 5, self._y + BAR - 3, text, "label")
        else:
            self._text(x - 6, self._y + BAR - 3, text, "label end")
        self._y += ROW

    def _masters(self) -> None:
        self._heading("owner by the record in etcd, and MASTER by each node's own log")
        tenures = self._trial.verdict.tenures
        self._text(16, self._y + BAR - 3, "record", "name")
        claims = self._trial.claims
        for claim, after in zip(claims, (*claims[1:], None), strict=False):
            end = self._end if after is None else after.at
            self._owned(claim.node, claim.at, end, f"the record names {claim.node}, epoch {claim.epoch}")
            self._label(claim.at, end, f"{claim.node} epoch {claim.epoch}")
        self._y += ROW
        for node in self._nodes:
            self._text(16, self._y + BAR - 3, node, "name")
            for tenure in tenures:
                if tenure.node != node:
                    continue
                # Who was killed or stopped never wrote its end; the next epoch's beginning is the latest it can be.
                later = [other.start for other in tenures if other.epoch > tenure.epoch]
                end = tenure.end if tenure.end is not None else min(later, default=self._end)
                self._owned(node, tenure.start, end, f"{node} is MASTER by epoch {tenure.epoch}")
                if tenure.end is None and later:
                    self._bar("unsaid", self._x(tenure.start), self._x(end) - self._x(tenure.start), "its end unsaid")
                else:
                    self._label(tenure.start, end, "MASTER")
            self._y += ROW

    def _owned(self, node: str, start: Instant, end: Instant, told: str) -> None:
        x, width = self._x(start), max(self._x(end) - self._x(start), 2)
        self._bar(self._colours.get(node, "stranger"), x, width, f"{told}, {self._since(start)} to {self._since(end)}")

    def _label(self, start: Instant, end: Instant, label: str) -> None:
        if self._x(end) - self._x(start) > LETTER * len(label):
            self._text(self._x(start) + 4, self._y + BAR - 3, label, "inside")

    def _address(self, vip: str) -> None:
        timeline = self._trial.timeline
        self._heading(f"{vip}: who answered")
        runs, overlaps = timeline.runs(vip), timeline.overlaps(vip)
        rows = (*self._nodes, *sorted({run.node for run in runs} - set(self._nodes)))
        for overlap in overlaps:
            self._overlap(overlap, len(rows) * ROW)
        for node in rows:
            self._text(16, self._y + BAR - 3, node, "name")
            for run in runs:
                if run.node == node:
                    self._run(run)
            self._y += ROW
        if gaps := timeline.gaps(vip, at_least=SHOWN_GAP):
            self._text(16, self._y + BAR - 3, "nobody", "name")
            for gap in gaps:
                self._gap(gap)
            self._y += ROW
        if overlaps:
            longest = max(overlaps, key=lambda overlap: overlap.length)
            told = f"{' and '.join(longest.nodes)} at once for {longest.length / MS:.1f} ms"
            more = f", and {len(overlaps) - 1} times more" if len(overlaps) > 1 else ""
            self._text(LEFT, self._y + BAR - 3, told + more, "bad")
            self._y += ROW

    def _overlap(self, overlap: Overlap, height: int) -> None:
        x, width = self._x(overlap.start), max(self._x(overlap.end) - self._x(overlap.start), 2)
        told = f"{' and '.join(overlap.nodes)} at once for {overlap.length / MS:.1f} ms"
        self._parts.append(
            f'<rect class="overlap" x="{x}" y="{self._y - 4}" width="{round(width, 2)}" height="{height}">'
            f"<title>{escape(told)}</title></rect>"
        )

    def _run(self, run: Run) -> None:
        x, width = self._x(run.first), max(self._x(run.last) - self._x(run.first), 1)
        told = f"{run.node} from {self._since(run.first)} to {self._since(run.last)}, {run.answers} answers"
        self._bar(self._colours.get(run.node, "stranger"), x, width, told)

    def _gap(self, gap: Gap) -> None:
        assert gap.start is not None, "a gap between two answers"
        assert gap.end is not None, "a gap between two answers"
        x, width, y = self._x(gap.start), self._x(gap.end) - self._x(gap.start), self._y + BAR / 2
        told = f"nobody for {(gap.end - gap.start) / MS:.0f} ms"
        self._parts.append(
            f'<path class="gap" d="M{x} {y - 4}v8M{x} {y}h{width}M{x + width} {y - 4}v8"><title>{told}</title></path>'
        )
        text = f"{(gap.end - gap.start) / MS:.0f} ms"
        fits = x + width + LETTER * len(text) < WIDTH - RIGHT
        self._text(x + width + 6 if fits else x - 6, y + 4, text, "small" if fits else "small end")

    def _moments(self, top: int, bottom: int) -> None:
        recovery = self._trial.verdict.recovery
        self._moment(recovery.healed, "all undone", top, bottom)
        if recovery.answering is not None and recovery.answering > recovery.healed:
            self._moment(recovery.answering, "", top, bottom)

    def _moment(self, at: Instant, what: str, top: int, bottom: int) -> None:
        x = self._x(at)
        self._parts.append(f'<line class="moment" x1="{x}" x2="{x}" y1="{top - 6}" y2="{bottom}"/>')
        self._text(x - 5, top + 8, what, "small end")

    def _legend(self, y: int) -> None:
        text = (
            "Answers by ARP, ND, ICMP, ICMPv6 and UDP, asked every 2 ms. Hatched: the node did not log its end, for it "
            "was stopped or killed; drawn until the next epoch. Hover for times."
        )
        self._text(16, y, text, "small")

    # --- the pieces

    def _bar(self, kind: str, x: float, width: float, told: str) -> None:
        self._parts.append(
            f'<rect class="{kind}" x="{x}" y="{self._y}" width="{round(width, 2)}" height="{BAR}" rx="2">'
            f"<title>{escape(told)}</title></rect>"
        )

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self._parts.append(f'<text class="{kind}" x="{round(x, 1)}" y="{round(y, 1)}">{escape(text)}</text>')


def _svg(content: str, height: int, told: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<title>{escape(told)}</title>\n<style>{_STYLE}</style>\n{_HATCH}\n'
        f'<rect class="paper" width="100%" height="100%"/>\n{content}\n</svg>\n'
    )


def _rules(colours: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{selector}{{{rule}}}" for selector, rule in colours)


_LIGHT: Final = _rules(
    (
        (".paper", "fill:#fff"),
        ("text", "fill:#1f2328"),
        (".small,.tick,.name", "fill:#59636e"),
        (".grid", "stroke:#e4e8ec"),
        (".rule", "stroke:#c9d0d7"),
        (".moment", "stroke:#59636e"),
        (".fault", "fill:#c3cbd3"),
        (".gap", "stroke:#59636e"),
        (".n0", "fill:#2f74c8"),
        (".n1", "fill:#c77700"),
        (".n2", "fill:#1b8a5a"),
        (".n3", "fill:#7a52b3"),
        (".stranger", "fill:#1f2328"),
        (".inside", "fill:#fff"),
        (".overlap", "fill:#d1242f"),
        (".bad", "fill:#c4141f"),
        ("#hatch path", "stroke:#fff"),
    )
)
_DARK: Final = _rules(
    (
        (".paper", "fill:#14181d"),
        ("text", "fill:#e6edf3"),
        (".small,.tick,.name", "fill:#9aa4af"),
        (".grid", "stroke:#262c34"),
        (".rule", "stroke:#3a424c"),
        (".moment", "stroke:#9aa4af"),
        (".fault", "fill:#4b5661"),
        (".gap", "stroke:#9aa4af"),
        (".n0", "fill:#6aa7f0"),
        (".n1", "fill:#eaa445"),
        (".n2", "fill:#4fc08d"),
        (".n3", "fill:#b08ae6"),
        (".stranger", "fill:#e6edf3"),
        (".inside", "fill:#14181d"),
        (".overlap", "fill:#ff5c5c"),
        (".bad", "fill:#ff7b72"),
        ("#hatch path", "stroke:#14181d"),
    )
)
_STYLE: Final = (
    "text{font:12px ui-sans-serif,system-ui,'DejaVu Sans',sans-serif}"
    ".title{font-size:18px;font-weight:600}.head{font-weight:600}.tick{text-anchor:middle;font-size:11px}"
    ".small{font-size:11px}.inside{font-size:10px}.end{text-anchor:end}.overlap{opacity:.45}"
    ".unsaid{fill:url(#hatch);opacity:.45}#hatch path{stroke-width:2.5}"
    ".moment{stroke-dasharray:4 3}.gap{fill:none;stroke-width:1.2}"
    f"{_LIGHT}@media (prefers-color-scheme:dark){{{_DARK}}}"
)
_HATCH: Final = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M1 0v6"/></pattern></defs>'
)
