"""One outside thing per module, each behind a port of haagent.runtime; adapters never import each other."""
