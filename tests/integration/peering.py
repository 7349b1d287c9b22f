"""Peers' adapters in one process, on loopback with real TLS; and strangers who dial them by hand."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from haagent.api.credentials import Credentials, load
from haagent.api.peers import Greeting, GrpcPeers, messages
from haagent.core.heartbeat import HeartbeatReceived, Meet, PromiseReceived, SendHeartbeat, SendPromise, Tenure
from haagent.core.model import Event
from haagent.core.units import S
from haagent.lab.certificates import Authority, Certificate, make_ca
from haagent.v1 import peers_pb2

WEB = (Tenure("web", 3),)


class Papers:
    """A CA, and certificates by node name."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.ca: Authority = make_ca(directory)
        self.of: dict[str, Certificate] = {name: self.ca.issue(name) for name in names}

    def credentials(self, name: str) -> Credentials:
        return load(self.ca.own.certificate, self.of[name].certificate, self.of[name].key, name)


def forged(credentials: Credentials, other: Certificate) -> Credentials:
    """With another certificate, which nobody has looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=credentials.ca.decode())
    context.load_cert_chain(other.certificate, other.key)
    context.set_alpn_protocols(["h2"])
    return replace(credentials, certificate=other.certificate.read_bytes(), key=other.key.read_bytes(), context=context)


class Node:
    """One adapter, and what it delivered; promises whatever it is asked for."""

    def __init__(self, name: str, credentials: Credentials | None, **changes: Any) -> None:
        self.name = name
        self.heard: list[Event] = []
        self.changed = asyncio.Event()
        self.greeting = replace(Greeting("prod", name, f"{name}-1", "0.1.0"), **changes)
        self.peers = GrpcPeers(self.greeting, "127.0.0.1:0", credentials, self._hear)

    def _hear(self, event: Event) -> None:
        self.heard.append(event)
        self.changed.set()
        if isinstance(event, HeartbeatReceived):
            self.peers.promise(SendPromise(event.node, "m", event.incarnation, event.round, event.tenures))

    def meet(self, *others: Node | tuple[str, str]) -> None:
        self.peers.meet(Meet(tuple(o if isinstance(o, tuple) else (o.name, o.endpoint) for o in others)))

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.peers.port}"

    def beat(self, *to: str, number: int = 1) -> None:
        self.peers.heartbeat(SendHeartbeat(to, self.greeting.incarnation, number, S, WEB))

    async def promised(self, by: str, number: int) -> None:
        wanted = PromiseReceived(by, "m", self.greeting.incarnation, number, WEB)
        await until(lambda: wanted in self.heard, lambda: f"{wanted} in {self.heard}; {self.peers.table()}")

    async def connected(self, *names: str) -> None:
        await until(
            lambda: all((found := self.peers.table().get(name)) and found.connected for name in names),
            lambda: f"{self.name} with {names}: {self.peers.table()}",
        )

    async def refuses(self, peer: str, reason: str) -> str:
        """Wait until it has counted that; returns what it says of the peer."""
        await until(lambda: self.count(peer, reason) > 0, lambda: f"{peer} {reason}: {self.peers.refused}")
        found = self.peers.table().get(peer)
        return "" if found is None else found.error

    def count(self, peer: str, reason: str) -> int:
        return sum(count for key, count in self.peers.refused.items() if key == (peer, reason))


async def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what()
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncGenerator[None]:
    """Started, and closed at the end."""
    try:
        for node in nodes:
            await node.peers.start()
        yield
    finally:
        for node in nodes:
            await node.peers.close()


@contextlib.asynccontextmanager
async def acquainted(*nodes: Node) -> AsyncGenerator[None]:
    """Started, introduced, and connected, each with each."""
    async with running(*nodes):
        for node in nodes:
            node.meet(*(other for other in nodes if other is not node))
        for node in nodes:
            await node.connected(*(other.name for other in nodes if other is not node))
        yield


class Stranger:
    """A stream to a node that is spoken by hand; it may say anything, and need not listen."""

    def __init__(self, node: Node, credentials: Credentials | None) -> None:
        target = f"ipv4:{node.endpoint}"
        options = [("grpc.ssl_target_name_override", node.name), ("grpc.use_local_subchannel_pool", 1)]
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials.channel(), options=options)
        self.call: Any = self._channel.stream_stream("/haagent.v1.Peers/Exchange")()

    async def __aenter__(self) -> Stranger:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def say(self, data: bytes) -> None:
        await self.call.write(data)

    async def hello(self, name: str, **changes: Any) -> None:
        await self.say(messages.greeting(replace(Greeting("prod", name, f"{name}-1", "0.1.0"), **changes)))

    async def beat(self, incarnation: str, number: int = 1) -> None:
        await self.say(messages.heartbeat(SendHeartbeat((), incarnation, number, S, WEB)))

    async def hear(self) -> peers_pb2.PeerMessage | None:
        data = await self.call.read()
        return peers_pb2.PeerMessage.FromString(data) if isinstance(data, bytes) else None

    async def ended(self) -> str:
        """Read until the stream ends; how it did."""
        try:
            async with asyncio.timeout(8):
                while isinstance(await self.call.read(), bytes):
                    pass
                return str(await self.call.details())
        except grpc.aio.AioRpcError as error:
            return str(error.details())
