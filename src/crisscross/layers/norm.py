"""Batch norm as the authors of CCNet trained it."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class AbsoluteBatchNorm2d(nn.Module):
    """Batch norm whose scale is |weight| + eps, as in the in-place batch norm of the authors' repository.

    y = (x - mean) / sqrt(variance + eps) * (|weight| + eps) + bias, with the names and shapes of `nn.BatchNorm2d`'s
    tensors. It is not a subclass, because `SyncBatchNorm.convert_sync_batchnorm` would silently make it an ordinary
    norm; in training the statistics are therefore those of each process's own images.

    Args:
        channels: C of the input [B, C, H, W].
        eps: 1e-5 in the authors' kernels.
        momentum: weight of the newest batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def scale(self) -> Tensor:
        """|weight| + eps, [C]."""
        return self.weight.abs() + self.eps

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        if self.training:
            self.num_batches_tracked.add_(1)
        mean, variance = self.running_mean, self.running_var
        return functional.batch_norm(x, mean, variance, self.scale(), self.bias, self.training, self.momentum, self.eps)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"


# Norms whose forward changes running statistics in training.
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm, AbsoluteBatchNorm2d)
