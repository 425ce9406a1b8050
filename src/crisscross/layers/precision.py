"""What numbers a GPU multiplies: float32 or its short form TF32, and half precision where it has circuits for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from crisscross.errors import CrissCrossError

# From this compute capability on (Ampere), a card multiplies in bfloat16 and TF32.
NATIVE = (8, 0)


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Inside, GPUs round the inputs of float32 matrix products and convolutions to TF32 (10 bits), or neither of both.

    torch's own default is TF32 for convolutions alone. The setting is the process's; afterwards it is as before.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    # torch has two names for each setting, and refuses to tell one that contradicts the other.
    settings: tuple[tuple[Any, Any], ...] = (matmul, matmul), (cudnn, cudnn.conv)
    former = [setting.fp32_precision for _, setting in settings]
    try:
        for older, setting in settings:
            older.allow_tf32 = tf32
            setting.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for (older, setting), value in zip(settings, former, strict=True):
            older.allow_tf32 = value == "tf32"
            setting.fp32_precision = value


def check_precision(precision: str, device: torch.device, key: str = "train.precision") -> None:
    """Refuse a precision that the device has no circuits for: torch would emulate it, slowly, or pass it over.

    Args:
        precision: `fp32`, `tf32`, `bf16` or `fp16`.
        device: where the network computes.
        key: what the precision was asked for by.

    Raises:
        CrissCrossError: with the precision to take instead.
    """
    if device.type == "cpu" and precision in ("fp16", "tf32"):
        raise CrissCrossError(f"{key}={precision} cannot be had on this device: a CPU computes in fp32 or bf16")
    if device.type != "cuda" or torch.version.hip is not None or precision not in ("bf16", "tf32"):
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < NATIVE:
        other = "fp16" if precision == "bf16" else "fp32"
        raise CrissCrossError(
            f"{key}={precision} cannot be had on this device: {torch.cuda.get_device_name(device)} has compute "
            f"capability {capability[0]}.{capability[1]}, {precision} needs {NATIVE[0]}.{NATIVE[1]}; set {key}={other}"
        )
