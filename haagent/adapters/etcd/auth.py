"""Who we are to etcd: a user, who authenticates and gets a token, and the certificates of `trust`.

A new token is asked for when etcd refuses the old one. A password that stands in a file is read each time: one that was
changed at etcd and in the file needs nothing more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aetcd import rpc
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from haagent.adapters.etcd.announcer import Announcer
from haagent.adapters.etcd.failures import CallError, Trouble
from haagent.adapters.etcd.kept import Kept
from haagent.adapters.etcd.settings import EtcdSettings, EtcdSettingsError
from haagent.adapters.etcd.trust import Trust

if TYPE_CHECKING:
    from haagent.adapters.etcd.pool import Pool

# etcd hashes the password for each attempt (bcrypt, some 0.1 s of its CPU), so those are spaced; and one takes longer
# than the patience of most calls, so it is nobody's call in particular.
_PATIENCE: Final = 5.0
_BACKOFF: Final = wait_random_exponential(multiplier=0.2, min=0.2, max=2.0)

# A simple token ends 300 s after its last use, at each member by itself. Made anew often enough, it is good at members
# that were not used for long, too.
_REFRESH: Final = 120.0

_NOT_ENABLED: Final = "authentication is not enabled"


class Access:
    """EtcdSettingsError: the settings cannot work. `trust` has the certificates."""

    def __init__(self, settings: EtcdSettings, announcer: Announcer) -> None:
        _check_login(settings)
        self.trust = Trust(settings, announcer)
        self._settings = settings
        self._announcer = announcer
        self._token = Kept[str]("token")
        self._changed = asyncio.Event()

    @property
    def needs_token(self) -> bool:
        """Whether there is a user to authenticate as."""
        return self._settings.user is not None

    async def change(self, settings: EtcdSettings) -> tuple[str, ...]:
        """Be this one from now on; what of it is something else than before, in words. EtcdSettingsError."""
        await asyncio.to_thread(_check_login, settings)
        said = ("etcd's certificates",) if await asyncio.to_thread(self.trust.change, settings) else ()
        before, self._settings = self._settings, settings
        if _login(before) != _login(settings):
            said = ("etcd's user", *said)
        self._changed.set()
        return said

    async def token(self, deadline: float) -> str:
        """What authenticates a call, "" if nothing has to. CallError (not sent) if there is none in time."""
        if not self.needs_token:
            return ""
        try:
            return await self._token.get(deadline)
        except CallError:
            raise CallError(f"not authenticated: {self._token.why}", Trouble.NOT_SENT) from None

    def drop_token(self, stale: str) -> None:
        """etcd did not take that one."""
        self._token.drop(stale)

    async def keep(self, pool: Pool) -> None:
        """Keep a token there; the empty one while etcd wants none. Runs until cancelled."""
        while True:
            self._changed.clear()
            if not self.needs_token:
                await self._changed.wait()
                continue
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(CallError), wait=_BACKOFF, sleep=self._pause
            ):
                with attempt:
                    await self._authenticate(pool)
            await self._until_due()

    async def _pause(self, seconds: float) -> None:
        """Between two attempts; cut short by a change, which may be the cure."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def _until_due(self) -> None:
        waiting = [asyncio.ensure_future(self._token.missing()), asyncio.ensure_future(self._changed.wait())]
        try:
            await asyncio.wait(waiting, timeout=_REFRESH, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _authenticate(self, pool: Pool) -> None:
        user = self._settings.user
        if user is None:  # that has changed meanwhile
            return
        try:
            request = rpc.AuthenticateRequest(name=user, password=await asyncio.to_thread(_password, self._settings))
            response = await pool.call(
                lambda endpoint, metadata, timeout: endpoint.auth.Authenticate(
                    request, metadata=metadata, timeout=timeout
                ),
                asyncio.get_running_loop().time() + _PATIENCE,
                repeatable=True,
                authenticated=False,
            )
        except EtcdSettingsError as error:
            self._token.why = str(error)
            self._announcer.bad("user", f"{user} cannot be authenticated: {error}")
            raise CallError(str(error), Trouble.NOT_SENT) from None
        except CallError as error:
            if error.trouble is Trouble.REFUSED and _NOT_ENABLED in error.why:
                self._announcer.bad("user", f"{user} is of no use: {_NOT_ENABLED}")
                self._token.put("")
                return
            self._token.why = error.why
            if error.trouble is Trouble.REFUSED:
                self._announcer.bad("user", f"{user} is refused: {error.why}")
            raise
        self._announcer.good("user", f"{user} is authenticated")
        self._token.put(response.token)


def check(settings: EtcdSettings) -> None:
    """EtcdSettingsError: by these etcd cannot be reached; something is missing or malformed, or a file is no good."""
    Access(settings, Announcer())


def _check_login(settings: EtcdSettings) -> None:
    given = settings.password is not None or settings.password_file is not None
    if (settings.user is not None) is not given:
        raise EtcdSettingsError("user and password: give both or neither")
    _password(settings)


def _password(settings: EtcdSettings) -> str:
    path = settings.password_file
    if path is None:
        return settings.password or ""
    try:
        return path.read_text().rstrip("\r\n")
    except OSError as error:
        raise EtcdSettingsError(f"password_file: {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise EtcdSettingsError(f"password_file: {path}: is not UTF-8 text") from None


def _login(settings: EtcdSettings) -> tuple[object, ...]:
    return settings.user, settings.password, settings.password_file
