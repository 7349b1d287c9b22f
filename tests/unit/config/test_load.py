"""haagent.yaml as it is read: what a good file means, and what is said, line by line, about each mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from haagent.config.build import Config, ControlSettings, PeersSettings
from haagent.config.load import Invalid, Loaded, load
from haagent.config.schema import ControlKeys, EtcdKeys, FileKeys, GroupKeys, LeaseKeys, LogKeys, PeersKeys, RouterKeys
from haagent.core.host import Passing
from haagent.core.model import GroupRules, RouterRules, Strangers, VirtualAddress
from haagent.core.planned import Damping
from haagent.core.units import MS, S
from haagent.runtime.ports import Checksum, FenceCommand, GateKind, RouterWire

WHOLE = """
    node: n1
    cluster: prod
    etcd:
      endpoints: ["https://10.0.0.1:2379", "https://[fd00::1]:2379/"]
      ca: ca.pem
      cert: n1.pem
      key: n1.key
      user: haagent
      password: "0123"
    lease: {ttl: 1.5s, margin: 40ms, guard: 25ms}
    virtual_routers:
      - name: web
        vrid: 51
        interface: eth0
        version: 2
        priority: 255
        advert_interval: 2s
        addresses: [10.0.0.100/24, {address: 10.0.0.101, interface: eth1}]
        auth_pass: secret12
      - name: web6
        vrid: 51
        interface: eth0
        addresses: ["fe80::100/64", "fd00::100/64"]
        unicast_peers: ["fe80::2", "fe80::3"]
        unicast_source: fe80::1
        unicast_ttl: 64
        garp_master_repeat: 3
        garp_master_refresh: 5m
      - {name: db, vrid: 7, interface: eth0, addresses: [10.0.0.200/24], priority: 50, advert_interval: 250ms,
         checksum: plain, strangers: yield, preempt: yes, preempt_delay: 0}
    groups:
      - {name: site, routers: [web, web6], preempt_delay: 90s}
    fence:
      gate: bpf
      watchdog: /dev/watchdog
      exec: {command: [/usr/local/bin/fence, --off, "a word"], timeout: 2.5s, user: nobody}
    peers: {listen: "[::]:8501", advertise: "n1.example:8501", ca: ca.pem, cert: peer.pem, key: peer.key}
    failsafe: {max: 90s}
    http: {listen: "[::1]:80"}
    control: {socket: /run/ha.sock, group: adm, listen: "[::]:8502", ca: ca.pem, cert: c.pem, key: c.key,
              operators: [ops], viewers: [grafana]}
    log: {level: debug, format: json}
