"""Authentication by user and password: a token that is made anew when etcd no longer takes it."""

from __future__ import annotations

import asyncio
from typing import Final

from aetcd import rpc
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.failures import CallError, Trouble
from haagent.adapters.etcd.kept import Kept
from haagent.adapters.etcd.pool import Pool

# etcd hashes the password for each attempt (bcrypt, some 0.1 s of its CPU), so those are spaced; and one takes longer
# than the patience of most calls, so it is nobody's call in particular.
_PATIENCE: Final = 5.0
_BACKOFF: Final = wait_random_exponential(multiplier=0.2, min=0.2, max=2.0)

# A simple token ends 300 s after its last use, at each member by itself. Made anew often enough, it is good at members
# that were not used for long, too.
_REFRESH: Final = 120.0

_NOT_ENABLED: Final = "authentication is not enabled"


async def keep_token(token: Kept[str], pool: Pool, user: str, password: str, announcer: Announcer) -> None:
    """Keep a token there; the empty one while etcd wants none. Runs until cancelled."""
    request = rpc.AuthenticateRequest(name=user, password=password)
    loop = asyncio.get_running_loop()

    async def authenticate() -> None:
        try:
            response = await pool.call(
                lambda endpoint, metadata, timeout: endpoint.auth.Authenticate(
                    request, metadata=metadata, timeout=timeout
                ),
                loop.time() + _PATIENCE,
                repeatable=True,
                authenticated=False,
            )
        except CallError as error:
            if error.trouble is Trouble.REFUSED and _NOT_ENABLED in error.why:
                announcer.bad("user", f"{user} is of no use: {_NOT_ENABLED}")
                token.put("")
                return
            token.why = error.why
            if error.trouble is Trouble.REFUSED:
                announcer.bad("user", f"{user} is refused: {error.why}")
            raise
        announcer.good("user", f"{user} is authenticated")
        token.put(response.token)

    while True:
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(CallError), wait=_BACKOFF):
            with attempt:
                await authenticate()
        await token.lost_within(_REFRESH)
