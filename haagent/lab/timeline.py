"""From answers to ownership: who answered for an address from when to when. Pure.

A node's answers for an address, one after the other with less than `join` between them, are one *run*, from
the first answer to the last. `join` is 10 ms by default: five steps of the prober, so that a probe or two
that got lost does not split a run, and still shorter than any ownership worth the name. Under packet loss
choose a longer one: a run that is split hides an overlap in the split.

Two runs of different nodes *overlap* if they have an instant in common: with A at t1 and t3, and B at t2
between, A was answering after B had begun, however short it was. Touching counts.

An answer has a *path*: how the host was reached. Gaps are what the client has on its own `WIRE`; runs, and so overlaps,
are of all paths. On the others each kind of question comes more seldom, and so may the answers of a run (`join_paths`).

Resolution: an answer is dated to within a round trip, but a node is only asked every step. A run may have
begun a step before its first answer, and ended a step after its last; an overlap shorter than a step can be
missed, and gaps read up to two steps too long. For a path, read: every time that its turn comes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter
from typing import Final, NamedTuple

from haagent.core.units import MS, Duration, Instant
from haagent.lab.probes import Kind

DEFAULT_JOIN: Final[Duration] = 10 * MS


WIRE: Final = "wire"
"""The client's own path."""


class Answer(NamedTuple):
    """`node` answered for `vip` at an instant, to who asked by that path. A node is a host's name, or a stranger's MAC
    address.
    """

    at: Instant
    vip: str
    node: str
    kind: Kind
    path: str = WIRE


class Blind(NamedTuple):
    """The prober did not get to ask between these instants."""

    start: Instant
    end: Instant


@dataclass(frozen=True, slots=True)
class Run:
    """`node` answered for `vip` all along, from its `first` answer to its `last`, `answers` times."""

    vip: str
    node: str
    first: Instant
    last: Instant
    answers: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Both nodes were answering for `vip` from `start` to `end` (which may be the same instant)."""

    vip: str
    nodes: tuple[str, str]
    start: Instant
    end: Instant

    @property
    def length(self) -> Duration:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Gap:
    """Nobody answered for `vip` between the answer at `start` and the one at `end`.

    `start` is None if nobody had ever answered, `end` is None if nobody answered again. `blind` is how long
    in between the prober did not get to ask.
    """

    vip: str
    start: Instant | None
    end: Instant | None
    before: str | None
    after: str | None
    blind: Duration = 0

    @property
    def length(self) -> Duration | None:
        """None if it has no end, or no beginning."""
        return None if self.start is None or self.end is None else self.end - self.start


class Timeline:
    """Answers in any order, and what follows from them. It does not change; `between` gives a part of it."""

    def __init__(
        self,
        answers: Iterable[Answer],
        *,
        join: Duration = DEFAULT_JOIN,
        join_paths: Duration = 0,
        blind: Iterable[Blind] = (),
        watched: tuple[Instant, Instant] | None = None,
    ) -> None:
        """`watched` is from when to when somebody asked; if not given, from the first answer to the last."""
        self.join, self.join_paths = join, join_paths
        self.blind = tuple(sorted(blind))
        by_vip: defaultdict[str, list[Answer]] = defaultdict(list)
        for answer in answers:
            by_vip[answer.vip].append(answer)
        self._all = {vip: sorted(by_vip[vip]) for vip in sorted(by_vip)}
        self._answers = {vip: [each for each in those if each.path == WIRE] for vip, those in self._all.items()}
        self._runs = {vip: _runs(vip, those, join, max(join, join_paths)) for vip, those in self._all.items()}
        firsts = [those[0].at for those in self._all.values()]
        lasts = [those[-1].at for those in self._all.values()]
        self.watched = (min(firsts, default=0), max(lasts, default=0)) if watched is None else watched

    @property
    def vips(self) -> tuple[str, ...]:
        """The addresses that anybody answered for."""
        return tuple(self._all)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Everybody who answered for anything."""
        return tuple(sorted({run.node for run in self.runs()}))

    def answers(self, vip: str) -> tuple[Answer, ...]:
        """All answers for an address, by all paths, in order."""
        return tuple(self._all.get(vip, ()))

    def between(self, since: Instant, until: Instant) -> Timeline:
        """What was answered in [since, until]."""
        kept = (answer for those in self._all.values() for answer in _slice(those, since, until))
        blind = (stretch for stretch in self.blind if stretch.end >= since and stretch.start <= until)
        watched = (max(since, self.watched[0]), min(until, self.watched[1]))
        return Timeline(kept, join=self.join, join_paths=self.join_paths, blind=blind, watched=watched)

    def runs(self, vip: str | None = None) -> tuple[Run, ...]:
        """The runs for one address or for all, by their first answer."""
        if vip is not None:
            return tuple(self._runs.get(vip, ()))
        return tuple(sorted((run for those in self._runs.values() for run in those), key=_by_first))

    def overlaps(self, vip: str | None = None) -> tuple[Overlap, ...]:
        """Every pair of runs of different nodes, for the same address, that have an instant in common."""
        vips = self.vips if vip is None else (vip,)
        found = (overlap for name in vips for overlap in _overlaps(self.runs(name)))
        return tuple(sorted(found, key=attrgetter("start", "vip", "nodes")))

    def ways(self, overlap: Overlap) -> dict[str, tuple[str, ...]]:
        """How each of the two nodes was reached meanwhile: by path and kind of question.

        What came to it through another host is told only if there is nothing else.
        """
        found: dict[str, tuple[str, ...]] = {}
        for node in overlap.nodes:
            those = _slice(self._all.get(overlap.vip, []), overlap.start, overlap.end)
            own = [each for each in those if each.node == node]
            direct = [each for each in own if each.path == WIRE or each.path.startswith(f"{node} ")]
            found[node] = tuple(sorted({f"{each.path} {each.kind.name}" for each in direct or own}))
        return found

    def most_at_once(self, vip: str | None = None) -> int:
        """The most nodes that were answering for one address at one instant; 0 if nobody ever did."""
        vips = self.vips if vip is None else (vip,)
        return max((_most_at_once(self.runs(name)) for name in vips), default=0)

    def owners_at(self, vip: str, at: Instant) -> frozenset[str]:
        """Who was answering at an instant: nobody, one, or more than there should be."""
        return frozenset(run.node for run in self.runs(vip) if run.first <= at <= run.last)

    def first_answer_after(self, vip: str, at: Instant, node: str | None = None) -> Answer | None:
        """The first answer at or after an instant, by anybody or by one node."""
        those = self._answers.get(vip, [])
        for index in range(bisect_left(those, at, key=_at), len(those)):
            if node in (None, those[index].node):
                return those[index]
        return None

    def last_answer_before(self, vip: str, at: Instant, node: str | None = None) -> Answer | None:
        """The last answer before an instant, by anybody or by one node."""
        those = self._answers.get(vip, [])
        for index in range(bisect_left(those, at, key=_at) - 1, -1, -1):
            if node in (None, those[index].node):
                return those[index]
        return None

    def gaps(self, vip: str, *, at_least: Duration | None = None) -> tuple[Gap, ...]:
        """The times between two answers in which nobody answered, longer than `join` unless `at_least` is
        given.
        """
        shortest = self.join if at_least is None else at_least
        return tuple(
            self._gap(vip, a, b)
            for a, b in pairwise(self._answers.get(vip, []))
            if b.at - a.at >= shortest and b.at > a.at
        )

    def gap(self, vip: str, since: Instant, until: Instant | None = None) -> Gap:
        """The longest time without an answer that an event at `since` can have caused.

        Of the times between two answers, those that end at or after `since` and begin at or before `until`
        count; so the answer before the event begins the gap. The times before the first answer and after the
        last count if they were watched for longer than `join`, and then as longer than any other.
        """
        those = self._answers.get(vip, [])
        low = bisect_left(those, since, key=_at)
        high = len(those) if until is None else bisect_right(those, until, key=_at)
        # those[i] is edges[i + 1]: the gap that ends at those[low] has edges[low] as its beginning.
        edges: list[Answer | None] = [None, *those, None]
        around = [self._gap(vip, a, b) for a, b in pairwise(edges[low : max(low, high) + 2])]
        return max((gap for gap in around if self._watched_long(gap)), key=_severity, default=around[0])

    def _watched_long(self, gap: Gap) -> bool:
        start = self.watched[0] if gap.start is None else gap.start
        end = self.watched[1] if gap.end is None else gap.end
        return gap.length is not None or end - start > self.join

    def _gap(self, vip: str, before: Answer | None, after: Answer | None) -> Gap:
        start = None if before is None else before.at
        end = None if after is None else after.at
        blind = 0
        if start is not None and end is not None:
            overlapping = (min(end, b.end) - max(start, b.start) for b in self.blind)
            blind = sum(part for part in overlapping if part > 0)
        return Gap(vip, start, end, before and before.node, after and after.node, blind)


