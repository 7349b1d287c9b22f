"""The doors of Control: who is let in and what he may do; strangers, garbage, and files that others left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from haagent.api.control import Access, CannotServeError, ControlServer, Doors
from haagent.api.control.access import Caller, Role
from haagent.api.control.server import CONNECTIONS_MOST, REQUEST_MOST, WATCHERS_MOST
from haagent.api.control.service import UnansweredError
from haagent.api.credentials import Credentials, load
from haagent.lab.certificates import Authority, Certificate, make_ca
from haagent.v1 import control_pb2 as pb
from haagent.v1 import status_pb2

SIZE = 1 << 16
TLS = {"transport_security_type": [b"ssl"]}


class Service:
    """Notes what it was asked, and by whom."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Caller]] = []
        self.told = 0
        self._told_at = 0.0

    async def history(self, request: pb.HistoryRequest, caller: Caller) -> pb.HistoryReply:
        raise UnansweredError("etcd: no endpoint is connected")

    async def watch_status(self, request: pb.WatchStatusRequest, caller: Caller) -> AsyncGenerator[status_pb2.Status]:
        yield status_pb2.Status(cluster="prod")
        while True:
            self.told, self._told_at = self.told + 1, time.monotonic()
            yield status_pb2.Status(cluster="x" * SIZE)

    def stuck(self) -> bool:
        """Whether whoever watches has taken nothing for a while."""
        return self.told > 0 and time.monotonic() - self._told_at > 0.3

    def __getattr__(self, name: str) -> Callable[[Any, Caller], Awaitable[Any]]:
        async def answer(request: Any, caller: Caller) -> Any:
            self.asked.append((request, caller))
            return status_pb2.Status(cluster="prod") if name == "get_status" else pb.Outcome(result=pb.DONE)

        return answer


class Agent:
    """A server that serves; `call` asks it."""

    def __init__(self, path: Path, access: Access = Access()) -> None:  # noqa: B008 - it is frozen
        self.path = path
        self.service = Service()
        self.server = ControlServer(self.service, access)  # pyright: ignore[reportArgumentType] - it does for one

    async def start(self, **doors: Any) -> None:
        await self.server.start(Doors(self.path, **doors))

    async def call(self, name: str, data: bytes = b"", channel: grpc.aio.Channel | None = None) -> bytes:
        async with channel or grpc.aio.insecure_channel(f"unix:{self.path}") as open_channel:
            return await open_channel.unary_unary(f"/haagent.v1.Control/{name}")(data, timeout=10)

    async def refused(self, name: str, data: bytes = b"", channel: grpc.aio.Channel | None = None) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, data, channel)
        return caught.value.code()


def run(path: Path, body: Callable[[Agent], Awaitable[None]], access: Access = Access(), **doors: Any) -> Agent:  # noqa: B008
    async def scenario() -> Agent:
        agent = Agent(path, access)
        await agent.start(**doors)
        try:
            await body(agent)
        finally:
            await agent.server.close()
        return agent

    return asyncio.run(scenario())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "control.sock"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_ca(tmp_path_factory.mktemp("ca"))


def doors(authority: Authority) -> dict[str, Any]:
    return {"listen": "127.0.0.1:0", "credentials": credentials(authority)}


def credentials(authority: Authority) -> Credentials:
    own = authority.issue("n1", ["127.0.0.1"])
    return load(authority.own.certificate, own.certificate, own.key, None)


def dial(agent: Agent, authority: Authority, shown: Certificate | None) -> grpc.aio.Channel:
    mine = (None, None) if shown is None else (shown.key.read_bytes(), shown.certificate.read_bytes())
    shows = grpc.ssl_channel_credentials(authority.own.certificate.read_bytes(), *mine)
    # A connection for each: else gRPC takes one that still stands.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(f"127.0.0.1:{agent.server.port}", shows, options=options)


# --- who may do what


def test_who_may_open_the_socket_is_an_operator():
    assert Access().caller("unix:", {}) == Caller("local", Role.OPERATOR)


@pytest.mark.parametrize(
    "proven, caller",
    [
        ({**TLS, "x509_subject_alternative_name": [b"ops"]}, Caller("ops", Role.OPERATOR)),
        ({**TLS, "x509_common_name": [b"grafana"]}, Caller("grafana", Role.VIEWER)),
        # Names in subjectAltName are what counts where there are any.
        ({**TLS, "x509_common_name": [b"ops"], "x509_subject_alternative_name": [b"x"]}, Caller("x", Role.NOBODY)),
        ({"x509_common_name": [b"ops"]}, Caller("nobody", Role.NOBODY)),
        ({}, Caller("nobody", Role.NOBODY)),
    ],
)
def test_a_certificate_proves_a_name(proven: dict[str, list[bytes]], caller: Caller):
    access = Access(frozenset(["ops"]), frozenset(["grafana"]))
    assert access.caller("ipv4:10.0.0.9:4711", proven) == caller


