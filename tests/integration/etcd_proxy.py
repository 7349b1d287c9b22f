"""A proxy for one etcd member that can end all watches and hold new ones back: `etcd_proxy.py LISTEN TARGET DIRECTORY`.

It passes bytes on and knows no message. Files in the directory steer it: while `hold` exists, new watches wait, and
`held` says that one does; when `break` appears, all watches end, and it is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

WATCH = "/etcdserverpb.Watch/Watch"


class Proxy(grpc.GenericRpcHandler):
    """Every method is passed on as a stream of bytes in both directions; a call of one message is one, too."""

    def __init__(self, target: grpc.aio.Channel, directory: Path) -> None:
        self._target = target
        self._directory = directory
        self.watches: set[asyncio.Task[Any]] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method
        metadata = [each for each in handler_call_details.invocation_metadata if each[0] in ("token", "hasleader")]

        async def pass_on(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            if method == WATCH:
                task = asyncio.current_task()
                assert task is not None
                self.watches.add(task)
                task.add_done_callback(self.watches.discard)
                while (self._directory / "hold").exists():
                    (self._directory / "held").touch()
                    await asyncio.sleep(0.01)
            call = self._target.stream_stream(method)(requests, metadata=metadata)
            try:
                async for response in call:
                    yield response
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")
            finally:
                call.cancel()

        return grpc.stream_stream_rpc_method_handler(pass_on)


async def main(listen: str, target: str, directory: Path) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        server = grpc.aio.server()
        proxy = Proxy(channel, directory)
        server.add_generic_rpc_handlers((proxy,))
        server.add_insecure_port(listen)
        await server.start()
        while True:
            with contextlib.suppress(FileNotFoundError):
                (directory / "break").unlink()
                for task in tuple(proxy.watches):
                    task.cancel()
            await asyncio.sleep(0.01)


class Steering:
    """The files, for who steers a proxy from another process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def hold_new_watches(self) -> None:
        """End every watch; the next ones wait, and one does when this returns."""
        (self.directory / "held").unlink(missing_ok=True)
        (self.directory / "hold").touch()
        (self.directory / "break").touch()
        end = time.monotonic() + 10
        while not (self.directory / "held").exists():
            assert time.monotonic() < end, "nobody watches again"
            time.sleep(0.002)

    def let_go(self) -> None:
        """The watch that waits goes on its way."""
        (self.directory / "hold").unlink()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
