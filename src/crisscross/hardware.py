"""Facts of this machine that the system tells without PyTorch."""

import os
import platform
from pathlib import Path

# Features of processors that multiply in half precision; PyTorch emulates it on others.
BFLOAT16 = ("bf16", "avx512_bf16", "amx_bf16", "svebf16")
HALF_PRECISION = {"bf16": BFLOAT16, "fp16": ("avx512_fp16", "amx_fp16", "asimdhp")}


def processor() -> tuple[str, set[str]]:
    """The processor's name and, on Linux, its features, such as `avx512_bf16`."""
    table = {}
    if (file := Path("/proc/cpuinfo")).is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            table[key.strip()] = value.strip()
    name = table.get("model name") or platform.processor() or platform.machine() or "unknown processor"
    return name, set(table.get("flags", table.get("Features", "")).split())


def emulates(precision: str) -> bool:
    """Whether a CPU computes in this precision, `bf16` or `fp16`, without instructions for it: slower than in float32.

    False for other precisions, and where the system does not list the processor's features.
    """
    features = processor()[1]
    return bool(features) and precision in HALF_PRECISION and not features & set(HALF_PRECISION[precision])


def main_memory() -> int:
    """Bytes of main memory, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
