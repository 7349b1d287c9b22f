"""A real Chromium without a window, driven by its DevTools protocol over a websocket.

It talks to nobody but the page: everything that it would fetch by itself is switched off.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)
PATIENCE = 30


class Page:
    """One tab. `console` holds what the page complained of."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.console: list[str] = []

    async def listen(self) -> None:
        """Take in what the browser says, until it ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.console.append(json.dumps(said["params"]))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command, and its answer."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in said, said
        return said["result"]

    async def open(self, url: str, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Go there, in a window of this size."""
        await self.resize(width, height)
        await self.prefer(dark)
        await self.call("Page.navigate", url=url)

    async def resize(self, width: int, height: int) -> None:
        phone = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    async def prefer(self, dark: bool) -> None:
        """What `prefers-color-scheme` says."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def js(self, expression: str) -> Any:
        """What an expression is in the page."""
        said = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, expression: str, within: float = 10) -> float:
        """Wait until it holds; returns after how many seconds that was."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not await self.js(expression):
            assert loop.time() - began < within, f"not within {within} s: {expression}\n{await self.text()}"
            await asyncio.sleep(0.02)
        return loop.time() - began

    async def text(self, of: str = "body") -> str:
        """What one reads there."""
        return str(await self.js(f"document.querySelector({json.dumps(of)})?.innerText ?? ''"))

    async def screenshot(self) -> bytes:
        """The whole page, as PNG."""
        said = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(said["data"])


@contextlib.asynccontextmanager
async def chromium(profile: Path) -> AsyncGenerator[Page]:
    """A browser of its own, with an empty profile in that directory, and its one tab."""
    process = await asyncio.create_subprocess_exec(
        "chromium",
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    listening: asyncio.Task[None] | None = None
    try:
        port = await _port(profile, process)
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tab = next(one for one in await answer.json() if one["type"] == "page")
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                for domain in ("Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                yield page
                listening.cancel()
                await asyncio.wait([listening])
    finally:
        await _end(process)


async def _port(profile: Path, process: asyncio.subprocess.Process) -> int:
    """The port that it took, which it writes into its profile."""
    told = profile / "DevToolsActivePort"
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.returncode is None, "chromium ended"
            if told.exists() and (lines := told.read_text().split()):
                return int(lines[0])
            await asyncio.sleep(0.02)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It and its helpers, which share its session."""

    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
