"""Defaults that others than the schema must know, apart from it: a command that starts often need not load pydantic."""

from __future__ import annotations

DEFAULT_SOCKET = "/run/haagent/control.sock"
"""Where an agent answers operators of its own host."""
