"""The `Speaker` port: which virtual routers speak where, what they send, and whether they listen to what comes."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final

from haagent.adapters.vrrp_socket.announcer import Announcer
from haagent.adapters.vrrp_socket.channel import Channel, Packet, Spot, datagrams
from haagent.adapters.vrrp_socket.outcomes import Outcomes
from haagent.adapters.vrrp_socket.rejections import Rejections
from haagent.core.model import AdvertReceived
from haagent.runtime.ports import Checksum, Deliver, RouterWire
from haagent.wire import vrrp
from haagent.wire.expectation import Expectation, accept
from haagent.wire.inet import VRRP_GROUP_V4, VRRP_GROUP_V6
from haagent.wire.rejection import Reason, Rejected

log = logging.getLogger("haagent.vrrp")

PACKETS_AT_ONCE: Final = 32
"""Read in one go: about a millisecond. The event loop then has its turn, whatever still waits."""


class VrrpSpeaker:
    """The `Speaker` port. All methods belong to the event loop's thread.

    `rejected` counts what was refused, by (router, or interface where no router is meant; reason). `counters`:
    opened, received, accepted, sent, no_source, announced, announce_stale, resolved, and send_<ERRNO>, open_<ERRNO>,
    receive_<ERRNO>, announce_<ERRNO>, resolve_<ERRNO>.
    """

    def __init__(self, deliver: Deliver) -> None:
        self.counters: Counter[str] = Counter()
        self._deliver = deliver
        self._rejections = Rejections()
        self._announcer = Announcer(self.counters)
        self._opening = Outcomes(self.counters, "open")
        self._sending = Outcomes(self.counters, "send")
        self._routers: dict[str, RouterWire] = {}
        self._channels: dict[Spot, Channel | None] = {}
        self._expected: dict[Spot, dict[int, tuple[str, Expectation]]] = {}
        self._primary: dict[Spot, bytes] = {}

    @property
    def rejected(self) -> Counter[tuple[str, Reason]]:
        return self._rejections.counted

    def configure(self, routers: Iterable[RouterWire]) -> None:
        """Speak for just these virtual routers from now on. Sockets that are still needed stay open."""
        self._routers = {router.rules.name: router for router in routers}
        needed = {_spot(router) for router in self._routers.values()}
        for spot in set(self._channels) - needed:
            self._close(spot)
            del self._channels[spot]
        for spot in needed:
            if self._channels.setdefault(spot, None) is None:
                self._open(spot)
            else:
                self._set_member(spot)
        self._expect()

    def addresses(self, interface: str, v4: bytes | None, v6: bytes | None) -> None:
        """The interface is there with these primary addresses, or changed; to be called for every `InterfaceChanged`.

        They are the source of adverts whose router has none configured, and what we never listen to. A
        socket whose interface went away, or came back as another one, is opened anew.
        """
        for spot, address in ((Spot(interface, 4), v4), (Spot(interface, 6), v6)):
            if address is None:
                self._primary.pop(spot, None)
            else:
                self._primary[spot] = address
            if spot in self._channels:
                channel = self._channels[spot]
                if channel is None or channel.is_stale():
                    self._open(spot)
                else:
                    self._set_member(spot)  # should it have been refused before
        self._expect()

    def advert(self, router: str, priority: int) -> None:
        """Send one advert to the group or to every peer. Priority 0 also ends the announcements that still wait."""
        wire = self._routers.get(router)
        if wire is None:
            return
        if priority == 0:
            self._announcer.cancel(router)
        spot = _spot(wire)
        source = self._source(wire)
        if source is None:
            self.counters["no_source"] += 1
            return
        advert = _advert(wire, priority)
        for destination in wire.peers or (_GROUPS[spot.family],):
            self._send(
                wire,
                spot,
                vrrp.encode(advert, source=source, destination=destination, dialect=_DIALECTS[wire.checksum]),
                source,
                destination,
            )

    def announce(self, router: str, *, refresh: bool = False) -> None:
        """Send gratuitous ARP or unsolicited neighbour advertisements for the router's addresses."""
        wire = self._routers.get(router)
        if wire is None:
            return
        if refresh:
            self._announcer.refresh(router, wire.rules.addresses)
        else:
            self._announcer.announce(router, wire.rules.addresses, wire.announce_repeat)

    def resolve(self, router: str) -> None:
        """Send each unicast peer an empty datagram to its discard port (RFC 863), for which the kernel resolves it."""
        wire = self._routers.get(router)
        source = None if wire is None else self._source(wire)
        if wire is None or source is None:
            return
        try:
            with datagrams(_spot(wire), source) as opened:
                for peer in wire.peers:
                    opened(peer)
        except OSError as error:
            self.counters[f"resolve_{errno.errorcode.get(error.errno or 0, error.errno)}"] += 1
        else:
            self.counters["resolved"] += 1

    def overflowed(self) -> dict[Spot, int]:
        """How many packets the kernel dropped before we could read them, by socket, since it was opened."""
        return {spot: channel.overflowed() for spot, channel in self._channels.items() if channel is not None}

    def close(self) -> None:
        """Close every socket. What was refused while they were open is logged, by name."""
        self._rejections.sum_up(self.counters["received"], sum(self.overflowed().values()))
        self.configure(())
        self._announcer.close()

    # Sending.

    def _send(self, wire: RouterWire, spot: Spot, pdu: bytes, source: bytes, destination: bytes) -> None:
        channel = self._channels[spot] or self._open(spot)
        if channel is None:
            return
        try:
            channel.send(pdu, source=source, destination=destination, ttl=wire.ttl)
        except OSError as error:
            self._sending.failed(wire.rules.name, error)
            if error.errno in (errno.ENODEV, errno.ENXIO):
                self._close(spot)
        else:
            self.counters["sent"] += 1
            self._sending.worked(wire.rules.name)

    def _source(self, wire: RouterWire) -> bytes | None:
        return wire.rules.source or self._primary.get(_spot(wire))

    # Receiving.

    def _readable(self, spot: Spot) -> None:
        channel = self._channels[spot]
        assert channel is not None, "a closed channel has no reader"
        try:
            for packet in channel.receive(PACKETS_AT_ONCE):
                self.counters["received"] += 1
                if isinstance(packet, Packet):
                    self._judge(spot, packet)
                else:
                    source, rejected = packet
                    self._rejections.note(spot.interface, source, rejected, time.monotonic_ns())
        except OSError as error:
            self.counters[f"receive_{errno.errorcode.get(error.errno or 0, error.errno)}"] += 1

    def _judge(self, spot: Spot, packet: Packet) -> None:
        pdu, source = packet.pdu, packet.source
        # Of whatever else is wrong with it: a packet that names a VRID of ours counts against that router.
        name, expected = self._expected[spot].get(pdu[1] if len(pdu) > 1 else 0, (spot.interface, None))
        multicast = packet.destination == _GROUPS[spot.family]
        found = vrrp.decode(pdu, source=source, destination=packet.destination, ttl=packet.ttl, multicast=multicast)
        if not isinstance(found, Rejected):
            found = accept(found, expected, source=source, multicast=multicast)
        if isinstance(found, Rejected):
            self._rejections.note(name, source, found, time.monotonic_ns())
            return
        self.counters["accepted"] += 1
        self._deliver(AdvertReceived(name, source, found.priority, found.interval, found.addresses))

    def _expect(self) -> None:
        """What each socket listens to, after a change of routers or of our own addresses."""
        own = frozenset(self._primary.values())
        own |= {router.rules.source for router in self._routers.values() if router.rules.source is not None}
        self._expected = {spot: {} for spot in self._channels}
        for name, router in self._routers.items():
            self._expected[_spot(router)][router.rules.vrid] = name, _expectation(router, own)

    # Sockets.

    def _open(self, spot: Spot) -> Channel | None:
        self._close(spot)
        try:
            channel = Channel(spot)
        except OSError as error:
            self._opening.failed(_text(spot), error)
            return None
        self._opening.worked(_text(spot))
        self._channels[spot] = channel
        asyncio.get_running_loop().add_reader(channel.fileno(), self._readable, spot)
        self.counters["opened"] += 1
        self._set_member(spot)
        return channel

    def _close(self, spot: Spot) -> None:
        channel = self._channels[spot]
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel.fileno())
            channel.close()
            self._channels[spot] = None

    def _set_member(self, spot: Spot) -> None:
        channel = self._channels[spot]
        assert channel is not None, "only an open channel has members"
        try:
            channel.set_member(any(_spot(r) == spot and not r.peers for r in self._routers.values()))
        except OSError as error:
            self._opening.failed(f"{_text(spot)} (multicast group)", error)


def _spot(router: RouterWire) -> Spot:
    return Spot(router.rules.interface, router.rules.family)


def _text(spot: Spot) -> str:
    return f"{spot.interface} (IPv{spot.family})"


def _advert(wire: RouterWire, priority: int) -> vrrp.Advert:
    rules = wire.rules
    size = 4 if rules.family == 4 else 16
    addresses = tuple(each.address for each in rules.addresses if len(each.address) == size)
    return vrrp.Advert(rules.version, rules.vrid, priority, rules.advert_interval, addresses, wire.password)


def _expectation(wire: RouterWire, own: frozenset[bytes]) -> Expectation:
    rules = wire.rules
    return Expectation(
        version=rules.version,
        vrid=rules.vrid,
        interval=rules.advert_interval,
        ipv6=rules.family == 6,
        password=wire.password,
        peers=frozenset(wire.peers) if wire.peers else None,
        own_addresses=own,
    )


_GROUPS: Final = {4: VRRP_GROUP_V4, 6: VRRP_GROUP_V6}
_DIALECTS: Final = {
    Checksum.RFC: vrrp.Dialect.RFC,
    Checksum.GROUP: vrrp.Dialect.GROUP,
    Checksum.PLAIN: vrrp.Dialect.V2STYLE,
}
