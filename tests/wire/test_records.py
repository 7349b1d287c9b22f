"""Keys and values of etcd: round trips, the limits from both sides, what newer agents and strangers write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haagent.core.records import (
    Garbage,
    HistoryEntry,
    Intent,
    Key,
    Kind,
    LeaseValue,
    MemberValue,
    Orders,
    OwnerRecord,
    Standing,
    Value,
)
from haagent.core.units import MS, S
from haagent.wire import records
from haagent.wire.records import decode, encode, key_of, path, since

LEASE = LeaseValue("i1", "boot-1/4026531840", 1 * S, 7)
OWNER = OwnerRecord("a", "i1", "boot-1/4026531840", 1 * S, 3, False, ("a", "b"), "lapsed", 300 * S, ("m-a", ""))
MEMBER = MemberValue(
    "i1",
    "0.1.0",
    (bytes([10, 0, 0, 1]), bytes.fromhex("fe80000000000000000000000000000a")),
    {"web": Standing(100, bytes([10, 0, 0, 1])), "db": Standing(0, b"")},
    "10.0.0.1:8501",
    "m-a",
)
INTENT = Intent("b", 3, "root at a", 1_800_000_000 * S, 1_800_000_060 * S)
ORDERS = Orders("root at a", ("b",))
HISTORY = HistoryEntry("a", 3, "cold start")
VALUES: dict[Kind, Value] = {
    Kind.LEASES: LEASE,
    Kind.OWNERS: OWNER,
    Kind.MEMBERS: MEMBER,
    Kind.INTENTS: INTENT,
    Kind.HISTORY: HISTORY,
    Kind.ORDERS: ORDERS,
}


def altered(kind: Kind, change: Callable[[dict[str, Any]], object]) -> Value | Garbage:
    """What is read when one thing in a good value was changed."""
    fields = json.loads(encode(VALUES[kind]))
    change(fields)
    return decode(kind, json.dumps(fields).encode())


# --- paths


@pytest.mark.parametrize("kind", Kind)
def test_a_path_names_its_key(kind: Kind):
    key = Key(kind, "web/17" if kind is Kind.HISTORY else "web")
    assert path("prod", key) == f"/haagent/prod/{kind}/{key.name}"
    assert key_of(path("prod", key)) == key


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "/",
        "haagent/prod/leases/a",
        "/haagent/prod/leases",
        "/haagent/prod/leases/",
        "/haagent/prod/leases/a/b",
        "/haagent/prod/leases/" + "a" * 254,
        "/haagent/prod/leases/a\nb",
        "/haagent/prod/leases/a\udc80",
        "/haagent/prod/control",
        "/haagent/prod/fences/a",
        "/haagent/prod/history/web",
        "/haagent/prod/history/web/newest",
        "/haagent/prod/history/web/²",
        "/haagent/prod/history/web/" + "1" * 20,
        "/haagent/prod/history//1",
        "/patroni/prod/leases/a",
    ],
)
def test_a_path_that_is_none_of_ours_is_ignored(foreign: str):
    assert key_of(foreign) is None


@given(st.text())
def test_any_path_is_read(text: str):
    key = key_of(text)
    assert key is None or path(text.split("/")[2], key) == text


# --- values


@pytest.mark.parametrize("kind", Kind)
def test_what_is_written_is_what_is_read(kind: Kind):
    assert decode(kind, encode(VALUES[kind])) == VALUES[kind]


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30)
NUMBERS = st.integers(0, (1 << 63) - 1)
TTLS = st.integers(300, 60_000).map(lambda ms: ms * MS)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=100)
ADDRESSES = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
STANDINGS = st.builds(Standing, st.integers(0, 255), ADDRESSES | st.just(b""))


@given(
    st.one_of(
        st.tuples(st.just(Kind.LEASES), st.builds(LeaseValue, NAMES, NAMES, TTLS, NUMBERS)),
        st.tuples(
            st.just(Kind.OWNERS),
            st.builds(
                OwnerRecord,
                *(NAMES, NAMES, NAMES, TTLS, NUMBERS, st.booleans()),
                st.lists(NAMES, max_size=5).map(tuple),
                TEXTS,
            ),
        ),
        st.tuples(
            st.just(Kind.MEMBERS),
            st.builds(
                MemberValue,
                NAMES,
                TEXTS,
                st.lists(ADDRESSES, max_size=5).map(tuple),
                st.dictionaries(NAMES, STANDINGS, max_size=5),
            ),
        ),
        st.tuples(st.just(Kind.INTENTS), st.builds(Intent, NAMES, NUMBERS, TEXTS)),
        st.tuples(st.just(Kind.HISTORY), st.builds(HistoryEntry, NAMES, NUMBERS, TEXTS)),
    )
)
def test_any_value_survives_the_round_trip(pair: tuple[Kind, Value]):
    kind, value = pair
    assert decode(kind, encode(value)) == value


def test_the_form_in_etcd_is_this():
    """Agents of other versions, and people with etcdctl, read it."""
    assert json.loads(encode(OWNER, since="2026-01-02T03:04:05.678+00:00")) == {
        "v": 1,
        "node": "a",
        "incarnation": "i1",
        "host": "boot-1/4026531840",
        "ttl_ms": 1000,
        "epoch": 3,
        "clean": False,
        "candidates": ["a", "b"],
        "reason": "lapsed",
        "failsafe_ms": 300_000,
        "machines": ["m-a", ""],
        "since": "2026-01-02T03:04:05.678+00:00",
    }
    assert json.loads(encode(MEMBER)) == {
        "v": 1,
        "incarnation": "i1",
        "version": "0.1.0",
        "addresses": ["10.0.0.1", "fe80::a"],
        "standings": {
            "web": {"priority": 100, "address": "10.0.0.1"},
            "db": {"priority": 0, "address": ""},
        },
        "endpoint": "10.0.0.1:8501",
        "machine": "m-a",
    }
    assert json.loads(encode(INTENT)) == {
        "v": 1,
        "to": "b",
        "from_epoch": 3,
        "by": "root at a",
        "not_before_ms": 1_800_000_000_000,
        "expires_ms": 1_800_000_060_000,
    }
    assert json.loads(encode(ORDERS)) == {"v": 1, "paused": "root at a", "drained": ["b"]}


def test_since_is_for_humans_only():
    assert decode(Kind.OWNERS, encode(OWNER, since="yesterday")) == OWNER


def test_a_ttl_is_never_written_shorter_than_it_is():
    written = decode(Kind.LEASES, encode(LeaseValue("i", "h", 1 * S + 1, 0)))
    assert isinstance(written, LeaseValue)
    assert written.ttl == 1 * S + 1 * MS


def test_texts_for_humans_are_cut_and_made_printable_but_never_spoil_a_record():
    def spoil(fields: dict[str, Any]) -> None:
        fields["reason"] = "\x1b[31m\udc80" + "x" * 5000

    read = altered(Kind.OWNERS, spoil)
    assert isinstance(read, OwnerRecord)
    assert read.reason.startswith("?[31m?xxx")
    assert len(read.reason) == records.MAX_TEXT
    assert decode(Kind.HISTORY, encode(HistoryEntry("a", 1, "y" * 5000))) == HistoryEntry("a", 1, "y" * 1000)


def test_a_newer_agents_extra_fields_are_ignored():
    for kind, value in VALUES.items():
        assert altered(kind, lambda fields: fields.update(future={"deep": [1, 2]})) == value


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
def test_another_schema_is_garbage(kind: Kind, version: object):
    assert altered(kind, lambda fields: fields.update(v=version)) == Garbage("v: must be 1")


@pytest.mark.parametrize("kind", Kind)
def test_each_field_is_needed_and_has_one_type(kind: Kind):
    for field in json.loads(encode(VALUES[kind])):
        assert isinstance(altered(kind, lambda fields, field=field: fields.pop(field)), Garbage)
        for wrong in (None, 1.5, [[]], {"x": None}):
            read = altered(kind, lambda fields, field=field, wrong=wrong: fields.update({field: wrong}))
            assert isinstance(read, Garbage), (field, wrong)
            assert read.reason.startswith(field) or field == "addresses"


@pytest.mark.parametrize(
    "kind, field, good, bad",
    [
        (Kind.LEASES, "ttl_ms", [300, 60_000], [299, 60_001, -1, True, "1000"]),
        (Kind.LEASES, "round", [0, 2**63 - 1], [-1, 2**63, False]),
        (Kind.LEASES, "incarnation", ["x", "x" * 253], ["", "x" * 254, "a\x00", "a\udc80"]),
        (Kind.LEASES, "host", ["x/y"], ["", "\n"]),
        (Kind.OWNERS, "ttl_ms", [300, 60_000], [299, 60_001]),
        (Kind.OWNERS, "epoch", [0, 2**63 - 1], [-1, 2**63, 1e3]),
        (Kind.OWNERS, "clean", [True, False], [0, 1, "true"]),
        (Kind.OWNERS, "candidates", [[], ["a"] * 256], [["a"] * 257, [1], [""], "a", {"a": 1}]),
        (Kind.MEMBERS, "addresses", [[], ["::1"] * 256], [["::1"] * 257, [16], ["::1%lo"], ["10.0.0"]]),
        (Kind.MEMBERS, "standings", [{}], [{"": {}}, {"g": 1}, {"g": {"priority": 1}}, []]),
        (Kind.OWNERS, "failsafe_ms", [0, 86_400_000], [-1, 86_400_001]),
        (Kind.MEMBERS, "endpoint", ["", "x" * 253], ["x" * 254, "a\n"]),
        (Kind.INTENTS, "from_epoch", [0], [-1]),
        (Kind.INTENTS, "not_before_ms", [0, 1_800_000_000_000], [-1, 2**62]),
        (Kind.ORDERS, "drained", [[], ["a"] * 256], [["a"] * 257, [1], [""], "a"]),
        (Kind.HISTORY, "epoch", [0], [-1]),
    ],
)
def test_limits(kind: Kind, field: str, good: list[object], bad: list[object]):
    for value in good:
        read = altered(kind, lambda fields, value=value: fields.update({field: value}))
        assert not isinstance(read, Garbage), value
    for value in bad:
        assert isinstance(altered(kind, lambda fields, value=value: fields.update({field: value})), Garbage), value


@pytest.mark.parametrize("priority", [-1, 256, True, "100", None])
def test_priorities_fit_into_an_advert(priority: object):
    standing = {"priority": priority, "address": "10.0.0.1"}
    read = altered(Kind.MEMBERS, lambda fields: fields.update(standings={"web": standing}))
    assert read == Garbage("priority: must be a whole number") or read == Garbage("priority: must be 0 to 255")


def test_standings_are_bounded():
    standing = {"priority": 1, "address": ""}
    for count, good in ((1024, True), (1025, False)):
        standings = {str(number): standing for number in range(count)}
        read = altered(Kind.MEMBERS, lambda fields, standings=standings: fields.update(standings=standings))
        assert isinstance(read, MemberValue) is good


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe{\x00}\x00",
        b"\x80",
        b"[" * 60_000,
        b'{"v":' * 10_000,
        b'{"v":1,"epoch":' + b"9" * 60_000 + b"}",
        b'{"v":NaN}',
        b" " * 65_537,
    ],
    ids=range(12),
)
def test_what_is_no_value_is_garbage(data: bytes):
    for kind in Kind:
        assert isinstance(decode(kind, data), Garbage)


@given(st.sampled_from(Kind), st.binary())
def test_any_bytes_are_read(kind: Kind, data: bytes):
    decode(kind, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(Kind), st.data())
def test_any_json_in_any_field_is_read(kind: Kind, data: st.DataObject):
    fields = json.loads(encode(VALUES[kind]))
    for field in data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
        fields[field] = data.draw(JSON)
    decode(kind, json.dumps(fields).encode())


def test_what_others_would_not_read_is_not_written():
    standings = {f"group-{number:0100}": Standing(1, b"") for number in range(1000)}
    with pytest.raises(ValueError, match="at most 65536"):
        encode(MemberValue("i", "1", (), standings))


def test_when_it_was_written_is_read_beside_the_value():
    stamp = "2026-03-01T12:00:00.123+00:00"
    assert since(encode(OWNER, stamp)) == 1_772_366_400_123 * MS
    assert since(encode(OWNER)) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"since":"2026-03-01T12:00:00+00:00"}',
        b'{"v":1,"since":"2026-03-01T12:00:00"}',
        b'{"v":1,"since":"+++++"}',
        b'{"v":1,"since":"0001-01-01T00:00:00+00:00"}',
        b'{"v":1,"since":"2026-03-01T12:00:00+00:00","reason":"x"}',
        b'{"v":1,"reason":",\\"since\\":\\"2026-03-01T12:00:00+00:00\\""}',
    ],
)
def test_what_is_no_time_is_none(data: bytes):
    assert since(data) == 0
