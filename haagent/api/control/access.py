"""Who asks, and what he may do.

On the unix socket the file's permissions decide who may connect at all: gRPC tells nothing of the process at the other
end (it never asks for SO_PEERCRED), so whoever may open the socket is an operator. On TCP a certificate proves a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from haagent.api.credentials import proven


class Role(Enum):
    """What somebody may do: nothing, look, or steer."""

    NOBODY = auto()
    VIEWER = auto()
    OPERATOR = auto()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for the log and for records; and his role."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Access:
    """The names, by certificate, of those who may steer, and of those who may only look."""

    operators: frozenset[str] = frozenset()
    viewers: frozenset[str] = frozenset()

    def caller(self, peer: str, context: Mapping[str, Iterable[bytes]]) -> Caller:
        """Who is at the other end: `peer` as gRPC names it, `context`: gRPC's auth context."""
        if peer.startswith("unix:"):
            return Caller("local", Role.OPERATOR)
        names = proven(context) or frozenset[str]()
        for allowed, role in ((self.operators, Role.OPERATOR), (self.viewers, Role.VIEWER)):
            if known := sorted(names & allowed):
                return Caller(known[0], role)
        return Caller(", ".join(sorted(names)[:3])[:200] or _NOBODY, Role.NOBODY)


_NOBODY: Final = "nobody"
