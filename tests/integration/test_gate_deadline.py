"""A gate closes at its deadline, never later: whatever stalls, whoever stops, and whoever comes after.

Every test is run with the nftables gate and with the eBPF gate.
"""

from __future__ import annotations

import functools
import itertools
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from haagent.core.units import MS, Instant, S
from haagent.lab.lab import Lab
from haagent.lab.topology import vip4, vip6
from haagent.runtime.clock import boottime
from haagent.runtime.ports import GateClosedError
from tests.integration.conftest import MakeLab
from tests.integration.gating import KINDS, OTHERS, VIPS, Client, gate, hold, later, on_both
from tests.integration.namespace import ROOT, in_namespace

pytestmark = [pytest.mark.integration, pytest.mark.alone]

LATE = 5 * MS
"""What an answer may come after the deadline: it left before, and the client had to be scheduled to see it."""


class StallingClock:
    """CLOCK_BOOTTIME; one of its readings is followed by a stall, before the reader gets to use it."""

    def __init__(self) -> None:
        self.stall_at, self.stall = -1, 0.0
        self.readings = itertools.count()

    def __call__(self) -> Instant:
        now = boottime()
        if next(self.readings) == self.stall_at:
            time.sleep(self.stall)
        return now

    def prepare(self, reading: int, seconds: float) -> None:
        self.readings, self.stall_at, self.stall = itertools.count(), reading, seconds


@on_both
def test_a_stall_at_any_step_closes_early_or_is_refused():
    client = Client()
    clock = StallingClock()
    guard = gate(clock=clock)
    guard.protect(VIPS)
    # The nftables gate reads the clock before and after the ticket is staged; the eBPF gate once.
    for reading, renewing, stall in itertools.product((0, 1), (False, True), (0, 0.005, 0.02, 0.028, 0.04, 0.25, 2.0)):
        clock.prepare(-1, 0)
        if renewing:
            guard.open({"g": VIPS}, later(120 * MS))
        until = boottime() + 150 * MS
        clock.prepare(reading, stall)
        try:
            if renewing:
                guard.renew(until)
            else:
                guard.open({"g": VIPS}, until)
        except GateClosedError:
            assert stall > 0
        last = client.last_answer(VIPS[0], until)
        assert last is None or last <= until + LATE, (reading, renewing, stall)
        if stall <= 0.02:
            assert last is not None, (reading, renewing, stall)
            assert last >= until - 60 * MS
        clock.prepare(-1, 0)
        guard.close(["g"])


@on_both
def test_what_has_closed_is_not_reopened_by_a_renewal_but_by_opening_it_anew():
    client = Client()
    hold(*OTHERS)
    guard = gate()
    guard.protect([*VIPS, *OTHERS])
    guard.open({"a": VIPS}, later(50 * MS))
    guard.open({"b": OTHERS}, later(50 * MS))
    time.sleep(0.06)
    for _ in range(2):
        with pytest.raises(GateClosedError):
            guard.renew(later())
        assert all(client.silent(each) for each in (*VIPS, *OTHERS))
    with pytest.raises(GateClosedError):
        guard.open({"c": VIPS}, later())
    assert client.silent(VIPS[0])
    guard.close(["a"])
    guard.close(["b"])
    guard.open({"a": VIPS}, later())
    assert all(client.answered(each) for each in VIPS)
    assert all(client.silent(each) for each in OTHERS), "what another group had open does not come back with it"


@on_both
def test_opening_another_group_after_the_end_does_not_revive_the_first():
    client = Client()
    hold(*OTHERS)
    guard = gate()
    guard.protect([*VIPS, *OTHERS])
    guard.open({"a": VIPS}, later(40 * MS))
    time.sleep(0.05)
    with pytest.raises(GateClosedError):
        guard.open({"b": OTHERS}, later())
    assert all(client.silent(each) for each in (*VIPS, *OTHERS))


@on_both
def test_a_shorter_deadline_takes_the_place_of_a_longer_one():
    client = Client()
    guard = gate()
    guard.protect(VIPS)
    guard.open({"g": VIPS}, later())
    until = later(80 * MS)
    guard.renew(until)
    last = client.last_answer(VIPS[0], until)
    assert last is not None
    assert last <= until + LATE


