"""What is different between two configurations, as far as a reload and its log care."""

from __future__ import annotations

from haagent.config.build import Config


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and can not be changed while the agent runs."""
    pairs = {
        "node": (old.node, new.node),
        "cluster": (old.cluster, new.cluster),
        "etcd.endpoints": (old.etcd.endpoints, new.etcd.endpoints),
        "fence.gate": (old.gate, new.gate),
        "fence.watchdog": (old.watchdog, new.watchdog),
        "peers.listen": (_listens(old), _listens(new)),
        "peers.insecure": (_insecure(old), _insecure(new)),
        "http.listen": (old.http, new.http),
        "control": (old.control, new.control),
        "log.format": (old.log.format, new.log.format),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


def _listens(config: Config) -> str | None:
    return None if config.peers is None else config.peers.listen


def _insecure(config: Config) -> bool:
    return config.peers is not None and config.peers.insecure


def difference(old: Config, new: Config) -> str:
    """What a reload changes, for the log."""
    before = {group.name: group for group in old.groups}
    after = {group.name: group for group in new.groups}
    changed = [name for name in after if name in before and after[name] != before[name]]
    parts = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": changed,
    }
    told = [f"{what} {', '.join(names)}" for what, names in parts.items() if names]
    if old.windows != new.windows:
        told.append("failback_window")
    if old.resets != new.resets:
        told.append("on_release")
    if old.lease != new.lease:
        told.append("lease")
    if old.etcd != new.etcd:
        told.append("etcd")
    if old.fencing != new.fencing:
        told.append("fence.exec")
    if old.peers != new.peers:
        told.append("peers")
    if old.failsafe != new.failsafe:
        told.append("failsafe")
    if old.log != new.log:
        told.append(f"log level {new.log.level}")
    return "; ".join(told) or "how virtual routers speak"
