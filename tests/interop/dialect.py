"""The ways to speak VRRP that haagent and its peers have in common, as the configuration of either side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from haagent.core.units import MS, Duration, S
from haagent.core.vrrp import master_down_interval, skew
from haagent.lab.host import Host
from haagent.lab.topology import vip4, vip6

VRID: Final = 51
PASSWORD: Final = "k33palive"
"""Nine characters: one more than the wire carries, and both sides drop it."""
LINK_LOCAL_VIP: Final = "fe80::77:101"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a virtual router speaks. `checksum` and `old_checksum`: what haagent, and keepalived, are told to sum."""

    name: str
    version: int = 3
    family: int = 4
    unicast: bool = False
    password: str | None = None
    interval: Duration = 200 * MS
    checksum: str = "rfc"
    old_checksum: str | None = None
    addresses: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        four = (f"{vip4()}/24",)
        object.__setattr__(self, "addresses", four if self.family == 4 else (f"{LINK_LOCAL_VIP}/64", f"{vip6()}/64"))

    def __str__(self) -> str:
        return self.name

    def router(self, host: Host, peer: Host, **changes: Any) -> dict[str, Any]:
        """haagent's virtual router `web` on this host."""
        keys: dict[str, Any] = {
            "name": "web",
            "vrid": VRID,
            "interface": "eth0",
            "version": self.version,
            "advert_interval": f"{self.interval // MS}ms",
            "addresses": list(self.addresses),
        }
        if self.password is not None:
            keys["auth_pass"] = self.password
        if self.checksum != "rfc":
            keys["checksum"] = self.checksum
        if self.unicast:
            keys |= {"unicast_source": self.address(host), "unicast_peers": [self.address(peer)]}
        return {**keys, **changes}

    def keepalived(self, host: Host, peer: Host) -> list[str]:
        """keepalived's `vrrp_instance web` on this host, but for its priority."""
        lines = [
            f"version {self.version}",
            "interface eth0",
            f"virtual_router_id {VRID}",
            f"advert_int {self.interval / S:g}",
            block("virtual_ipaddress", self.addresses),
        ]
        if self.password is not None:
            lines.append(block("authentication", ["auth_type PASS", f"auth_pass {self.password}"]))
        if self.unicast:
            lines += [f"unicast_src_ip {self.address(host)}", block("unicast_peer", [self.address(peer)])]
        if self.old_checksum is not None:
            lines.append(f"old_unicast_checksum {self.old_checksum}")
        return lines

    def address(self, host: Host) -> str:
        """Where its adverts come from."""
        if self.family == 4:
            return host.ip
        if self.unicast:
            return host.ip6
        return host.station.ports[0].link_local.partition("/")[0]

    def skew(self, priority: int) -> Duration:
        """After a farewell, a backup of this priority waits so long."""
        return skew(priority, self.version, self.interval)

    def down_interval(self, priority: int) -> Duration:
        """After the last advert, a backup of this priority waits so long."""
        return master_down_interval(priority, self.version, self.interval)


def block(name: str, lines: Iterable[str]) -> str:
    """A block of keepalived.conf."""
    return "\n".join([f"{name} {{", *lines, "}"])


V2: Final = Dialect("v2", version=2, interval=1 * S)
V2_PASS: Final = Dialect("v2-pass", version=2, interval=1 * S, password=PASSWORD)
V2_UNICAST: Final = Dialect("v2-unicast", version=2, interval=1 * S, unicast=True)
V3: Final = Dialect("v3")
V3_UNICAST: Final = Dialect("v3-unicast", unicast=True)
V3_UNICAST_OLD: Final = Dialect("v3-unicast-old-checksum", unicast=True, checksum="group", old_checksum="")
V6: Final = Dialect("v3-ipv6", family=6)
V6_UNICAST: Final = Dialect("v3-ipv6-unicast", family=6, unicast=True)

ALL: Final = (V2, V2_PASS, V2_UNICAST, V3, V3_UNICAST, V3_UNICAST_OLD, V6, V6_UNICAST)
