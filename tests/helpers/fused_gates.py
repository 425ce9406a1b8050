"""What the tests of the fused kernels run in a Python of its own: Triton decides once how it runs and on what.

`TRITON_INTERPRET=1 python fused_gates.py interpret JOBS RESULTS` runs the kernels on the CPU.
`TRITON_INTERPRET=1 python fused_gates.py layer RESULTS` runs operators and layers on them, and counts their launches.
`python fused_gates.py compile DTYPE,CAPABILITY,D,C,FRAMES...` compiles them for a GPU that need not be there and prints
what they take of it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from crisscross.ops import fused


def interpret(jobs: Path, results: Path) -> None:
    """Each job is (q, k, v, grad, grad_v so far, axis, frames), channels last; a result (out, lse, dq, dk, grad_v)."""
    torch.set_num_threads(1)
    done = []
    for q, k, v, grad, dv, axis, frames in torch.load(jobs):
        assert fused.why_not(q, v) is None, fused.why_not(q, v)
        out, lse = fused.forward(q, k, v, axis, frames)
        dq, dk = fused.backward(grad, q, k, v, out, lse, axis, dv, frames)
        done.append((out, lse, dq, dk, dv))
    torch.save(done, results)


def layer(results: Path) -> None:
    """Launches, output and all gradients of layer (fast and lean) and operator, in 2-D and 3-D.

    By the kernels and by the plain expression, which launches none.
    """
    from crisscross import CrissCrossAttention, CrissCrossAttention3d, criss_cross_attention, criss_cross_attention_3d

    torch.set_num_threads(1)
    found: dict[str, Any] = {}

    def keep(name: str, compute: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> None:
        with mock.patch.object(fused, "_launch", wraps=fused._launch) as launch:
            y = compute()
            gradients = torch.autograd.grad(y.square().sum(), inputs)
        assert bool(launch.call_count) == ("fused" in name), f"{name}: {launch.call_count} kernels launched"
        found[name] = [launch.call_count, y.detach(), *gradients]

    for kind, operator, size in (
        (CrissCrossAttention, criss_cross_attention, (3, 4)),
        (CrissCrossAttention3d, criss_cross_attention_3d, (2, 3, 4)),
    ):
        for backend, memory in (("composite", "fast"), ("fused", "fast"), ("fused", "lean")):
            torch.manual_seed(0)
            made = kind(16, 4, backend, memory=memory)
            torch.nn.init.constant_(made.gamma, 0.7)
            x = torch.randn(1, 16, *size, requires_grad=True)
            keep(f"{len(size)}-D {backend} {memory}", partial(made, x), [x, *made.parameters()])
        for backend in ("composite", "fused"):
            torch.manual_seed(1)
            q, k, v = (torch.randn(1, channels, *size, requires_grad=True) for channels in (4, 4, 16))
            keep(f"{len(size)}-D {backend} operator", partial(operator, q, k, v, backend), [q, k, v])
    found["refusals"] = [reason(257, 3, torch.zeros(3, 3)), reason(257, 3), reason(4, 300)]
    torch.save(found, results)


def reason(inner: int, width: int, row_bias: Any = None) -> str:
    """Why the dispatcher takes no kernel for q and k [1, inner, 2, width]; empty where it does."""
    from crisscross import criss_cross_attention

    q, v = torch.zeros(1, inner, 2, width), torch.zeros(1, 1, 2, width)
    try:
        criss_cross_attention(q, q, v, "fused", axis="row", row_bias=row_bias)
    except ValueError as error:
        return str(error)
    return ""


class Chip:
    """Stands in for Triton's driver: what a launch asks for before it compiles."""

    def __init__(self, capability: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        # Triton keeps what it compiled by device.
        return int(self.target.arch)

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        return self.target


class Compiles:
    """Stands in for a kernel: a launch compiles it, by Triton's own path, and keeps what came out."""

    def __init__(self, kernel: Any, kept: list[Any]) -> None:
        self.kernel, self.kept = kernel, kept

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *arguments, **constants: self.kept.append(self.kernel.warmup(*arguments, grid=grid, **constants))


def compile_all(dtype: str, capability: int, inner: int, channels: int, frames: int) -> list[dict[str, Any]]:
    """What each kernel of a forward and a backward pass takes; q and k are packed, `tf32` is float32.

    Over 97 x 97, or frames of 45 x 60.
    """
    import triton

    torch.backends.cuda.matmul.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
    kind = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    kept: list[Any] = []
    triton.runtime.driver.set_active(Chip(capability))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("attend_line", "values_line", "logits_line"):
            patch.setattr(fused, name, Compiles(getattr(fused, name), kept))
        patch.setattr(fused, "gain_of_positions", Compiles(fused.gain_of_positions, []))
        patch.setattr(fused, "_interpreted", lambda: False)
        size = (97, 97) if frames == 1 else (frames * 45, 60)
        q, k = torch.empty(2, *size, 2 * inner, dtype=kind, device="meta").split(inner, -1)
        v = torch.empty(2, *size, channels, dtype=kind, device="meta")
        _, lse = fused.forward(q, k, v, "both", frames)
        fused.backward(v, q, k, v, v, lse, "both", v, frames)
    return [resources(kernel) for kernel in kept]


def resources(kernel: Any) -> dict[str, Any]:
    """Registers and spilled bytes a thread, bytes of shared memory, and which instructions do the work."""
    import triton

    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.cubin").write_bytes(kernel.asm["cubin"])
        command = [str(cuobjdump), "--dump-resource-usage", "kernel.cubin"]
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    ptx = kernel.asm["ptx"]
    return {
        "kernel": kernel.metadata.name,
        "registers": int(re.findall(r"REG:(\d+)", told)[0]),
        "spilled": sum(int(x) for x in re.findall(r"(?:STACK|LOCAL):(\d+)", told)),
        "shared": kernel.metadata.shared,
        "wgmma": len(re.findall(r"wgmma\.mma_async", ptx)),
        "tcgen05": len(re.findall(r"tcgen05\.mma", ptx)),
        "mma": len(re.findall(r"\bmma\.sync", ptx)),
        # Global memory read 16 bytes at a time; and less than 4, as misaligned or badly understood tiles are.
        "wide": len(re.findall(r"cp\.async\.cg|ld\.global\S*\.v4\.b32", ptx)),
        "narrow": len(re.findall(r"ld\.global\S*\.b(?:8|16)\b", ptx)),
    }


if __name__ == "__main__":
    if sys.argv[1] == "interpret":
        interpret(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "layer":
        layer(Path(sys.argv[2]))
    else:
        cases = (case.split(",") for case in sys.argv[2:])
        print(json.dumps([compile_all(dtype, *map(int, numbers)) for dtype, *numbers in cases]))
