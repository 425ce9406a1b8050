"""The self-test of `crisscross doctor`, in a process of its own: a broken PyTorch may crash the one that imports it.

`python -m crisscross.measurement.self_test MODULE ...` prints a JSON line before and after each step, so that the last
line of a crashed process names the step.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from crisscross.terminal import say

# Begins each line, because packages may print during their import.
MARK = "crisscross self-test: "
# Largest difference to the definition, relative to its largest value: float32 on any device stays far below.
TOLERANCE = 1e-3


def main(modules: list[str]) -> None:
    """Import each module; where PyTorch, which comes first, is one, ask it for its devices and compute."""
    works = [_step(f"import {name}", partial(_import, name)) for name in modules]
    if not works[0] or modules[0] != "torch":
        return
    devices = ["cpu"]
    _step("devices", partial(_devices, devices))
    for device in devices:
        _step(f"attention on {device}", partial(_attention, device))
    if all(works):
        _step("network", _network)


def _step(name: str, work: Callable[[], Any]) -> bool:
    """Do one step and print what it found; returns whether it went well."""
    _print(step=name)
    try:
        _print(step=name, found=work())
    except Exception as error:
        _print(step=name, error=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
        return False
    return True


def _print(**facts: Any) -> None:
    say(MARK + json.dumps(facts))


def _import(name: str) -> None:
    import_module(name)


def _devices(devices: list[str]) -> dict[str, Any]:
    """What PyTorch was built for and finds here; the GPU that it can use is added to `devices`."""
    import torch

    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(index)
        gpus.append(f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}")
    if gpus:
        devices.append("cuda")
    cuda = torch.version.cuda
    return {
        "gpus": gpus,
        "built_for": f"ROCm {rocm}" if (rocm := torch.version.hip) else cuda and f"CUDA {cuda}",
        "mps": torch.backends.mps.is_available(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _attention(device: str) -> float:
    """The operator's largest difference to its definition, relative.

    Raises:
        ArithmeticError: it is too large, or not a number.
    """
    import torch

    from crisscross.ops import criss_cross_attention
    from crisscross.ops.reference import criss_cross_attention_reference

    chance = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, channels, 17, 23, generator=chance) for channels in (8, 8, 32))
    expected = criss_cross_attention_reference(q.double(), k.double(), v.double())
    found = criss_cross_attention(q.to(device), k.to(device), v.to(device)).double().cpu()
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        raise ArithmeticError(f"the result is {difference:.2g} off, at most {TOLERANCE:g} is expected")
    return difference


def _network() -> dict[str, float]:
    """Seconds to load the network that ships with the package, and to label an image with it.

    Raises:
        ArithmeticError: the labels are not those of the image's size.
    """
    import numpy as np

    from crisscross.checkpoints import load

    began = time.perf_counter()
    segmenter = load("camvid-light")
    loaded = time.perf_counter()
    image = np.linspace(0, 255, 96 * 128 * 3).astype(np.uint8).reshape(96, 128, 3)
    labels = segmenter.predict(image).labels
    if labels.shape != (96, 128) or int(labels.max()) >= len(segmenter.classes):
        raise ArithmeticError(f"labels of the shape {labels.shape} up to {labels.max()}")
    return {"load": loaded - began, "predict": time.perf_counter() - loaded}


if __name__ == "__main__":
    main(sys.argv[1:])
