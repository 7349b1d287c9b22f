"""What others do to a gate: refused where the kernel can, and else noticed, mended closed, and said."""

from __future__ import annotations

import json
import subprocess

import pytest

from haagent.adapters.gate import BpfGate, NftGate, bpf
from haagent.adapters.gate import nfnetlink as nf
from haagent.adapters.gate.layout import TABLE
from haagent.adapters.gate.netlink import NetlinkError
from haagent.adapters.gate.operations import Element, Family, Ref, TableFlags, Type
from haagent.core.units import MS
from haagent.runtime.ports import GateClosedError, GateFailedError
from tests.integration.gating import OTHERS, VIPS, Client, hold, kind, later, nft, on_both
from tests.integration.namespace import in_namespace, sh

pytestmark = pytest.mark.integration

ATTEMPTS = (
    "flush ruleset",
    f"delete table arp {TABLE}",
    f"delete table inet {TABLE}",
    f"flush chain inet {TABLE} prerouting",
    f"flush chain arp {TABLE} output",
    f"delete element inet {TABLE} gate4 {{ 10.0.0.100 }}",
    f"delete table netdev {TABLE}",
    f"flush table netdev {TABLE}",
    f"delete chain netdev {TABLE} in-eth0",
    f"flush chain netdev {TABLE} in-eth0",
    f"delete element netdev {TABLE} gate4-eth0 {{ 10.0.0.100 }}",
    f"flush map netdev {TABLE} gate4-eth0",
    f"insert rule netdev {TABLE} in-eth0 accept",
)


def disturb(attempt: str) -> None:
    """What somebody does who does not know what the gate is for."""
    nft(attempt) if kind() == "nft" else sh(attempt)


@on_both
def test_a_gate_that_is_taken_away_is_noticed_and_comes_back_closed():
    client = Client()
    told: list[str] = []
    guard = NftGate(told.append, owned=False) if kind() == "nft" else BpfGate(told.append)
    attempts = (
        ATTEMPTS
        if kind() == "nft"
        else ("tc qdisc del dev eth0 clsact", "tc filter del dev eth0 ingress", "tc filter del dev eth0 egress")
    )
    guard.protect(VIPS)
    for attempt in attempts:
        guard.open({"g": VIPS}, later())
        guard.hear()
        assert told == [], attempt
        assert client.answered(VIPS[0])
        disturb(attempt)
        guard.hear()
        assert len(told) == 1, attempt
        assert all(client.silent(each) for each in VIPS), attempt
        with pytest.raises(GateClosedError):
            guard.renew(later())
        guard.close(["g"])
        told.clear()
    guard.hear()
    assert told == []


@in_namespace
def test_who_changed_the_table_is_named():
    Client()
    told: list[str] = []
    guard = NftGate(told.append, owned=False)
    guard.protect(VIPS)
    nft("flush ruleset")
    guard.hear()
    assert "nft (pid " in told[0]


@in_namespace
def test_an_owned_table_can_not_be_changed_by_others():
    client = Client()
    guard = NftGate(pytest.fail)
    if not guard.owned:
        pytest.skip("this kernel has no owned tables that persist")
    guard.protect(VIPS)
    for attempt in (*ATTEMPTS, f"add table netdev {TABLE} {{ flags dormant; }}"):
        nft(attempt)
        assert all(client.silent(each) for each in VIPS), attempt
    guard.open({"g": VIPS}, later())
    for attempt in ATTEMPTS:
        nft(attempt)
    guard.renew(later())
    guard.hear()
    assert all(client.answered(each) for each in VIPS)


@in_namespace
def test_a_second_agent_can_not_take_an_owned_table():
    Client()
    first = NftGate(pytest.fail)
    first.protect(VIPS)
    with pytest.raises(GateFailedError, match="EPERM"):
        NftGate(pytest.fail)
    first.leave()
    NftGate(pytest.fail).protect(VIPS)


@in_namespace
def test_a_table_of_another_make_is_replaced_closed():
    client = Client()
    for left in (
        f"add table netdev {TABLE}",
        f'add table netdev {TABLE} {{ comment "something else"; }}',
    ):
        nft(left)
        guard = NftGate(pytest.fail)
        guard.protect(VIPS)
        assert client.silent(VIPS[0]), left
        guard.remove()
    # Ours, but changed while nobody owned it.
    for attempt in ATTEMPTS:
        first = NftGate(pytest.fail)
        first.protect(VIPS)
        first.open({"g": VIPS}, later())
        first.leave()
        nft(attempt)
        second = NftGate(pytest.fail)
        second.protect(VIPS)
        second.sweep(VIPS)
        assert all(client.silent(each) for each in VIPS), attempt
        second.open({"g": VIPS}, later())
        assert client.answered(VIPS[0])
        second.remove()


