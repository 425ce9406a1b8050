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
from crisscross.ops.block import mean_gain
from crisscross.ops.lines import Reach

# The published channels on a map with more than one tile in each direction: the compiled kernels are used again.
INNER, CHANNELS, HEIGHT, WIDTH = 64, 512, 35, 66
# Largest relative error, far above rounding (tf32 included) and far below a wrong result.
TOLERANCE = {torch.float32: 1e-2, torch.float16: 3e-2, torch.bfloat16: 5e-2}

_REASONS: dict[tuple[torch.device, torch.dtype], str] = {}
_LOCK = threading.Lock()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator,unused-ignore]
def passed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels compute forward and backward correctly on a device in a dtype.

    Tried once a process, on the first call: some seconds, most of them Triton's compiler. A failure is one
    `RuntimeWarning` with its reason. While a CUDA graph is captured there is no trial: the result is False unless an
    earlier one was passed.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return _REASONS.get((device, dtype)) == ""
    with _LOCK:
        if (device, dtype) not in _REASONS:
            _REASONS[device, dtype] = reason = _reason(device, dtype)
            if reason:
                warnings.warn(
                    f"criss-cross attention goes on without its Triton kernels on {device} in {dtype}: {reason}. "
                    "backend='fused' shows the whole error",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return not _REASONS[device, dtype]


def _reason(device: torch.device, dtype: torch.dtype) -> str:
    """What is wrong with the kernels there, or ""."""
    try:
        # The caller's modes and autocast must not change the trial.
        with _disable_current_modes(), torch.inference_mode(False), torch.autocast(device.type, enabled=False):
            apart = _error(device, dtype)
    # Whatever a compiler, a driver or a full disk may raise.
    except Exception as error:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
    # Written so that NaN fails.
    return "" if apart <= TOLERANCE[dtype] else f"they compute wrong numbers (relative error {apart:.2g})"


def _error(device: torch.device, dtype: torch.dtype) -> float:
    """The largest relative error of output and gradients against the plain expression in float64 on the CPU."""
    from crisscross.ops import fused

    def draw(channels: int, frequency: float) -> Tensor:
        # Drawing would change the state of the caller's generators.
        count = torch.arange(HEIGHT * WIDTH * channels, dtype=torch.float64, device="cpu")
        return torch.sin(count * frequency + torch.cos(count * 0.37)).view(1, HEIGHT, WIDTH, channels).to(dtype)

    qk, v, grad = draw(2 * INNER, 0.73) * 0.5, draw(CHANNELS, 0.41), draw(CHANNELS, 0.59)
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
        grad_q, grad_k = fused.backward(grad, q, k, v, lse, mean_gain(grad, found), "both", grad_v)
        pairs = zip((found, grad_q, grad_k, grad_v), expected, strict=True)
        errors = [((a.double().cpu() - b).norm() / b.norm()).item() for a, b in pairs]
    return max(errors) if all(math.isfinite(error) for error in errors) else math.nan
