"""The other hosts on our wires: who else claims our addresses (`listener`), who answers for others' (`asker`)."""

from haagent.adapters.neighbours.asker import Asker
from haagent.adapters.neighbours.listener import Neighbours, Spot

__all__ = ["Asker", "Neighbours", "Spot"]
