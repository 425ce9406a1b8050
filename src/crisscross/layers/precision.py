"""What numbers a GPU multiplies: float32 or its short form TF32, and half precision where it has circuits for it."""

from collections.abc import Iterator, Sequence
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
    former = [setting.fp32_precision for setting in _settings()]
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:
        # Somebody has set them by both of torch's names: the newer one counts.
        products = "high" if former[0] == "tf32" else "highest"
    try:
        _settle("high" if tf32 else "highest", tf32, ["tf32" if tf32 else "ieee"] * len(former))
        yield
    finally:
        _settle(products, "tf32" in former[2:], former)


def _settle(products: str, convolutions: bool, values: Sequence[str]) -> None:
    """Set all by the older names, then by the newer ones: torch refuses to tell one that contradicts the other."""
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
    for setting, value in zip(_settings(), values, strict=True):
        setting.fp32_precision = value


def _settings() -> tuple[Any, ...]:
    """Of products, then of cuDNN. The older name of the first two is one."""
    backends: Any = torch.backends
    return backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv, backends.cudnn.rnn


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
