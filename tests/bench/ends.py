"""An owner's agent is killed or stopped, and its host has more than the one interface, or is meddled with meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from haagent.lab.cluster import Cluster
from haagent.lab.commands import now
from haagent.lab.host import Host
from haagent.lab.topology import Extra, vip4, vip6
from tests.bench.owning import QUIET, Act, Bed, Variant

Meddle = Callable[[Host], None]


def killed_or_stopped(before: Meddle | None = None, meanwhile: Sequence[Sequence[str]] = ()) -> Act:
    """The owner's agent ends, by SIGKILL and by SIGSTOP in turn; `before` that, and `meanwhile`, one in turn, on it.

    `meanwhile` comes at a random moment between the death and the lease's end.
    """

    def act(bed: Bed) -> str:
        owner = bed.owner()
        if before is not None:
            before(owner)
        how = bed.turn(("SIGKILL", "SIGSTOP") if not meanwhile else ("SIGKILL",))
        began = now()
        agent = bed.cluster.agents[owner.name]
        if how == "SIGKILL":
            agent.begin_kill()
        else:
            agent.pause()
        if meanwhile:
            script = meanwhile[(bed.trials - 1) % len(meanwhile)]
            bed.sleep_until(began + round(bed.ttl * bed.chance.uniform(0.05, 0.7)))
            owner.run(["sh", "-c", "; ".join(script)], check=False)
            how = f"{how}, then {'; '.join(script)}"
        bed.see_it_end(owner, began)
        bed.again(owner)
        return how

    return act


def also_on_lo(host: Host) -> None:
    """The addresses are on lo as well, as a real server of a load balancer has them."""
    for address in (f"{vip4()}/32", f"{vip6()}/128"):
        host.run(["ip", "address", "replace", address, "dev", "lo"])


def by_hand(bed: Bed) -> str:
    """Somebody configures the addresses on a backup; then its agent ends, by SIGTERM and by SIGKILL in turn."""
    owner = bed.owner()
    backup = bed.chance.choice(bed.others(owner))
    where, how = bed.turn([(where, how) for where in ("eth0", "lo") for how in ("SIGTERM", "SIGKILL")])
    for address in (f"{vip4()}/32", f"{vip6()}/128"):
        backup.run(["ip", "address", "replace", address, "dev", where, *(["nodad"] if ":" in address else [])])
    time.sleep(QUIET / 1e9)
    agent = bed.cluster.agents[backup.name]
    agent.signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    agent.wait()
    time.sleep((QUIET + bed.ttl) / 1e9)
    bed.cluster.start([backup])
    bed.whole()
    for address in (f"{vip4()}/32", f"{vip6()}/128"):
        backup.run(["ip", "address", "del", address, "dev", where], check=False)
    return f"on {where} of a backup, then {how}"


def answers_leave_by_the_second(bed: Bed) -> None:
    """What the hosts send to the observer leaves by eth2."""
    for host in bed.lab.hosts:
        for family, net in (("-4", "10.77.0.0/24"), ("-6", "fd77::/64")):
            host.run(["ip", family, "route", "add", net, "dev", "eth2", "table", "77"])
            host.run(["ip", family, "rule", "add", "to", net, "lookup", "77", "priority", "77"])


class OtherTime(Cluster):
    """Agents in a time namespace of their own, an hour ahead of the kernel that the gate is in."""

    def wrapper(self, host: Host) -> Sequence[str]:
        """What puts it there."""
        return ("unshare", "--time", "--boottime", "3600", "--fork", "--kill-child")


FLUSHES: Final = (
    ("nft flush ruleset",),
    ("for t in $(nft list tables | sed 's/^table //;s/ /_/g'); do nft delete table $(echo $t | tr _ ' '); done",),
    ("nft flush ruleset", "nft add table inet filter"),
    ("echo 'flush ruleset; add table inet filter' | nft -f -",),
    ("for d in $(ls /sys/class/net); do tc qdisc del dev $d clsact; done 2>/dev/null",),
)
EVERYWHERE: Final = (Extra.SECOND, Extra.ROUTED, Extra.CONTAINER)

ENDS: Final[dict[str, Variant]] = {
    "one interface": Variant(killed_or_stopped()),
    "second interface, another subnet, a container": Variant(killed_or_stopped(), EVERYWHERE),
    "answers leave by the second interface": Variant(
        killed_or_stopped(), (Extra.SECOND,), prepare=answers_leave_by_the_second
    ),
    "addresses on a macvlan": Variant(killed_or_stopped(), (Extra.MACVLAN,), {"interface": "mv0"}),
    "addresses also on lo": Variant(killed_or_stopped(also_on_lo), EVERYWHERE),
    "addresses by hand on a backup": Variant(by_hand, EVERYWHERE),
    "firewall flushed after the death": Variant(killed_or_stopped(meanwhile=FLUSHES)),
    "agents in a time namespace": Variant(killed_or_stopped(), cluster=OtherTime, gate="bpf"),
}
