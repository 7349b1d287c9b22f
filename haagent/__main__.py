"""`python -m haagent` is the command `haagent`."""

from __future__ import annotations

from haagent.cli.agent import main

main(prog_name="haagent")
