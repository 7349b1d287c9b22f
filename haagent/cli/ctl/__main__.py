"""`python -m haagent.cli.ctl` is the command `haagentctl`."""

from __future__ import annotations

from haagent.cli.ctl.main import main

main()