def test_the_socket_is_for_root_and_a_group(path: Path):
    async def body(agent: Agent) -> None:
        made = await asyncio.to_thread(path.stat)
        assert (made.st_mode & 0o777, made.st_gid) == (0o660, os.getgid())
        await agent.call("Pause", pb.PauseRequest(by="me").SerializeToString())
        assert agent.service.asked == [(pb.PauseRequest(by="me"), Caller("local", Role.OPERATOR))]

    run(path, body)
    assert not path.exists()


def test_a_viewer_looks_and_does_not_steer(path: Path, authority: Authority):
    viewer, ops, other = (authority.issue(name) for name in ("grafana", "ops", "other"))

    async def body(agent: Agent) -> None:
        status = await agent.call("GetStatus", channel=dial(agent, authority, viewer))
        assert status_pb2.Status.FromString(status).cluster == "prod"
        for name in ("Switchover", "Failover", "Pause", "Resume", "Drain", "Undrain", "Reload"):
            code = await agent.refused(name, channel=dial(agent, authority, viewer))
            assert code is grpc.StatusCode.PERMISSION_DENIED
        await agent.call("Pause", channel=dial(agent, authority, ops))
        assert await agent.refused("GetStatus", channel=dial(agent, authority, other)) is (
            grpc.StatusCode.PERMISSION_DENIED
        )
        assert await agent.refused("GetStatus", channel=dial(agent, authority, None)) is grpc.StatusCode.UNAVAILABLE
        plain = grpc.aio.insecure_channel(f"127.0.0.1:{agent.server.port}")
        assert await agent.refused("GetStatus", channel=plain) is grpc.StatusCode.UNAVAILABLE
        assert [caller.name for _, caller in agent.service.asked] == ["grafana", "ops"]
        assert agent.server.counters["denied"] == 8

    access = Access(frozenset(["ops"]), frozenset(["grafana"]))
    run(path, body, access, **doors(authority))


def test_new_certificates_count_from_the_next_connection_on(path: Path, authority: Authority, tmp_path: Path):
    another = make_ca(tmp_path / "another")
    first = doors(authority)

    async def body(agent: Agent) -> None:
        async with dial(agent, authority, authority.issue("ops")) as standing:
            ask = standing.unary_unary("/haagent.v1.Control/GetStatus")
            await ask(b"", timeout=10)
            assert not agent.server.renew(first["credentials"])
            assert agent.server.renew(credentials(another))
            await ask(b"", timeout=10)
        assert await agent.refused("GetStatus", channel=dial(agent, authority, authority.issue("ops"))) is (
            grpc.StatusCode.UNAVAILABLE
        )
        await agent.call("GetStatus", channel=dial(agent, another, another.issue("ops")))
        assert agent.server.counters["connections"] >= 3

    run(path, body, Access(frozenset(["ops"])), **first)


# --- strangers


