"""Facts of this machine that the system tells without PyTorch."""

import os
import platform
from pathlib import Path

# Features of processors that multiply in bfloat16: on a CPU without them it takes longer than float32.
BFLOAT16 = ("bf16", "avx512_bf16", "amx_bf16", "svebf16")


def processor() -> tuple[str, set[str]]:
    """The processor's name and, on Linux, its features, such as `avx512_bf16`."""
    table = {}
    if (file := Path("/proc/cpuinfo")).is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            table[key.strip()] = value.strip()
    name = table.get("model name") or platform.processor() or platform.machine() or "unknown processor"
    return name, set(table.get("flags", table.get("Features", "")).split())


def main_memory() -> int:
    """Bytes of main memory, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
