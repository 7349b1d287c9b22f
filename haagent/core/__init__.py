"""The pure core: state, event, now -> state, effects. No sockets, no clock, no asyncio, no randomness."""
