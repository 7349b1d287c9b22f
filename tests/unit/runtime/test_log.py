"""The log: what a line looks like, that text from outside cannot forge one, and that nobody ever waits for it."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Callable

import pytest

from haagent.core.model import (
    AddressesRepaired,
    Alarm,
    Effect,
    Event,
    InterfaceChanged,
    KernelFailed,
    LeaseChanged,
    Role,
    RoleChanged,
    SendAdvert,
    StopRequested,
    TimePassed,
    VirtualAddress,
)
from haagent.core.units import MS
from haagent.runtime.log import QUEUED_MOST, Log, fields
from haagent.runtime.narrator import Narrator

LOGGER = logging.getLogger("haagent.test")


def lines(write: Callable[[], None], level: str = "info", style: str = "text") -> list[str]:
    stream = io.StringIO()
    log = Log(level, style, stream)
    write()
    log.close()
    return stream.getvalue().splitlines()


def test_a_line_of_text():
    (line,) = lines(lambda: LOGGER.info("web: %s", "up", extra=fields(epoch=42, why="a b", held=True, empty="")))
    time, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'info     web: up epoch=42 why="a b" held=true empty=""'


def test_a_line_of_json():
    (line,) = lines(lambda: LOGGER.warning("web: %s", "up", extra=fields(epoch=42)), style="json")
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "warning", "logger": "haagent.test", "message": "web: up", "epoch": 42}


@pytest.mark.parametrize("style", ["text", "json"])
def test_text_from_outside_forges_no_line(style: str):
    evil = "x\n2026-01-01T00:00:00.000Z info web: MASTER\x1b[2J\u2028"
    (line,) = lines(lambda: LOGGER.info("%s", evil, extra=fields(more=evil)), style=style)
    assert line.isprintable()


def test_an_exception_is_one_line_too():
    def write() -> None:
        try:
            int("why")
        except ValueError:
            LOGGER.exception("it failed")

    (line,) = lines(write)
    assert "it failed" in line
    assert "ValueError: " in line


def test_levels():
    def write() -> None:
        LOGGER.debug("one")
        LOGGER.info("two")
        logging.getLogger("asyncio").info("chatter")
        logging.getLogger("asyncio").warning("three")

    assert [line.split()[-1] for line in lines(write, "debug")] == ["one", "two", "three"]
    assert [line.split()[-1] for line in lines(write, "warning")] == ["three"]


class Stuck(io.StringIO):
    """A pipe that nobody reads, until they do."""

    def __init__(self) -> None:
        super().__init__()
        self.freed = threading.Event()

    def write(self, text: str) -> int:
        self.freed.wait()
        return super().write(text)


def test_nobody_waits_for_whoever_does_not_read(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.CRITICAL)
    caplog.handler.setLevel(logging.CRITICAL)
    stream = Stuck()
    log = Log("info", "text", stream)
    for number in range(QUEUED_MOST + 500):  # would never end, if it waited
        LOGGER.info("line %d", number)
    stream.freed.set()
    log.close(patience=30)
    said = stream.getvalue().splitlines()
    assert any(re.search(r"warning +[45]\d\d log entries dropped: nobody read them", line) for line in said)
    assert len(said) <= QUEUED_MOST + 2


def test_a_log_that_nobody_will_ever_read_does_not_keep_the_process():
    stream = Stuck()
    log = Log("info", "text", stream)
    LOGGER.info("one")
    log.close(patience=0.01)
    stream.freed.set()


NARRATED: list[tuple[Event | Effect, str, str]] = [
    (
        RoleChanged("web", Role.BACKUP, Role.MASTER, "the lease of n2 lapsed", 42),
        "INFO",
        "web: BACKUP -> MASTER (the lease of n2 lapsed)",
    ),
    (RoleChanged("web", Role.MASTER, Role.FAULT, "eth0 is down", 42), "WARNING", "web: MASTER -> FAULT (eth0 is down)"),
    (Alarm("etcd-silent", "etcd", "no answer", True), "WARNING", "alarm: etcd-silent etcd: no answer"),
    (Alarm("etcd-silent", "etcd", "", False), "INFO", "alarm over: etcd-silent etcd"),
    (LeaseChanged(True, "renewals are seen"), "INFO", "lease held: renewals are seen"),
    (LeaseChanged(False, "it ran out"), "WARNING", "lease lapsed: it ran out"),
    (InterfaceChanged("eth0", True, b"\x0a\0\0\1", None), "INFO", "interface eth0: up, 10.0.0.1"),
    (InterfaceChanged("eth0", True, None, None), "INFO", "interface eth0: up, without an address"),
    (InterfaceChanged("eth0", False, None, None), "WARNING", "interface eth0: down or absent"),
    (KernelFailed("web", 1, "EPERM"), "ERROR", "web: the kernel did not do as told: EPERM"),
    (
        AddressesRepaired("web", tuple(VirtualAddress(bytes((10, 0, 0, n)), 24, "eth0") for n in range(5))),
        "WARNING",
        "web: put back 10.0.0.0 on eth0, 10.0.0.1 on eth0, 10.0.0.2 on eth0, 2 more: somebody removed it",
    ),
    (StopRequested(), "INFO", "stopping: giving up what is owned"),
]


@pytest.mark.parametrize("what, level, said", NARRATED)
def test_what_people_want_to_know(what: Event | Effect, level: str, said: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "haagent")
    tell(Narrator(), what)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [(level, said)]


def test_nothing_is_said_of_packets_nor_twice_of_an_interface(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "haagent")
    narrator = Narrator()
    for what in (SendAdvert("web", 100), TimePassed(), *[InterfaceChanged("eth0", True, None, None)] * 3):
        tell(narrator, what)
    assert len(caplog.records) == 1


def test_repairs_are_told_once_a_second_for_each_group(caplog: pytest.LogCaptureFixture):
    narrator = Narrator()
    address = VirtualAddress(bytes((10, 0, 0, 1)), 24, "eth0")
    for at in range(0, 1001, 100):
        for name in ("web", "db"):
            narrator.heard(AddressesRepaired(name, (address,)), at * MS)
    words = "put back 10.0.0.1 on eth0: somebody removed it"
    more = " (9 more since the last such line)"
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"web: {words}", f"db: {words}", f"web: {words}{more}", f"db: {words}{more}"]


def tell(narrator: Narrator, what: Event | Effect) -> None:
    if isinstance(what, Event):
        narrator.heard(what, now=0)
    else:
        narrator.done(what, now=0)
