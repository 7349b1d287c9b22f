"""Where the command `haagent` begins: signals are heeded before anything is imported that takes time."""

from __future__ import annotations

import sys

from haagent.runtime import early


def main() -> None:
    """Run the command; `haagent.cli.agent` has its words."""
    if "run" in sys.argv[1:]:
        early.heed()
    from haagent.cli.agent import main

    main(prog_name="haagent")
