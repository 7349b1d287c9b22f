"""`python -m haagent` is the command `haagent`."""

from __future__ import annotations

from haagent.cli.start import main

main()
