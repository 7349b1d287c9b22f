"""Who wishes an agent ill: run on its host with `Orders` as JSON, it tries every port in turn, and reports what it got.

It has a certificate of the agents' CA: what strangers without one get is in the tests of the ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, TypedDict

import grpc.aio

from haagent.api.credentials import Credentials, load
from haagent.api.peers import Greeting, messages
from haagent.core.heartbeat import SendHeartbeat, SendPromise, Tenure
from haagent.core.units import S
from haagent.v1 import peers_pb2

MESSAGES: Final = 100_000
CROWD: Final = 600
SECONDS: Final = 1.0
AT_ONCE: Final = 100
NOISE: Final = os.urandom(1 << 20)
GARBAGE: Final = (NOISE, b"\x16\x03\x01" + NOISE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 43_000)


class Orders(TypedDict):
    """Where the ports are, by which certificate to knock, and whose heartbeats to forge."""

    node: str
    peers: str
    control: str
    socket: str
    http: str
    name: str
    ca: str
    certificate: str
    key: str
    group: str
    incarnation: str
    epoch: int


class Report(TypedDict):
    """Messages `sent` until the stream `ended`, and how; `promises` heard; `answers` of Control by code."""

    sent: int
    ended: str
    promises: int
    answers: dict[str, int]


async def storm(orders: Orders) -> Report:
    ours = load(Path(orders["ca"]), Path(orders["certificate"]), Path(orders["key"]), orders["name"])
    ports = [orders["peers"], orders["control"], orders["http"], orders["socket"]]
    report = await _forge(orders, ours)
    for target, credentials in ((orders["control"], ours), (f"unix:{orders['socket']}", None)):
        for code, count in (await _ask(target, credentials)).items():
            report["answers"][code] = report["answers"].get(code, 0) + count
    await asyncio.to_thread(lambda: [_throw(port, data) for port in ports for data in GARBAGE])
    await asyncio.to_thread(_crowd, ports)
    return report


async def _forge(orders: Orders, ours: Credentials) -> Report:
    """As fast as it goes: heartbeats of the owner's incarnation, and promises that nobody has made, again and again."""
    tenures = tuple(Tenure(orders["group"], orders["epoch"] + more) for more in (0, 1))
    report = Report(sent=0, ended="", promises=0, answers={})

    async def listen() -> None:
        while isinstance(data := await call.read(), bytes):
            report["promises"] += peers_pb2.PeerMessage.FromString(data).WhichOneof("body") == "promise"

    options = [("grpc.ssl_target_name_override", orders["node"])]
    async with grpc.aio.secure_channel(orders["peers"], ours.channel(), options=options) as channel:
        call: Any = channel.stream_stream("/haagent.v1.Peers/Exchange")()
        listening = asyncio.create_task(listen())
        try:
            await call.write(messages.greeting(Greeting("lab", orders["name"], orders["incarnation"], "0.1.0")))
            for number in range(MESSAGES // 2):
                await call.write(messages.heartbeat(SendHeartbeat((), orders["incarnation"], number, S, tenures)))
                await call.write(messages.promise(SendPromise("", "m", orders["incarnation"], number, tenures)))
                report["sent"] += 2
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass
        with contextlib.suppress(grpc.RpcError):
            await listening
        report["ended"] = str(await call.details())
    return report


async def _ask(target: str, credentials: Credentials | None) -> Counter[str]:
    """Ask for as much as there is time for, a hundred requests at once."""
    answers: Counter[str] = Counter()
    options = [("grpc.ssl_target_name_override", "control")]
    channel = (
        grpc.aio.insecure_channel(target)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials.channel(), options=options)
    )
    async with channel:
        status = channel.unary_unary("/haagent.v1.Control/GetStatus")
        end = time.monotonic() + SECONDS

        async def go_on() -> None:
            while time.monotonic() < end:
                try:
                    await status(b"", timeout=10)
                    answers["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    answers[error.code().name] += 1

        await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    return answers


def _connect(port: str) -> socket.socket:
    if port.startswith("/"):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(2)
        made.connect(port)
        return made
    host, _, number = port.rpartition(":")
    return socket.create_connection((host, int(number)), timeout=2)


def _throw(port: str, data: bytes) -> None:
    with contextlib.suppress(OSError), _connect(port) as thrown:
        thrown.sendall(data)
        while thrown.recv(4096):
            pass


def _crowd(ports: list[str]) -> None:
    """Connections that say nothing, at every port, all at once."""
    with contextlib.ExitStack() as held:
        for port in ports * (CROWD // len(ports)):
            with contextlib.suppress(OSError):
                held.enter_context(_connect(port))
        time.sleep(SECONDS)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(storm(json.load(sys.stdin)))))
