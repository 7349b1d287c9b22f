"""What a cluster can be asked, and who answers: an agent, or etcd itself.

The requests and replies are the messages of `haagent.v1`; `Method` says which reply belongs to which request, so that
the two who answer need one method each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from haagent.core.units import Duration
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """One question. `changes`: if its answer gets lost, nobody knows whether it was done."""

    name: str
    request: type[Q]
    reply: type[A]
    changes: bool = True


GET_STATUS: Final = Method("GetStatus", control.GetStatusRequest, status_pb2.Status, changes=False)
WATCH_STATUS: Final = Method("WatchStatus", control.WatchStatusRequest, status_pb2.Status, changes=False)
HISTORY: Final = Method("History", control.HistoryRequest, control.HistoryReply, changes=False)
DOCTOR: Final = Method("Doctor", control.DoctorRequest, control.DoctorReply, changes=False)
SWITCHOVER: Final = Method("Switchover", control.SwitchoverRequest, control.Outcome)
FAILOVER: Final = Method("Failover", control.FailoverRequest, control.Outcome)
PAUSE: Final = Method("Pause", control.PauseRequest, control.Outcome)
RESUME: Final = Method("Resume", control.ResumeRequest, control.Outcome)
DRAIN: Final = Method("Drain", control.DrainRequest, control.Outcome)
UNDRAIN: Final = Method("Undrain", control.UndrainRequest, control.Outcome)
RELOAD: Final = Method("Reload", control.ReloadRequest, control.Outcome)


class Service(Protocol):
    """Who answers.

    Each raises RefusedError, UnreachableError, or, if something may have been done, UnknownError.
    """

    @property
    def name(self) -> str:
        """Where it was reached."""
        ...

    @property
    def agent(self) -> bool:
        """Whether it is an agent, which knows its kernel and its peers; etcd knows the records only."""
        ...

    def ask(self, method: Method[Q, A], request: Q, *, wait: Duration = 0) -> A:
        """The answer; `wait`: how long the request itself asks to wait, beyond the time that answers may take."""
        ...

    def watch(self, interval: Duration) -> Iterator[status_pb2.Status]:
        """A status at once, then at each change, and at least so often. Ends by an exception only."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...
