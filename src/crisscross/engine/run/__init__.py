"""The folder of a run: log, record, lock, resumable state."""
