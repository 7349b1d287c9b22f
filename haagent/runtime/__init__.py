"""Between core and world: the ports that adapters fill, and the pump that feeds one event at a time."""
