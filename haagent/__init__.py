"""haagent: virtual IP addresses that one node at a time holds, because a lease recorded in etcd says so."""

from __future__ import annotations

__version__ = "0.1.0"
