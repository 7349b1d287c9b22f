"""Questions: what an effect that will be answered carries, and its answer names."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Asking(StrEnum):
    """What a question is about."""

    RENEW = "renew"
    CLAIM = "claim"
    RELEASE = "release"
    MEMBER = "member"
    INTENT = "intent"
    LOOK = "look"
    FENCE = "fence"
    OFFER = "offer"


class Ask(NamedTuple):
    """A question to etcd: of which kind, about which group or node, the how-manieth. FENCE: about an incarnation."""

    kind: Asking
    name: str
    number: int