@in_namespace
def test_a_clsact_that_was_there_is_used_and_stays():
    client = Client()
    sh("tc qdisc add dev eth0 clsact")
    guard = BpfGate(pytest.fail)
    guard.protect(VIPS)
    assert client.silent(VIPS[0])
    for side in ("ingress", "egress"):
        assert "haagent" in sh(f"tc filter show dev eth0 {side}")
    guard.remove()
    assert "clsact" in sh("tc qdisc show dev eth0")
    for side in ("ingress", "egress"):
        assert "haagent" not in sh(f"tc filter show dev eth0 {side}")


@in_namespace
def test_classifiers_of_another_make_are_replaced_closed():
    client = Client()
    usual = bpf._link_header
    bpf._link_header = lambda _: 0  # looks for everything at the wrong place
    first = BpfGate(pytest.fail)
    first.protect(VIPS)
    first.open({"g": VIPS}, later())
    first.leave()
    bpf._link_header = usual
    second = BpfGate(pytest.fail)
    second.protect(VIPS)
    assert all(client.silent(each) for each in VIPS)
    second.open({"g": VIPS}, later())
    assert all(client.answered(each) for each in VIPS)


@in_namespace
def test_the_ebpf_gate_goes_with_an_interface_that_is_renamed():
    client = Client()
    guard = BpfGate(pytest.fail)
    guard.protect(VIPS)
    until = later(300 * MS)
    guard.open({"g": VIPS}, until)
    sh("ip link set eth0 down")
    sh("ip link set eth0 name eth9")
    sh("ip link set eth9 up")
    client.here = "eth9"
    client.set_up()
    client.last_answer(VIPS[0], until)
    assert all(client.silent(each) for each in VIPS)


# The netlink client, against what `nft` says.


@in_namespace
def test_nft_lists_what_was_made():
    Client()
    guard = NftGate(pytest.fail)
    guard.protect(VIPS)
    guard.open({"g": VIPS}, later())
    listed = " ".join(nft("list ruleset").split())
    for line in (
        "table arp haagent { # progname",
        "table inet haagent { # progname",
        "table netdev haagent { # progname",
        "flags owner",
        "type filter hook input priority -500; policy accept; arp saddr ip @announced accept arp daddr ip vmap @gate4",
        "type filter hook output priority 500; policy accept; arp saddr ip vmap @gate4",
        (
            "type filter hook prerouting priority -500; policy accept;"
            " ip daddr @address4 fib daddr type local ip daddr vmap @gate4"
            " ip6 daddr @address6 fib daddr type local ip6 daddr vmap @gate6"
        ),
        (
            "type filter hook input priority -500; policy accept; ip daddr @address4 ip daddr vmap @gate4"
            " ip6 daddr @address6 ip6 daddr vmap @gate6"
            " icmpv6 type nd-neighbor-solicit @th,64,128 vmap @gate6"
        ),
        (
            "type filter hook output priority 500; policy accept; ip saddr @address4 ip saddr vmap @gate4"
            " ip6 saddr @address6 ip6 saddr vmap @gate6"
            " icmpv6 type nd-neighbor-advert @th,64,128 vmap @gate6"
        ),
        (
            "type filter hook postrouting priority 500; policy accept;"
            " ip saddr @address4 fib saddr type local ip saddr vmap @gate4"
            " ip6 saddr @address6 fib saddr type local ip6 saddr vmap @gate6"
        ),
        'type filter hook ingress device "eth0" priority -500; policy accept;',
        'type filter hook egress device "eth0" priority 500; policy accept;',
        (
            "arp saddr ip @announced-eth0 accept arp daddr ip vmap @gate4-eth0"
            " ip daddr @address4 ip daddr vmap @gate4-eth0 ip6 daddr @address6 ip6 daddr vmap @gate6-eth0"
            " icmpv6 type nd-neighbor-solicit @th,64,128 vmap @gate6-eth0"
        ),
        (
            "arp saddr ip vmap @gate4-eth0 ip saddr @address4 ip saddr vmap @gate4-eth0"
            " ip6 saddr @address6 ip6 saddr vmap @gate6-eth0"
            " icmpv6 type nd-neighbor-advert @th,64,128 vmap @gate6-eth0"
        ),
        (
            'meta protocol arp counter name "arp" meta protocol ip counter name "ipv4" meta protocol ip6 counter'
            ' name "ipv6" drop'
        ),
        " != @lease jump shut",
        "elements = { 10.0.0.100 : jump session-",
        "elements = { fd00::100 : jump session-",
    ):
        assert line in listed, (line, listed)


