"""A trial of the Triton kernels on a device, before `auto` relies on them.

They need a C compiler, a driver, a writable cache folder and a chip that their compiler supports, and their results
have to be right.
"""

import math
import threading
import warnings

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from crisscross.ops import composite
from crisscross.ops.lines import Reach

# A map with more than one tile in each direction: the compiled kernels are used again.
HEIGHT, WIDTH = 35, 66
# Largest relative error, far above rounding (tf32 included) and far below a wrong result.
TOLERANCE = {torch.float32: 1e-2, torch.float16: 3e-2, torch.bfloat16: 5e-2}

# By device, dtype, query channels and value channels: these are compiled into the kernels.
_REASONS: dict[tuple[torch.device, torch.dtype, int, int], str] = {}
_LOCK = threading.Lock()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator,unused-ignore]
def passed(device: torch.device, dtype: torch.dtype, inner: int, channels: int) -> bool:
    """Whether the kernels compute forward and backward correctly on a device in a dtype, with these channels.

    Tried once a process, on the first call: some seconds, most of them Triton's compiler, whose result is used again.
    A failure is one `RuntimeWarning` with its reason. While a CUDA graph is captured there is no trial: the result is
    False unless an earlier one was passed.
    """
    key = device, dtype, inner, channels
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return _REASONS.get(key) == ""
    with _LOCK:
        if key not in _REASONS:
            _REASONS[key] = reason = _reason(*key)
            if reason:
                warnings.warn(
                    f"criss-cross attention goes on without its Triton kernels on {device} in {dtype}, "
                    f"{inner} query and {channels} value channels: {reason}. backend='fused' shows the whole error",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return not _REASONS[key]


def _reason(device: torch.device, dtype: torch.dtype, inner: int, channels: int) -> str:
    """What is wrong with the kernels there, or ""."""
    try:
        # The caller's modes and autocast must not change the trial.
        with _disable_current_modes(), torch.inference_mode(False), torch.autocast(device.type, enabled=False):
            apart = _error(device, dtype, inner, channels)
    # Whatever a compiler, a driver or a full disk may raise.
    except Exception as error:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
    # Written so that NaN fails.
    return "" if apart <= TOLERANCE[dtype] else f"they compute wrong numbers (relative error {apart:.2g})"


def _error(device: torch.device, dtype: torch.dtype, inner: int, channels: int) -> float:
    """The largest relative error of output and gradients against the plain expression in float64 on the CPU."""
    from crisscross.ops import fused

    def draw(count: int, frequency: float) -> Tensor:
        # Drawing would change the state of the caller's generators.
        number = torch.arange(HEIGHT * WIDTH * count, dtype=torch.float64, device="cpu")
        return torch.sin(number * frequency + torch.cos(number * 0.37)).view(1, HEIGHT, WIDTH, count).to(dtype)

    qk, v, grad = draw(2 * inner, 0.73) * 0.5, draw(channels, 0.41), draw(channels, 0.59)
    exact_q, exact_k, exact_v = (x.double().requires_grad_() for x in (*qk.chunk(2, -1), v))
    with torch.enable_grad():
        out = composite.attention(exact_q, exact_k, exact_v, Reach("both", None, None))
        expected = [out.detach(), *torch.autograd.grad(out, [exact_q, exact_k, exact_v], grad.double())]
    with torch.no_grad():
        # Next to each other in memory, as the layer's projection makes them.
        q, k = qk.to(device).chunk(2, -1)
        v, grad = v.to(device), grad.to(device)
        found, lse = fused.forward(q, k, v)
        grad_v = torch.zeros_like(v)
        grad_q, grad_k = fused.backward(grad, q, k, v, found, lse, "both", grad_v)
        pairs = zip((found, grad_q, grad_k, grad_v), expected, strict=True)
        errors = [((a.double().cpu() - b).norm() / b.norm()).item() for a, b in pairs]
    return max(errors) if all(math.isfinite(error) for error in errors) else math.nan
