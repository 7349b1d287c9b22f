"""A group's state in the word that VRRP's users know, and why it is so."""

from __future__ import annotations

from haagent.core.model import Role
from haagent.core.records import OwnerRecord
from haagent.core.states import Adopting, Claiming, Fencing, Following, GroupState, Leaving, Owning


def role(state: GroupState, faults: tuple[str, ...], before: Role) -> Role:
    """MASTER only once the kernel has the addresses; INIT until what was found at start is swept away."""
    match state:
        case Owning(ready=ready):
            return Role.MASTER if ready else before
        case Adopting() | Claiming(adopting=True) | Leaving(epoch=0):
            return Role.INIT
        case Following() | Fencing() | Claiming() | Leaving():
            return Role.FAULT if faults else Role.BACKUP


def why(state: GroupState, faults: tuple[str, ...], before: Role, after: Role, record: OwnerRecord | None) -> str:
    """What the log says beside a change of role."""
    match after:
        case Role.MASTER:
            return record.reason if record is not None else ""
        case Role.FAULT:
            return "; ".join(faults)
        case Role.BACKUP | Role.INIT:
            if isinstance(state, Leaving) and before is not Role.FAULT:
                return state.why
            return "started" if before is Role.INIT else "fit again"
