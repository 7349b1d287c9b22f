"""The addresses of this host: the `Kernel` port by route netlink, and what the core must know of interfaces.

`NetlinkKernel` is the event loop's side, a thread does the work (`worker`), by comparing what should be held with
what is (`ledger`, `limiter`), in netlink messages (`rtnl`).

Every address has a lifetime in the kernel that ends one to two seconds after the lease, and is renewed about
once a second as the lease is extended: what nobody renews disappears. At the lease's end the thread takes the
addresses away itself, should the core not have done so.

An install that failed leaves the group wanted: what can be put is put, and tried again, until the core removes the
group or the lease ends. `RemoveAddresses` deletes the group's addresses; those that another group wants too stay. What
somebody else configured is neither changed nor deleted, ever; that it is there is told by `HostAddresses`.

A virtual address with a subnet's prefix that came before the interface's own address in that subnet is the primary
one for the kernel, which deletes the others with it unless `promote_secondaries` is 1: then it is set (`promote`).
The default prefix, /32, has no such company.
"""

from haagent.adapters.netlink.adapter import NetlinkKernel
from haagent.adapters.netlink.census import Survey, configured, held, survey
from haagent.adapters.netlink.sockets import Resets, can_reset

__all__ = ["NetlinkKernel", "Resets", "Survey", "can_reset", "configured", "held", "survey"]