@pytest.mark.parametrize(
    "name, data, code",
    [
        ("Switchover", b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        ("Switchover", pb.SwitchoverRequest(group="x" * 254).SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        ("Drain", pb.DrainRequest(node="a\nb").SerializeToString(), grpc.StatusCode.INVALID_ARGUMENT),
        (
            "Switchover",
            pb.SwitchoverRequest(not_before_wall_ns=-1).SerializeToString(),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        ("Switchover", bytes(REQUEST_MOST + 1), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("Mischief", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("History", b"", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_what_can_not_be_is_refused(path: Path, name: str, data: bytes, code: grpc.StatusCode):
    async def body(agent: Agent) -> None:
        assert await agent.refused(name, data) is code
        assert agent.service.asked == []
        await agent.call("GetStatus")

    run(path, body)


def test_who_has_no_good_certificate_gets_no_further(path: Path, authority: Authority, tmp_path: Path):
    ops, stranger = authority.issue("ops"), make_ca(tmp_path / "stranger").issue("ops")

    async def body(agent: Agent) -> None:
        for shown in (authority.expire(ops), stranger, None):
            code = await agent.refused("GetStatus", channel=dial(agent, authority, shown))
            assert code is grpc.StatusCode.UNAVAILABLE
        assert agent.server.counters["connections"] >= 3
        assert agent.server.counters["asked"] == 0
        # Nor does who speaks TLS where there is none, or asks for somebody else.
        tls = grpc.ssl_channel_credentials(authority.own.certificate.read_bytes())
        assert await agent.refused("GetStatus", channel=grpc.aio.secure_channel(f"unix:{path}", tls)) is (
            grpc.StatusCode.UNAVAILABLE
        )
        assert agent.service.asked == []
        await agent.call("GetStatus", channel=dial(agent, authority, ops))

    run(path, body, Access(frozenset(["ops"])), **doors(authority))


@pytest.mark.parametrize("data", [os.urandom(1 << 20), b"\x16\x03\x01" + os.urandom(1 << 20)], ids=["bytes", "tls"])
def test_a_megabyte_of_garbage_is_sent_away(path: Path, authority: Authority, data: bytes):
    async def throw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(data)
            async with asyncio.timeout(10):
                while await reader.read(1 << 16):
                    pass
        except (ConnectionError, BrokenPipeError):
            pass
        finally:
            writer.close()

    async def body(agent: Agent) -> None:
        await throw(*await asyncio.open_unix_connection(str(path)))
        await throw(*await asyncio.open_connection("127.0.0.1", agent.server.port))
        assert agent.service.asked == []
        await agent.call("GetStatus")

    run(path, body, **doors(authority))


def test_who_does_not_read_is_told_no_more_than_fits(path: Path):
    """A watcher that is stuck holds one status, not all that there were since; the others are answered."""

    async def body(agent: Agent) -> None:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            watch = channel.unary_stream("/haagent.v1.Control/WatchStatus")(b"")
            await watch.read()
            async with asyncio.timeout(10):
                while not agent.service.stuck():  # noqa: ASYNC110 - there is nothing to wait for but that
                    await asyncio.sleep(0.02)
            await agent.call("GetStatus")
            assert agent.service.told * SIZE < 16 << 20

    run(path, body)


def test_a_crowd_that_says_nothing_is_kept_small(path: Path):
    async def body(agent: Agent) -> None:
        crowd: list[socket.socket] = []
        try:
            for _ in range(CONNECTIONS_MOST + 60):
                silent = socket.socket(socket.AF_UNIX)
                crowd.append(silent)
                silent.setblocking(False)
                with contextlib.suppress(OSError):
                    await asyncio.get_running_loop().sock_connect(silent, str(path))
            await asyncio.sleep(0.2)
            kept = sum(1 for one in crowd if _stands(one))
            assert kept <= CONNECTIONS_MOST
        finally:
            for one in crowd:
                one.close()
        async with asyncio.timeout(10):
            while True:
                try:
                    await agent.call("GetStatus")
                    return
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

    run(path, body)


def _stands(connection: socket.socket) -> bool:
    """Whether the other end has not hung up."""
    try:
        while data := connection.recv(4096):
            assert data
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def test_watchers_are_bounded_and_forgotten_when_they_leave(path: Path):
    async def body(agent: Agent) -> None:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            watch = channel.unary_stream("/haagent.v1.Control/WatchStatus")
            calls = [watch(b"") for _ in range(WATCHERS_MOST)]
            for call in calls:
                shown = await call.read()
                assert isinstance(shown, bytes)
                assert status_pb2.Status.FromString(shown).cluster == "prod"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watch(b"").read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for call in calls:
                call.cancel()
            async with asyncio.timeout(10):
                while agent.server._watchers:  # noqa: ASYNC110 - there is nothing to wait for but that
                    await asyncio.sleep(0.01)

    run(path, body)


# --- what was there before


def test_the_socket_of_a_dead_agent_is_replaced(path: Path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async def body(agent: Agent) -> None:
        await agent.call("GetStatus")

    run(path, body)


def test_the_socket_of_a_living_agent_stays(path: Path):
    async def body(agent: Agent) -> None:
        other = Agent(path)
        with pytest.raises(CannotServeError, match="another process answers there"):
            await other.start()
        await other.server.close()
        await agent.call("GetStatus")

    run(path, body)


def test_a_file_that_is_no_socket_stays(path: Path):
    path.parent.mkdir()
    path.write_text("precious")

    async def scenario() -> None:
        agent = Agent(path)
        with pytest.raises(CannotServeError, match="no socket"):
            await agent.start()
        await agent.server.close()

    asyncio.run(scenario())
    assert path.read_text() == "precious"


def test_an_unknown_group_is_said(path: Path):
    async def scenario() -> None:
        agent = Agent(path)
        with pytest.raises(CannotServeError, match="no group 'nobody-has-this'"):
            await agent.start(group="nobody-has-this")
        await agent.server.close()

    asyncio.run(scenario())
