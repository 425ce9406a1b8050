"""Time and memory, measured on this machine."""
