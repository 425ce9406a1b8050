"""Which images the statistics of batch norms come from in training."""

from collections import Counter
from types import MethodType
from typing import Any

from torch import nn

from crisscross.layers.norm import BATCH_NORMS


def settle_norms(network: nn.Module, wanted: str, processes: int, on_gpu: bool) -> tuple[nn.Module, str]:
    """The network with its batch norms as `train.batch_norm` wants them, and one line to show, or "".

    Args:
        network: changed in place; with `sync` its batch norms of torch's and timm's kinds become synchronized ones. All
            modules stay the same objects: what is frozen, shared or has hooks stays so.
        wanted: `auto`, `train`, `sync` or `frozen`.
        processes: how many train together.
        on_gpu: whether they do so on GPUs: torch synchronizes nowhere else.
    """
    if wanted == "frozen":
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                freeze_statistics(module)
        return network, ""
    if not any(isinstance(module, BATCH_NORMS) for module in network.modules()):
        return network, ""
    # A process's own part of a batch is too small for statistics of its own.
    if wanted in ("auto", "sync") and processes > 1 and on_gpu:
        return network, _synchronize(network)
    if wanted == "sync":
        reason = "one process has all images" if processes == 1 else "torch synchronizes it on GPUs only"
        return network, f"batch norm: train.batch_norm=sync is the same as train here: {reason}"
    if processes > 1:
        return network, "batch norm: each process uses the statistics of its own images"
    return network, ""


def _synchronize(network: nn.Module) -> str:
    """Synchronize the norms that can be; a line about those that cannot, or ""."""
    from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct

    synchronized: dict[type, type] = {BatchNormAct2d: SyncBatchNormAct}
    synchronized |= dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), nn.SyncBatchNorm)
    left: Counter[str] = Counter()
    for module in network.modules():
        kind = type(module)
        if kind in synchronized:
            # Not replaced: other parts may hold this very module. Its tensors, activation and hooks stay in it.
            module.__class__ = synchronized[kind]
            module.process_group = None  # type: ignore[assignment]
        elif isinstance(module, BATCH_NORMS) and not isinstance(module, nn.SyncBatchNorm):
            left[kind.__name__] += 1
    if not left:
        return ""
    kinds = ", ".join(left)
    return f"batch norm: {left.total()} norms ({kinds}) cannot be synchronized; each process uses its own images"


def freeze_statistics(norm: nn.Module) -> None:
    """Keep a batch norm's running statistics for good; its scale and bias still learn."""
    # `network.train()` calls `train` of every child: this one ignores it.
    norm.train = MethodType(_stay, norm)  # type: ignore[method-assign]
    norm.train()


def _stay(self: Any, mode: bool = True) -> Any:
    self.training = False
    return self
