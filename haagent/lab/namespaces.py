"""Network namespaces that can be found again by whoever comes later.

Every namespace, and the one directory of a lab, is named after the process that made it:
`hlab-<pid>-<start>-<count>`, where `start` is when that process started, in clock ticks since boot, so that a
pid which is used again is not mistaken for the old one. A lab that starts removes what belongs to owners that
are gone (`sweep`): whatever killed them, nothing of theirs stays for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

from haagent.lab.commands import LabError, ip_batch

_NAMED = Path("/run/netns")
_OURS = re.compile(r"hlab-(?P<pid>\d+)-(?P<start>\d+)-\d+(-\w+)?")
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_counter = itertools.count()


def new_prefix() -> str:
    """A name that no other lab has, and that names this process as the owner."""
    start = _started(os.getpid())
    assert start is not None, "a running process has an entry in /proc"
    return f"hlab-{os.getpid()}-{start}-{next(_counter)}"


def new_directory(prefix: str) -> Path:
    """A directory for data and logs, in memory where the machine has /dev/shm."""
    directory = _base() / prefix
    directory.mkdir(mode=0o755)
    return directory


def create(names: Iterable[str]) -> None:
    """Make namespaces, with `lo` not yet up."""
    ip_batch(f"netns add {name}" for name in names)


def destroy(names: Iterable[str]) -> None:
    """Kill every process in these namespaces, and remove them. Those that do not exist are passed over."""
    present = [name for name in names if (_NAMED / name).exists()]
    try:
        kill_inside(present)
    finally:
        ip_batch((f"netns del {name}" for name in present), force=True)


def sweep() -> list[str]:
    """Remove the namespaces, processes and directories of labs whose owner no longer runs; return their
    names.
    """
    names = _abandoned(_NAMED)
    destroy(names)
    directories = _abandoned(_base())
    for name in directories:
        shutil.rmtree(_base() / name, ignore_errors=True)
    return sorted({*names, *directories})


def pids_inside(names: Iterable[str]) -> list[int]:
    """The processes whose main thread is in one of these namespaces."""
    wanted: set[tuple[int, int]] = set()
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            at = (_NAMED / name).stat()
            wanted.add((at.st_dev, at.st_ino))
    found: list[int] = []
    for entry in os.scandir("/proc") if wanted else ():
        # A process may end while we look, and a kernel thread shows no namespace.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if entry.name.isdigit():
                at = Path(entry, "ns/net").stat()
                if (at.st_dev, at.st_ino) in wanted:
                    found.append(int(entry.name))
    return found


def kill_inside(names: Iterable[str], *, patience: float = 5.0) -> None:
    """SIGKILL every process in these namespaces, until none is left; LabError after `patience` seconds."""
    names = list(names)
    give_up = time.monotonic() + patience
    while pids := [pid for pid in pids_inside(names) if pid != os.getpid()]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > give_up:
            raise LabError(f"processes {pids} outlive SIGKILL")
        time.sleep(0.002)


@contextlib.contextmanager
def inside(name: str | None) -> Generator[None]:
    """Put the calling thread into a namespace: what it opens there (sockets, /proc/sys/net) stays of that
    namespace.

    With None, stay where we are. Other threads are not moved. Raises LabError if there is no such namespace.
    """
    if name is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(_NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LabError(f"namespace {name}: does not exist") from None
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def set_sysctls(name: str, values: Mapping[str, str]) -> None:
    """Write /proc/sys settings of a namespace; keys as paths (`net/ipv4/ip_forward`)."""
    with inside(name):
        for key, value in values.items():
            Path("/proc/sys", key).write_text(value)


def _setns(descriptor: int) -> None:
    # os.setns is there from Python 3.12 on; we run on 3.11 too.
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise LabError(f"setns: {os.strerror(ctypes.get_errno())}")


def _base() -> Path:
    shm = Path("/dev/shm")  # noqa: S108 - names in it are ours alone, and carry our pid
    return shm if os.access(shm, os.W_OK) else Path(tempfile.gettempdir())


def _abandoned(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    matches = (_OURS.fullmatch(entry.name) for entry in directory.iterdir())
    return [m[0] for m in matches if m is not None and _started(int(m["pid"])) != int(m["start"])]


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it does not run (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): pid (name) state ppid ... ; the name may hold spaces and parentheses. starttime is field 22.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
