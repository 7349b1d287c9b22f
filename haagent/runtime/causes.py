"""Why a group changed its role, as one of a few words: what metrics count by. The text itself is for people."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """Classes of reasons. The values are the names in metrics, and stay as they are."""

    STARTED = "started"
    FIT_AGAIN = "fit_again"
    NO_OWNER = "no_owner"
    CLAIMED_AGAIN = "claimed_again"
    RELEASED = "released"
    LEASE_LAPSED = "lease_lapsed"
    HANDOVER = "handover"
    RECORD_LOST = "record_lost"
    INTERFACE = "interface"
    STRANGER = "stranger"
    KERNEL = "kernel"
    CONFIGURATION = "configuration"
    STOPPING = "stopping"
    DRAINED = "drained"
    PAUSED = "paused"
    OTHER = "other"


def cause(why: str) -> Cause:
    """The class of what a `RoleChanged` gives as its reason; of several faults, that of the first."""
    return next((cause for begins, cause in _BEGINNINGS if begins.match(why)), Cause.OTHER)


_BEGINNINGS: Final = tuple(
    (re.compile(begins), cause)
    for begins, cause in (
        ("started$", Cause.STARTED),
        ("fit again$", Cause.FIT_AGAIN),
        ("there was no owner", Cause.NO_OWNER),
        ("claimed again", Cause.CLAIMED_AGAIN),
        ("released by ", Cause.RELEASED),
        ("the lease ", Cause.LEASE_LAPSED),  # ours, or that of the owner before
        ("(handover|switchover|failover)", Cause.HANDOVER),
        ("the (ownership )?record ", Cause.RECORD_LOST),
        ("interface ", Cause.INTERFACE),
        ("(a stranger is master|listening for strangers)", Cause.STRANGER),
        ("kernel: ", Cause.KERNEL),
        ("(removed from the configuration|group .* is given up first)", Cause.CONFIGURATION),
        ("the agent stops", Cause.STOPPING),
        ("drained", Cause.DRAINED),
        ("paused by ", Cause.PAUSED),
    )
)