def _slice(answers: list[Answer], since: Instant, until: Instant) -> list[Answer]:
    return answers[bisect_left(answers, since, key=_at) : bisect_right(answers, until, key=_at)]


def _runs(vip: str, answers: list[Answer], join: Duration, join_paths: Duration) -> list[Run]:
    """Those of each path and kind of question, put together where they are close."""
    streams: defaultdict[tuple[str, str, Kind], list[Instant]] = defaultdict(list)
    for answer in answers:
        streams[answer.node, answer.path, answer.kind].append(answer.at)
    by_node: defaultdict[str, list[Run]] = defaultdict(list)
    for (node, path, _), times in streams.items():
        longest = join if path == WIRE else join_paths
        begin = 0
        for index in range(1, len(times) + 1):
            if index == len(times) or times[index] - times[index - 1] > longest:
                by_node[node].append(Run(vip, node, times[begin], times[index - 1], index - begin))
                begin = index
    return sorted((run for runs in by_node.values() for run in _together(runs, join)), key=_by_first)


def _together(runs: list[Run], join: Duration) -> Iterator[Run]:
    runs.sort(key=_by_first)
    whole = runs[0]
    for run in runs[1:]:
        if run.first - whole.last > join:
            yield whole
            whole = run
        else:
            whole = replace(whole, last=max(whole.last, run.last), answers=whole.answers + run.answers)
    yield whole


def _overlaps(runs: tuple[Run, ...]) -> Iterator[Overlap]:
    open_runs: list[Run] = []
    for run in runs:
        open_runs = [other for other in open_runs if other.last >= run.first]
        for other in open_runs:
            if other.node != run.node:
                nodes = (other.node, run.node)
                yield Overlap(run.vip, nodes, run.first, min(run.last, other.last))
        open_runs.append(run)


def _most_at_once(runs: tuple[Run, ...]) -> int:
    # Runs of one node never touch each other, so open runs are as many nodes.
    most, open_runs = 0, list[Run]()
    for run in runs:
        open_runs = [other for other in open_runs if other.last >= run.first]
        open_runs.append(run)
        most = max(most, len(open_runs))
    return most


def _severity(gap: Gap) -> tuple[bool, Duration]:
    return gap.length is None, gap.length or 0


def _at(answer: Answer) -> Instant:
    return answer.at


def _by_first(run: Run) -> tuple[Instant, str, str]:
    return run.first, run.vip, run.node
