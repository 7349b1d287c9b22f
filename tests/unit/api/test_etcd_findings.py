"""What doctor says of etcd itself: its space, its history, its versions; in each case what to do about it."""

from __future__ import annotations

import pytest

from haagent.api.etcd_findings import MIB, QUOTA, etcd_findings
from haagent.v1.control_pb2 import Finding
from haagent.v1.status_pb2 import EtcdMember, EtcdStatus


def member(version: str = "3.6.12", size: int = 30 * MIB, quota: int = 0, alarms: tuple[str, ...] = ()) -> EtcdMember:
    return EtcdMember(endpoint="e1:2379", version=version, size=size, used=10 * MIB, quota=quota, alarms=alarms)


def found(*members: EtcdMember, **more: object) -> list[Finding]:
    return list(etcd_findings(EtcdStatus(members=members, **more)))  # pyright: ignore[reportArgumentType]


def test_nothing_is_known_or_all_is_well():
    assert found() == []
    assert found(member()) == []


def test_full():
    (one,) = found(member(size=8 * MIB, quota=8 * MIB, alarms=("NOSPACE",)), revision=77)
    assert one.level == Finding.WRONG
    assert one.text == "etcd is full (NOSPACE) and takes no writes: e1:2379 has 8 MiB of 8 MiB, 10 MiB in use"
    assert one.advice.startswith("etcdctl compact 77; etcdctl defrag --cluster; etcdctl alarm disarm; ")


@pytest.mark.parametrize("quota, size", [(0, QUOTA), (100 * MIB, 100 * MIB)])
def test_nearly_full(quota: int, size: int):
    assert found(member(size=size * 79 // 100, quota=quota)) == []
    (one,) = found(member(size=size * 81 // 100, quota=quota))
    assert one.level == Finding.WARNING
    assert "nearly full" in one.text
    assert ("if its quota is etcd's default" in one.text) is (quota == 0)


def test_corrupt():
    (one,) = found(member(alarms=("CORRUPT",)))
    assert (one.level, one.text) == (Finding.WRONG, "e1:2379 says that its data are corrupt")


def test_nobody_compacts():
    (one,) = found(member(), uncompacted=True, compaction="nobody compacts", revisions_a_day=1_040_000)
    assert one.level == Finding.WARNING
    assert one.text == "nobody compacts; 1040000 revisions a day are some 223 MiB or more"
    assert "etcd.compact_after" in one.advice


@pytest.mark.parametrize(
    "version, level, words",
    [
        ("3.3.27", Finding.OK, ("lack a deletion", "stale")),
        ("3.4.23", Finding.OK, ("lack a deletion", "stale")),
        ("3.4.36", Finding.OK, ("stale",)),
        ("3.5.18", Finding.OK, ("stale",)),
        ("3.6.0", Finding.OK, ("stale",)),
        ("3.6.8", Finding.OK, ("stale",)),
        ("3.5.5", Finding.WARNING, ("differ in their data",)),
    ],
)
def test_versions_that_are_known_for_something(version: str, level: int, words: tuple[str, ...]):
    first = found(member(version))[0]
    assert first.level == level
    assert all(word in first.text for word in words)
    assert first.text.startswith(f"e1:2379: etcd {version}: ")


@pytest.mark.parametrize("version", ["3.4.42", "3.5.28", "3.6.9", "3.7.0", "4.0.0", "", "unknown", "3.6"])
def test_versions_that_are_not(version: str):
    assert found(member(version)) == []
