"""Networks out of Python: exported files, the runtimes that run them without torch, and the proof that they agree."""

from crisscross.deploy.opening import exported_files, exported_kind, open_exported

__all__ = ["exported_files", "exported_kind", "open_exported"]
