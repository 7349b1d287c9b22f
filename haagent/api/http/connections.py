"""Who may connect, for how long, and what is sent to those whose bytes are no request.

aiohttp's server with bounds: so many connections, each for one request that must be made and answered in time (unless
it is kept as a stream), with a short request line, few and short headers. Whatever else comes is answered with 400 or
not at all, and never logged: anyone can send garbage.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from aiohttp.web_request import BaseRequest

CONNECTIONS_MOST: Final = 64
PATIENCE: Final = 10.0
"""Seconds for a whole request and its answer."""
REQUEST_MOST: Final = 32_768
"""Bytes of a request, with all that follows it: who sends more is not asking for what this server has."""
LINGER: Final = 1.0
"""Seconds for which what is still being sent is read and thrown away, so that the answer is not lost."""

HEADERS: Final = {
    "Server": "haagent",
    "Cache-Control": "no-store",
    # Only what this server has, nothing that is written into the page, and in nobody else's frame.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""In every answer."""


class Connection(web.RequestHandler):
    """One connection, for one request."""

    __slots__ = ("_deadline", "_door", "_received")

    def __init__(self, door: Door, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=PATIENCE,
            max_line_size=2048,
            max_headers=64,
            max_field_size=4096,
            lingering_time=LINGER,
            read_bufsize=16_384,
        )
        self._door = door
        self._deadline: asyncio.TimerHandle | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let in, or sent away at once."""
        assert isinstance(transport, asyncio.Transport)
        if len(self._door.open) >= CONNECTIONS_MOST:
            self._door.turned_away += 1
            transport.abort()
            return
        self._door.open.add(self)
        self._deadline = asyncio.get_running_loop().call_later(PATIENCE, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is over."""
        if self in self._door.open:
            self._door.open.discard(self)
            self.stays()
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What was sent, up to a bound."""
        self._received += len(data)
        if self._received <= REQUEST_MOST:
            super().data_received(data)
        elif self.transport is not None:
            self.transport.abort()

    def stays(self) -> None:
        """What is sent over it has no end: whoever sends must see to it that it is taken."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def handle_error(
        self,
        request: BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it would quote what was sent
    ) -> web.StreamResponse:
        """The answer to what is no request."""
        if exc is not None:
            exc.__traceback__ = None  # its frames hold what was sent, and the connection: a cycle
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = plain(HTTPStatus(status))
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Never: garbage is no news, and the handler tells of its own errors."""


class Door:
    """Makes connections, and knows those that are open. `turned_away`: how many there was no room for."""

    def __init__(self, manager: web.Server) -> None:
        self.open: set[Connection] = set()
        self.turned_away = 0
        self._manager = manager
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> Connection:
        """One more."""
        return Connection(self, self._manager, self._loop)

    def close(self) -> None:
        """End them all at once."""
        for connection in tuple(self.open):
            if connection.transport is not None:
                connection.transport.abort()


def plain(status: HTTPStatus, text: str = "", **headers: str) -> web.Response:
    """An answer in one line of text; by default what the status is called."""
    body = f"{text or status.phrase}\n"
    return web.Response(status=status, text=body, headers={**HEADERS, **headers})