@on_both
def test_a_new_incarnation_adopts_without_a_gap_and_without_more_time():
    client = Client()
    first = gate()
    first.protect(VIPS)
    until = later(300 * MS)
    first.open({"g": VIPS}, until)
    assert client.answered(VIPS[0])
    first.leave()  # what the kernel does when it dies
    second = gate()
    second.protect(VIPS)
    assert client.answered(VIPS[0])
    second.renew(later())  # it has opened nothing, so this gives nothing more time
    last = client.last_answer(VIPS[0], until)
    assert last is not None
    assert until - 100 * MS <= last <= until + LATE
    assert all(client.silent(each) for each in VIPS)
    second.open({"g": VIPS}, later())
    assert all(client.answered(each) for each in VIPS)


@on_both
def test_a_new_incarnation_that_opens_in_time_goes_on_and_leaves_the_rest_its_time():
    client = Client()
    hold(*OTHERS)
    first = gate()
    first.protect([*VIPS, *OTHERS])
    until = later(400 * MS)
    first.open({"a": VIPS}, until)
    first.open({"b": OTHERS}, until)
    first.leave()
    second = gate()
    second.protect([*VIPS, *OTHERS])
    second.open({"a": VIPS}, later())
    assert all(client.answered(each) for each in (*VIPS, *OTHERS))
    second.renew(later())
    last = client.last_answer(OTHERS[0], until)
    assert last is not None
    assert until - 100 * MS <= last <= until + LATE
    assert client.silent(OTHERS[1])
    assert all(client.answered(each) for each in VIPS)
    second.protect([*VIPS, *OTHERS])
    assert all(client.answered(each) for each in VIPS)


@on_both
def test_until_when_something_was_left_open():
    """For a group of which all is open; what this incarnation opened is no predecessor's."""
    Client()
    hold(*OTHERS)
    first = gate()
    first.protect([*VIPS, *OTHERS])
    until = later()
    first.open({"a": VIPS}, until)
    groups = {"a": VIPS, "b": OTHERS, "c": [*VIPS, *OTHERS]}
    assert first.left_until(groups) == {}
    first.leave()
    second = gate()
    second.protect([*VIPS, *OTHERS])
    left = second.left_until(groups)
    assert left.keys() == {"a"}
    assert until - 100 * MS <= left["a"] <= until
    second.open({"b": OTHERS}, later())
    assert second.left_until(groups).keys() == {"a"}
    second.sweep(VIPS)
    assert second.left_until(groups) == {}


@on_both
def test_what_was_left_open_can_be_swept():
    client = Client()
    hold(*OTHERS)
    first = gate()
    first.protect([*VIPS, *OTHERS])
    first.open({"a": [*VIPS, *OTHERS]}, later())
    first.leave()
    second = gate()
    second.protect([*VIPS, *OTHERS])
    second.open({"b": OTHERS}, later())
    second.sweep([*VIPS, *OTHERS])
    assert all(client.silent(each) for each in VIPS)
    assert all(client.answered(each) for each in OTHERS)
    second.close(["b"])
    second.sweep(OTHERS)
    assert all(client.silent(each) for each in OTHERS)


@on_both
def test_a_sweep_leaves_alone_what_is_not_named():
    """One group is swept while another is about to go on with what was left of it."""
    client = Client()
    hold(*OTHERS)
    first = gate()
    first.protect([*VIPS, *OTHERS])
    first.open({"a": VIPS}, later())
    first.open({"b": OTHERS}, later())
    first.leave()
    second = gate()
    second.protect([*VIPS, *OTHERS])
    second.sweep(VIPS)
    assert all(client.silent(each) for each in VIPS)
    assert all(client.answered(each) for each in OTHERS)
    second.open({"b": OTHERS}, later())
    second.sweep([*VIPS, *OTHERS])
    assert all(client.answered(each) for each in OTHERS)
    second.close(["b"])
    assert all(client.silent(each) for each in OTHERS)


@on_both
def test_a_holder_that_is_killed_is_succeeded_by_the_next():
    client = Client()
    hold_open = (
        "import sys, time; from tests.integration.gating import *; guard = gate(); guard.protect(VIPS);"
        " guard.open({'g': VIPS}, later()); print('open', flush=True); time.sleep(60)"
    )
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", hold_open],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            holder.kill()
        guard = gate()
        guard.protect(VIPS)
        assert client.answered(VIPS[0])
        guard.open({"g": VIPS}, later())
        guard.leave()


