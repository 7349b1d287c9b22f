"""What a status shows of etcd itself: no space, growth that nobody ends, what its versions are known for. Pure.

The versions are those of etcd's changelogs. SAFETY says of each fault what haagent rests on instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from haagent.v1.control_pb2 import Finding
from haagent.v1.status_pb2 import EtcdMember, EtcdStatus

MIB: Final = 1 << 20
QUOTA: Final = 2048 * MIB
"""etcd's, unless it is configured (`--quota-backend-bytes`)."""
_NEARLY_FULL: Final = 0.8
_BYTES_A_REVISION: Final = 225
"""Of our renewals, as measured; others' may be larger."""

_Branch = tuple[int, int]
_FAULTS: Final[tuple[tuple[str, dict[_Branch, int]], ...]] = (
    ("a watch may lack a deletion after a compaction", {(3, 4): 36, (3, 5): 18}),
    ("reads may be stale", {(3, 4): 42, (3, 5): 28, (3, 6): 9}),
)
"""Faults that haagent does not rest on, and from which patch release of each branch on they are mended."""
_INCONSISTENT: Final[tuple[str, dict[_Branch, int]]] = (
    "members may differ in their data after a crash",
    {(3, 5): 6},
)


def etcd_findings(etcd: EtcdStatus) -> Iterator[Finding]:
    """What is wrong with etcd itself, and, with the level OK, what is good to know."""
    yield from _space(etcd)
    if etcd.uncompacted:
        text = f"{etcd.compaction}; {_growth(etcd)}"
        advice = "set etcd.compact_after, or etcd's --auto-compaction-retention=1h: it takes no writes once it is full"
        yield Finding(level=Finding.WARNING, subject="etcd", text=text, advice=advice)
    yield from _versions(etcd)


def _space(etcd: EtcdStatus) -> Iterator[Finding]:
    full = [member for member in etcd.members if "NOSPACE" in member.alarms]
    if full:
        text = f"etcd is full (NOSPACE) and takes no writes: {', '.join(_size(member) for member in full)}"
        advice = (
            f"etcdctl compact {etcd.revision}; etcdctl defrag --cluster; etcdctl alarm disarm; then see to it that "
            "somebody compacts (ETCD.md); restart no agent"
        )
        yield Finding(level=Finding.WRONG, subject="etcd", text=text, advice=advice)
    for member in etcd.members:
        if "CORRUPT" in member.alarms:
            text = f"{member.endpoint} says that its data are corrupt"
            advice = "remove that member, and add it again with an empty data directory"
            yield Finding(level=Finding.WRONG, subject="etcd", text=text, advice=advice)
        if member not in full and member.size > _NEARLY_FULL * (member.quota or QUOTA):
            known = "" if member.quota else ", if its quota is etcd's default"
            text = f"{_size(member)}: it is nearly full{known}"
            advice = "etcdctl defrag where little of it is in use, else a larger --quota-backend-bytes (ETCD.md)"
            yield Finding(level=Finding.WARNING, subject="etcd", text=text, advice=advice)


def _size(member: EtcdMember) -> str:
    quota = f" of {member.quota // MIB} MiB" if member.quota else ""
    return f"{member.endpoint} has {member.size // MIB} MiB{quota}, {member.used // MIB} MiB in use"


def _growth(etcd: EtcdStatus) -> str:
    if not etcd.revisions_a_day:
        return "each renewal leaves a revision behind"
    size = etcd.revisions_a_day * _BYTES_A_REVISION // MIB
    return f"{etcd.revisions_a_day} revisions a day are some {size} MiB or more"


def _versions(etcd: EtcdStatus) -> Iterator[Finding]:
    running: defaultdict[str, list[str]] = defaultdict(list)
    for member in etcd.members:
        running[member.version].append(member.endpoint)
    for version, endpoints in sorted(running.items()):
        where = f"{', '.join(endpoints)}: etcd {version}"
        if lacks(version, _INCONSISTENT[1], older=False):
            text = f"{where}: {_INCONSISTENT[0]}, which nothing here makes good"
            advice = "upgrade etcd within its branch"
            yield Finding(level=Finding.WARNING, subject="etcd", text=text, advice=advice)
        known = [fault for fault, mended in _FAULTS if lacks(version, mended)]
        if known:
            text = f"{where}: {'; '.join(known)}. No right rests on that"
            yield Finding(
                level=Finding.OK, subject="etcd", text=text, advice="upgrade it when it suits you (SAFETY.md)"
            )


def lacks(version: str, mended: dict[_Branch, int], *, older: bool = True) -> bool:
    """Whether a version is of a branch in which that was mended later, or (`older`) of one before all of them."""
    numbers = version.partition("-")[0].split(".")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        return False
    major, minor, patch = map(int, numbers)
    branch = (major, minor)
    return patch < mended[branch] if branch in mended else older and branch < min(mended)
