"""The nodes among themselves: `GrpcPeers` keeps one stream with each, and implements the port `Peers`."""

from __future__ import annotations

from haagent.api.peers.greeting import Greeting
from haagent.api.peers.peers import GrpcPeers, PeerState
from haagent.api.peers.reasons import Reason

__all__ = ["Greeting", "GrpcPeers", "PeerState", "Reason"]
