"""What a gate lets pass and what not: nothing of an address that is closed, in either direction, and all else always.

Every test is run with the nftables gate and with the eBPF gate.
"""

from __future__ import annotations

import contextlib
import socket

import pytest

from haagent.core.model import VirtualAddress
from haagent.core.units import MS, S
from haagent.lab.probes import Kind
from haagent.runtime.clock import boottime
from haagent.runtime.ports import GateClosedError, GateFailedError
from haagent.wire import arp, ndisc
from tests.integration.gating import OTHERS, OWN, VIPS, Client, gate, hold, later, on_both
from tests.integration.kernel import vip
from tests.integration.namespace import sh

pytestmark = pytest.mark.integration


@on_both
def test_closed_by_default_open_when_opened_and_closed_again():
    client = Client()
    assert all(client.answered(each) for each in VIPS)
    guard = gate()
    guard.protect(VIPS)
    assert all(client.silent(each) for each in VIPS)
    guard.open({"g": VIPS}, later())
    assert client.answers(VIPS[0], 0.5) == {Kind.ARP, Kind.ICMP}
    assert client.answers(VIPS[1], 0.5) == {Kind.ND, Kind.ICMP6}
    guard.close(["g"])
    guard.close(["g"])
    guard.close(["never opened"])
    assert all(client.silent(each) for each in VIPS)
    guard.remove()
    assert all(client.answered(each) for each in VIPS)


@on_both
def test_the_hosts_own_addresses_and_others_are_not_affected():
    client = Client()
    hold(*OTHERS)
    guard = gate()
    guard.protect(VIPS)
    assert all(client.answered(each) for each in (*OWN, *OTHERS))
    assert all(client.silent(each) for each in VIPS)
    # And the host as a client of its neighbour, from its own address.
    assert "1 received" in sh("ping -c 1 -W 2 10.0.0.2")
    assert "1 received" in sh("ping -c 1 -W 2 fd00::2")
    assert sum(guard.counters().values()) > 0


@on_both
def test_nothing_leaves_from_a_closed_address():
    client = Client()
    guard = gate()
    guard.protect(VIPS)
    for frames in range(2):
        client.drain()
        mac = bytes.fromhex("020000000001")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            # RFC 826's 28 bytes without padding, and padded to what Ethernet asks for.
            for frame in (
                arp.gratuitous(VIPS[0].address, mac),
                arp.gratuitous(VIPS[0].address, mac, reply=True),
                arp.gratuitous(VIPS[0].address, mac).ljust(60, b"\0"),
                ndisc.unsolicited(VIPS[1].address, mac),
                ndisc.unsolicited(VIPS[1].address, mac, source=vip("fe80::1").address),
            ):
                with contextlib.suppress(OSError):  # ENOBUFS
                    raw.send(frame)
        for address, target in (("10.0.0.100", "10.0.0.2"), ("fd00::100", "fd00::2")):
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.bind((address, 0))
                with contextlib.suppress(PermissionError):
                    udp.sendto(b"hello", (target, 9))
        seen = [frame for frame in client.received() if any(each.address in frame for each in VIPS)]
        assert (len(seen) == 0) if frames == 0 else (len(seen) >= 7), [frame.hex() for frame in seen]
        guard.open({"g": VIPS}, later())


