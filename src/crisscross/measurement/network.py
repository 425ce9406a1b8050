"""A network in every variant that runs on this machine, image by image: time, memory, agreement with plain float32."""

import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crisscross import __version__, zoo
from crisscross.checkpoints import build, load
from crisscross.deploy.samples import Samples
from crisscross.errors import CrissCrossError
from crisscross.hardware import emulates
from crisscross.inference import Predictor
from crisscross.layers import CrissCrossAttention
from crisscross.layers.modes import PRECISIONS, computing_in, device_of
from crisscross.layers.precision import check_precision
from crisscross.measurement.memory import peak_memory
from crisscross.measurement.resident import peak_of_file
from crisscross.measurement.timing import interleave
from crisscross.metrics import ConfusionMatrix
from crisscross.models import Segmenter
from crisscross.ops import BACKENDS
from crisscross.speed.rewrite import optimize
from crisscross.speed.winograd import release_memory

# Labels are bytes; classes that occur nowhere count for nothing.
MOST_CLASSES = 256
# Of the published configuration, for a recipe that names no classes.
CLASSES = tuple(f"class {index}" for index in range(19))


@dataclass(frozen=True)
class Variant:
    """A network in one precision with one backend for its attention; `name` as in tables."""

    name: str
    precision: str
    network: Segmenter
    backend: str = "auto"

    def labels(self, image: Tensor) -> Tensor:
        """Labels uint8 [H, W] of an RGB image uint8 [3, H, W], as `crisscross predict` makes them."""
        for layer in _attention(self.network):
            layer.backend = self.backend
        with computing_in(self.precision, device_of(self.network)):
            return torch.from_numpy(self.network.predict(image).labels)

    @property
    def weight_bytes(self) -> int:
        """Parameters and buffers."""
        return sum(tensor.nbytes for tensor in (*self.network.parameters(), *self.network.buffers()))


@dataclass(frozen=True)
class ExportedVariant:
    """An exported file, the file that holds its weights, and its predictor; `name` and `precision` as in tables."""

    name: str
    precision: str
    predictor: Predictor
    file: Path
    weights: Path

    def labels(self, image: Tensor) -> Tensor:
        """As `Variant.labels`."""
        return torch.from_numpy(self.predictor.predict(image.permute(1, 2, 0).numpy()).labels)

    @property
    def weight_bytes(self) -> int:
        """Size of the file that holds the weights."""
        return self.weights.stat().st_size


@dataclass(frozen=True)
class NetworkRow:
    """The measurements of one variant.

    Attributes:
        variant: its name.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        seconds: from an image in memory to its labels, the median over the rounds.
        peak_bytes: the most memory that this takes at once, beside weights and image; of exported files what a process
            of its own grows by, None where the system does not say that.
        weight_bytes: parameters and buffers, or the size of the exported file.
        same_labels: fraction of the pixels that have the label of the first variant.
        miou: on the samples, None without masks.
    """

    variant: str
    precision: str
    seconds: float
    peak_bytes: int | None
    weight_bytes: int
    same_labels: float
    miou: float | None = None


def variants_of(network: Segmenter, compiled: bool = False) -> list[Variant]:
    """All variants of a network in each precision of its device; the first is the plain one in float32.

    What PyTorch would only emulate on a CPU is left out.

    Args:
        network: copies of it are made, on its device.
        compiled: also through `torch.compile`.
    """
    plain = deepcopy(network).float().to(memory_format=torch.contiguous_format)
    channels_last = deepcopy(plain).to(memory_format=torch.channels_last)
    kinds = [("plain", plain, "auto"), ("channels-last", channels_last, "auto"), ("optimize", optimize(plain), "auto")]
    if compiled:
        kinds.append(("compile", _compiled(channels_last), "auto"))
    if _attention(network):
        # The definition takes memory for all pairs of positions.
        named = [name for name in BACKENDS if name != "reference"]
        kinds += [(f"attention {name}", channels_last, name) for name in named]
    return [
        Variant(name, precision, copy, backend)
        for precision in _precisions(device_of(network))
        for name, copy, backend in kinds
    ]


