"""Bytes to values and back, without input or output; what is read is a value or a named reason."""
