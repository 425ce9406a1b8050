"""Formats of labeling tools: each function looks at a folder and returns how to read it, or None."""
