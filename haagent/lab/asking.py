"""What an agent of the lab says by HTTP, on its host's loopback: its status, and its metrics."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from haagent.lab.commands import LabError
from haagent.lab.host import Host

PORT: Final = 8500
"""The agent's default."""


def ask(host: Host, path: str, *, timeout: float = 2.0) -> str:
    """The body of the agent's answer; LabError if there is none, or another than 200."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=timeout)
    try:
        with closing(connection):
            with host.inside():
                connection.connect()
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise LabError(f"{host.name} does not answer by HTTP: {error}") from None
    if answer.status != http.client.OK:
        raise LabError(f"{host.name}: {path}: {answer.status}: {text}")
    return text


def status(host: Host) -> dict[str, Any]:
    """All that the agent knows: `haagent.v1.Status`, as protobuf's JSON; LabError as `ask` says."""
    return json.loads(ask(host, "/status.json"))


def metric(host: Host, name: str) -> float:
    """A metric, by its name and labels as they are written; LabError if there is none, and as `ask` says."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", ask(host, "/metrics"), re.MULTILINE)
    if found is None:
        raise LabError(f"{host.name} has no metric {name}")
    return float(found[1])


def heard(said: Mapping[str, Any]) -> frozenset[str]:
    """The nodes whose streams stand, by the status of one."""
    members = said["members"]
    return frozenset(each["node"] for each in members if each.get("peer", {}).get("connected"))