@on_both
def test_a_neighbour_that_has_the_address_is_heard_and_reached():
    """A backup, whose gate is closed, is a client of the owner as anyone is, and learns where the owner is."""
    client = Client()
    for each, bits in ((VIPS[0], "10.0.0.100/32"), (VIPS[1], "fd00::100/128")):
        sh(f"ip address del {bits} dev eth0")
        client.far.run(lambda each=each: hold(each, interface="p0"))
    guard = gate()
    guard.protect(VIPS)
    sh("ip neighbour replace 10.0.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    client.socket.send(arp.gratuitous(VIPS[0].address, client.mac))
    client.received()
    assert client.mac.hex(":") in sh("ip neighbour show 10.0.0.100")
    assert "1 received" in sh("ping -c 1 -W 2 10.0.0.100")
    assert "1 received" in sh("ping -c 1 -W 2 fd00::100")


@on_both
def test_what_is_forwarded_is_not_affected():
    left, right = Client(), Client("eth1", "p1", "1")
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    for far, other in ((left, "1"), (right, "0")):
        n = far.network
        far.far.run(lambda n=n, other=other: sh(f"ip route add 10.0.{other}.0/24 via 10.0.{n}.1"))
        far.far.run(lambda n=n, other=other: sh(f"ip route add fd00:{other}::/64 via fd00:{n}::1"))
    guard = gate()
    guard.protect(VIPS)
    assert "1 received" in left.far.run(lambda: sh("ping -c 1 -W 3 10.0.1.2"))
    assert "1 received" in left.far.run(lambda: sh("ping -c 1 -W 3 fd00:1::2"))
    assert left.silent(VIPS[0])


@on_both
def test_one_address_of_a_pair_does_not_open_the_other():
    """A solicitation that comes to an open address and asks for a closed one; and the other way round."""
    client = Client()
    hold(*OTHERS)
    guard = gate()
    guard.protect([*VIPS, *OTHERS])
    guard.open({"g": VIPS}, later())
    assert all(client.answered(each) for each in VIPS)
    assert all(client.silent(each) for each in OTHERS)
    asked = ndisc.solicitation(OTHERS[1].address, mac=client.mac, source=client.asker.ipv6)
    there = sh("cat /proc/net/if_inet6")
    assert there
    client.drain()
    client.socket.send(asked)
    assert not [frame for frame in client.received() if OTHERS[1].address in frame]


@on_both
def test_the_same_address_on_two_interfaces_is_two():
    left, right = Client(), Client("eth1", "p1", "1")
    twin = tuple(VirtualAddress(each.address, each.prefix, "eth1") for each in VIPS)
    guard = gate()
    guard.protect([*VIPS, *twin])
    assert left.silent(VIPS[0])
    assert right.silent(VIPS[0])
    guard.open({"l": VIPS}, later())
    assert all(left.answered(each) for each in VIPS)
    assert all(right.silent(each) for each in VIPS)
    guard.open({"r": twin}, later())
    guard.close(["l"])
    assert all(left.silent(each) for each in VIPS)
    assert all(right.answered(each) for each in VIPS)


@on_both
def test_an_address_of_two_groups_is_open_as_long_as_either_is():
    client = Client()
    guard = gate()
    guard.protect(VIPS)
    guard.open({"one": VIPS}, later())
    guard.open({"two": VIPS[:1]}, later())
    guard.close(["one"])
    assert client.answered(VIPS[0])
    assert client.silent(VIPS[1])
    guard.open({"two": VIPS[1:]}, later())
    assert client.silent(VIPS[0])
    assert client.answered(VIPS[1])
    guard.close(["two"])
    assert client.silent(VIPS[1])


@on_both
def test_protect_changes_only_what_differs():
    client = Client()
    hold(*OTHERS)
    guard = gate()
    guard.protect(VIPS)
    guard.open({"g": VIPS}, later())
    guard.protect([*VIPS, *OTHERS])
    assert all(client.answered(each) for each in VIPS)
    assert all(client.silent(each) for each in OTHERS)
    guard.protect([*VIPS[:1], *OTHERS])
    assert client.answered(VIPS[1]), "it is not guarded any more"
    assert client.answered(VIPS[0])
    assert all(client.silent(each) for each in OTHERS)
    guard.renew(later())
    guard.protect(VIPS)
    assert client.answered(VIPS[0])
    assert client.silent(VIPS[1]), "it is guarded anew, and closed"
    guard.protect([])
    assert all(client.answered(each) for each in VIPS)


@on_both
def test_what_is_refused():
    guard = gate()
    guard.protect(VIPS)  # there is no eth0 yet
    with pytest.raises(GateFailedError, match="no gate"):
        guard.open({"g": OTHERS}, later())
    Client()
    guard.protect(VIPS)
    with pytest.raises(GateFailedError, match="no gate"):
        guard.open({"g": [*VIPS, *OTHERS]}, later())
    for late in (boottime() - 5 * S, boottime() - 1, 0):
        with pytest.raises(GateClosedError):
            guard.open({"g": VIPS}, late)
    guard.renew(later())  # nothing is open, so there is nothing to renew
    guard.open({"g": VIPS}, later())
    with pytest.raises(GateClosedError):
        guard.renew(boottime() - 1 * MS)
    guard.remove()


@on_both
def test_an_interface_that_comes_again_is_guarded_before_it_has_an_address():
    client = Client()
    guard = gate()
    guard.protect(VIPS)
    guard.open({"g": VIPS}, later())
    assert client.answered(VIPS[0])
    sh("ip link del eth0")
    guard.protect(VIPS)
    guard.renew(later())
    client.reconnect()
    guard.close(["g"])
    guard.protect(VIPS)
    client.set_up()
    assert all(client.silent(each) for each in VIPS)
    guard.open({"g": VIPS}, later())
    assert all(client.answered(each) for each in VIPS)
    sh("ip link set eth0 down")
    sh("ip link set eth0 up")
    guard.close(["g"])
    client.set_up()
    assert all(client.silent(each) for each in VIPS)


@on_both
def test_two_hundred_addresses():
    client = Client()
    many = tuple(vip(f"10.0.0.{n}") for n in range(100, 200)) + tuple(vip(f"fd00::{n:x}") for n in range(256, 356))
    hold(*many)
    guard = gate()
    guard.protect(many)
    assert all(client.silent(each) for each in many[::20])
    guard.open({"a": many[:50]}, later())
    guard.open({"b": many[50:]}, later())
    for _ in range(20):
        guard.renew(later(1 * S))
    assert all(client.answered(each) for each in many[::20])
    guard.close(["a"])
    assert client.silent(many[0])
    assert client.answered(many[50])
    guard.protect(many[:3])
    guard.protect([])
    guard.remove()
