"""Which images the statistics of batch norms come from in training."""

from collections import Counter
from types import MethodType
from typing import Any

from torch import nn

from crisscross.layers.norm import BATCH_NORMS


def settle_norms(network: nn.Module, wanted: str, processes: int, on_gpu: bool) -> str:
    """Make the batch norms of a network what `train.batch_norm` asks for; a line to show, or "".

    Args:
        network: changed in place; on several GPUs its batch norms of torch's and timm's kinds are synchronized. All
            modules stay the same objects: what is frozen, shared or has hooks stays so.
        wanted: `auto`, `train` or `frozen`.
        processes: how many train together.
        on_gpu: whether they train on GPUs, the only devices on which torch synchronizes norms.
    """
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    if wanted == "frozen":
        for norm in norms:
            freeze_statistics(norm)
    if not norms:
        none = f"train.batch_norm={wanted} has no effect: no batch norm of this network takes statistics in training"
        return "" if wanted == "auto" else none
    if wanted == "frozen":
        return ""
    # The part of a batch that one process has is too small for good statistics.
    if wanted == "auto" and processes > 1 and on_gpu:
        return _synchronize(network)
    return "batch norm: each process uses the statistics of its own images" if processes > 1 else ""


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