@pytest.mark.parametrize("kind, ahead", list(itertools.product(KINDS, (3600, -2))))
def test_a_time_namespace_changes_nothing(kind: str, ahead: int, monkeypatch: pytest.MonkeyPatch):
    """CRIU sets such offsets: the agent's clock is not the kernel's."""
    monkeypatch.setenv("HAAGENT_TEST_GATE", kind)
    monkeypatch.setenv("HAAGENT_TEST_AHEAD", str(ahead))
    hold_in_a_time_namespace()


@in_namespace
def hold_in_a_time_namespace():
    client = Client()
    hold_open = (
        "import time; from tests.integration.gating import *; guard = gate(); guard.protect(VIPS);"
        " until = later(400 * MS); guard.open({'g': VIPS}, until); guard.leave(); again = gate(); again.protect(VIPS);"
        " left = again.left_until({'g': VIPS}); print(until, left['g'], flush=True); time.sleep(60)"
    )
    ahead = int(os.environ["HAAGENT_TEST_AHEAD"])
    command = ["unshare", "--time", "--boottime", str(ahead), sys.executable, "-c", hold_open]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        until, left = (int(word) - ahead * S for word in holder.stdout.readline().split())
        assert until - 100 * MS <= left <= until
        last = client.last_answer(VIPS[0], until)
        assert last is not None
        assert until - 100 * MS <= last <= until + LATE
        holder.kill()


# With a real process that is stopped, and an observer that asks every two milliseconds.


class Holder:
    """A process on n1 that renews the gate every quarter of a ttl, and notes each deadline before it asks for it."""

    def __init__(self, lab: Lab, which: str, ttl: int, notes: Path) -> None:
        self.lab, self.notes = lab, notes
        script = Path(__file__).with_name("gate_holder.py")
        argv = [sys.executable, str(script), which, str(ttl), str(notes), vip4(), vip6()]
        self.process = lab.host("n1").spawn(argv, name="holder", env={"PYTHONPATH": str(ROOT)})

    def deadline(self) -> Instant:
        """The last that it asked for."""
        data = self.notes.read_bytes()
        return struct.unpack_from("=Q", data, len(data) // 8 * 8 - 8)[0]


@pytest.mark.parametrize("ttl, trials", [pytest.param(300 * MS, 30, id="300ms"), pytest.param(1 * S, 5, id="1s")])
@pytest.mark.parametrize("which", KINDS)
def test_a_stopped_holder_answers_until_the_deadline_and_never_after(
    make_lab: MakeLab, tmp_path: Path, which: str, ttl: int, trials: int
):
    lab = make_lab(hosts=1, etcd=0)
    prober = lab.probe([vip4(), vip6()])
    holder = Holder(lab, which, ttl, tmp_path / "notes")
    wait = functools.partial(prober.wait_for_answer, node="n1")
    for _ in range(trials):
        began = boottime()
        for each in (vip4(), vip6()):
            wait(each, after=began)
        holder.process.pause()
        deadline = holder.deadline()
        time.sleep(max(0, deadline - boottime()) / S + 0.03)
        resumed = boottime()
        timeline = prober.timeline(began, resumed)
        for each in (vip4(), vip6()):
            last = timeline.answers(each)[-1]
            assert last.at <= deadline + LATE, (deadline - last.at) / MS
            assert last.at >= deadline - ttl
        holder.process.resume()


@pytest.mark.parametrize("which", KINDS)
def test_renewals_keep_it_open_without_a_gap(make_lab: MakeLab, tmp_path: Path, which: str):
    lab = make_lab(hosts=1, etcd=0)
    prober = lab.probe([vip4(), vip6()])
    holder = Holder(lab, which, 1 * S, tmp_path / "notes")
    for each in (vip4(), vip6()):
        prober.wait_for_answer(each, after=0)
    time.sleep(0.1)
    began = boottime()
    time.sleep(5)
    timeline = prober.timeline(began, boottime())
    assert holder.process.running
    assert b"closed" not in holder.process.log.read_bytes()
    for each in (vip4(), vip6()):
        gap = timeline.gap(each, began)
        assert gap.length is not None
        assert gap.length - gap.blind < 50 * MS, "a probe or two may be lost to the machine, a renewal takes 250 ms"