def measure(
    variants: Sequence[Variant | ExportedVariant],
    image: Tensor,
    rounds: int,
    on_turn: Callable[[], object] = lambda: None,
    samples: Samples | None = None,
) -> tuple[list[NetworkRow], list[str]]:
    """Label one image with all variants, which take turns.

    Args:
        variants: from `variants_of`, and after them from `exported_variants`.
        image: uint8 [3, H, W].
        rounds: turns of each variant; see `interleave` for slow ones.
        on_turn: called at most `rounds + 3` times for each variant.
        samples: labels are compared on its images to check with, and scored by its masks; by default on `image`.

    Returns:
        One row for each variant that runs here, and a line with the reason for each other.
    """
    first, labels, reasons = variants[0], {}, []
    assert isinstance(first, Variant)
    device = device_of(first.network)
    for variant in variants:
        try:
            labels[variant] = variant.labels(image)
        except (RuntimeError, ValueError, CrissCrossError) as error:
            if variant is variants[0]:
                raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            reasons.append(f"{variant.name}: {reason}")
        on_turn()
    works = {f"{variant.name}, {variant.precision}": partial(variant.labels, image) for variant in labels}
    seconds, rows = interleave(works, rounds, device, on_turn), []
    expected = [first.labels(_tensor(one)) for one in samples.check] if samples else []
    peak: int | None
    for (name, work), (variant, found) in zip(works.items(), labels.items(), strict=True):
        # Memory that Winograd keeps for its next call counts.
        release_memory()
        if isinstance(variant, Variant):
            peak = peak_memory(work, device).peak
        else:
            peak = peak_of_file(variant.file, variant.precision, *image.shape[-2:])
        if samples:
            same, miou = _compare(variant, samples, expected)
        else:
            same, miou = (found == labels[first]).double().mean().item(), None
        rows.append(NetworkRow(variant.name, variant.precision, seconds[name], peak, variant.weight_bytes, same, miou))
        on_turn()
    # Most reasons are the same in every precision.
    return rows, list(dict.fromkeys(reasons))


def _compare(
    variant: Variant | ExportedVariant, samples: Samples, expected: Sequence[Tensor]
) -> tuple[float, float | None]:
    """The fraction of equal labels of all samples, and the mIoU where there are masks."""
    same, counts = 0, ConfusionMatrix(MOST_CLASSES, samples.ignore)
    for number, (image, labels) in enumerate(zip(samples.check, expected, strict=True)):
        found = variant.labels(_tensor(image))
        same += int((found == labels).sum())
        if samples.masks:
            counts.update(found, samples.masks[number])
    miou = counts.scores().miou if samples.masks else None
    return same / sum(labels.numel() for labels in expected), miou


def _tensor(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> [3, H, W]."""
    return torch.from_numpy(image).permute(2, 0, 1)


def network_of(source: str, trust: Path | None = None, **options: Any) -> Segmenter:
    """The network of a recipe (its weights, else random ones), a run or a file; `trust` and `options` as in `load`."""
    if source not in zoo.RECIPES or zoo.shipped_weights(source) or options.get("weights"):
        return load(source, trust=trust, **options)
    experiment = zoo.recipe(source)
    return build(experiment, pretrained=False, classes=list(experiment.data.classes or CLASSES))


def environment(device: torch.device) -> dict[str, Any]:
    """What measurements depend on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "crisscross": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": bool(gpu),
        "device": gpu or f"CPU ({torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores)",
        "threads": torch.get_num_threads(),
    }


def conditions(about: dict[str, Any]) -> str:
    """The environment in one line."""
    threads = f"{about['threads']} thread{'' if about['threads'] == 1 else 's'}"
    return ", ".join(filter(None, [about["device"], threads, about.get("dtype"), f"PyTorch {about['torch']}"]))


def _attention(network: nn.Module) -> list[CrissCrossAttention]:
    return [module for module in network.modules() if isinstance(module, CrissCrossAttention)]


def _compiled(network: Segmenter) -> Segmenter:
    network = deepcopy(network)
    network.encode = torch.compile(network.encode)  # type: ignore[method-assign]
    return network


def _precisions(device: torch.device) -> list[str]:
    found = []
    for name in PRECISIONS:
        if device.type == "cpu" and emulates(name):
            continue
        with suppress(CrissCrossError):
            check_precision(name, device)
            found.append(name)
    return found
