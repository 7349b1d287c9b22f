"""A cluster that says what it is told to: messages, and a gRPC server in this process that answers with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from click.testing import CliRunner, Result
from google.protobuf.message import Message

from haagent.cli.ctl.main import cli
from haagent.core.units import MS, S
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2 as pb

AT = 1_795_176_000 * S
"""2026-11-20T12:00:00Z."""

REQUESTS: dict[str, type[Message]] = {
    "GetStatus": control.GetStatusRequest,
    "WatchStatus": control.WatchStatusRequest,
    "History": control.HistoryRequest,
    "Doctor": control.DoctorRequest,
    "Switchover": control.SwitchoverRequest,
    "Failover": control.FailoverRequest,
    "Pause": control.PauseRequest,
    "Resume": control.ResumeRequest,
    "Drain": control.DrainRequest,
    "Undrain": control.UndrainRequest,
    "Reload": control.ReloadRequest,
}


def node(name: str, *, owns: Iterable[str] = (), faults: Iterable[str] = (), groups: Iterable[str] = ("web",)) -> Any:
    """What a node says of itself."""
    return pb.NodeStatus(
        node=name,
        incarnation=f"{name}-1",
        release="0.1.0",
        groups=[
            pb.GroupRole(
                group=group,
                role=pb.MASTER if group in owns else pb.FAULT if faults else pb.BACKUP,
                state="owning" if group in owns else "following",
                epoch=41,
                priority=100,
                faults=faults,
                answers_since_wall_ns=AT - 3600 * S if group in owns else 0,
                silent_since_wall_ns=0 if group in owns else AT - 7200 * S,
                addresses_held=int(group in owns),
            )
            for group in groups
        ],
        lease=pb.LeaseStatus(held=True, ttl_ns=1 * S, left_ns=812 * MS, age_ns=158 * MS, renewal_ns=2 * MS),
        gate=pb.GateStatus(kind="nft", owned=True),
        etcd=pb.EtcdStatus(reachable=True, cluster="c0ffee", revision=77),
        started_wall_ns=AT - 7200 * S,
    )


def member(name: str, said: pb.NodeStatus | None = None, *, me: bool = False, **more: Any) -> pb.Member:
    """A node as the cluster sees it; with `said`, over a peer stream that stands."""
    given: dict[str, Any] = {
        "alive": True,
        "priorities": {"web": 100},
        "release": "0.1.0",
        "addresses": [f"10.0.0.{name[-1]}"],
        **more,
    }
    found = pb.Member(node=name, **given)
    if not me:
        found.peer.CopyFrom(pb.Peer(connected=said is not None, round_trip_ns=400_000))
    if said is not None and not me:
        found.status.CopyFrom(said)
    return found


def group(name: str = "web", owner: str = "n1", **more: Any) -> pb.Group:
    """A group as etcd shows it."""
    given: dict[str, Any] = {
        "last_owner": owner,
        "epoch": 41,
        "reason": "the lease of n3 lapsed",
        "since_wall_ns": AT - 3600 * S,
        "candidates": ["n2", "n3"],
        "addresses": ["10.0.0.100/24"],
        "routers": [pb.Router(name=name, vrid=51, version=3, interface="eth0", addresses=["10.0.0.100/24"])],
        **more,
    }
    return pb.Group(name=name, owner=owner, **given)


def three(**more: Any) -> pb.Status:
    """n1, n2 and n3; n1 owns `web`, and answers."""
    given: dict[str, Any] = {
        "cluster": "prod",
        "at_wall_ns": AT,
        "self": node("n1", owns=["web"]),
        "groups": [group()],
        "members": [member("n1", me=True), member("n2", node("n2")), member("n3", node("n3"))],
        **more,
    }
    return pb.Status(**given)


def moved(**more: Any) -> control.Outcome:
    """web went from n1 to n2."""
    given: dict[str, Any] = {
        "group": "web",
        "from_node": "n1",
        "to_node": "n2",
        "from_epoch": 41,
        "to_epoch": 42,
        "gap_ns": 14_200_000,
        "gap_error_ns": 200_000,
        "verified": True,
        **more,
    }
    return control.Outcome(result=control.DONE, moves=[control.Move(**given)])


def done() -> control.Outcome:
    """As it was asked for."""
    return control.Outcome(result=control.DONE)


@dataclass
class Served:
    """A server: what it answers, by method, and what it was asked. An answer may be a function of the context."""

    directory: Path
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Message] = field(default_factory=list)
    server: Any = None
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"unix:{self.directory}/control.sock"

    def __call__(self, *words: str, answers: str | None = None, **environment: str) -> Result:
        """Run haagentctl against it, with these answers at a prompt."""
        environment = {"HAAGENTCTL_ENDPOINT": self.endpoint, "TZ": "UTC", **environment}
        return CliRunner().invoke(cli, [*words], input=answers, env=environment, prog_name="haagentctl")

    def say(self, answer: Any, context: grpc.ServicerContext) -> Any:
        """The answer itself, or what it comes to."""
        return answer(context) if callable(answer) else answer

    def cut(self, _context: Any) -> Message:
        """As an answer: the connection is lost after the request arrived."""
        self.server.stop(0)
        time.sleep(0.2)
        return control.Outcome(result=control.DONE)

    def last(self, kind: type[Message]) -> Any:
        """The last request of a kind."""
        return [each for each in self.asked if isinstance(each, kind)][-1]


def refuse(code: grpc.StatusCode, why: str) -> Callable[[grpc.ServicerContext], None]:
    """As an answer: gRPC's own error."""
    return lambda context: context.abort(code, why)


def late(seconds: float) -> Callable[[grpc.ServicerContext], Message]:
    """As an answer: one that comes too late."""

    def wait(_context: grpc.ServicerContext) -> Message:
        time.sleep(seconds)
        return control.Outcome(result=control.DONE)

    return wait


@contextmanager
def serving(directory: Path, credentials: grpc.ServerCredentials | None = None, **answers: Any) -> Generator[Served]:
    """A cluster of `three`, unless something else is said, on a unix socket there; with credentials on TCP, too."""
    served = Served(directory, {"GetStatus": three(), **answers})
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {name: _handler(name, kind, served) for name, kind in REQUESTS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("haagent.v1.Control", handlers),))
    server.add_insecure_port(served.endpoint)
    if credentials is not None:
        served.port = server.add_secure_port("127.0.0.1:0", credentials)
    served.server = server
    server.start()
    try:
        yield served
    finally:
        server.stop(0).wait()


def _handler(name: str, kind: type[Message], served: Served) -> Any:
    def unary(request: Message, context: grpc.ServicerContext) -> Message:
        served.asked.append(request)
        answer: Any = served.answers[name]
        if isinstance(answer, list):  # one after the other, the last for ever
            waiting: list[Any] = answer
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return served.say(answer, context)

    def stream(request: Message, _context: grpc.ServicerContext) -> Iterator[Message]:
        served.asked.append(request)
        yield from served.answers[name]

    both: dict[str, Any] = {
        "request_deserializer": kind.FromString,
        "response_serializer": lambda message: message.SerializeToString(),
    }
    if name == "WatchStatus":
        return grpc.unary_stream_rpc_method_handler(stream, **both)
    return grpc.unary_unary_rpc_method_handler(unary, **both)
