"""A closed address is silent on every path that a client may use, and what a host merely passes on is not the gate's.

A host answers on all of its interfaces for an address that it has on one: by a second cable, for a container, by the
parent of a macvlan, by policy routing, for `lo`, through address translation. The nftables gate is for the address, so
it holds all of them, also interfaces that come later. The eBPF gate is where it is attached: it is told of the cable.
"""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from haagent.adapters.gate import NftGate
from haagent.core.host import Passing
from haagent.core.model import VirtualAddress
from haagent.core.units import MS, Instant
from haagent.lab.probes import Kind
from tests.integration.gating import VIPS, Client, gate, hold, kind, later, on_both
from tests.integration.kernel import vip
from tests.integration.namespace import ROOT, in_namespace, sh

pytestmark = pytest.mark.integration

LATE = 5 * MS
"""What an answer may come after the deadline: it left before, and the client had to be scheduled to see it."""


def asked(client: Client, address: VirtualAddress, wanted: set[Kind]) -> bool:
    """Whether all these kinds of answers come; the machine may take its time."""
    return any(wanted <= client.answers(address, 0.3) for _ in range(5))


def by_name(address: VirtualAddress) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address.address) == 4 else socket.AF_INET6, address.address)


# The second cable: of IPv6, a neighbour is answered only where the address is, and everything else everywhere.
ELSEWHERE: dict[VirtualAddress, set[Kind]] = {VIPS[0]: {Kind.ARP, Kind.ICMP}, VIPS[1]: {Kind.ICMP6}}


@on_both
def test_a_second_cable_is_silent_and_closes_at_the_deadline():
    first, second = Client(), Client("eth1", "p1", "1", ())
    assert all(asked(second, each, ELSEWHERE[each]) for each in VIPS)
    guard = gate()
    guard.protect(VIPS, ["eth1"])
    assert all(each.silent(address) for each in (first, second) for address in VIPS)
    for address in VIPS:
        guard.open({"g": VIPS}, later())
        assert first.answered(address)
        assert asked(second, address, ELSEWHERE[address])
        until = later(150 * MS)
        guard.renew(until)
        last = second.last_answer(address, until)
        assert last is not None
        assert last <= until + LATE
        guard.close(["g"])


HOLDER = (
    "import sys, time; from tests.integration.gating import *; guard = gate(); guard.protect(VIPS, ['eth1']);"
    " until = later(400 * MS); guard.open({'g': VIPS}, until); print(until, flush=True); time.sleep(60)"
)


def holder() -> tuple[subprocess.Popen[bytes], Instant]:
    """A process that has opened the gate, and until when."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@on_both
def test_an_owner_that_is_stopped_or_killed_is_silent_by_a_second_cable_from_its_deadline():
    Client()
    second = Client("eth1", "p1", "1", ())
    for how in (signal.SIGSTOP, signal.SIGKILL):
        for address in VIPS:
            process, until = holder()
            process.send_signal(how)
            last = second.last_answer(address, until)
            assert last is not None
            assert last <= until + LATE, (how, address)
            process.kill()
            process.communicate()


@in_namespace
def test_an_interface_that_comes_later_is_guarded_by_itself():
    """As a container's, that begins while the agent is dead."""
    Client()
    guard = NftGate(pytest.fail)
    guard.protect(VIPS)
    guard.leave()
    container = Client("veth0", "p1", "1", ())
    assert all(container.silent(each) for each in VIPS)
    again = NftGate(pytest.fail)
    again.protect(VIPS)
    again.open({"g": VIPS}, later())
    assert all(asked(container, each, ELSEWHERE[each]) for each in VIPS)


@in_namespace
def test_the_parent_of_a_macvlan_is_silent():
    client = Client()
    for each in VIPS:
        sh(f"ip address del {by_name(each)}/{each.prefix} dev eth0")
    sh("ip link add vrrp1 link eth0 address 00:00:5e:00:01:01 type macvlan mode private")
    sh("ip link set vrrp1 up")
    inside = tuple(VirtualAddress(each.address, each.prefix, "vrrp1") for each in VIPS)
    hold(*inside, interface="vrrp1")
    assert all(asked(client, each, ELSEWHERE[each]) for each in VIPS), "by the parent's own MAC address"
    guard = NftGate(pytest.fail)
    guard.protect(inside)
    assert all(client.silent(each) for each in VIPS)
    guard.open({"g": inside}, later())
    assert all(asked(client, each, ELSEWHERE[each]) for each in VIPS)
    until = later(100 * MS)
    guard.renew(until)
    last = client.last_answer(VIPS[0], until)
    assert last is not None
    assert last <= until + LATE


@in_namespace
def test_an_address_that_somebody_configured_elsewhere_is_silent():
    """On the loopback, on another interface: by hand, by cloud-init, left over."""
    for where in ("lo", "eth1"):
        first, second = Client(), Client("eth1", "p1", "1", ())
        for each in VIPS:
            sh(f"ip address del {by_name(each)}/{each.prefix} dev eth0")
        hold(*VIPS, interface=where)
        assert all(asked(first, each, ELSEWHERE[each]) for each in VIPS), where
        guard = NftGate(pytest.fail)
        guard.protect(VIPS)
        assert all(each.silent(address) for each in (first, second) for address in VIPS), where
        guard.open({"g": VIPS}, later())
        assert all(asked(first, each, ELSEWHERE[each]) for each in VIPS), where
        guard.close(["g"])
        guard.remove()
        for interface in ("eth0", "eth1"):
            sh(f"ip link del {interface}")


