"""Something that one task keeps there (a token, a lease) while others need it now and then."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from haagent.adapters.etcd.failures import CallError, Trouble

T = TypeVar("T")


class Kept(Generic[T]):
    """A value that may be missing. `what` names it in errors, `why` says what keeps it from being there."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._value: T | None = None
        self._there = asyncio.Event()
        self._missing = asyncio.Event()
        self._missing.set()
        self.why = "not asked for yet"

    @property
    def value(self) -> T | None:
        """The value, or None while it is missing."""
        return self._value

    def put(self, value: T) -> None:
        """It is there (again)."""
        self._value = value
        self._missing.clear()
        self._there.set()

    def drop(self, stale: T) -> None:
        """That value is no good; nothing happens if another one is there by now."""
        if self._value == stale:
            self._value = None
            self._there.clear()
            self._missing.set()

    async def get(self, deadline: float) -> T:
        """The value, once it is there. CallError (not sent) if it is not by then (event loop time)."""
        while self._value is None:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._there.wait()
            except TimeoutError:
                raise CallError(f"no {self._what}: {self.why}", Trouble.NOT_SENT) from None
        return self._value

    async def missing(self) -> None:
        """Return when there is none."""
        await self._missing.wait()

    async def lost_within(self, seconds: float) -> bool:
        """Wait that long, or until it is dropped; whether it was."""
        try:
            async with asyncio.timeout(seconds):
                await self._missing.wait()
        except TimeoutError:
            return False
        return True
