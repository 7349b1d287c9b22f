"""The peers' parts that need no network: what is made of bytes, who is spoken with, how much, how often, how far."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haagent.api.credentials import names_in, proven
from haagent.api.peers import messages
from haagent.api.peers.backoff import LEAST, MOST, pause
from haagent.api.peers.endpoint import endpoint
from haagent.api.peers.greeting import Greeting, dials, judge
from haagent.api.peers.limits import BURST, FLOOD, RATE, WAITING_MOST, Allowance, Outbox
from haagent.api.peers.messages import MESSAGE_MOST, TENURES_MOST, Answered, Asked, Reported
from haagent.api.peers.pings import Pings, Sample
from haagent.api.peers.reasons import COUNTED_MOST, NOBODY, QUIET, Reason, Refusals, Refused
from haagent.core.heartbeat import HeartbeatReceived, PromiseReceived, SendHeartbeat, SendPromise, Tenure
from haagent.core.units import MS, S
from haagent.v1 import peers_pb2
from haagent.v1.status_pb2 import Alarm, GroupRole, NodeStatus

OURS = Greeting("prod", "n2", "b1", "0.1.0")
PEER = Greeting("prod", "n1", "a1", "0.1.0")
WEB = (Tenure("web", 3),)


def reason(got: object) -> Reason:
    assert isinstance(got, Refused), got
    return got.reason


# --- messages


def test_what_is_said_is_heard():
    beat = SendHeartbeat(("n2",), "a1", 7, 1 * S, WEB)
    assert messages.read(messages.heartbeat(beat), PEER) == HeartbeatReceived("n1", "a1", 7, 1 * S, WEB)
    word = SendPromise("n2", "m-a", "b1", 8, WEB)
    assert messages.read(messages.promise(word), PEER) == PromiseReceived("n1", "m-a", "b1", 8, WEB)
    assert messages.read(messages.ping(Asked(4, 5)), PEER) == Asked(4, 5)
    assert messages.read(messages.pong(Asked(4, 5), 6), PEER) == Answered(4, 5, 6)
    status = NodeStatus(node="n1", incarnation="a1", groups=[GroupRole(group="web", faults=["interface eth0 is down"])])
    assert messages.read(messages.status(status), PEER) == Reported(status)
    assert messages.read_greeting(messages.greeting(OURS)) == OURS


def test_the_largest_configuration_fits_a_heartbeat():
    tenures = tuple(Tenure(f"{number:064}", (1 << 63) - 1) for number in range(TENURES_MOST))
    data = messages.heartbeat(SendHeartbeat((), "a1", (1 << 63) - 1, 60 * S, tenures))
    assert len(data) <= MESSAGE_MOST
    assert isinstance(messages.read(data, PEER), HeartbeatReceived)


def test_a_status_that_does_not_fit_is_cut():
    alarms = [Alarm(detail="x" * 1000) for _ in range(100)]
    groups = [GroupRole(group=f"{number:064}", faults=["x" * 300]) for number in range(1000)]
    status = NodeStatus(node="n1", incarnation="a1", groups=groups, alarms=alarms)
    data = messages.status(status)
    assert len(data) <= MESSAGE_MOST
    heard = messages.read(data, PEER)
    assert isinstance(heard, Reported)
    assert heard.status.groups[0] == groups[0]
    assert len(heard.status.groups) >= 200
    assert len(status.groups) == 1000, "what is reported stays as it is"


def beat(**changes: object) -> peers_pb2.PeerMessage:
    body = {"incarnation": "a1", "round": 1, "ttl_ns": S, "tenures": [peers_pb2.Tenure(group="web", epoch=3)]}
    return peers_pb2.PeerMessage(heartbeat=peers_pb2.Heartbeat(**{**body, **changes}))  # pyright: ignore[reportArgumentType]


def tenures(count: int, **changes: object) -> list[peers_pb2.Tenure]:
    return [peers_pb2.Tenure(**{"group": f"g{number}", "epoch": 1, **changes}) for number in range(count)]  # pyright: ignore[reportArgumentType]


REFUSED = [
    (beat(incarnation="a0"), Reason.INCARNATION),
    (beat(incarnation=""), Reason.INCARNATION),
    (beat(ttl_ns=0), Reason.NUMBER),
    (beat(ttl_ns=3601 * S), Reason.NUMBER),
    (beat(round=1 << 63), Reason.NUMBER),
    (beat(tenures=tenures(1, epoch=1 << 63)), Reason.NUMBER),
    (beat(tenures=tenures(TENURES_MOST + 1)), Reason.TENURES),
    (beat(tenures=tenures(2, group="web")), Reason.TENURES),
    (beat(tenures=tenures(1, group="")), Reason.TEXT),
    (beat(tenures=tenures(1, group="x" * 254)), Reason.TEXT),
    (beat(tenures=tenures(1, group="a\x1b[2J")), Reason.TEXT),
    (peers_pb2.PeerMessage(promise=peers_pb2.Promise(incarnation="")), Reason.TEXT),
    (peers_pb2.PeerMessage(promise=peers_pb2.Promise(incarnation="b1", tenures=tenures(1, group="\n"))), Reason.TEXT),
    (peers_pb2.PeerMessage(hello=peers_pb2.Hello()), Reason.UNEXPECTED),
    (peers_pb2.PeerMessage(), Reason.UNEXPECTED),
    (peers_pb2.PeerMessage(status=NodeStatus(node="n3", incarnation="a1")), Reason.INCARNATION),
    (
        peers_pb2.PeerMessage(status=NodeStatus(node="n1", incarnation="a1", alarms=[Alarm(detail="a\x1b[2J")])),
        Reason.TEXT,
    ),
]


@pytest.mark.parametrize("message, why", REFUSED)
def test_what_is_refused(message: peers_pb2.PeerMessage, why: Reason):
    assert reason(messages.read(message.SerializeToString(), PEER)) is why


def test_bytes_that_are_no_message():
    assert reason(messages.read(b"\xff" * 10, PEER)) is Reason.GARBAGE
    assert reason(messages.read(bytes(MESSAGE_MOST + 1), PEER)) is Reason.OVERSIZED
    assert reason(messages.read_greeting(beat().SerializeToString())) is Reason.NO_HELLO


WHOLE = [
    beat().SerializeToString(),
    messages.promise(SendPromise("n2", "m-a", "b1", 8, WEB)),
    messages.greeting(PEER),
    messages.status(NodeStatus(node="n1", incarnation="a1", groups=[GroupRole(group="web")])),
    messages.pong(Asked(4, 5), 6),
]


@given(st.binary(max_size=300) | st.tuples(st.sampled_from(WHOLE), st.integers(0, 60), st.binary(max_size=4)))
def test_garbage_never_raises(data: bytes | tuple[bytes, int, bytes]):
    if not isinstance(data, bytes):
        whole, at, put = data
        data = whole[:at] + put + whole[at + len(put) :]
    for read in (messages.read_greeting, lambda data: messages.read(data, PEER)):
        got = read(data)
        if isinstance(got, Refused):
            assert str(got).isprintable()
        if isinstance(got, HeartbeatReceived):
            assert got.incarnation == PEER.incarnation
            assert all(tenure.group.isprintable() for tenure in got.tenures)


# --- greeting


def test_the_highest_common_version_is_spoken():
    for theirs, spoken in (((1, 1), 1), ((1, 9), 3), ((3, 9), 3), ((1, 2), 2)):
        made = replace(PEER, oldest=theirs[0], newest=theirs[1])
        assert judge(replace(OURS, newest=3), made, proven={"n1"}, expected=None) == spoken


def test_no_common_version_names_both_ranges():
    got = judge(replace(OURS, oldest=2, newest=3), replace(PEER, oldest=4, newest=6), proven=None, expected="n1")
    assert got == Refused(Reason.VERSION, "it speaks versions 4 to 6, we 2 to 3")


JUDGED = [
    ({"cluster": "test"}, {"n1"}, None, Reason.CLUSTER),
    ({}, {"n3"}, None, Reason.NAME),
    ({}, set(), None, Reason.NAME),
    ({}, None, "n3", Reason.NODE),
    ({"node": "n2"}, {"n2"}, None, Reason.NODE),
    ({"node": "n3"}, {"n3"}, None, Reason.DIRECTION),
]


@pytest.mark.parametrize("changes, shown, expected, why", JUDGED)
def test_who_is_not_spoken_with(changes: dict[str, str], shown: set[str] | None, expected: str | None, why: Reason):
    made = replace(PEER, **changes)
    assert reason(judge(OURS, made, proven=shown, expected=expected)) is why


def test_one_of_two_dials():
    assert (dials("n1", "n2"), dials("n2", "n1"), dials("n10", "n2")) == (True, False, True)


def test_names_of_a_certificate():
    shown = {"subject": ((("commonName", "cn"),),), "subjectAltName": (("DNS", "a"), ("URI", "x:y"))}
    assert names_in(shown) == {"a"}
    assert names_in({"subject": shown["subject"]}) == {"cn"}
    assert names_in({}) == frozenset()
    assert names_in({**shown, "subjectAltName": (("URI", "x:y"),)}) == frozenset(), "as gRPC has it"
    seen = {"transport_security_type": [b"ssl"], "x509_common_name": [b"cn"]}
    assert proven(seen) == {"cn"}
    assert proven({**seen, "x509_subject_alternative_name": [b"a", b"\xff"]}) == {"a", "\ufffd"}
    assert proven({}) is None


# --- limits


def test_a_burst_then_a_rate():
    allowance = Allowance(0)
    assert sum(allowance.take(0) for _ in range(BURST + 100)) == BURST
    assert allowance.overrun == 100
    assert sum(allowance.take(1 * S) for _ in range(RATE + 50)) == RATE
    assert allowance.overrun == 150
    assert allowance.take(100 * S)
    assert allowance.overrun == 0, "a pause makes up for it"


def test_a_flood_is_told_from_a_burst():
    allowance = Allowance(0)
    for _ in range(BURST + FLOOD):
        allowance.take(0)
    assert not allowance.flooded
    allowance.take(0)
    assert allowance.flooded


def test_the_newest_heartbeat_is_sent_first_and_the_oldest_of_the_rest_goes():
    outbox = Outbox()
    outbox.put_status(b"old")
    outbox.put_status(b"status")
    for number in range(WAITING_MOST + 2):
        outbox.put(b"%d" % number)
    outbox.put_heartbeat(b"old")
    outbox.put_heartbeat(b"heartbeat")
    taken = [outbox.take() for _ in range(WAITING_MOST + 3)]
    assert taken == [b"heartbeat", *(b"%d" % number for number in range(2, WAITING_MOST + 2)), b"status", None]
    assert (outbox.replaced, outbox.dropped) == (1, 2)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_pauses_grow_within_bounds(chance: float):
    pauses = [pause(failures, chance) for failures in range(1, 100)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= LEAST
    assert MOST / 2 <= pauses[-1] <= MOST


# --- pings


def test_the_clock_is_that_of_the_shortest_round_trip():
    pings = Pings()
    assert pings.best is None
    for round_trip, ahead in ((10 * MS, 6 * S), (2 * MS, 5 * S), (8 * MS, 4 * S)):
        asked = pings.ask(100)
        answer = Answered(asked.number, 100, 100 + round_trip // 2 + ahead)
        assert pings.answered(answer, 100 + round_trip)
        assert not pings.answered(answer, 100 + round_trip), "once"
    assert pings.best == Sample(2 * MS, 5 * S)
    assert not pings.answered(Answered(99, 100, 100), 100)
    for _ in range(10):
        asked = pings.ask(0)
        pings.answered(Answered(asked.number, 0, 10 * MS), 20 * MS)
    assert pings.best == Sample(20 * MS, 0), "the last ten count"


def test_pings_without_answer_are_forgotten():
    pings = Pings()
    first = pings.ask(0)
    for _ in range(100):
        pings.ask(0)
    assert not pings.answered(Answered(first.number, 0, 1), 2)
    assert len(pings._waiting) <= 16


# --- endpoints, refusals


@pytest.mark.parametrize(
    "text, target",
    [
        ("10.0.0.1:8501", "ipv4:10.0.0.1:8501"),
        ("[fd00::1]:8501", "ipv6:[fd00::1]:8501"),
        ("n1.example:8501", "dns:///n1.example:8501"),
    ],
)
def test_endpoints(text: str, target: str):
    found = endpoint(text)
    assert found is not None
    assert found.target == target


@pytest.mark.parametrize(
    "text",
    ["", "n1", "n1:0", "n1:65536", "unix:/run/x", "unix:1", "[::1", "fd00::1:1", "[10.0.0.1]:1", "a/b:1", "n1:1\n"],
)
def test_endpoints_that_are_none(text: str):
    found = endpoint(text)
    assert found is None or found.target.startswith("dns:///unix"), "a host may be called so"


def test_refusals_are_said_once_a_minute(caplog: pytest.LogCaptureFixture):
    refusals = Refusals()
    why = Refused(Reason.CLUSTER, "it is of test, we are of prod")
    for number in range(100):
        refusals.note("n1", why, number)
    refusals.note("n2", why, 100)
    refusals.note("n1", why, QUIET)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "peers: n1: wrong-cluster: it is of test, we are of prod",
        "peers: n2: wrong-cluster: it is of test, we are of prod",
        "peers: n1: wrong-cluster: it is of test, we are of prod; 99 more since the last such line",
    ]
    assert refusals.counted["n1", Reason.CLUSTER] == 101


def test_whatever_names_come_counting_is_bounded():
    refusals = Refusals()
    for number in range(COUNTED_MOST + 100):
        refusals.note(f"n{number}", Refused(Reason.NODE, ""), 0)
    assert len(refusals.counted) == COUNTED_MOST + 1
    assert refusals.counted[NOBODY, Reason.NODE] == 100
