"""What `crisscross.optimize` does to a network on this machine: time, memory and agreement."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from crisscross.measurement.memory import peak_memory
from crisscross.measurement.network import network_of
from crisscross.measurement.timing import interleave
from crisscross.models import Segmenter
from crisscross.speed.rewrite import optimize
from crisscross.speed.winograd import release_memory

CPU = torch.device("cpu")


@dataclass(frozen=True)
class ModelRow:
    """One way of running the network; "plain" is the first row and what the others are compared with.

    Attributes:
        variant: "plain", "folded, channels-last" or "and Winograd".
        seconds: of one forward pass, the median over the rounds, in which the variants took turns.
        weight_bytes: parameters and buffers.
        peak_bytes: most memory allocated at once during a pass, beside weights and input.
        error: largest difference of a logit from plain, in standard deviations of the plain logits.
        same_labels: fraction of the pixels with plain's label.
    """

    variant: str
    seconds: float
    weight_bytes: int
    peak_bytes: int
    error: float
    same_labels: float


@dataclass(frozen=True)
class ConvolutionRow:
    """One convolution of the network: its sizes, and its median seconds in each variant of `measure_model`."""

    name: str
    kernel: tuple[int, ...]
    dilation: int
    in_channels: int
    out_channels: int
    output: tuple[int, int]
    seconds: dict[str, float]


def measure_model(
    source: str | Segmenter,
    height: int = 512,
    width: int = 1024,
    rounds: int = 5,
    threads: int = 1,
    on_turn: Callable[[], object] = lambda: None,
) -> list[ModelRow]:
    """Run a network plainly, folded, and with Winograd convolutions, in turns, on one random image.

    Args:
        source: a recipe (its shipped weights, else random ones), a run, a checkpoint or a network.
        height: of the image, in pixels.
        width: of the image, in pixels.
        rounds: passes of each variant, after one to warm up.
        threads: torch's threads during the measurement; set back afterwards.
        on_turn: called after each of the 3 x (rounds + 1) passes.
    """
    variants = _variants(source)
    x = _image(height, width)
    with _threads(threads), torch.inference_mode():
        works = {name: partial(network, x) for name, network in variants.items()}
        seconds = interleave(works, rounds, CPU, on_turn, always=variants)
        logits = {name: network(x).main for name, network in variants.items()}
        peaks = {}
        for name, work in works.items():
            release_memory()
            peaks[name] = peak_memory(work, CPU).peak
    plain = logits["plain"]
    return [
        ModelRow(
            variant=name,
            seconds=seconds[name],
            weight_bytes=sum(t.nbytes for t in (*network.parameters(), *network.buffers())),
            peak_bytes=peaks[name],
            error=((logits[name] - plain).abs().max() / plain.std()).item(),
            same_labels=(logits[name].argmax(1) == plain.argmax(1)).double().mean().item(),
        )
        for name, network in variants.items()
    ]


def measure_convolutions(
    source: str | Segmenter, height: int = 512, width: int = 1024, rounds: int = 5, threads: int = 1
) -> list[ConvolutionRow]:
    """Median seconds of every convolution, in the order of the network's modules; arguments as in `measure_model`."""
    variants = _variants(source)
    x = _image(height, width)
    records = {name: _Stopwatch(network) for name, network in variants.items()}
    with _threads(threads), torch.inference_mode():
        for network in variants.values():
            network(x)
        for record in records.values():
            record.seconds.clear()
        for _ in range(rounds):
            for network in variants.values():
                network(x)
    rows = []
    for name, conv in _convolutions(variants["plain"]).items():
        # The auxiliary head has no part in a forward pass for inference.
        if name not in records["plain"].outputs:
            continue
        # One that runs several times in a pass counts with their sum; the median over rounds.
        seconds = {key: record.median(name, rounds) for key, record in records.items()}
        sizes = conv.in_channels, conv.out_channels, records["plain"].outputs[name]
        rows.append(ConvolutionRow(name, conv.kernel_size, conv.dilation[0], *sizes, seconds))
    return rows


class _Stopwatch:
    """Times every convolution of a network by hooks: `seconds[name]` of each call, `outputs[name]` (H, W)."""

    def __init__(self, network: nn.Module) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.outputs: dict[str, tuple[int, int]] = {}
        self.began = 0.0
        for name, conv in _convolutions(network).items():
            conv.register_forward_pre_hook(self._begin)
            conv.register_forward_hook(self._end(name))

    def _begin(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.began = time.perf_counter()

    def _end(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def end(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.seconds.setdefault(name, []).append(time.perf_counter() - self.began)
            self.outputs[name] = (output.shape[-2], output.shape[-1])

        return end

    def median(self, name: str, rounds: int) -> float:
        """Seconds of a pass, the median over the rounds."""
        times = self.seconds[name]
        calls = len(times) // rounds
        return statistics.median(sum(times[i : i + calls]) for i in range(0, len(times), calls))


def _variants(source: str | Segmenter) -> dict[str, Segmenter]:
    plain = network_of(source) if isinstance(source, str) else source
    return {
        # A copy too, so that nothing done here shows in the caller's network.
        "plain": deepcopy(plain).eval().requires_grad_(False),
        "folded, channels-last": optimize(plain, winograd=False),
        "and Winograd": optimize(plain),
    }


def _image(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def _convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
