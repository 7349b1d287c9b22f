"""Keeping a stream with one peer: dialing it, where that is ours to do; else finding out why it does not dial us."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio

from haagent.api.peers.backoff import pause
from haagent.api.peers.circle import Circle, Link
from haagent.api.peers.diagnosis import diagnose
from haagent.api.peers.endpoint import Endpoint, endpoint
from haagent.api.peers.greeting import dials, judge
from haagent.api.peers.reasons import Reason, Refused
from haagent.api.peers.wire import COMMON, DEADLINE, DialedPipe, exchange, greet
from haagent.core.units import S

STOOD: Final = 5.0
"""Seconds after which a stream counts as one that worked: the next pause is the shortest again."""
_OPTIONS: Final = (
    *COMMON,
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # A channel serves one attempt: connections are neither shared nor tried twice.
    ("grpc.use_local_subchannel_pool", 1),
)
_LOG: Final = logging.getLogger("haagent.peers")
_LOOK_AFTER: Final = 3.0
_LOOK_EVERY: Final = 15.0


async def keep(circle: Circle, link: Link) -> None:
    """Keep the stream with the peer. Runs until cancelled: a mistake of ours costs a pause, not the peer."""
    failures = 0
    while True:
        try:
            await (_dial if dials(circle.ours.node, link.name) else _wait)(circle, link)
        except Exception as error:  # noqa: BLE001 - whatever it is; it is said
            failures += 1
            if failures == 1:
                _LOG.exception("peers: %s: a mistake in haagent", link.name)
            link.error = _refuse(circle, link, Refused(Reason.MISTAKE, f"{type(error).__name__}: {error}"))
            await asyncio.sleep(pause(failures, random.random()))


async def _dial(circle: Circle, link: Link) -> None:
    failures = 0
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        link.error = await _once(circle, link)
        failures = 1 if loop.time() - began > STOOD else failures + 1
        shunned = (link.shunned_until - circle.clock()) / S
        await asyncio.sleep(max(pause(failures, random.random()), shunned))


async def _once(circle: Circle, link: Link) -> Refused:
    """One stream, from dialing to its end."""
    where = endpoint(link.endpoint)
    if where is None:
        return _refuse(circle, link, Refused(Reason.ENDPOINT, f"{link.endpoint!r} is no address with a port"))
    async with _channel(circle, link, where) as channel:
        pipe = DialedPipe(exchange(channel))
        try:
            theirs = await greet(pipe, circle.ours)
        except TimeoutError:
            ready = channel.get_state() is grpc.ChannelConnectivity.READY
            reason = Reason.NO_HELLO if ready else Reason.UNREACHABLE
            return _refuse(circle, link, Refused(reason, f"not a word within {DEADLINE:g} s"))
        if isinstance(theirs, Refused):
            if theirs.reason is Reason.BROKEN_OFF:
                theirs = await diagnose(where, circle.credentials, link.name) or theirs
            return _refuse(circle, link, theirs)
        # gRPC has proven the name while connecting: by `ssl_target_name_override`.
        version = judge(circle.ours, theirs, proven=None, expected=link.name)
        if isinstance(version, Refused):
            return _refuse(circle, link, version)
        return await circle.converse(link, theirs, version, pipe)


@asynccontextmanager
async def _channel(circle: Circle, link: Link, where: Endpoint) -> AsyncGenerator[grpc.aio.Channel]:
    """A connection of its own for each attempt, so that each goes by the newest certificates."""
    if circle.credentials is None:
        channel = grpc.aio.insecure_channel(where.target, options=_OPTIONS)
    else:
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", link.name))
        channel = grpc.aio.secure_channel(where.target, circle.credentials.channel(), options=options)
    try:
        yield channel
    finally:
        await channel.close()


async def _wait(circle: Circle, link: Link) -> None:
    """It is the peer that dials. While it does not, look whether we can see why."""
    await asyncio.sleep(_LOOK_AFTER)
    while True:
        if link.session is None:
            where = endpoint(link.endpoint)
            why = None if where is None else await diagnose(where, circle.credentials, link.name)
            if link.session is None:
                if why is not None:
                    _refuse(circle, link, why)
                link.error = why or link.error or Refused(Reason.UNREACHABLE, "it has not dialed us yet")
        await asyncio.sleep(_LOOK_EVERY * (0.5 + random.random()))


def _refuse(circle: Circle, link: Link, why: Refused) -> Refused:
    circle.refuse(link.name, why)
    return why