@in_namespace
def test_nothing_leaves_from_a_closed_address_by_another_way():
    """Policy routing: what is sent from the address takes another interface."""
    Client()
    second = Client("eth1", "p1", "1", ())
    for family, source, gateway in (("-4", VIPS[0], "10.0.1.2"), ("-6", VIPS[1], "fd00:1::2")):
        sh(f"ip {family} rule add from {by_name(source)} lookup 100")
        sh(f"ip {family} route add default via {gateway} dev eth1 table 100")
    guard = NftGate(pytest.fail)
    guard.protect(VIPS)

    def sent() -> int:
        second.drain()
        for source, target in ((VIPS[0], "10.0.0.2"), (VIPS[1], "fd00::2")):
            with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.bind((by_name(source), 0))
                try:
                    udp.sendto(b"hello from the address", (target, 9))
                except PermissionError:
                    continue
        return sum(b"hello from the address" in frame for frame in second.received())

    assert sent() == 0
    guard.open({"g": VIPS}, later())
    assert sent() == 2
    guard.close(["g"])
    assert sent() == 0


# Address translation, as for the ports that Docker publishes.

TRANSLATE = """
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        fib daddr type local udp dport 7777 dnat to 10.0.1.2
    }
}
"""


@in_namespace
def test_what_is_translated_is_silent_too():
    client, container = Client(), Client("veth0", "p1", "1", ())
    sh("sysctl -qw net.ipv4.ip_forward=1")
    done = subprocess.run(["nft", "-f", "-"], input=TRANSLATE, text=True, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this kernel has no address translation")
    container.far.run(lambda: sh("ip route add default via 10.0.1.1"))
    mac = client.there.hex(":")
    client.far.run(lambda: sh(f"ip neighbour replace 10.0.0.100 lladdr {mac} dev p0 nud permanent"))
    server = container.far.run(lambda: _server(7777))
    caller = client.far.run(lambda: _caller("10.0.0.100", 7777))

    def exchanged() -> tuple[bool, bool]:
        """Whether the container was asked, and the client answered."""
        caller.send(b"question")
        asked = _wait(server)
        if asked is not None:
            server.sendto(b"answer", asked)
        return asked is not None, _wait(caller) is not None

    assert exchanged() == (True, True), "without a gate"
    guard = NftGate(pytest.fail)
    guard.protect(VIPS)
    assert exchanged() == (False, False)
    guard.open({"g": VIPS}, later())
    assert exchanged() == (True, True)
    caller.send(b"question")
    known = _wait(server)
    assert known is not None
    assert _wait(caller) is None
    guard.close(["g"])
    server.sendto(b"a late answer", known)
    assert _wait(caller) is None, "what belongs to a connection that was open does not leave either"


def _server(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("", port))
    return opened


def _caller(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.connect((host, port))
    return opened


def _wait(one: socket.socket) -> tuple[str, int] | None:
    """Who sent what comes within a while."""
    return one.recvfrom(100)[1] if select.select([one], [], [], 0.2)[0] else None


@on_both
def test_a_host_may_take_ip_without_a_lease_as_a_real_server_does():
    """ARP and ND are not answered; the eBPF gate, which stands beside the other one, leaves such an address alone."""
    client = Client()
    real = tuple(dataclasses.replace(each, without_lease=Passing.IP) for each in VIPS)
    guard = gate()
    guard.protect(real)
    if isinstance(guard, NftGate):
        assert client.answers(VIPS[0], 0.3) == {Kind.ICMP}
        assert client.answers(VIPS[1], 0.3) == {Kind.ICMP6}
    else:
        assert all(client.answered(each) for each in VIPS)
    guard.open({"g": real}, later())
    assert all(client.answered(each) for each in VIPS)
    guard.close(["g"])
    assert kind() == "bpf" or client.answers(VIPS[0], 0.3) == {Kind.ICMP}


@on_both
def test_a_host_may_keep_an_address_without_a_lease():
    client = Client()
    kept = tuple(dataclasses.replace(each, without_lease=Passing.EVERYTHING) for each in VIPS)
    guard = gate()
    guard.protect(kept)
    assert all(client.answered(each) for each in VIPS)
    guard.open({"g": kept}, later())
    guard.renew(later())
    guard.close(["g"])
    assert all(client.answered(each) for each in VIPS)


@on_both
def test_a_backup_that_is_a_router_goes_on_to_forward():
    """From another network to the owner, who is on the address's own network, and back; both networks are ours."""
    owner, client = Client(), Client("eth1", "p1", "1", ())
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    for each in VIPS:
        sh(f"ip address del {by_name(each)}/{each.prefix} dev eth0")
        owner.far.run(lambda each=each: hold(each, interface="p0"))
    owner.far.run(lambda: sh("ip route add 10.0.1.0/24 via 10.0.0.1"))
    owner.far.run(lambda: sh("ip route add fd00:1::/64 via fd00::1"))
    client.far.run(lambda: sh("ip route add 10.0.0.0/24 via 10.0.1.1"))
    client.far.run(lambda: sh("ip route add fd00::/64 via fd00:1::1"))
    guard = gate()
    guard.protect(VIPS, ["eth1"])
    for each in VIPS:
        assert "1 received" in client.far.run(lambda each=each: sh(f"ping -c 1 -W 3 {by_name(each)}"))


@in_namespace
def test_a_link_local_address_is_guarded_on_its_own_interface_only():
    first, second = Client(), Client("eth1", "p1", "1", ())
    own, other = vip("fe80::100"), VirtualAddress(vip("fe80::100").address, 128, "eth1")
    hold(own)
    hold(other, interface="eth1")
    guard = NftGate(pytest.fail)
    guard.protect([own])
    assert first.silent(own)
    assert asked(second, other, {Kind.ND})
    guard.open({"g": [own]}, later())
    assert asked(first, own, {Kind.ND})
    guard.close(["g"])
    assert first.silent(own)
