"""haagent: virtual IP addresses that one node at a time holds, because a lease recorded in etcd says so."""

from __future__ import annotations

import os

__version__ = "0.1.0"

# gRPC's C library writes to standard error whenever a handshake fails, as often as a stranger likes. It reads this
# when it is imported; what matters of it is told by our own log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
