"""One trial: a plan done to a whole cluster, with the client watching, until the cluster is whole again; and a stage
on which many trials run one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from haagent.core.units import MS, Duration, Instant, S
from haagent.lab.chaos import journal
from haagent.lab.chaos.cluster import VIPS, ChaosCluster
from haagent.lab.chaos.deeds import TICK, Deed, Doer
from haagent.lab.chaos.journal import Claim, Line, Tenure, tenures
from haagent.lab.chaos.plan import Action, Kind, Peers
from haagent.lab.chaos.verdict import Recovery, Verdict, answering_since, judge
from haagent.lab.commands import LabError, now
from haagent.lab.lab import Lab
from haagent.lab.prober import Prober
from haagent.lab.timeline import DEFAULT_JOIN, Timeline
from haagent.lab.topology import Extra

EXTRAS: Final = (Extra.SECOND, Extra.ROUTED, Extra.CONTAINER)
"""By which a client could reach a host too."""
BEFORE: Final = 100 * MS
"""How much of what was before its beginning is looked at."""
SETTLE: Final = 300 * MS
"""How long the client goes on asking when all seems well."""
PATIENCE: Final = 15 * S
"""How much longer than its bound a recovery is waited for, to tell slow from never."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was done, what the client saw, what the agents logged, what etcd remembers, and the verdict."""

    began: Instant
    deeds: tuple[Deed, ...]
    timeline: Timeline
    lines: tuple[Line, ...]
    claims: tuple[Claim, ...]
    verdict: Verdict


class Stage:
    """A lab with a cluster that owns; a context manager. Trials may be run on it until one fails."""

    def __init__(
        self,
        *,
        ttl: Duration,
        members: int = 1,
        gate: str | None = None,
        peers: Peers = Peers.NONE,
        secured: bool = False,
    ) -> None:
        self.ttl = ttl
        self._gate = gate
        self._peers = peers
        self._secured = secured
        self._lab = Lab(hosts=3, etcd=members, extras=EXTRAS)
        self._cleanup = ExitStack()

    def __enter__(self) -> Stage:
        self._cleanup.enter_context(self._lab)
        try:
            self.cluster = ChaosCluster(self._lab, self.ttl, self._gate, self._peers, secured=self._secured)
            self.cluster.start()
            self.cluster.restore()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)

    @property
    def bound(self) -> Duration:
        """How soon after the healing there must be an owner: a process that starts, an election in etcd, a wait for
        what a lease may still hold, all on a machine that has better things to do.
        """
        return 2 * self.ttl + 5 * S

    def run(self, plan: Sequence[Action]) -> Trial:
        """Do the plan, heal, wait for one owner and for all candidates. LabError if the lab itself fails."""
        skip = {name: len(text) for name, text in self._logs().items()}
        wall_less_boot = time.time_ns() - now()
        prober = self._lab.observe(VIPS)
        for vip in VIPS:
            prober.wait_for_answer(vip, after=0)
        record = self.cluster.record()
        assert record is not None, "a whole cluster has an owner"
        began = now()
        first = Tenure(str(record["node"]), int(record["epoch"]), began - BEFORE, None)
        doer = Doer(self.cluster, lambda: self._owner(prober))
        doer.perform(plan)
        healed = doer.heal()
        recovery = self._recover(prober, doer, healed)
        prober.stop()
        # A node that loses packets is silent for some steps now and then, and is still the one that answers.
        lossy = any(action.kind is Kind.LOSS for action in plan)
        timeline = prober.timeline(began - BEFORE, join=2 * DEFAULT_JOIN if lossy else DEFAULT_JOIN)
        if recovery.owner is not None:
            since = answering_since(timeline, VIPS, recovery.owner, healed)
            recovery = _replaced(recovery, since)
        texts = {name: text[skip[name] :] for name, text in self._logs().items()}
        lines = journal.read(texts, wall_less_boot=wall_less_boot, near=began)
        verdict = judge(timeline, VIPS, recovery, lines, tenures(lines, self.cluster.group, first))
        claims = journal.claims(self._history(), wall_less_boot=wall_less_boot, since=began - BEFORE)
        return Trial(began, tuple(doer.deeds), timeline, lines, claims, verdict)

    def _recover(self, prober: Prober, doer: Doer, healed: Instant) -> Recovery:
        give_up = healed + self.bound + PATIENCE
        trouble = "nobody owns and answers"
        while now() < give_up:
            doer.supervise()
            time.sleep(TICK / S)
            nodes = self._answering(prober)
            if len(nodes) != 1:
                continue
            record = self._record()
            if record is None or record["clean"] or record["node"] not in nodes:
                trouble = f"{', '.join(nodes)} answers, but the record says {record}"
                continue
            try:
                self._wait_until_whole(doer)
            except LabError as error:
                return Recovery(healed, self.bound, trouble=str(error))
            time.sleep(SETTLE / S)
            # A restored record may name who has only what is left of its predecessor's lease.
            if self.cluster.epoch() == record["epoch"] and self._answering(prober) == {record["node"]}:
                return Recovery(healed, self.bound, owner=record["node"], epoch=record["epoch"])
        return Recovery(healed, self.bound, trouble=trouble)

    def _answering(self, prober: Prober) -> set[str]:
        """Who answers now for all addresses; nobody if one of them has no answer."""
        answers = [prober.latest(vip) for vip in VIPS]
        fresh = [answer.node for answer in answers if answer is not None and now() - answer.at < 50 * MS]
        return set(fresh) if len(fresh) == len(VIPS) else set()

    def _wait_until_whole(self, doer: Doer) -> None:
        def whole() -> bool:
            doer.supervise()  # a dead man's timer may strike later than the healing
            return self.cluster.whole()

        self.cluster.wait(whole, "all nodes are candidates, and one owns")

    def _record(self) -> dict[str, Any] | None:
        try:
            return self.cluster.record()
        except LabError:  # etcd may still be electing
            return None

    def _history(self) -> list[dict[str, Any]]:
        try:
            return self.cluster.history()
        except LabError:  # then the trial has failed by more than that
            return []

    def _owner(self, prober: Prober) -> str:
        answers = [answer for vip in VIPS if (answer := prober.latest(vip)) is not None]
        return max(answers).node

    def _logs(self) -> dict[str, str]:
        logs = {host.name: self._lab.logs / f"{host.name}-agent.log" for host in self._lab.hosts}
        return {name: log.read_text(errors="replace") for name, log in logs.items() if log.exists()}


def _replaced(recovery: Recovery, answering: Instant | None) -> Recovery:
    trouble = "" if answering is not None else f"{recovery.owner} owns, but does not answer for all"
    return Recovery(recovery.healed, recovery.bound, answering, recovery.owner, recovery.epoch, trouble)
