"""What goes wrong when the gate is not opened, renewed, closed or believed as it must be: the mutants of the gate."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from haagent.core import lease, ownership
from haagent.core.claims import Situation
from haagent.core.lease import Held
from haagent.core.model import ExtendAddresses, InstallAddresses, VirtualAddress
from haagent.core.renewal import Renewals
from haagent.core.states import Adopting, Claiming, Decision
from haagent.core.units import Duration, Instant
from haagent.runtime.gated import GatedKernel
from tests.sim.gate import Deadman, GatePort, KernelGate
from tests.sim.host import Agent
from tests.sim.planting import Patch, mutant

_open, _renew, _adopt, _renewals_ask = GatePort.open, GatePort.renew, ownership._adopt, Renewals.ask
_flush, _TURNS = GatedKernel.flush, itertools.count()


def _mutant(name: str, mistake: str, *patches: Patch, seeds: int = 60, story: str = "", redundant: str = "") -> None:
    mutant(name, mistake, *patches, seeds=seeds, story=story, redundant=redundant, gated=True)


def _renewed_when_asked(renewals: Renewals, owned: Any) -> None:
    _renewals_ask(renewals, owned)
    context = renewals._context
    if isinstance(renewals.lease, Held):
        until = lease.count(context.now, renewals.lease.ttl, context.rules.margin)
        context.out.append(ExtendAddresses(until))


_mutant(
    "gate-renewed-when-asked",
    "the gate is renewed when a renewal is asked for, not when it is seen",
    (Renewals, "ask", _renewed_when_asked),
)


def _ask_lease_quietly(renewals: Renewals, ttl: Duration) -> None:
    renewals.lease = lease.ask(renewals.lease, ttl, renewals._context.rules.margin, renewals._context.now)


def _begin_at_once(agent: Agent) -> None:
    agent._protect()
    agent._begin()


def _held_until(at: Situation) -> Instant:
    assert isinstance(at.lease, Held)
    return at.lease.held_until


def _open_later(gated: GatedKernel, *, opening: bool = True) -> bool:
    """Once in two times what opens waits longer than it must: to be given up meanwhile takes some time."""
    return _flush(gated, opening=opening and next(_TURNS) % 2 == 0)


def _until_later(ttls: int) -> tuple[Patch, ...]:
    def opens(port: GatePort, groups: Mapping[str, Iterable[VirtualAddress]], until: Instant) -> None:
        _open(port, groups, until + ttls * port._agent.node.rules.ttl)

    def renews(port: GatePort, until: Instant) -> None:
        _renew(port, until + ttls * port._agent.node.rules.ttl)

    return (GatePort, "open", opens), (GatePort, "renew", renews)


_mutant("gate-a-ttl-longer", "the gate is opened for a ttl more than the lease", *_until_later(1))
_mutant("gate-without-deadline", "the gate is opened without a deadline", *_until_later(1_000_000))
_mutant("no-gate", "the node relies on a gate that is not there", (KernelGate, "lets_pass", lambda *_: True))
_mutant(
    "gate-stall-unseen",
    "nobody looks at the clock again once a relative timeout is put",
    (GatePort, "_in_time", lambda port, asked_at: True),
    story="stalled_in_a_call",
)
_mutant(
    "gate-not-shortened",
    "a ttl that gets shorter leaves the gate open by the longer one",
    (Renewals, "_ask_lease", _ask_lease_quietly),
    story="shorter_ttl",
)
_mutant(
    "gate-let-go-early",
    "the gate lets go of what is no longer configured before that is swept",
    (Agent, "_begin_when_swept", _begin_at_once),
    story="unconfigured_meanwhile",
)


def _adopt_open(state: Adopting, at: Situation) -> Decision:
    after, effects = _adopt(state, at)
    if isinstance(after, Claiming):
        install = InstallAddresses(at.group.name, after.serial, ownership.group_addresses(at.group), _held_until(at))
        return after, (install, *effects)
    return after, effects


_mutant(
    "adopted-before-claimed",
    "who adopts opens by its own lease before its claim is done",
    (ownership, "_adopt", _adopt_open),
    story="adopter_is_overtaken",
)
_mutant(
    "refusal-ignored-undead",
    "the node owns on when the kernel closed its gate, and nothing kills it",
    (GatedKernel, "closed", lambda gated, why: None),
    (Deadman, "arm", lambda deadman, until: None),
    story="refused_by_the_gate",
)
_mutant(
    "refusal-ignored",
    "the node owns on when the kernel closed its gate",
    (GatedKernel, "closed", lambda gated, why: None),
    redundant="the dead-man timer was not put off either: the agent is killed, and its successor claims anew",
)
_mutant(
    "no-deadman",
    "nothing kills an agent that hung beyond its lease",
    (Deadman, "arm", lambda deadman, until: None),
    redundant="safety does not need it: what resumes with old beliefs finds its gate closed, its lease lapsed at the "
    "first event, and the guards of what it writes gone; it is for an agent that never resumes, so that another starts",
)
_mutant(
    "gate-reopened",
    "a renewal opens what had closed",
    (GatePort, "_is_closed", lambda port: False),
    redundant="the renewal was seen in time, so nobody can have claimed, however late it gets to the kernel; and its "
    "end was fixed before",
)
_mutant(
    "gate-not-closed",
    "the addresses are removed without closing the gate",
    (GatedKernel, "remove", lambda gated, effect: gated._kernel.remove(effect)),
    redundant="a release waits until the kernel has none of the addresses, and a lapse closes the gate by itself",
)
_mutant(
    "given-up-and-opened",
    "what waited to be opened is opened although it was given up meanwhile",
    (GatedKernel, "_supersede", lambda gated, group: None),
    (GatedKernel, "flush", _open_later),
)
