"""What goes wrong in failsafe when one of its rules is forgotten: on the owner's side, the candidate's, and between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from haagent.core import claims, offering, view
from haagent.core.failsafe import Failsafe
from haagent.core.groups import Groups
from haagent.core.heartbeat import PromiseReceived, Tenure
from haagent.core.records import Candidate, OwnerRecord
from haagent.core.states import Owning
from haagent.core.units import NEVER, Instant
from haagent.core.view import View
from tests.sim.planting import mutant

# --- the owner's side

_promised, _keep = Failsafe.promised, offering.keep


def _counted_late(failsafe: Failsafe, event: PromiseReceived) -> None:
    one = failsafe._rounds.get(event.round)
    if one is not None:
        one.asked_at = failsafe._context.now
    _promised(failsafe, event)


mutant(
    "promise-from-answer",
    "promises count from their answer",
    (Failsafe, "promised", _counted_late),
    story="slow_promises",
)


def _one_is_enough(failsafe: Failsafe, event: PromiseReceived) -> None:
    one = failsafe._rounds.get(event.round)
    if one is not None:
        one.missing = {who: left for who, left in one.missing.items() if who.node == event.node}
    _promised(failsafe, event)


mutant("one-promise", "one candidate's promise is enough", (Failsafe, "promised", _one_is_enough), promises=True)


def _by_name(failsafe: Failsafe, event: PromiseReceived) -> None:
    one = failsafe._rounds.get(event.round)
    for who in list(one.missing) if one is not None else ():
        if who.node == event.node:
            _promised(failsafe, replace(event, machine=who.machine))


mutant(
    "promise-by-name",
    "a promise counts for whatever machine goes by that name",
    (Failsafe, "promised", _by_name),
    (view, "_is_candidate", lambda rules, record: rules.node in record.candidates and rules.node != record.node),
    story="two_by_one_name",
)
mutant(
    "failsafe-unlimited",
    "promises carry for ever",
    (Failsafe, "_latest", lambda failsafe, tenures: NEVER),
    story="a_newcomer_waits",
)


def _asking(
    whom: Callable[[OwnerRecord, Owning], frozenset[Candidate]],
) -> Callable[[Groups], dict[Tenure, frozenset[Candidate]]]:
    def tenures(groups: Groups) -> dict[Tenure, frozenset[Candidate]]:
        found: dict[Tenure, frozenset[Candidate]] = {}
        for name, state in groups.states.items():
            record = groups._context.view.record(name)
            if isinstance(state, Owning) and record is not None:
                found[Tenure(name, record.epoch)] = whom(record, state)
        return found

    return tenures


mutant(
    "offer-forgotten",
    "who may be a candidate by now is not asked before the record is shown",
    (Groups, "tenures", _asking(lambda record, state: record.named)),
    story="added_unseen",
)
mutant(
    "dropped-early",
    "who is to be a candidate no longer is not asked before the record says so",
    (Groups, "tenures", _asking(lambda record, state: state.offer.names or record.named)),
    story="dropped_unseen",
)


mutant(
    "alone-carries",
    "a record that names nobody else has those who come later wait for promises that nobody needs to give",
    (claims, "_carrying", lambda record, rules: replace(record, failsafe=rules.failsafe)),
    story="first_owner_dies_alone",
)
mutant(
    "alone-never-carries",
    "an owner without other candidates is never carried",
    (offering, "keep", lambda offer, at: _keep(replace(offer, alone_since=at.now), at)),
    story="alone_for_long",
)

# --- the candidate's side

mutant(
    "promise-forgotten",
    "a claim forgets what was promised",
    (View, "_bound_until", lambda known, group: 0),
    story="only_the_owner_is_cut_off",
)
mutant(
    "outsider-claims",
    "who promised nothing waits no longer than who did",
    (view, "_is_candidate", lambda rules, record: True),
    story="a_newcomer_waits",
)
# --- etcd loses its memory

_forget, _unrecorded_until = View.forget, View._unrecorded_until


def _forget_what_was_lost(known: View, owned: frozenset[str]) -> None:
    _forget(known, owned)
    known.lost.clear()


mutant(
    "rewound-soon",
    "after a wipe only a ttl is waited, though promises may carry an owner that does not know of it",
    (View, "forget", _forget_what_was_lost),
    story="wiped_behind_the_owner",
)


def _vanished_soon(known: View, group: str, seen_at: Instant, rules: Any) -> Instant:
    return max(seen_at, known.observed_since) + known._longest_patience(rules)


mutant(
    "vanished-soon",
    "when a record vanishes only a ttl is waited, though promises may carry its owner",
    (View, "_unrecorded_until", _vanished_soon),
    story="deleted_behind_the_owner",
)
