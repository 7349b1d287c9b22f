"""What tests of the gates share: both gates, a host whose kernel they guard, and a client that asks it by raw frames.

Nothing of it waits for what must come; what must not come, it gives 30 ms.
"""

from __future__ import annotations

import functools
import inspect
import os
import select
import socket
import subprocess
from collections.abc import Callable
from typing import Final

import pytest

from haagent.adapters.gate import BpfGate, NftGate
from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Instant, S
from haagent.lab import probes
from haagent.lab.probes import Asker, Kind
from haagent.runtime.clock import boottime
from tests.integration.kernel import vip
from tests.integration.namespace import Neighbour, in_namespace, sh

AnyGate = NftGate | BpfGate

KINDS: Final = ("nft", "bpf")
OWN: Final = (vip("10.0.0.1"), vip("fd00::1"))
VIPS: Final = (vip("10.0.0.100"), vip("fd00::100"))
OTHERS: Final = (vip("10.0.0.101"), vip("fd00::101"))
COOKIE: Final = 0x4711


def on_both(body: Callable[[], None]) -> Callable[..., None]:
    """Make a test of `body`, in a namespace of its own, once with each gate: see `gate`."""
    inside = in_namespace(body)

    @functools.wraps(body)
    def test(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HAAGENT_TEST_GATE", kind)
        inside()

    given = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [inspect.Parameter(name, given) for name in ("kind", "monkeypatch")]
    vars(test).update(body=body, __signature__=inspect.Signature(names))
    return pytest.mark.parametrize("kind", KINDS)(test)


def kind() -> str:
    """Which gate this test is about."""
    return os.environ["HAAGENT_TEST_GATE"]


def gate(lost: Callable[[str], None] | None = None, clock: Callable[[], Instant] = boottime) -> AnyGate:
    """A new incarnation's gate; that it is lost is a failure unless `lost` wants to know."""
    kinds: dict[str, type[AnyGate]] = {"nft": NftGate, "bpf": BpfGate}
    return kinds[kind()](lost or _must_not_be_lost, clock=clock)


def later(lasts: int = 10 * S) -> Instant:
    return boottime() + lasts


class Client:
    """A host on the other end of the guarded host's cable; its questions are frames, so no cache answers them."""

    def __init__(
        self, here: str = "eth0", there: str = "p0", network: str = "0", holds: tuple[VirtualAddress, ...] = VIPS
    ) -> None:
        """Make the cable, and give our end its own addresses and those that it holds."""
        self.here, self.network, self.holds = here, network, holds
        self.far = Neighbour(here, there)
        self.far.run(lambda: _set_up(there, f"10.0.{network}.2/24", f"fd00:{network}::2/64"))
        self.socket = self.far.run(lambda: _listening(there))
        self.mac: bytes = self.socket.getsockname()[4]
        self.asker = Asker(self.mac, _packed(f"10.0.{network}.2"), _packed(f"fd00:{network}::2"), COOKIE)
        self.set_up()

    def set_up(self, *addresses: VirtualAddress) -> None:
        """Our end's own addresses, and these (or those that it usually holds)."""
        _set_up(self.here, f"10.0.{self.network}.1/24", f"fd00:{self.network}::1/64")
        self.there = _mac(self.here)
        hold(*(addresses or self.holds), interface=self.here)
        for source in (self.asker.ipv4, self.asker.ipv6):
            sh(f"ip neighbour replace {_text(source)} lladdr {self.mac.hex(':')} dev {self.here}")

    def ask(self, address: VirtualAddress) -> None:
        """One question of each kind for an address."""
        self.socket.send(probes.who_has(self.asker, address.address))
        self.socket.send(probes.Echo(self.asker, address.address, self.there, 1).frame(boottime()))

    def answers(self, address: VirtualAddress, seconds: float = 0.03) -> set[Kind]:
        """The kinds of answers to one question of each kind; returns as soon as both are there."""
        self.drain()
        self.ask(address)
        found: set[Kind] = set()
        end = boottime() + int(seconds * S)
        while len(found) < 2 and (left := end - boottime()) > 0:
            if select.select([self.socket], [], [], left / S)[0]:
                reply = probes.read(self.socket.recv(2048), COOKIE)
                if reply is not None and reply.address == address.address:
                    found.add(reply.kind)
        return found

    def silent(self, address: VirtualAddress) -> bool:
        return not self.answers(address)

    def answered(self, address: VirtualAddress) -> bool:
        """Whether both kinds of questions are answered; the machine may take its time."""
        return any(len(self.answers(address, 0.3)) == 2 for _ in range(5))

    def last_answer(self, address: VirtualAddress, until: Instant) -> Instant | None:
        """Ask every millisecond until 30 ms after an instant; when the last answer came."""
        last: Instant | None = None
        self.drain()
        while (now := boottime()) < until + 30 * MS:
            self.ask(address)
            while (left := now + MS - boottime()) > 0:
                if select.select([self.socket], [], [], left / S)[0]:
                    at = boottime()
                    reply = probes.read(self.socket.recv(2048), COOKIE)
                    if reply is not None and reply.address == address.address:
                        last = at
        return last

    def received(self, seconds: float = 0.03) -> list[bytes]:
        """The frames that come within a while."""
        found: list[bytes] = []
        end = boottime() + int(seconds * S)
        while (left := end - boottime()) > 0:
            if select.select([self.socket], [], [], left / S)[0]:
                data, where = self.socket.recvfrom(2048)
                if where[2] != socket.PACKET_OUTGOING:
                    found.append(data)
        return found

    def drain(self) -> None:
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(2048)

    def reconnect(self) -> None:
        """After our end was deleted: a new cable, without addresses at our end."""
        self.far.connect()
        there = self.far.there
        self.far.run(lambda: _set_up(there, f"10.0.{self.network}.2/24", f"fd00:{self.network}::2/64"))
        self.socket.close()
        self.socket = self.far.run(lambda: _listening(there))
        self.mac = self.socket.getsockname()[4]
        self.asker = Asker(self.mac, self.asker.ipv4, self.asker.ipv6, COOKIE)


def hold(*addresses: VirtualAddress, interface: str = "eth0") -> None:
    """Give an interface addresses."""
    for each in addresses:
        flags = " nodad" if len(each.address) == 16 else ""
        sh(f"ip address replace {_text(each.address)}/{each.prefix} dev {interface}{flags}")


def nft(line: str) -> str:
    """What `nft` says; whether it succeeds does not matter."""
    done = subprocess.run(["nft", *line.split()], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _must_not_be_lost(why: str) -> None:
    raise AssertionError(why)


def _set_up(interface: str, *addresses: str) -> None:
    sh(f"ip link set {interface} up")
    for each in addresses:
        sh(f"ip address replace {each} dev {interface}{' nodad' if ':' in each else ''}")


def _listening(interface: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    opened.bind((interface, 3))
    return opened


def _mac(interface: str) -> bytes:
    shown = sh(f"ip -o link show dev {interface}").split()
    return bytes.fromhex(shown[shown.index("link/ether") + 1].replace(":", ""))


def _packed(text: str) -> bytes:
    return vip(text).address


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
