"""The Hello that both sides send first: who speaks, for which cluster, in which versions of the protocol. Pure.

The highest version that both can speak is spoken. A node that can speak none of the other's ends the stream, naming
both ranges.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from haagent.api.peers.reasons import Reason, Refused

OLDEST: Final = 1
NEWEST: Final = 1


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who speaks; `oldest` and `newest` version of the protocol that it can speak."""

    cluster: str
    node: str
    incarnation: str
    release: str
    oldest: int = OLDEST
    newest: int = NEWEST


def dials(node: str, peer: str) -> bool:
    """Whether `node` opens the stream between the two: its name sorts first."""
    return node < peer


def judge(ours: Greeting, theirs: Greeting, *, proven: Collection[str] | None, expected: str | None) -> int | Refused:
    """The version to speak with who greets so, or why not to.

    `proven`: the names in its certificate (`credentials.names`), None where nobody proves anything. `expected`: whom
    we dialed; None: it dialed us, as only a node whose name sorts before ours does.
    """
    if theirs.cluster != ours.cluster:
        return Refused(Reason.CLUSTER, f"it is of {theirs.cluster}, we are of {ours.cluster}")
    if proven is not None and theirs.node not in proven:
        shown = ", ".join(sorted(proven)[:4]) or "nobody"
        return Refused(Reason.NAME, f"it says that it is {theirs.node}, its certificate is for {shown}")
    if expected is not None and theirs.node != expected:
        return Refused(Reason.NODE, f"it says that it is {theirs.node}")
    if theirs.node == ours.node:
        return Refused(Reason.NODE, "it says that it is this node")
    if expected is None and not dials(theirs.node, ours.node):
        return Refused(Reason.DIRECTION, f"{ours.node} dials {theirs.node}, not the other way round")
    version = min(ours.newest, theirs.newest)
    if version < max(ours.oldest, theirs.oldest):
        spoken = f"it speaks versions {theirs.oldest} to {theirs.newest}, we {ours.oldest} to {ours.newest}"
        return Refused(Reason.VERSION, spoken)
    return version
