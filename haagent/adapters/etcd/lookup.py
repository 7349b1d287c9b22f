"""The addresses of an endpoint: its own, if it is given by address, else those that its name has.

The host's resolver is asked (getaddrinfo: /etc/hosts first, as nsswitch.conf says), and not gRPC's: that asks the
nameservers for what /etc/hosts does not have (IPv6 addresses, service configurations), and a nameserver that is dead
holds it up for 10 to 20 s. A lookup runs in a thread of its own, which nobody waits for at the end: it cannot be
cancelled. What was found before is used until a later lookup says something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Final

from haagent.adapters.etcd.settings import Target

_APART: Final = 1.0
"""Seconds between the beginnings of two lookups."""

Found = tuple[str, ...]
"""gRPC's names of what to connect to, one a family, in the order in which the resolver prefers them."""


class Lookup:
    """Made on the running event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Future[None] | None = None
        self._next = 0.0
        self.found: Found = ()
        self.why = ""
        """What the last lookup failed by; empty: it did not."""
        if target.numeric:
            self.found = (target.name,)

    @property
    def waiting(self) -> bool:
        """Whether a lookup is under way."""
        return self._running is not None

    def begin(self) -> None:
        """Look again, unless a lookup is under way, or ended just now."""
        if self._running is None and not self._target.numeric and self._loop.time() >= self._next:
            self._next = self._loop.time() + _APART
            self._running = self._loop.create_future()
            threading.Thread(target=self._ask, name=f"lookup {self._target.host}", daemon=True).start()

    async def ended(self, seconds: float) -> None:
        """Wait for the lookup that is under way, so long at most."""
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=seconds)

    def _ask(self) -> None:
        found: Found = ()
        why = ""
        try:
            answers = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
            found = _by_family([(family, str(address[0])) for family, _, _, _, address in answers], self._target.port)
        except OSError as error:
            why = error.strerror or str(error)
        except UnicodeError:
            why = "it is no host name"
        with contextlib.suppress(RuntimeError):  # the event loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._end, found, why)

    def _end(self, found: Found, why: str) -> None:
        self.found, self.why = found or self.found, why
        if self._running is not None and not self._running.done():
            self._running.set_result(None)
        self._running = None


def _by_family(answers: list[tuple[int, str]], port: int) -> Found:
    families = dict.fromkeys(family for family, _ in answers if family in (socket.AF_INET, socket.AF_INET6))
    return tuple(_name(each, [address for family, address in answers if family == each], port) for each in families)


def _name(family: int, addresses: list[str], port: int) -> str:
    if family == socket.AF_INET:
        return "ipv4:" + ",".join(f"{one}:{port}" for one in addresses)
    return "ipv6:" + ",".join(f"[{one}]:{port}" for one in addresses)
