"""The server on loopback: what each path answers, and what garbage, floods, slow and silent clients come to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.json_format import Parse

from haagent.api.http import connections, server
from haagent.api.http import feed as feeding
from haagent.v1.status_pb2 import Status
from tests.unit.api.values import Agent

Said = tuple[int, dict[str, str], bytes]


async def send(port: int, data: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def ask(port: int, path: str, method: str = "GET", headers: str = "", body: bytes = b"") -> Said:
    answer = await send(port, f"{method} {path} HTTP/1.1\r\nHost: n1:8500\r\n{headers}\r\n".encode() + body)
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, rest


def serve(talk: Callable[[Agent, int], Awaitable[None]]) -> None:
    async def run() -> None:
        agent = Agent()
        async with agent.serving() as port:
            await talk(agent, port)

    asyncio.run(run())


def test_owner_yes_and_no():
    async def talk(agent: Agent, port: int) -> None:
        code, _, body = await ask(port, "/owner/web")
        assert (code, json.loads(body)) == (200, {"group": "web", "here": True, "owner": "n1", "epoch": 42})
        code, _, body = await ask(port, "/owner/db")
        assert (code, json.loads(body)) == (503, {"group": "db", "here": False, "owner": "n2", "epoch": 7})
        assert body.count(b"\n") == 1
        assert (await ask(port, "/owner/theirs"))[0] == 404
        assert (await ask(port, "/owner/"))[0] == 404

    serve(talk)


@pytest.mark.parametrize("path, code", [("/owner/web", 200), ("/owner/db", 503), ("/owner/x", 404), ("/healthz", 200)])
def test_head_says_the_same_without_a_body(path: str, code: int):
    async def talk(agent: Agent, port: int) -> None:
        got, headers, body = await ask(port, path, "HEAD")
        assert (got, body) == (code, b"")
        assert headers["content-length"] == (await ask(port, path))[1]["content-length"]

    serve(talk)


def test_health_and_readiness_give_reasons():
    async def talk(agent: Agent, port: int) -> None:
        assert (await ask(port, "/healthz"))[::2] == (200, b'{"healthy": true, "reasons": []}\n')
        assert (await ask(port, "/readyz"))[::2] == (200, b'{"ready": true, "reasons": []}\n')
        agent.unwell, agent.unready = ("the node must not go on",), ("the lease does not run", "web is in INIT")
        assert (await ask(port, "/healthz"))[::2] == (
            503,
            b'{"healthy": false, "reasons": ["the node must not go on"]}\n',
        )
        assert (await ask(port, "/readyz"))[0] == 503

    serve(talk)


def test_the_status_is_protobufs_json():
    async def talk(agent: Agent, port: int) -> None:
        code, headers, body = await ask(port, "/status.json")
        assert (code, headers["content-type"]) == (200, "application/json")
        assert Parse(body, Status()).cluster == "prod"

    serve(talk)


def test_pages_bring_nothing_from_elsewhere():
    async def talk(agent: Agent, port: int) -> None:
        for path in ("/", "/dashboard.css", "/dashboard.js", "/icon.svg"):
            code, headers, body = await ask(port, path)
            assert code == 200
            assert b"http:" not in body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"https:" not in body
            assert b"innerHTML" not in body
            assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
            assert "access-control-allow-origin" not in headers

    serve(talk)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_nothing_but_reading(method: str):
    async def talk(agent: Agent, port: int) -> None:
        code, headers, _ = await ask(port, "/owner/web", method, "Content-Length: 3\r\n", b"abc")
        assert (code, headers["allow"]) == (405, "GET, HEAD")

    serve(talk)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff" * 500_000,
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 1_000_000,
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)),
        b"\x16\x03\x01\x02\x00\x01\x00" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["bytes", "header", "path", "headers", "tls", "http2", "url", "escapes", "body", "chunks"],
)
def test_garbage_changes_nothing(data: bytes, caplog: pytest.LogCaptureFixture):
    async def talk(agent: Agent, port: int) -> None:
        answer = await send(port, data)
        assert answer == b"" or answer.split()[1] in (b"400", b"404", b"405"), answer[:100]
        assert (await ask(port, "/owner/web"))[0] == 200

    serve(talk)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_garbage_is_not_kept(size: int):
    """Not even until the collector looks for cycles, which may be late: what was sent is one object, however large."""
    data = b"\xff" * size

    def blurt(port: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(data)
            while sock.recv(1000):
                pass

    async def talk(agent: Agent, port: int) -> None:
        await asyncio.to_thread(blurt, port)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(50):
                await asyncio.to_thread(blurt, port)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
        assert kept < 25 * size

    serve(talk)


def test_no_more_connections_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "CONNECTIONS_MOST", 4)

    async def talk(agent: Agent, port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        assert await send(port, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
        held[0][1].close()
        async with asyncio.timeout(10):
            while not await send(port, b"GET /healthz HTTP/1.1\r\n\r\n"):  # noqa: ASYNC110 - to be let in
                await asyncio.sleep(0.01)
        for _, writer in held:
            writer.close()

    serve(talk)


def test_who_says_nothing_or_says_it_slowly_is_let_go(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.2)

    async def talk(agent: Agent, port: int) -> None:
        began = time.monotonic()
        assert await send(port, b"") == b""
        assert await send(port, b"GET / HTTP/1.1\r\nX: ") == b""
        assert time.monotonic() - began < 10

    serve(talk)


def test_one_request_a_connection():
    async def talk(agent: Agent, port: int) -> None:
        answer = await send(port, b"GET /owner/web HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"Connection: close" in answer

    serve(talk)


async def follow(port: int, buffer: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=2048 if buffer else 1 << 20)
    writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    return reader, writer


async def next_status(reader: asyncio.StreamReader) -> Any:
    while True:
        line = await asyncio.wait_for(reader.readline(), 10)
        if line.startswith(b"data: {"):
            return json.loads(line.removeprefix(b"data: "))


def test_followers_hear_of_a_change():
    async def talk(agent: Agent, port: int) -> None:
        reader, writer = await follow(port)
        assert (await next_status(reader))["pausedBy"] == ""
        agent.status.paused_by = "anna"
        agent.feed.changed()
        async with asyncio.timeout(10):
            while (await next_status(reader)).get("pausedBy") != "anna":
                pass
        writer.close()

    serve(talk)


def test_no_more_followers_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "STREAMS_MOST", 2)

    async def talk(agent: Agent, port: int) -> None:
        held = [await follow(port) for _ in range(2)]
        for reader, _ in held:
            await next_status(reader)
        assert (await ask(port, "/events"))[0] == 503
        held[0][1].close()
        reader, writer = await _until_let_in(port)
        await next_status(reader)
        writer.close()
        held[1][1].close()

    serve(talk)


async def _until_let_in(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            reader, writer = await follow(port)
            if b"200" in await reader.readline():
                return reader, writer
            writer.close()
            await asyncio.sleep(0.01)


def test_a_follower_who_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeding, "PAUSE", 0.01)
    monkeypatch.setattr(feeding, "SHARE", 1)
    monkeypatch.setattr(feeding, "PATIENCE", 0.3)

    async def talk(agent: Agent, port: int) -> None:
        agent.status.groups[0].reason = "x" * 100_000
        _, writer = await follow(port, buffer=4096)
        well, other = await follow(port)
        async with asyncio.timeout(20):
            while agent.server.followers < 2:  # noqa: ASYNC110 - only tests want to know
                await asyncio.sleep(0.01)
            while agent.server.followers > 1:
                agent.feed.changed()
                await next_status(well)
        assert (await ask(port, "/owner/web"))[0] == 200
        await next_status(well)
        writer.close()
        other.close()

    serve(talk)


def test_a_port_that_is_taken_is_said_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(server, "TRY_AGAIN", 0.01)

    async def run() -> None:
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        agent = Agent()
        task = asyncio.create_task(agent.server.serve(f"127.0.0.1:{port}"))
        await asyncio.sleep(0.1)
        assert not task.done()
        taken.close()
        async with asyncio.timeout(10):
            while not agent.server.port:  # noqa: ASYNC110 - only tests want to know
                await asyncio.sleep(0.01)
        assert (await ask(port, "/healthz"))[0] == 200
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    assert caplog.text.count("cannot listen") == 1


def test_on_ipv6():
    async def run() -> None:
        agent = Agent()
        async with agent.serving("[::1]:0") as port:
            _, writer = await asyncio.open_connection("::1", port)
            writer.close()

    asyncio.run(run())


def test_an_answer_that_fails_costs_only_itself(caplog: pytest.LogCaptureFixture):
    async def talk(agent: Agent, port: int) -> None:
        agent.meters.vacancies = None  # type: ignore[assignment]
        assert (await ask(port, "/metrics"))[0] == 500
        assert (await ask(port, "/metrics"))[0] == 500
        assert (await ask(port, "/owner/web"))[0] == 200

    serve(talk)
    assert caplog.text.count("cannot answer /metrics") == 1


def test_a_flood_of_scrapes_renders_now_and_then():
    async def talk(agent: Agent, port: int) -> None:
        rendered: list[int] = []

        def render(_: Status) -> bytes:
            rendered.append(1)
            return b"{}"

        agent.feed.status = feeding.Throttled(agent.server._answers.status, render)
        codes = [code for code, _, _ in await asyncio.gather(*(ask(port, "/status.json") for _ in range(50)))]
        assert codes == [200] * 50
        assert len(rendered) <= 10

    serve(talk)


def test_the_server_ends_with_all_that_is_open():
    async def run() -> None:
        agent = Agent()
        async with agent.serving() as port:
            reader, writer = await follow(port)
            await next_status(reader)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()

    asyncio.run(run())
