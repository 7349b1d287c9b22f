"""What becomes of an interface's other IPv4 addresses when one of ours goes: nothing, if the kernel is told so.

The first address of a subnet is its primary one, and the kernel deletes the others together with it, unless
`net.ipv4.conf.<interface>.promote_secondaries` is 1 (which systemd sets everywhere). A virtual address is the first if
the interface's own one came later, as after `ip address flush`: its release would take the host's own address along.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

log = logging.getLogger("haagent.kernel")

SETTINGS: Final = Path("/proc/sys/net/ipv4/conf")


def promote_secondaries(interface: str) -> None:
    """Have what is left of a subnet survive its primary address. Logged if it changes anything, or can not be."""
    path = SETTINGS / interface / "promote_secondaries"
    try:
        if path.read_text().strip() != "0":
            return
        path.write_text("1")
    except FileNotFoundError:
        return  # the interface is gone, and all that it had
    except OSError as error:
        log.warning("%s: a virtual address %s: cannot set %s: %s", interface, _LEADS, path, error.strerror)
    else:
        log.info("%s: a virtual address %s, were promote_secondaries not set from now on", interface, _LEADS)


_LEADS: Final = "is the first of its subnet, and would take the others along when it goes"