"""

LEAST = """
    cluster: prod
    etcd: {endpoints: [http://10.0.0.1:2379]}
    virtual_routers:
      - {name: web, vrid: 51, interface: eth0, addresses: [10.0.0.100]}
"""


def packed(text: str) -> bytes:
    return ip_address(text).packed


def read(text: str, hostname: str = "h1") -> Loaded | Invalid:
    return load(dedent(text).lstrip("\n"), "haagent.yaml", hostname)


def config(text: str) -> Config:
    loaded = read(text)
    assert isinstance(loaded, Loaded), loaded.errors
    return loaded.config


def errors(text: str, hostname: str = "h1") -> tuple[str, ...]:
    loaded = read(text, hostname)
    assert isinstance(loaded, Invalid)
    return loaded.errors


def test_everything_that_can_be_said():
    loaded = read(WHOLE)
    assert isinstance(loaded, Loaded)
    assert loaded.warnings == ()
    got = loaded.config
    assert (got.node, got.cluster) == ("n1", "prod")
    assert got.etcd.endpoints == ("https://10.0.0.1:2379", "https://[fd00::1]:2379")
    assert (got.etcd.ca, got.etcd.cert, got.etcd.key) == ("ca.pem", "n1.pem", "n1.key")
    assert (got.etcd.user, got.etcd.password, got.etcd.password_file) == ("haagent", "0123", None)
    assert (got.lease.ttl, got.lease.margin, got.lease.guard) == (1500 * MS, 40 * MS, 25 * MS)
    assert (got.gate, got.watchdog) == (GateKind.BPF, "/dev/watchdog")
    assert got.fencing == FenceCommand(("/usr/local/bin/fence", "--off", "a word"), 2500 * MS, "nobody")
    who = {"operators": frozenset(["ops"]), "viewers": frozenset(["grafana"])}
    assert got.control == ControlSettings("/run/ha.sock", "adm", "[::]:8502", "ca.pem", "c.pem", "c.key", **who)
    assert got.peers == PeersSettings("[::]:8501", "n1.example:8501", "ca.pem", "peer.pem", "peer.key")
    rules = got.rules(host="h", machine="m", incarnation="i", version="0")
    assert (rules.fence, rules.failsafe, rules.endpoint) == (2500 * MS, 90 * S, "n1.example:8501")
    assert got.http == "[::1]:80"
    assert (got.log.level, got.log.format) == ("debug", "json")
    web = RouterRules(
        name="web",
        vrid=51,
        version=2,
        family=4,
        interface="eth0",
        priority=255,
        advert_interval=2 * S,
        addresses=(
            VirtualAddress(packed("10.0.0.100"), 24, "eth0"),
            VirtualAddress(packed("10.0.0.101"), 32, "eth1"),
        ),
        announce_refresh=10 * S,
    )
    web6 = RouterRules(
        name="web6",
        vrid=51,
        version=3,
        family=6,
        interface="eth0",
        priority=100,
        advert_interval=1 * S,
        addresses=(
            VirtualAddress(packed("fe80::100"), 64, "eth0"),
            VirtualAddress(packed("fd00::100"), 64, "eth0"),
        ),
        source=packed("fe80::1"),
        announce_refresh=300 * S,
        unicast=True,
    )
    db = RouterRules(
        name="db",
        vrid=7,
        version=3,
        family=4,
        interface="eth0",
        priority=50,
        advert_interval=250 * MS,
        addresses=(VirtualAddress(packed("10.0.0.200"), 24, "eth0"),),
        strangers=Strangers.YIELD,
        announce_refresh=10 * S,
    )
    assert got.routers == (
        RouterWire(web, password=b"secret12"),
        RouterWire(web6, peers=(packed("fe80::2"), packed("fe80::3")), ttl=64, announce_repeat=3),
        RouterWire(db, checksum=Checksum.PLAIN),
    )
    # Priority 255 preempts, whatever is said.
    assert got.groups == (GroupRules("site", (web, web6), True, 90 * S), GroupRules("db", (db,), True, 0))
    assert got.summary() == "3 virtual routers in 2 groups"


def test_the_least_that_must_be_said():
    got = config(LEAST)
    assert got.node == "h1"
    assert (got.lease.ttl, got.lease.margin, got.lease.guard) == (1 * S, 30 * MS, 20 * MS)
    assert (got.gate, got.watchdog, got.fencing) == (GateKind.AUTO, None, None)
    assert got.http == "127.0.0.1:8500"
    assert config(LEAST + "    http: {listen: off}\n").http is None
    assert (got.log.level, got.log.format) == ("info", "text")
    router = got.routers[0]
    assert (router.rules.version, router.rules.priority, router.rules.advert_interval) == (3, 100, 1 * S)
    assert (router.rules.strangers, router.checksum, router.ttl) == (Strangers.ALARM, Checksum.RFC, 255)
    rules = got.rules(host="h", machine="m", incarnation="i", version="0")
    assert list(rules.groups) == ["web"]
    assert not rules.groups["web"].preempt
    assert (rules.node, rules.ttl, rules.margin, rules.guard) == ("h1", 1 * S, 30 * MS, 20 * MS)
    assert (rules.fence, rules.failsafe, rules.endpoint) == (0, 0, "")


PLANNED = [
    ("preempt: true", {"preempt": True}),
    ("preempt: true, failback: always, preempt_delay: 5s", {"preempt": True, "preempt_delay": 5 * S}),
    ("preempt: false, failback: never", {}),
    ("failback: always, min_hold: 30s", {"preempt": True, "min_hold": 30 * S}),
    ("failback: window, failback_window: [daily 02:00-03:00]", {"preempt": True, "windowed": True}),
    ("damping: {losses: 2, within: 1m}", {"damping": Damping(2, 60 * S)}),
    ("damping: {}", {"damping": Damping(3, 600 * S)}),
    ("damping: {losses: 0}", {"damping": Damping(0, 600 * S)}),
]


@pytest.mark.parametrize("keys, meant", PLANNED)
def test_how_ownership_moves(keys: str, meant: dict[str, Any]):
    got = config(LEAST.replace("vrid: 51", f"vrid: 51, {keys}"))
    ordinary = GroupRules("web", (got.routers[0].rules,))
    assert got.groups == (replace(ordinary, **meant),)
    assert list(got.windows) == (["web"] if "failback_window" in keys else [])


def test_a_fencing_program_needs_no_more_than_its_path():
    got = config(dedent(LEAST) + "fence: {exec: {command: [/sbin/fence]}}\n")
    assert got.fencing == FenceCommand(("/sbin/fence",), 5 * S, None)


def test_peers_reach_a_node_where_it_listens_unless_told_otherwise():
    loaded = read(dedent(LEAST) + 'peers: {listen: "10.0.0.1:8501", insecure: true}\n')
    assert isinstance(loaded, Loaded)
    rules = loaded.config.rules(host="h", machine="m", incarnation="i", version="0")
    assert (rules.failsafe, rules.endpoint) == (300 * S, "10.0.0.1:8501")
    assert loaded.warnings == (
        "haagent.yaml:5: peers.insecure: true, plain text: whoever reaches this port can pose as any node",
    )


def test_failsafe_without_peers_is_questionable():
    loaded = read(dedent(LEAST) + "failsafe: {max: 1m}\n")
    assert isinstance(loaded, Loaded)
    assert loaded.warnings == ("haagent.yaml:5: failsafe: has no effect without peers",)


def test_an_address_may_be_served_without_a_lease():
    """By a DR real server, which takes IP and answers no ARP; or as it likes, which is questionable."""
    for word, passing in (("ip", Passing.IP), ("everything", Passing.EVERYTHING)):
        text = dedent(LEAST).replace("[10.0.0.100]", f"[{{address: 10.0.0.100, without_lease: {word}}}]")
        loaded = read(text)
        assert isinstance(loaded, Loaded)
        (address,) = loaded.config.routers[0].rules.addresses
        assert address.without_lease is passing
        assert bool(loaded.warnings) == (passing is Passing.EVERYTHING)


def test_a_password_is_in_no_repr():
    assert "0123" not in repr(config(WHOLE))


def mistakes() -> list[tuple[str, str, str, list[str]]]:
    """Each of mistakes.txt: its title, what is replaced, by what, and what is said."""
    text = Path(__file__).with_name("mistakes.txt").read_text()
    found: list[tuple[str, str, str, list[str]]] = []
    for block in text.split("\n\n")[1:]:
        title, old, new, *said = block.rstrip("\n").split("\n")
        assert (old[0], new[0], said[0][0]) == ("-", "+", "="), title
        found.append((title, old[2:], new[2:].replace("\\n", "\n"), [line[2:] for line in said]))
    return found


@pytest.mark.parametrize("title, old, new, said", mistakes(), ids=[each[0] for each in mistakes()])
def test_one_mistake_is_one_line(title: str, old: str, new: str, said: list[str]):
    least = dedent(LEAST).lstrip("\n")
    assert least.count(old) == 1
    assert errors(least.replace(old, new)) == tuple(f"haagent.yaml:{line}" for line in said)


UNREADABLE = [
    ("- a", "1: must be a mapping of keys to values, is a list"),
    ("hello", "1: must be a mapping of keys to values, is hello"),
    ("a: 1\n---\nb: 2", "2:1: but found another document, expected a single document in the stream"),
    ("a: [1, 2", "1:9: expected ',' or ']', but got '<stream end>', while parsing a flow sequence"),
    ("a:\n\t- b", "2:1: found character '\\t' that cannot start any token, while scanning for the next token"),
    ("a: &x [1]\nb: [*x, *x]", "2:5: aliases are not supported"),
    ("a: " + "[" * 5000, "1:19: nested more than 16 levels deep"),
    ("a: [" + "1, " * 60000 + "]", "1:149996: more than 50000 keys and values"),
    ("[a]: 1", "1: a key must be a plain text"),
    ("a: \0", ' unacceptable character #x0000: special characters are not allowed in "<unicode string>", position 3'),
]


@pytest.mark.parametrize("text, said", UNREADABLE)
def test_what_is_no_mapping_of_keys_to_values(text: str, said: str):
    assert errors(text) == (f"haagent.yaml:{said}",)


def test_all_errors_at_once_in_the_order_of_the_file():
    assert errors("""
        nod: n1
        etcd: {endpoints: ["https://10.0.0.1:2379"], cert: c.pem}
        lease: {ttl: 1s, margin: 400ms}
        virtual_routers:
          - vrid: 0
            name: web
            interface: eth0
            addresses: [10.0.0.100/24, {addres: 10.0.0.101}]
          - {name: db, vrid: 1, interface: eth0, addresses: [10.0.0.200], preempt: true}
        groups:
          - {name: site, routers: [web, db, dc]}
    """) == (
        "haagent.yaml:1: cluster: missing, must be 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit",
        "haagent.yaml:1: nod: unknown key, did you mean node?",
        "haagent.yaml:2: etcd.cert: c.pem, needs key too",
        (
            "haagent.yaml:3: lease.margin: 400ms, must be at most 250ms, a quarter of ttl: a longer one leaves no time"
            " to try a lost renewal again"
        ),
        "haagent.yaml:5: virtual_routers[0].vrid: 0, must be 1 to 255",
        (
            "haagent.yaml:8: virtual_routers[0].addresses[1].address: missing, must be an IPv4 or IPv6 address with an"
            " optional prefix length, such as 10.0.0.100/24"
        ),
        "haagent.yaml:8: virtual_routers[0].addresses[1].addres: unknown key, did you mean address?",
        "haagent.yaml:9: virtual_routers[1].preempt: true, belongs to group site, which is owned as one",
        "haagent.yaml:11: groups[0].routers[2]: dc, no such virtual router, must be one of db, web",
    )


def test_a_hostname_that_is_no_node_name():
    assert errors(LEAST, "no/name") == (
        (
            "haagent.yaml:1: node: missing, and the hostname no/name cannot stand in: must be"
            " 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
        ),
    )


WARNINGS = [
    ("version: 2, auth_pass: 123456789", "auth_pass: Truncating auth_pass to 8 characters"),
    (
        "priority: 255, preempt: false",
        "preempt: false, has no effect: priority 255 always preempts (RFC 9568 6.1)",
    ),
    ("preempt_delay: 5s", "preempt_delay: 5s, has no effect without preempt: true"),
    ("min_hold: 5s", "min_hold: 5s, has no effect without preempt: true"),
    (
        "priority: 255, failback: never",
        "failback: never, has no effect: priority 255 always preempts (RFC 9568 6.1)",
    ),
]


@pytest.mark.parametrize("more, said", WARNINGS)
def test_questionable(more: str, said: str):
    loaded = read(LEAST.replace("vrid: 51", f"vrid: 51, {more}"))
    assert isinstance(loaded, Loaded)
    assert loaded.warnings == (f"haagent.yaml:4: virtual_routers[0].{said}",)


def test_questionable_ipv6_addresses():
    many = ", ".join(f'"fd00::{n:x}"' for n in range(1, 92))
    loaded = read(LEAST.replace("10.0.0.100", many))
    assert isinstance(loaded, Loaded)
    assert loaded.warnings == (
        (
            "haagent.yaml:4: virtual_routers[0].addresses[0]: fd00::1, the first IPv6 address should be link-local"
            " (RFC 9568 5.2.9)"
        ),
        (
            "haagent.yaml:4: virtual_routers[0].addresses: more than 90 IPv6 addresses do not fit an advert"
            " of 1500 bytes"
        ),
    )


def test_what_is_long_is_cut_and_what_moves_a_cursor_is_escaped():
    assert errors(LEAST.replace("51", "9" * 5000)) == (
        f"haagent.yaml:4: virtual_routers[0].vrid: {'9' * 57}..., must be 1 to 255",
    )
    assert errors(LEAST.replace("51", r'"\e[2J"')) == (
        r"haagent.yaml:4: virtual_routers[0].vrid: '\x1b[2J', must be 1 to 255",
    )


def test_the_same_link_local_address_on_two_links():
    text = """
        cluster: prod
        etcd: {endpoints: [http://10.0.0.1:2379]}
        virtual_routers:
          - {name: a, vrid: 1, interface: eth0, addresses: ["fe80::1/64"]}
          - {name: b, vrid: 1, interface: eth1, addresses: ["fe80::1/64"]}
    """
    assert len(config(text).routers) == 2
    assert len(errors(text.replace("vrid: 1, interface: eth1", "vrid: 2, interface: eth0"))) == 1


def test_thousands_of_mistakes_are_cut_short():
    said = errors("\n".join(f"key{n}: 1" for n in range(2000)))
    assert len(said) == 101
    assert said[-1].endswith("more errors, or more than that")


@given(st.text() | st.lists(st.sampled_from([*"[]{}:,-&*!|>'\"%@# \n\t?~", "a", "vrid", "51", "- "])).map("".join))
def test_garbage_is_refused_in_words(text: str):
    said = errors(text)
    assert said
    assert all(line.isprintable() for line in said)


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
KEYS = st.sampled_from(
    [
        *FileKeys.model_fields,
        *EtcdKeys.model_fields,
        *LeaseKeys.model_fields,
        *RouterKeys.model_fields,
        *GroupKeys.model_fields,
        *LogKeys.model_fields,
        *PeersKeys.model_fields,
        *ControlKeys.model_fields,
        "address",
    ]
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(), inner))


@given(st.dictionaries(KEYS, VALUES))
def test_any_value_at_any_key_is_refused_in_words(data: dict[str, object]):
    # JSON is YAML, but for escapes of surrogates.
    result = load(json.dumps(data, ensure_ascii=True), "haagent.yaml", "h1")
    assert isinstance(result, Invalid)
    assert all(line.isprintable() for line in result.errors)


@given(st.data())
def test_one_wrong_value_anywhere_never_raises(data: st.DataObject):
    whole = cast(dict[str, object], yaml.safe_load(dedent(WHOLE)))
    at, key = data.draw(st.sampled_from(list(places(whole))))
    at[key] = data.draw(VALUES)
    load(json.dumps(whole), "haagent.yaml", "h1")


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key or index in the data."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from places(value)
