"""etcd: the ports `Store` and `Records`, on aetcd's generated stubs over grpc.aio.

`settings` says how to reach it, `store` is the port `Store`, `operators` the port `Records`. Below: `pool` (endpoints,
failover, retries) on `endpoint`, `lookup` and `failures`, `auth` and `trust` (who we are: a token, certificates),
`session` (a lease), `upkeep` (its members, its history), `watch` and `pages` (list and follow), `requests` (messages),
`lineage` (is this still the same etcd?).
"""

from __future__ import annotations

from haagent.adapters.etcd.auth import check
from haagent.adapters.etcd.operators import EtcdRecords, open_records
from haagent.adapters.etcd.settings import EtcdSettings, EtcdSettingsError
from haagent.adapters.etcd.store import EtcdStore
from haagent.adapters.etcd.upkeep import Condition

__all__ = ["Condition", "EtcdRecords", "EtcdSettings", "EtcdSettingsError", "EtcdStore", "check", "open_records"]
