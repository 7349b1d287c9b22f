"""Whether answers belong to one history of one etcd.

An etcd that was wiped or restored counts its revisions anew, and if it was set up as before it even has the same
cluster id. Guards by revision mean nothing across such a break; so it is looked for in every answer.
"""

from __future__ import annotations

from typing import NamedTuple

from aetcd import rpc


class Mark(NamedTuple):
    """A place in a history: which one, and the newest revision known when a question was asked."""

    history: int
    revision: int


class Lineage:
    """The history that was listed last, and how far it is known to go."""

    def __init__(self) -> None:
        self._cluster: int | None = None
        self._history = 0
        self._breaks = 0
        self._highest = 0

    def mark(self) -> Mark:
        """Where we are; to be taken before a question is sent."""
        return Mark(self._history, self._highest)

    def begin(self, header: rpc.ResponseHeader, mark: Mark) -> str:
        """A linearizable list was answered. Returns the history's name: the cluster id, and which life of it."""
        same = header.cluster_id == self._cluster
        broken = same and header.revision < mark.revision
        if broken:
            self._breaks += 1
        if broken or not same:
            self._cluster, self._highest = header.cluster_id, 0
            self._history += 1
        self.saw(header.revision)
        return f"{header.cluster_id}.{self._breaks}" if self._breaks else str(header.cluster_id)

    def end(self) -> None:
        """What is asked from now on belongs to another history, of the same cluster id, as its keys have shown."""
        self._breaks += 1
        self._history += 1

    def saw(self, revision: int) -> None:
        """The history has got that far at least."""
        self._highest = max(self._highest, revision)

    def has(self, header: rpc.ResponseHeader, mark: Mark) -> bool:
        """Whether a linearizable answer is of this history, and the question was, too (or older than any list)."""
        if mark.history not in (0, self._history):
            return False
        return self._cluster is None or (header.cluster_id == self._cluster and header.revision >= mark.revision)

    def same_cluster(self, header: rpc.ResponseHeader) -> bool:
        """Whether the cluster id at least is the same."""
        return header.cluster_id == self._cluster
