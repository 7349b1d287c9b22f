"""Running the programs that the lab is built with (`ip`, `nft`, `openssl`), and reading the clock around
them.

Each returns when the program has ended; what it changed is in effect then. Programs run in a session of their
own, so that a Ctrl-C in the terminal reaches the lab but not the command that is tearing it down.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from haagent.core.units import Instant
from haagent.runtime.clock import boottime


class LabError(Exception):
    """The lab could not do what was asked; the message says what and why."""


class Moment(NamedTuple):
    """Something took effect between these two instants (CLOCK_BOOTTIME, ns)."""

    before: Instant
    after: Instant


now = boottime
"""The clock of the lab and its prober is that of the agents."""


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    timeout: float | None = 30.0,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; `timeout` in seconds.

    Raises LabError if the program is missing, takes longer than `timeout`, or (with `check`) exits with
    anything but 0.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            env=env,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]}: not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)}: no end after {timeout} s") from None
    if check and done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise LabError(f"{' '.join(argv)}: {reason}")
    return done


def ip_batch(lines: Iterable[str], *, namespace: str | None = None, force: bool = False) -> None:
    """Run `ip` commands in one process; with `force`, go on after one that fails and raise nothing."""
    options = ["-batch", "-"] if namespace is None else ["-n", namespace, "-batch", "-"]
    if force:
        options = ["-force", *options]
    run(["ip", *options], stdin="".join(f"{line}\n" for line in lines), check=not force)


def nft(script: str, *, namespace: str) -> None:
    """Apply an nft script to a namespace: all of it, or nothing."""
    run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], stdin=script)
