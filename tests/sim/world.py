"""A cluster in virtual time: hosts, the network between them, etcd, and one heap of what happens next.

Everything is drawn from one seeded generator, in the order of events: the same seed gives the same world, to the
nanosecond. Times here are real time since the beginning; each host has a clock of its own.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

from haagent.core.model import (
    AdvertReceived,
    Commit,
    Committed,
    Event,
    Listed,
    Look,
    Refused,
    Rules,
    SendAdvert,
    Unanswered,
    Watched,
)
from haagent.core.records import Key, Revision, Seen
from haagent.core.units import MS, NEVER, Duration, Instant
from tests.sim.checker import Checker
from tests.sim.etcd import NO_SESSION, Etcd, Session
from tests.sim.host import MILLION, Agent, Host
from tests.sim.peers import Peers
from tests.sim.trace import condensed

TRACE_KEPT = 6000


class World:
    """The heap and what it moves. `note` and `remark` cost nothing unless `tracing`."""

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.random = self.rng.random
        self.now: Instant = 0
        self.tracing = tracing
        self.lines: deque[str] = deque(maxlen=TRACE_KEPT)
        self.totals: Counter[str] = Counter()
        self.hosts: list[Host] = []
        self.etcd = Etcd(self._changed)
        self.gated = False
        self.restart: Callable[[Agent], None] = _never_again
        self.etcd_down_until: Instant = 0
        self.etcd_frozen = False
        self.lateness: Duration = 1 * MS
        self.session_ttl: Duration = 5_000 * MS
        self.net_cut: dict[tuple[str, str], Instant] = {}
        self.net_loss = 0.0
        self.net_delay: Duration = 1 * MS
        self.compacts = 0.5
        self.forgetful = False
        self.heals_at: Instant = NEVER
        self.peers = Peers(self)
        self.checker = Checker(self)
        self._heap: list[tuple[Instant, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._sessions: dict[Session, list[Any]] = {}
        self._last_session = 0
        self._watchers: list[Agent] = []

    # --- time

    def at(self, when: Instant, call: Callable[..., None], *arguments: Any) -> None:
        """Do it then; what is due at the same instant happens in the order in which it was asked for."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, call, arguments))

    def tell(self, agent: Agent, event: Event, delay: Duration) -> None:
        """The event reaches the agent a little later."""
        self.at(self.now + delay, agent.deliver, event)

    def run(self, until: Instant) -> None:
        """Let everything up to and including `until` happen."""
        before = self._count
        self.go_on(until)
        self.totals["events"] += self._count - before

    def go_on(self, until: Instant) -> None:
        """The same from within an event: somebody stands still in the midst of one. Others may go on for longer."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            self.now, _, call, arguments = pop(heap)
            call(*arguments)
        self.now = max(self.now, until)

    def note(self, agent: Agent, event: object, effects: tuple[object, ...]) -> None:
        """One step of an agent, for the trace."""
        if self.tracing:
            done = "; ".join(condensed(effect) for effect in effects)
            self.lines.append(
                f"{self.now / MS:11.3f} {agent!r:8} {condensed(event)}" + (f"  =>  {done}" if done else "")
            )

    def remark(self, what: str, about: str) -> None:
        """Something that happened to the world, for the trace and the totals."""
        self.totals[what] += 1
        if self.tracing:
            self.lines.append(f"{self.now / MS:11.3f} --- {what}: {about}")

    # --- agents

    def boot(self, host: Host, rules: Rules) -> Agent:
        """Start an agent on a host where none runs."""
        assert host.agent is None
        agent = host.agent = Agent(self, host, rules)
        host.last = rules
        self._watchers.append(agent)
        self.remark("boot", f"{agent} {rules.incarnation}")
        agent.start()
        return agent

    def crash(self, agent: Agent) -> None:
        """kill -9: its memory is gone, its kernel goes on until the address lifetimes end."""
        self.remark("crash", f"{agent}")
        agent.die()
        self._watchers.remove(agent)
        agent.host.kernel.abandoned(agent, "crashed")

    def kill(self, agent: Agent) -> None:
        """kill -9 by a timer; the service manager starts another one."""
        self.crash(agent)
        self.restart(agent)

    def resigned(self, agent: Agent) -> None:
        """The agent gave everything up and ended; it revoked its session if it could."""
        self.remark("resign", f"{agent}")
        session = agent.session
        agent.die()
        self._watchers.remove(agent)
        if self.reaches(agent) and session:
            self.at(self.now + 1 * MS, self._revoke, session)

    # --- etcd

    def reaches(self, agent: Agent) -> bool:
        """Whether the agent and etcd can talk now."""
        link, now = agent.host.link, self.now
        return now >= self.etcd_down_until and now >= link.asking_cut_until and now >= link.answers_cut_until

    def ask(self, agent: Agent, effect: Commit | Look) -> None:
        """Send a question on its way. It is answered exactly once, in time or by `Unanswered`; it may be done later."""
        link, now = agent.host.link, self.now
        deadline = now + effect.patience * MILLION // agent.host.rate
        arrives, answer_at = now + self._delay(link.asking), 0
        told = False
        if link.traps and effect.ask.kind.value in link.traps:
            how, until = link.traps.pop(effect.ask.kind.value)
            self.remark("trap", f"{agent} {effect.ask.kind} {how} {until / MS:.3f}")
            if how == "answer":
                answer_at = until
            else:
                arrives = max(arrives, until)
            if how == "late":
                told = True
                deadline = min(deadline, now + 2 * MS)
        if now < link.asking_cut_until:
            # What was handed to TCP may arrive when the cut heals, long after the asker was told that it is lost.
            arrives = link.asking_cut_until + self._delay(link.asking) if self.random() < 0.5 else -1
        elif link.loss and self.random() < link.loss:
            arrives = -1
        if told or arrives < 0 or arrives >= deadline:
            told = True
            self.at(deadline, agent.deliver, Unanswered(effect.ask, "no answer in time"))
        if arrives >= 0:
            self.at(arrives, self._execute, agent, effect, deadline, told, (self.etcd.history, agent.breaks), answer_at)

    def _execute(
        self,
        agent: Agent,
        effect: Commit | Look,
        deadline: Instant,
        told: bool,
        asked: tuple[int, int],
        answer_at: Instant,
    ) -> None:
        """The question is at etcd. Nobody may be waiting for its answer any more."""
        etcd, link, now = self.etcd, agent.host.link, self.now
        ask = effect.ask
        answer: Committed | Refused | Unanswered
        if now < self.etcd_down_until and self.etcd_frozen:
            later = self.etcd_down_until + self._delay(link.asking)
            if later >= deadline and not told:
                self.at(deadline, agent.deliver, Unanswered(ask, "no answer in time"))
                told = True
            self.at(later, self._execute, agent, effect, deadline, told, asked, answer_at)
            return
        if now < self.etcd_down_until or asked[0] != etcd.history:
            answer = Unanswered(ask, "connection lost")
        elif isinstance(effect, Look):
            answer = Refused(ask, etcd.revision, etcd.show(effect.keys))
        elif agent.session == NO_SESSION and any(put.session for put in effect.puts):
            answer = Unanswered(ask, "no session")
        elif etcd.holds(effect.guards):
            self.checker.commits(agent, effect)
            answer = Committed(ask, etcd.write(effect.puts, effect.deletes, agent.session))
        else:
            answer = Refused(ask, etcd.revision, etcd.show(guard.key for guard in effect.guards))
        if told:
            return
        if agent.life not in (0, etcd.life):
            answer = Unanswered(ask, "of another history")  # the adapter sees that by the cluster id
        arrives = max(now + self._delay(link.answering), answer_at)
        lost = now < link.answers_cut_until or (link.loss and self.random() < link.loss)
        if lost or arrives >= deadline:
            arrives, answer = max(deadline, now), Unanswered(ask, "no answer in time")
        self.at(arrives, self._answer, agent, answer, asked[1])

    def _answer(self, agent: Agent, answer: Committed | Refused | Unanswered, breaks: int) -> None:
        if breaks != agent.breaks:
            answer = Unanswered(answer.ask, "of another history")
        agent.deliver(answer)

    def _delay(self, typical: Duration) -> Duration:
        """Mostly about what is typical, at times ten times that."""
        chance = self.random()
        return int(typical * (0.5 + chance + (chance > 0.97) * 300 * (chance - 0.97)))

    def _changed(self, watched: Watched) -> None:
        for agent in self._watchers:
            if agent.streaming:
                self._stream(agent, watched)

    def _stream(self, agent: Agent, watched: Watched) -> None:
        link = agent.host.link
        when = max(self.now + self._delay(link.watching), link.watch_stalled_until, agent.stream_tail)
        agent.stream_tail = when
        self.at(when, agent.deliver_stream, agent.stream, watched)

    def break_watch(self, agent: Agent, resume: bool) -> None:
        """The watch breaks; it goes on where it was, or (compacted meanwhile) lists anew."""
        agent.stream += 1
        agent.streaming = False
        again = self.now + self._delay(20 * MS)
        self.at(again, self._rewatch, agent, agent.stream) if resume else self.relist(agent, again - self.now)

    def relist(self, agent: Agent, delay: Duration) -> None:
        """List, then watch from there: whatever happens to the watch until the list has come."""
        agent.must_list = True
        agent.stream += 1
        agent.streaming = False
        self.at(self.now + delay, self._list, agent, agent.stream)

    def _rewatch(self, agent: Agent, stream: int) -> None:
        if stream != agent.stream:
            return
        if not self.reaches(agent):
            self.at(self.now + self._delay(50 * MS), self._rewatch, agent, stream)
        elif agent.must_list or agent.life != self.etcd.life:
            self._list(agent, stream)
        else:
            agent.streaming = True
            agent.stream_tail = max(agent.stream_tail, self.now)
            for watched in self.etcd.since(agent.streamed, compacted=self.forgetful):
                self._stream(agent, watched)

    def _list(self, agent: Agent, stream: int) -> None:
        if stream != agent.stream:
            return
        if not self.reaches(agent):
            self.at(self.now + self._delay(50 * MS), self._list, agent, stream)
            return
        link = agent.host.link
        agent.streaming = True
        agent.stream_tail = max(self.now + self._delay(link.answering), link.watch_stalled_until, agent.stream_tail)
        self.at(agent.stream_tail, self._listed, agent, stream, self.etcd.list(), self.etcd.life, self.etcd.history)

    def _listed(self, agent: Agent, stream: int, listed: Listed, life: int, history: int) -> None:
        if stream == agent.stream:
            agent.streamed, agent.life, agent.listed_in = listed.revision, life, history
            agent.must_list = False
            agent.deliver(listed)

    # --- sessions

    def grant_session(self, agent: Agent, delay: Duration) -> None:
        """The adapter gets a session as soon as it can."""
        self.at(self.now + delay, self._grant, agent)

    def _grant(self, agent: Agent) -> None:
        if not agent.alive or agent.session:
            return
        if agent.paused or not self.reaches(agent):
            self.at(self.now + 50 * MS, self._grant, agent)
            return
        self._last_session += 1
        agent.session = self._last_session
        self._sessions[agent.session] = [agent, self.now]

    def revoke_session(self, agent: Agent) -> None:
        """etcd's lease timer fires, too early or not: the session's keys are gone."""
        if agent.session:
            self.remark("session revoked", f"{agent}")
            self._revoke(agent.session)

    def _revoke(self, session: Session) -> None:
        agent, _ = self._sessions.pop(session, (None, 0))
        if agent is None:
            return
        self.etcd.revoke(session)
        agent.session = NO_SESSION
        self.grant_session(agent, self._delay(50 * MS))

    def expire_sessions(self) -> None:
        """Every half second: sessions whose holders were not heard of for `session_ttl` end."""
        for session, entry in list(self._sessions.items()):
            agent, heard = entry
            if agent.alive and not agent.paused and self.reaches(agent):
                entry[1] = self.now
            elif self.now >= max(heard + self.session_ttl, self.etcd_down_until):
                self.remark("session expired", f"{agent}")
                self._revoke(session)
        self.at(self.now + 500 * MS, self.expire_sessions)

    def rewind(self, revision: Revision, keys: dict[Key, Seen], same: bool = False, resume: bool = False) -> None:
        """etcd is wiped or restored: all connections break, sessions are no more.

        `same`: under the same cluster id, and ahead. `resume`: watches go on as if nothing had been.
        """
        self.remark("rewind", f"to revision {revision}{', same id' if same else ''}")
        self.etcd.restore(revision, keys, same)
        self.checker.rewound()
        for session in list(self._sessions):
            self._revoke(session)
        for agent in self._watchers:
            self.break_watch(agent, resume=resume)

    # --- the network

    def advertise(self, agent: Agent, effect: SendAdvert) -> None:
        """An advert goes out to all other hosts, as far as it gets."""
        host = agent.host
        if not host.kernel.up:
            return
        rules, said = agent.node.rules, agent.said
        if agent.said_by is not rules:
            said.clear()
            agent.said_by = rules
        event = said.get(effect)
        if event is None:
            event = said[effect] = _advert(agent, effect)
        self.spread(host, event)

    def spread(self, source: Host | None, event: AdvertReceived) -> None:
        """Deliver an advert to everyone but its sender."""
        name = source.name if source is not None else "stranger"
        for other in self.hosts:
            if other is source or other.agent is None or not other.kernel.up:
                continue
            if self.net_cut and self.now < self.net_cut.get((name, other.name), 0):
                continue
            if self.net_loss and self.random() < self.net_loss:
                continue
            self.tell(other.agent, event, self._delay(self.net_delay))


def _never_again(agent: Agent) -> None:
    pass


def _advert(agent: Agent, effect: SendAdvert) -> AdvertReceived:
    for group in agent.node.rules.groups.values():
        for router in group.routers:
            if router.name == effect.router:
                addresses = tuple(address.address for address in router.addresses)
                interval = router.advert_interval
                return AdvertReceived(router.name, agent.host.address, effect.priority, interval, addresses)
    raise AssertionError(f"{agent} advertises the unknown router {effect.router}")
