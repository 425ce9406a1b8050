"""How a whole picture is labelled, for any function that gives logits."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

LogitsOf = Callable[[Tensor], Tensor]

# The largest output stride there is.
SMALLEST = 32


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
    height, width = x.shape[-2:]
    # Deep networks cannot take fewer pixels than their own stride; the filling is mean colour and is cut off again.
    missing = [0, max(SMALLEST - width, 0), 0, max(SMALLEST - height, 0)]
    if any(missing):
        logits = logits_of(functional.pad(x, missing))[..., :height, :width]
    else:
        logits = logits_of(x)
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return functional.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
