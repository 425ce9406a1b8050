"""Whose statistics batch norms use in training."""

from types import MethodType
from typing import Any

from torch import nn

from crisscross.layers.norm import BATCH_NORMS, AbsoluteBatchNorm2d


def settle_norms(network: nn.Module, wanted: str, processes: int, on_gpu: bool) -> tuple[nn.Module, str]:
    """The network with its batch norms as `train.batch_norm` wants them, and one line to show, or "".

    Args:
        network: changed in place; with `sync` its plain batch norms are replaced.
        wanted: `auto`, `train`, `sync` or `frozen`.
        processes: how many train together.
        on_gpu: whether they do so on GPUs: torch synchronises nowhere else.
    """
    if wanted == "frozen":
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                freeze_statistics(module)
        return network, ""
    # A process's own share of a batch is too small for statistics of its own.
    if wanted in ("auto", "sync") and processes > 1 and on_gpu:
        own = sum(isinstance(module, AbsoluteBatchNorm2d) for module in network.modules())
        line = f"batch norm: {own} absolute norms cannot be synchronised; each process uses its own pictures"
        return nn.SyncBatchNorm.convert_sync_batchnorm(network), line if own else ""
    if wanted == "sync":
        reason = "one process has all pictures" if processes == 1 else "torch synchronises it on GPUs only"
        return network, f"batch norm: train.batch_norm=sync is the same as train here: {reason}"
    if processes > 1:
        return network, "batch norm: each process uses the statistics of its own pictures"
    return network, ""


def freeze_statistics(norm: nn.Module) -> None:
    """Keep a batch norm's running statistics for good; its scale and bias still learn."""
    # Whoever puts the network into training mode asks every child to follow: this one does not.
    norm.train = MethodType(_stay, norm)  # type: ignore[method-assign]
    norm.train()


def _stay(self: Any, mode: bool = True) -> Any:
    self.training = False
    return self
