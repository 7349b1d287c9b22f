"""The gRPC service Control: how operators look at a cluster and steer it, through any of its agents.

`server` has the sockets and what keeps strangers in bounds, `access` says who may do what, `service` does it.
"""

from haagent.api.control.access import Access
from haagent.api.control.server import CannotServeError, ControlServer, Doors
from haagent.api.control.service import ControlService, Reading

__all__ = ["Access", "CannotServeError", "ControlServer", "ControlService", "Doors", "Reading"]
