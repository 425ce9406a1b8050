"""How a whole picture is labelled, for any function that gives logits."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

LogitsOf = Callable[[Tensor], Tensor]


def whole(logits_of: LogitsOf, x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Logits of a picture in one pass, as published: at network input size first, then at the picture's own.

    Args:
        logits_of: maps [B, 3, H, W] to logits [B, K, H, W].
        x: normalised picture [B, 3, H, W].
        size: (height, width) of the picture before its resize.
        align_corners: as the network was trained.

    Returns:
        [B, K, *size].
    """
    logits = logits_of(x)
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return functional.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
