"""One agent per network namespace: who is second is told who is first, and nothing is left when the first is gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from haagent.adapters.host import HostLock, TakenError, identity, incarnation, machine
from tests.integration.namespace import in_namespace, unshare

HOLD = """
import sys
from haagent.adapters.host import HostLock
lock = HostLock.take()
print("held", flush=True)
sys.stdin.read()
"""


@in_namespace
def test_the_second_is_told_who_is_first() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(TakenError, match=f"^another agent runs in this network namespace: pid {first.pid}$"):
            HostLock.take()
        first.kill()
    HostLock.take().release()
    HostLock.take().release()


@in_namespace
def test_another_namespace_is_another_host() -> None:
    here = identity()
    lock = HostLock.take()
    assert identity() == here
    if os.fork() == 0:
        unshare()
        HostLock.take()
        os._exit(0 if identity() != here else 1)
    assert os.wait()[1] == 0
    lock.release()


@in_namespace
def test_a_machine_in_a_namespace_of_its_own_is_known_by_that() -> None:
    """Of many on one kernel, each is another one; and a restart in it finds the same."""
    here = machine()
    assert machine() == here
    if os.fork() == 0:
        unshare()
        os._exit(0 if machine() != here else 1)
    assert os.wait()[1] == 0


def test_each_start_has_a_name_of_its_own() -> None:
    assert len({incarnation() for _ in range(100)}) == 100
    assert len(incarnation()) == 16
