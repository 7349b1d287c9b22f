"""Fencing by real programs: what they are told, what each way of ending means, and which of them are never run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from haagent.adapters.fencing import ExecFencer, UnfitError, inspect
from haagent.core.model import Ask, Asking, Event, Fence, FenceConfirmed, FenceRefused, FenceTimedOut
from haagent.core.units import MS, S
from haagent.runtime.clock import boottime
from haagent.runtime.ports import FenceCommand

pytestmark = pytest.mark.integration

ASK = Ask(Asking.FENCE, "b1", 7)


@pytest.fixture
def place() -> Generator[Path]:
    """A directory that only root can write, on the whole way down: /tmp is none."""
    if os.geteuid() != 0:
        pytest.skip("only root has directories that nobody else can write")
    made = Path(tempfile.mkdtemp(prefix=f"haagent-test-{os.getpid()}-", dir="/run"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def script(place: Path, text: str, name: str = "fence") -> Path:
    path = place / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def asked(patience: int = 5 * S, **changes: object) -> Fence:
    return replace(Fence(ASK, "web", "n2", "b1", 41, boottime() + patience), **changes)


def answers(command: FenceCommand | None, *effects: Fence) -> list[Event]:
    """What comes of these questions, all asked at once."""

    async def run() -> list[Event]:
        heard: list[Event] = []
        fencer = ExecFencer(heard.append, "prod", "n1")
        fencer.configure(command)
        for effect in effects:
            fencer.fence(effect)
        give_up = time.monotonic() + 15
        while len(heard) < len(effects):
            assert time.monotonic() < give_up, heard
            await asyncio.sleep(0.01)
        await fencer.close()
        return heard

    return asyncio.run(run())


def answer(path: Path, patience: int = 5 * S, user: str | None = None) -> Event:
    (heard,) = answers(FenceCommand((str(path), "--off"), patience, user), asked(patience))
    return heard


def test_it_is_told_all_and_nothing_else(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET", "of the agent")
    path = script(place, f'echo "$@" > {place}/words; env > {place}/env; cat > {place}/input; pwd > {place}/cwd')
    assert answer(path) == FenceConfirmed(ASK)
    assert (place / "words").read_text() == "--off\n"
    assert (place / "input").read_text() == ""
    assert (place / "cwd").read_text() == "/\n"
    told = dict(line.split("=", 1) for line in (place / "env").read_text().splitlines())
    assert 4000 < int(told.pop("HAAGENT_DEADLINE_MS")) <= 5000
    assert {name: value for name, value in told.items() if name.startswith("HAAGENT")} == {
        "HAAGENT_NODE": "n2",
        "HAAGENT_INCARNATION": "b1",
        "HAAGENT_GROUP": "web",
        "HAAGENT_EPOCH": "41",
        "HAAGENT_CLUSTER": "prod",
        "HAAGENT_BY": "n1",
    }
    assert set(told) - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "PATH",
        *(name for name in told if name.startswith("HAAGENT")),
    }


@pytest.mark.parametrize(
    "text, why",
    [
        ("exit 3", "exit status 3"),
        ("echo; echo ' no such outlet' >&2; echo more >&2; exit 1", "no such outlet"),
        ("printf '\\033[2Jred\\nmore' >&2; exit 1", "?[2Jred"),
        ("head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1", "x" * 200),
        ("kill -9 $$", "killed by signal 9"),
        ("sleep 30 & echo left one behind >&2; exit 1", "left one behind"),
    ],
)
def test_refused(place: Path, text: str, why: str):
    began = time.monotonic()
    assert answer(script(place, text)) == FenceRefused(ASK, why)
    assert time.monotonic() - began < 5


def test_output_of_who_confirms_does_not_matter(place: Path):
    assert answer(script(place, "head -c 1000000 /dev/zero >&2; echo out; exit 0")) == FenceConfirmed(ASK)


@pytest.mark.parametrize("trap", ["", "trap '' TERM;", "trap 'exit 0' TERM;"])
def test_timed_out(place: Path, trap: str):
    """Whatever it does when it is told to end, it is too late, and nothing of its group lives on."""
    path = script(place, f"{trap} echo $$ > {place}/pid; sleep 31 & sleep 31; sleep 31")
    began = time.monotonic()
    assert answer(path, patience=300 * MS) == FenceTimedOut(ASK)
    assert 0.25 < time.monotonic() - began < 5
    all_gone(place)


def test_one_at_a_time_for_each_node(place: Path):
    log = place / "log"
    path = script(place, f"echo $HAAGENT_NODE begins >> {log}; sleep 0.5; echo $HAAGENT_NODE ends >> {log}")
    other = Ask(Asking.FENCE, "b2", 8)
    third = Ask(Asking.FENCE, "c1", 9)
    asks = (asked(), asked(ask=other, incarnation="b2"), asked(ask=third, node="n3", incarnation="c1"))
    heard = answers(FenceCommand((str(path),), 5 * S), *asks)
    assert set(heard) == {FenceConfirmed(ASK), FenceConfirmed(other), FenceConfirmed(third)}
    said = log.read_text().splitlines()
    assert [line for line in said if line.startswith("n2")] == ["n2 begins", "n2 ends"] * 2
    assert said.index("n3 begins") < said.index("n2 ends"), "nodes do not wait for each other"


def test_who_waits_too_long_for_its_turn_has_timed_out(place: Path):
    path = script(place, "sleep 1")
    other = Ask(Asking.FENCE, "b2", 8)
    heard = answers(FenceCommand((str(path),), 5 * S), asked(), asked(300 * MS, ask=other, incarnation="b2"))
    assert heard == [FenceTimedOut(other), FenceConfirmed(ASK)]


def test_as_another_user(place: Path):
    path = script(place, "echo $(id -un) $(id -gn) $(id -G | wc -w) $(grep CapEff /proc/self/status) >&2; exit 1")
    heard = answer(path, user="nobody")
    assert isinstance(heard, FenceRefused)
    assert heard.why.split() == ["nobody", "nogroup", "1", "CapEff:", "0" * 16]


def test_the_end_of_the_agent_ends_it(place: Path):
    path = script(place, f"echo $$ > {place}/pid; sleep 31; sleep 31")

    async def run() -> None:
        heard: list[Event] = []
        fencer = ExecFencer(heard.append, "prod", "n1")
        fencer.configure(FenceCommand((str(path),), 30 * S))
        fencer.fence(asked(30 * S))
        await asyncio.to_thread(group_of, place)
        await fencer.close()
        assert heard == []

    asyncio.run(run())
    all_gone(place)


def group_of(place: Path) -> int:
    """The process group of the script that writes its pid there, waiting for that."""
    give_up = time.monotonic() + 10
    while not (place / "pid").exists() or not (text := (place / "pid").read_text()):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return int(text)


def all_gone(place: Path) -> None:
    """Nothing of that group lives; what was killed may take a moment to die."""
    give_up = time.monotonic() + 2
    while left := living(place):
        assert time.monotonic() < give_up, left
        time.sleep(0.01)


def living(place: Path) -> list[str]:
    """The processes of that group, dead ones that nobody has waited for yet (proc(5): state Z) apart."""
    group, found = str(group_of(place)), list[str]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            state, _, its_group, *_ = rest.split()
            if its_group == group and state not in "ZX":
                found.append(name)
    return found


# --- what is not run


def unfit(path: Path, user: str | None = None) -> str:
    with pytest.raises(UnfitError) as refused:
        inspect(FenceCommand((str(path),), S, user))
    return str(refused.value).removeprefix(f"{path}: ")


def test_a_program_that_others_could_change(place: Path):
    path = script(place, "exit 0")
    assert inspect(FenceCommand((str(path),), S, None)) == {}
    for mode in (0o775, 0o757):
        path.chmod(mode)
        assert unfit(path) == f"{path} can be written by others than root"
    path.chmod(0o755)
    os.chown(path, 65534, -1)
    assert unfit(path) == f"{path} is not root's"
    os.chown(path, 0, -1)
    place.chmod(0o777)
    assert unfit(path) == f"{place} can be written by others than root"


def test_a_link_counts_by_where_it_leads(place: Path, tmp_path: Path):
    """Through a directory that everybody may write it may lead anywhere tomorrow."""
    link, hop = place / "link", tmp_path / "hop"
    link.symlink_to(hop)
    hop.symlink_to(script(place, "exit 0"))
    assert "can be written by others than root" in unfit(link)
    link.unlink()
    link.symlink_to(place / "fence")
    assert inspect(FenceCommand((str(link),), S, None)) == {}
    link.unlink()
    link.symlink_to(link)
    assert "link" in unfit(link).lower()


def test_what_is_no_program(place: Path):
    path = script(place, "exit 0")
    assert unfit(place / "absent") == "No such file or directory"
    assert unfit(place) == "not a program"
    assert "no such user: nobody-of-that-name" in unfit(path, user="nobody-of-that-name")
    path.chmod(0o644)
    assert unfit(path) == "not a program"
    heard = answer(path)
    assert heard == FenceRefused(ASK, f"could not be run: {path}: not a program"), "it is looked at before each run"


def test_what_cannot_be_executed(place: Path):
    path = place / "fence"
    path.write_text("#!/no/such/shell\n")
    path.chmod(0o755)
    heard = answer(path)
    assert isinstance(heard, FenceRefused)
    assert heard.why.startswith("could not be run: ")


def test_without_a_program_it_is_refused():
    assert answers(None, asked()) == [FenceRefused(ASK, "no program is configured any more")]