@in_namespace
def test_the_client_reads_what_nft_made():
    sh("ip link add eth0 type veth peer name p0")
    kernel = nf.Nftables()
    assert kernel.tables() == []
    script = """table netdev other {
        counter seen { packets 7 bytes 70; }
        chain there { counter drop; }
        set timed { type mark; flags timeout; elements = { 0x01020304 timeout 10s }; }
        map jumps { type ipv4_addr : verdict; elements = { 10.0.0.1 : jump there, 10.0.0.2 : jump there }; }
        chain here { type filter hook ingress device eth0 priority 3; accept; accept; accept; }
    }
    table inet other {
        chain elsewhere { type filter hook input priority 3; }
    }"""
    subprocess.run(["nft", "-f", "-"], input=script, text=True, check=True)
    other, inet = Ref(Family.NETDEV, "other"), Ref(Family.INET, "other")
    for table in kernel.tables():
        assert (table.family, table.name) in (other, inet)
        assert (table.flags, table.owner, table.comment) == (TableFlags.NONE, 0, "")
    assert kernel.chains(other) == {"there": (), "here": ("eth0",)}
    assert kernel.chains(inet) == {"elsewhere": ()}
    assert {name: len(rules) for name, rules in kernel.rules(other).items()} == {"there": 1, "here": 3}
    assert kernel.sets(other) == {"timed", "jumps"}
    assert kernel.counters(other) == {"seen": 7}
    (timed,) = kernel.elements(other, "timed")
    assert timed.key == (0x01020304).to_bytes(4, "little")
    assert timed.timeout == 10_000
    assert timed.left is not None
    assert 5_000 < timed.left <= 10_000
    assert {each.key[-1]: each.jump for each in kernel.elements(other, "jumps")} == {1: "there", 2: "there"}
    assert kernel.chains(Ref(Family.ARP, "none")) == {}


@in_namespace
def test_a_batch_is_all_or_nothing_and_says_which_was_refused():
    kernel = nf.Nftables()
    table = Ref(Family.NETDEV, "t")
    kernel.commit([table.add_table(TableFlags.NONE, "made by a test")])
    kernel.commit([table.add_set("s", Type.MARK, timed=True)])
    one, two = Element(b"aaaa", timeout=20_000), Element(b"bbbb", timeout=20_000)
    kernel.commit(table.add_elements("s", [one]))
    with pytest.raises(NetlinkError, match="ENOENT") as refusal:
        kernel.commit([*table.add_elements("s", [two]), *table.delete_elements("s", [Element(b"cccc")])])
    assert refusal.value.at == 1
    with pytest.raises(NetlinkError, match="EEXIST") as refusal:
        kernel.commit(table.add_elements("s", [two, one]))
    assert refusal.value.at == 0
    assert [each.key for each in kernel.elements(table, "s")] == [b"aaaa"]
    many = [Element(n.to_bytes(4), timeout=20_000) for n in range(3000)]
    kernel.commit(table.add_elements("s", many))
    assert {each.key for each in kernel.elements(table, "s")} == {b"aaaa"} | {each.key for each in many}
    listed = json.loads(nft("-j list set netdev t s"))
    (found,) = (each["set"] for each in listed["nftables"] if "set" in each)
    assert len(found["elem"]) == 3001


@in_namespace
def test_chains_of_interfaces_that_do_not_exist():
    """They wait for it where the kernel lets them; else there is no gate, and `open` says so."""
    guard = NftGate(pytest.fail)
    guard.protect([*VIPS, *OTHERS])
    try:
        guard.open({"g": VIPS}, later())
        guard.close(["g"])
    except GateFailedError:
        pass
    client = Client()
    guard.protect([*VIPS, *OTHERS])
    hold(*OTHERS)
    assert all(client.silent(each) for each in (*VIPS, *OTHERS))
