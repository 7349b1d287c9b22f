"""/dev/watchdog, as far as it can be tested without one: the numbers against the kernel's header, and the sequence.

The device is a plain file and the driver a function in place of ioctl: what a driver does with the calls is not shown.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from haagent.adapters import watchdog
from haagent.adapters.watchdog import NoWatchdogError, Watchdog
from haagent.core.units import MS, S

HEADER = Path("/usr/include/linux/watchdog.h")
# asm-generic/ioctl.h: direction, size, type, number; on x86 and ARM as here.
DIRECTIONS = {"_IOR": 2, "_IOWR": 3}
SIZES = {"int": 4, "struct watchdog_info": 40}


class Driver:
    """What the kernel would do: notes the calls, and answers them."""

    def __init__(self, options: int = 0x8180, least: int = 1, own: int = 60) -> None:
        self.options, self.least, self.seconds = options, least, own
        self.calls: list[tuple[int, int]] = []

    def ioctl(self, _descriptor: int, request: int, data: bytes) -> bytes:
        if request == watchdog.WDIOC_GETSUPPORT:
            return struct.pack("II32s", self.options, 1, b"Software Watchdog")
        (value,) = struct.unpack("i", data)
        self.calls.append((request, value))
        if request == watchdog.WDIOC_SETTIMEOUT:
            if value < self.least:
                raise OSError(errno.EINVAL, "Invalid argument")
            self.seconds = value
        return struct.pack("i", self.seconds)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], Driver]:
    def put(driver: Driver) -> Driver:
        monkeypatch.setattr(fcntl, "ioctl", driver.ioctl)
        return driver

    return put


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "watchdog"
    path.touch()
    return path


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers (linux-libc-dev)")
def test_the_numbers_are_the_kernels():
    text = HEADER.read_text()
    for name in ("WDIOC_GETSUPPORT", "WDIOC_KEEPALIVE", "WDIOC_SETTIMEOUT", "WDIOC_GETTIMEOUT"):
        match = re.search(rf"#define\s+{name}\s+(_IOW?R)\(WATCHDOG_IOCTL_BASE, (\d+), ([a-z_ ]+)\)", text)
        assert match is not None, name
        number = DIRECTIONS[match[1]] << 30 | SIZES[match[3]] << 16 | ord("W") << 8 | int(match[2])
        assert getattr(watchdog, name) == number, name
    for name in ("WDIOF_SETTIMEOUT", "WDIOF_MAGICCLOSE"):
        match = re.search(rf"#define\s+{name}\s+(0x[0-9a-f]+)", text)
        assert match is not None, name
        assert getattr(watchdog, name) == int(match[1], 16), name


def test_it_is_set_petted_and_stopped(plug: Callable[[Driver], Driver], device: Path):
    driver = plug(Driver())
    dog = Watchdog(str(device), 2500 * MS)
    assert dog.patience == 3 * S
    dog.pet()
    dog.pet()
    assert device.read_bytes() == b""
    dog.close(clean=True)
    assert device.read_bytes() == b"V"
    keepalive = (watchdog.WDIOC_KEEPALIVE, 0)
    assert driver.calls == [(watchdog.WDIOC_SETTIMEOUT, 3), keepalive, keepalive]


def test_an_end_that_is_not_clean_leaves_it_running(
    plug: Callable[[Driver], Driver], device: Path, caplog: pytest.LogCaptureFixture
):
    plug(Driver())
    Watchdog(str(device), 1 * S).close(clean=False)
    assert device.read_bytes() == b""
    assert "is left running: 2 s from now it resets this machine" in caplog.text


@pytest.mark.parametrize(
    "driver, wanted, seconds",
    [
        (Driver(), 300 * MS, watchdog.SHORTEST),
        (Driver(), 60 * S, 60),
        (Driver(least=5), 1 * S, 8),
        (Driver(least=10_000, own=15_000), 1 * S, 15_000),
        (Driver(options=0x8100, own=30), 1 * S, 30),
    ],
)
def test_its_patience_is_what_the_driver_can(
    plug: Callable[[Driver], Driver], device: Path, driver: Driver, wanted: int, seconds: int
):
    plug(driver)
    assert Watchdog(str(device), wanted).patience == seconds * S


def test_one_that_cannot_be_stopped_says_so(
    plug: Callable[[Driver], Driver], device: Path, caplog: pytest.LogCaptureFixture
):
    plug(Driver(options=0x8080))
    dog = Watchdog(str(device), 1 * S)
    assert "can not be stopped: ending the agent resets this machine" in caplog.text
    dog.close(clean=True)
    assert device.read_bytes() == b""


def test_what_is_none(device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(NoWatchdogError, match="not a watchdog: Inappropriate ioctl"):
        Watchdog(str(device), 1 * S)
    with pytest.raises(NoWatchdogError, match="absent: No such file or directory"):
        Watchdog(str(tmp_path / "absent"), 1 * S)

    def busy(path: str, flags: int) -> int:
        raise OSError(errno.EBUSY, "Device or resource busy", path)

    monkeypatch.setattr("os.open", busy)
    with pytest.raises(NoWatchdogError, match="Device or resource busy"):
        Watchdog(str(device), 1 * S)


def test_a_pet_that_fails_is_said(
    plug: Callable[[Driver], Driver], device: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    plug(Driver())
    dog = Watchdog(str(device), 1 * S)

    def gone(*_: object) -> bytes:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(fcntl, "ioctl", gone)
    with caplog.at_level(logging.ERROR):
        dog.pet()
    assert "cannot be put off: No such device" in caplog.text
    dog.close(clean=True)
