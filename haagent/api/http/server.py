"""The HTTP server: what is answered on which path. It reads, and changes nothing.

    /metrics  /healthz  /readyz  /owner/<group>  /status.json  /events  /  (the dashboard, with its own files)

Nobody has to prove who he is, so it listens on loopback unless told otherwise. A page of somebody else whose name was
made to resolve to this address (DNS rebinding) can read here what everyone on this host can read, and do nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

from haagent.api.http import metrics
from haagent.api.http.connections import HEADERS, Connection, Door, plain
from haagent.api.http.feed import Feed, Throttled, TooSlowError
from haagent.api.http.verdicts import Ownership
from haagent.v1.status_pb2 import Status

_LOG: Final = logging.getLogger("haagent.http")

STREAMS_MOST: Final = 16
TRY_AGAIN: Final = 10.0
"""Seconds until a port that was taken is tried again."""
QUIET: Final = 10.0
"""Seconds between two entries in the log about requests that could not be answered."""
_SEND_BUFFER: Final = 131_072
"""Bytes that the kernel keeps for a follower who does not read; it doubles them."""

_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What there is to say; each is asked when somebody wants to know. `unready` and `unwell`: reasons, if any."""

    owner: Callable[[str], Ownership | None]
    unready: Callable[[], Sequence[str]]
    unwell: Callable[[], Sequence[str]]
    status: Callable[[], Awaitable[Status]]
    metrics: Callable[[Status], bytes]


class HttpServer:
    """Serves on one address, from `serve` until that is cancelled."""

    def __init__(self, answers: Answers, feed: Feed) -> None:
        self._answers = answers
        self._feed = feed
        self._metrics = Throttled(answers.status, answers.metrics)
        self.followers = 0
        self._files = _files()
        self._quiet_until = float("-inf")
        self.port = 0
        """The port that it listens on; 0 while it does not."""

    async def serve(self, listen: str) -> None:
        """Serve on `address:port` until cancelled. A port that can not be had is said once, and tried again."""
        host, _, port = listen.rpartition(":")
        door = Door(web.Server(self._handle, handler_cancellation=True))
        listener = await self._listen(door, host.strip("[]"), int(port))
        try:
            self.port = listener.sockets[0].getsockname()[1]
            _LOG.info("http: metrics and dashboard on http://%s/", listen)
            await asyncio.get_running_loop().create_future()
        finally:
            self.port = 0
            listener.close()
            door.close()

    async def _listen(self, door: Door, host: str, port: int) -> asyncio.Server:
        loop, failed = asyncio.get_running_loop(), ""
        while True:
            try:
                return await loop.create_server(door, host, port, backlog=32, reuse_address=True)
            except OSError as error:
                if str(error) != failed:
                    _LOG.error("http: cannot listen on %s port %d, tried again until it works: %s", host, port, error)
                failed = str(error)
            await asyncio.sleep(TRY_AGAIN)

    # --- requests

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - a request must never cost more than its own answer
            self._tell(request, error)
            response = plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        response.force_close()
        return response

    async def _answer(self, request: BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        path = request.path
        match path:
            case "/metrics":
                return _page(await self._metrics.get(), metrics.CONTENT_TYPE)
            case "/status.json":
                return _page(await self._feed.status.get() + b"\n", "application/json")
            case "/healthz":
                return _verdict("healthy", self._answers.unwell())
            case "/readyz":
                return _verdict("ready", self._answers.unready())
            case "/events":
                return await self._stream(request)
            case _ if path in self._files:
                return _page(*self._files[path])
            case _ if path.startswith("/owner/"):
                return self._owner(path.removeprefix("/owner/"))
            case _:
                return plain(HTTPStatus.NOT_FOUND)

    def _owner(self, group: str) -> web.Response:
        known = self._answers.owner(group)
        if known is None:
            return plain(HTTPStatus.NOT_FOUND, "no such group")
        said = {"group": group, "here": known.here, "owner": known.owner or None, "epoch": known.epoch}
        return _json(HTTPStatus.OK if known.here else HTTPStatus.SERVICE_UNAVAILABLE, said)

    async def _stream(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        if request.method == "HEAD":
            return response
        await self._feed.status.get()  # if there is none to be had, that is an answer; later it is too late for one
        if self.followers >= STREAMS_MOST:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many follow already")
        assert isinstance(connection, Connection)
        self.followers += 1
        sink = _Sink(connection, response)
        connection.stays()
        response.force_close()
        try:
            await response.prepare(request)
            await self._feed.stream(sink)
        except TooSlowError:
            sink.abort()
        except ConnectionError:
            pass
        finally:
            self.followers -= 1
        return response

    def _tell(self, request: BaseRequest, error: Exception) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET
            _LOG.error("http: cannot answer %s", request.path, exc_info=error)


class _Sink:
    """A response as the feed sees it."""

    def __init__(self, connection: Connection, response: web.StreamResponse) -> None:
        self._connection = connection
        self._response = response
        sock = None if connection.transport is None else connection.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(SOL_SOCKET, SO_SNDBUF, _SEND_BUFFER)

    def unsent(self) -> int:
        transport = self._connection.transport
        if transport is None:
            raise ConnectionError("the client is gone")
        return transport.get_write_buffer_size()

    async def send(self, data: bytes) -> None:
        await self._response.write(data)

    def abort(self) -> None:
        if self._connection.transport is not None:
            self._connection.transport.abort()


def _files() -> Mapping[str, tuple[bytes, str]]:
    """The dashboard's files by path, read once."""
    static = resources.files("haagent.api.http") / "static"
    return {path: ((static / name).read_bytes(), f"{kind}; charset=utf-8") for path, (name, kind) in _FILES.items()}


def _page(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, headers={**HEADERS, "Content-Type": content_type})


def _verdict(what: str, reasons: Sequence[str]) -> web.Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return _json(status, {what: not reasons, "reasons": list(reasons)})


def _json(status: HTTPStatus, said: Mapping[str, object]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(said).encode() + b"\n",
        headers={**HEADERS, "Content-Type": "application/json"},
    )
