"""The precision of matrix products and convolutions: float32, TF32 or half precision."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.hardware import emulates

# From this compute capability on (Ampere), a card multiplies in bfloat16 and TF32.
NATIVE = (8, 0)


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Inside, GPUs round the inputs of float32 matrix products and convolutions to TF32 (10 bits), or neither of both.

    torch's own default is TF32 for convolutions alone. The setting is global to the process: of several threads, or of
    nested uses, the last to enter decides, and after all of them it is as before.
    """
    products, several = ("high", "tf32") if tf32 else ("highest", "ieee")
    own = _Setting(products, tf32, (several,) * len(_settings()))
    with _LOCK:
        # The first entry is the setting from before.
        _INSIDE[:] = [*(_INSIDE or [_present()]), own]
        _settle(own)
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE[:] = [other for other in _INSIDE if other is not own]
            _settle(_INSIDE[-1])
            if len(_INSIDE) == 1:
                _INSIDE.clear()


@dataclass(frozen=True)
class _Setting:
    """Precision by torch's older names, of products and of cuDNN, and by the newer ones in the order of `_settings`."""

    products: str
    convolutions: bool
    values: tuple[str, ...]


_INSIDE: list[_Setting] = []
_LOCK = threading.Lock()


def _present() -> _Setting:
    values = tuple(setting.fp32_precision for setting in _settings())
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:
        # Both kinds of names were used: the newer ones count.
        products = "high" if values[0] == "tf32" else "highest"
    return _Setting(products, "tf32" in values[2:], values)


def _settle(wanted: _Setting) -> None:
    """Set all by the older names, then by the newer ones: torch raises an error where they contradict each other."""
    products, convolutions, values = wanted.products, wanted.convolutions, wanted.values
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions
    for setting, value in zip(_settings(), values, strict=True):
        setting.fp32_precision = value


def _settings() -> tuple[Any, ...]:
    """Settings of products, then of cuDNN. The first two share an older name."""
    backends: Any = torch.backends
    return backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv, backends.cudnn.rnn


def warn_of_emulation(precision: str, device: torch.device, key: str = "train.precision") -> None:
    """Cause a `CrissCrossWarning` where a CPU would compute in `bf16` or `fp16` without instructions for it."""
    if device.type == "cpu" and emulates(precision):
        what = f"{key}={precision}: this processor has no instructions for it; fp32 is faster, often many times"
        warnings.warn(what, CrissCrossWarning, 3)


def check_precision(precision: str, device: torch.device, key: str = "train.precision") -> None:
    """Refuse a precision that the device does not support: torch would emulate it, slowly, or ignore it.

    Args:
        precision: `fp32`, `tf32`, `bf16` or `fp16`.
        device: where the network computes.
        key: the option that asks for the precision.

    Raises:
        CrissCrossError: with the precision to take instead.
    """
    if device.type == "cpu" and precision in ("fp16", "tf32"):
        raise CrissCrossError(f"{key}={precision} is not available on this device: a CPU computes in fp32 or bf16")
    if device.type != "cuda" or torch.version.hip is not None or precision not in ("bf16", "tf32"):
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < NATIVE:
        other = "fp16" if precision == "bf16" else "fp32"
        raise CrissCrossError(
            f"{key}={precision} is not available on this device: {torch.cuda.get_device_name(device)} has compute "
            f"capability {capability[0]}.{capability[1]}, {precision} needs {NATIVE[0]}.{NATIVE[1]}; set {key}={other}"
        )
