"""Which mutants the explorer cannot find, and why; which ones `make test` has it find, and where."""

from __future__ import annotations

from tests.sim.mutants import MUTANTS

_GATE = "it is planted in the simulator's gate or agent, which small worlds do not have"
_ADVERTS = "adverts are not delivered in small worlds: they decide nothing"
_ORDERS = "no second owner comes of it: it is about what operators want, or about having an owner at all"
_FENCING = "small worlds have no fencing plug-in"

BEYOND: dict[str, str] = {
    **dict.fromkeys(
        (
            *("gate-a-ttl-longer", "gate-without-deadline", "no-gate", "gate-stall-unseen", "gate-let-go-early"),
            "refusal-ignored-undead",
        ),
        _GATE,
    ),
    **dict.fromkeys(("silence-believed", "stop-believed", "stranger-deposes", "speaks-on"), _ADVERTS),
    **dict.fromkeys(
        (
            *("paused-claims", "paused-hands-over", "drained-claims", "drained-target", "orders-kept"),
            *("resumed-unheard", "expired-granted", "granted-early", "damped-never", "name-only"),
        ),
        _ORDERS,
    ),
    **dict.fromkeys(("unfenced", "refused-is-fenced"), _FENCING),
    **{name: mutant.redundant for name, mutant in MUTANTS.items() if mutant.redundant},
}

QUICK: dict[str, tuple[str, int]] = {
    "no-drift": ("long", 1),
    "vanished-at-once": ("keys", 2),
    "clean-unconfirmed": ("planned", 2),
    "handover-unconfirmed": ("planned", 2),
    "shorter-ttl-late": ("reloads", 2),
}
"""Where `make test` has a mutant be found, and with how many deviations."""
