"""Criss-cross attention over clips: beside its row and its column, a position attends to its place in other frames."""

from torch import Tensor

from crisscross.ops.dispatch import BACKENDS, check_tensors, choose, to_autocast
from crisscross.ops.lines import Reach


def criss_cross_attention_3d(query: Tensor, key: Tensor, value: Tensor, backend: str = "auto") -> Tensor:
    """Each position attends to its own row, column and time line (paper, 3-D CCNet): T + H + W - 2, itself once.

    With one frame this is `criss_cross_attention`.

    Args:
        query: [B, D, T, H, W], floating point.
        key: [B, D, T, H, W], same dtype and device.
        value: [B, C, T, H, W], same dtype and device.
        backend: as for `criss_cross_attention`.

    Returns:
        [B, C, T, H, W] in the dtype of the inputs, under autocast in its dtype; logits and softmax of half precision
        are float32 always.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or the backend is unknown or cannot run (the reason is named).
    """
    q, k, v = to_autocast(query, key, value)
    check_tensors(q, k, v, dims=5)
    reach = Reach("both", frames=v.shape[2])
    return BACKENDS[choose(backend, q, k, v, reach)].attention(q, k, v, reach)
