"""Checks of the layer on a GPU, each stage in a process of its own: one JSON line a check."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from functools import partial
from typing import Any
from unittest import mock


def tell(name: str, ok: bool, **facts: Any) -> None:
    print("@check " + json.dumps({"name": name, "ok": bool(ok), "facts": facts}), flush=True)


def guarded(name: str, work: Any) -> None:
    """`work` gives facts, or raises."""
    began = time.monotonic()
    try:
        facts = work() or {}
        tell(name, facts.pop("ok", True), **facts)
    except Exception as error:
        text = " ".join(str(error).split())[-300:]
        tell(name, False, **{f"{name}": f"{type(error).__name__}: {text} ({time.monotonic() - began:.0f} s)"})


def check_machine(device: str) -> None:
    import torch

    def versions() -> dict[str, Any]:
        import accelerate
        import timm
        import torchvision
        import triton

        found = {"python": platform.python_version()}
        found |= {package.__name__: package.__version__ for package in (torch, triton, torchvision, timm, accelerate)}
        return found | {"cores": os.cpu_count(), "cc": shutil.which("cc") or shutil.which("gcc") or "NONE"}

    def card() -> dict[str, Any]:
        if device == "cpu":
            return {"card": "none"}
        properties = torch.cuda.get_device_properties(0)
        a = torch.empty(2**30, dtype=torch.uint8, device=device).random_()
        b, m = torch.empty_like(a), torch.randn(8192, 8192, device=device).bfloat16()
        copy, product = timed(lambda: b.copy_(a), device), timed(lambda: m @ m, device)
        return {
            "card": properties.name, "sm": f"{properties.major}.{properties.minor}",
            "TB/s": round(2 * a.numel() / copy / 1e12, 2), "bf16 TFLOP/s": round(2 * 8192**3 / product / 1e12),
        }  # fmt: skip

    def package() -> dict[str, Any]:
        import crisscross

        return {"parameters": sum(p.numel() for p in crisscross.load("camvid-light").parameters())}

    guarded("versions", versions)
    guarded("card", card)
    guarded("package", package)


def timed(work: Any, device: str, calls: int = 10) -> float:
    """Seconds of one call, the median by events on a GPU."""
    import torch

    for _ in range(3):
        work()
    if device == "cpu":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    found = []
    for _ in range(calls):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        work()
        last.record()
        torch.cuda.synchronize()
        found.append(first.elapsed_time(last) / 1000)
    return sorted(found)[len(found) // 2]


def check_layer(device: str, compiles: bool = False) -> None:
    """The layer as a user has it: backend, output and gradients beside float64 on the CPU."""
    import torch

    import crisscross
    from crisscross.ops import dispatch, fused
    from crisscross.ops.lines import Reach

    small = device == "cpu"

    def truth(layer: Any, x: Any, upstream: Any) -> list[Any]:
        other = type(layer)(layer.channels, layer.channels // layer.query.out_channels, "composite").double()
        other.load_state_dict({key: value.double().cpu() for key, value in layer.state_dict().items()})
        y = other(own := x.detach().double().cpu().requires_grad_())
        return [y, *torch.autograd.grad(y, [own, *other.parameters()], upstream.double().cpu())]

    def error(found: list[Any], expected: list[Any]) -> float:
        """The largest relative error; that of a tensor much smaller than the others, such as a bias, by their size."""
        least = 0.05 * max(b.norm().item() for b in expected)
        pairs = zip(found, expected, strict=True)
        return max((a.double().cpu() - b).norm().item() / max(b.norm().item(), least) for a, b in pairs)

    def made(kind: Any, channels: int, dtype: Any, **options: Any) -> Any:
        torch.manual_seed(0)
        layer = kind(channels, **options).to(device, dtype)
        torch.nn.init.constant_(layer.gamma, 0.7)
        return layer

    def agree(
        kind: Any, dtype: Any, size: Any, channels: int, expect: str, autocast: Any = None, **options: Any
    ) -> None:
        def work() -> dict[str, Any]:
            layer = made(kind, channels, dtype, **options)
            x = torch.randn(2, channels, *size, device=device, dtype=dtype)
            upstream = torch.randn_like(x)
            reach, inner = Reach("both", frames=size[0] if len(size) == 3 else 1), layer.query.out_channels
            like = x if autocast is None else x.to(autocast)
            backend = dispatch.choose("auto", like[:, :inner], like[:, :inner], like, reach)
            # What was chosen may still not be what runs. The trial of the kernels, where there is one, is behind us.
            with mock.patch.object(fused, "_launch", wraps=fused._launch) as launch:
                with torch.autocast(device, autocast) if autocast else torch.enable_grad():
                    y = layer(x.requires_grad_())
                found = [y, *torch.autograd.grad(y, [x, *layer.parameters()], upstream)]
            right = backend == expect and bool(launch.call_count) == (expect == "fused")
            apart = error(found, truth(layer, x, upstream))
            level = {torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}[autocast or dtype]
            told = f"{apart:.1e} {backend}, {launch.call_count} launches"
            return {"ok": apart < level and (small or right), name: told}

        name = f"{'3d' if kind is clip else '2d'} {str(autocast or dtype)[6:]} {'x'.join(map(str, size))} C={channels}"
        name += " autocast" if autocast else ""
        name += "".join(f" {key}={value}" for key, value in options.items())
        guarded(name, work)

    flat, clip = crisscross.CrissCrossAttention, crisscross.CrissCrossAttention3d
    if compiles:
        return compiled_and_graphed(device, made, error)
    sizes = [(9, 11)] if small else [(97, 97), (33, 300)]
    wide = 16 if small else 512
    for dtype in (torch.float32, torch.bfloat16, *(() if small else (torch.float16,))):
        for size in sizes:
            agree(flat, dtype, size, wide, "fused")
        agree(clip, dtype, (3, 7, 9) if small else (5, 45, 60), wide, "fused")
    agree(flat, torch.bfloat16, sizes[0], wide, "fused", memory="lean")
    agree(flat, torch.float32, sizes[0], wide, "fused", autocast=torch.bfloat16)
    agree(flat, torch.bfloat16, (9, 11), 20 * 8, "fused")
    # 512 query channels are beyond the kernels.
    agree(flat, torch.bfloat16, (9, 11), 16 if small else 512, "eager", reduction=1)


def check_compiled(device: str) -> None:
    check_layer(device, compiles=True)


def compiled_and_graphed(device: str, made: Any, error: Any) -> None:
    """One node under torch.compile, whatever the size; the same bits from a CUDA graph, captured on another stream."""
    import torch

    import crisscross

    small, wide = device == "cpu", 16 if device == "cpu" else 512

    def compiled() -> dict[str, Any]:
        layer = made(crisscross.CrissCrossAttention, wide, torch.float32)
        fast = torch.compile(layer, fullgraph=True, dynamic=True)
        apart = 0.0
        for size in ((9, 11), (12, 8)):
            x = torch.randn(2, wide, *size, device=device, requires_grad=True)
            pairs = [torch.autograd.grad(f(x).square().sum(), [x, *layer.parameters()]) for f in (layer, fast)]
            apart = max(apart, error(list(pairs[1]), [g.double().cpu() for g in pairs[0]]))
        return {"ok": apart < 1e-5, "compiled apart": f"{apart:.1e}"}

    def graphed() -> dict[str, Any]:
        if small:
            return {"graph": "no GPU"}
        layer = made(crisscross.CrissCrossAttention, 64, torch.bfloat16)
        x = torch.randn(2, 64, 40, 50, device=device, dtype=torch.bfloat16)
        with torch.no_grad():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                expected = [layer(x) for _ in range(3)][-1]
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = layer(x)
            graph.replay()
            torch.cuda.synchronize()
        return {"ok": torch.equal(y, expected), "graph": "same bits"}

    guarded("compile", compiled)
    guarded("graph", graphed)


def check_extra(device: str) -> None:
    """Beyond 2 ** 31 elements; a training step that repeats itself; eager beside fused."""
    import torch

    import crisscross

    def big() -> dict[str, Any]:
        if device == "cpu":
            return {"big": "no GPU"}
        torch.manual_seed(0)
        layer = crisscross.CrissCrossAttention(512).to(device, torch.bfloat16)
        torch.nn.init.constant_(layer.gamma, 0.7)
        with torch.no_grad():
            x = torch.randn(40, 320, 340, 512, device=device, dtype=torch.bfloat16).permute(0, 3, 1, 2)
            y = layer(x)
            # The last image alone has small offsets.
            apart = (y[-1:].float() - layer(x[-1:]).float()).abs().max().item()
        return {"ok": apart == 0.0, "big": f"{x.numel() / 2**31:.2f} x 2^31, apart {apart:g}"}

    def eager() -> dict[str, Any]:
        wide, size = (16, (9, 11)) if device == "cpu" else (512, (97, 97))
        found = {}
        for backend in ("auto", "eager"):
            torch.manual_seed(0)
            layer = crisscross.RecurrentCrissCrossAttention(wide, backend=backend).to(device, torch.bfloat16)
            x = torch.randn(8, wide, *size, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
            x.requires_grad_()
            step = partial(_step, layer, x)
            found[f"{backend} R=2 step ms"] = round(1000 * timed(step, device), 2)
        return found

    guarded("big", big)
    guarded("eager", eager)


def _step(layer: Any, x: Any) -> None:
    layer(x).sum().backward()


CHECKS = {
    "machine": check_machine,
    "layer": check_layer,
    "compiled": check_compiled,
    "extra": check_extra,
}
